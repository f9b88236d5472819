"""The keywords of ssh_config(5) of OpenSSH 10.6: a row each, with its field and the form of its value.

What a line means beyond its value (Host, Match, Include) is in `ssh_config`; what has no effect in this
program is in `unbuilt`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from ..crypto.kinds import Kind
from ..errors import ConfigError
from ..wire import visible
from .client_options import AddKeys, Forward, Jump, hops
from .forms import (
    COMMAND,
    COUNT,
    FACILITY,
    FLAG,
    HASH,
    LOG_LEVEL,
    MASK,
    NAMES,
    PATHS,
    PORT,
    QOS,
    REKEY,
    SECONDS,
    TEXT,
    TIMEOUTS,
    VARIABLES,
    WORDS,
    Form,
    algorithms,
    choice,
    flag,
    lone,
    number,
    port,
    seconds,
    spaced,
)
from .parse import COMMAND_LINE, Line

__all__ = [
    "ALIASES", "DEPRECATED", "KEYWORDS", "LISTS", "UNSUPPORTED", "Row", "parse_forward", "parse_jumps",
    "show_forward", "valid_host", "valid_user",
]  # fmt: skip


class Row(NamedTuple):
    """One keyword. `field` is that of ClientOptions; `adds`: every line adds to it, else the first counts."""

    field: str
    form: Form
    adds: bool = False


# ---- values that one keyword has alone


def _optional(line: Line) -> str | None:
    """A word; None for none."""
    return None if line.one().lower() == "none" else line.one()


def _identity(line: Line) -> tuple[str, ...]:
    return (line.one(),)


def _comma(line: Line) -> tuple[str, ...]:
    return tuple(name for name in line.one().split(",") if name)


def _escape(line: Line) -> str | None:
    word = line.one()
    if word.lower() == "none":
        return None
    if len(word) == 2 and word[0] == "^" and 64 <= ord(word[1]) < 128:
        return chr(ord(word[1]) & 31)
    if len(word) != 1:
        raise ConfigError(f'"{visible(word)}" is neither one character, ^ and a letter, nor none')
    return word


def _show_escape(value: str | None) -> str:
    if value is None:
        return "none"
    code = ord(value)
    if code < 32 or code == 127:
        return f"\\^{chr(code ^ 64)}"
    return {" ": "\\040", "\\": "\\\\"}.get(value, value)


_VARIABLE: Final = re.compile(r"\$(?:[A-Za-z_][A-Za-z0-9_]*\Z|\{[^}]+\})")


def _agent(line: Line) -> str | None:
    word = line.one()
    if word.lower() == "none":
        return ""
    if word.startswith("$") and not _VARIABLE.match(word):
        raise ConfigError(f'"{visible(word)}" is no name of a variable')
    return None if word == "SSH_AUTH_SOCK" else f"${{{word[1:]}}}" if re.fullmatch(r"\$\w+", word) else word


def _forward_agent(line: Line) -> bool | str:
    word = line.one()
    known = {"yes": True, "true": True, "no": False, "false": False}.get(word.lower())
    return (_agent(line) or False) if known is None else known


def _add_keys(line: Line) -> AddKeys:
    words: dict[str, Any] = {
        "yes": "yes", "true": "yes", "no": "no", "false": "no", "ask": "ask", "confirm": "confirm",
    }  # fmt: skip
    how = words.get(line.args[0].lower())
    if how == "confirm" and len(line.args) == 2:
        return AddKeys("confirm", seconds(line.args[1]))
    return AddKeys("yes", seconds(line.one())) if how is None else AddKeys(words[line.one().lower()])


def _show_add_keys(value: AddKeys) -> str:
    if value.lifetime:
        return ("confirm " if value.how == "confirm" else "") + str(value.lifetime)
    return {"yes": "true", "no": "false"}.get(value.how, value.how)


def _persist(line: Line) -> int | None:
    word = line.one()
    return {"no": None, "false": None, "yes": 0, "true": 0}.get(word) if word.isalpha() else seconds(word)


def _keystrokes(line: Line) -> int:
    word = line.one()
    known = {"yes": 20, "true": 20, "no": 0, "false": 0}
    if word in known:
        return known[word]
    if not word.startswith("interval:"):
        raise ConfigError(f'"{visible(word)}" is none of yes, no, interval:milliseconds')
    return number(word[9:], 1, 1000)


def _show_keystrokes(value: int) -> str:
    return {0: "no", 20: "yes"}.get(value, str(value))


def _places(line: Line) -> tuple[str, ...]:
    words = lone(line.args, "any", "none")
    if words[0].lower() == "any":
        return ()
    for word in words:
        host, sign, digits = word.rpartition(":")
        if word.lower() != "none" and (not host or not sign or (digits != "*" and not port(digits))):
            raise ConfigError(f'"{visible(word)}" is not host:port')
    return words


def _domains(line: Line) -> tuple[str, ...]:
    words = lone(line.args, "none")
    if words[0].lower() == "none":
        return ()
    for word in words:
        if not re.fullmatch(r"[A-Za-z0-9_](?!.*\.\.)[A-Za-z0-9_.-]*", word, re.ASCII):
            raise ConfigError(f'"{visible(word)}" is no name of a domain')
    return tuple(word.lower().removesuffix(".") for word in words)


def _cnames(line: Line) -> tuple[tuple[str, str], ...]:
    words = lone(line.args, "none")
    if words[0].lower() == "none":
        return ()
    return tuple(_cname(word) for word in words)


def _cname(word: str) -> tuple[str, str]:
    if word == "*":
        return "*", "*"
    source, sign, target = word.lower().partition(":")
    if not sign or not target:
        raise ConfigError(f'"{visible(word)}" is not patterns:patterns')
    return source, target


def _tunnel_device(line: Line) -> tuple[int | None, int | None]:
    local, _, remote = line.one().partition(":")

    def device(text: str) -> int | None:
        return None if text.lower() == "any" else number(text, 0, 0x7FFFFFFD)

    return device(local), device(remote) if remote else None


def _show_tunnel_device(value: tuple[int | None, int | None]) -> str:
    return ":".join("any" if each is None else str(each) for each in value)


def _addendum(line: Line) -> str:
    text = line.rest.partition("#")[0].strip()
    return "" if text.lower() == "none" else text


# ---- forwardings and jumps


def parse_forward(text: str, *, remote: bool = False, dynamic: bool = False) -> Forward:
    """`[bind:]port:host:hostport`, addresses of IPv6 in brackets; a path in the place of a port, or of host
    and port, is a socket of the file system. `dynamic`: `[bind:]port` alone. Raises ConfigError.

    Port 0 of a `remote` one means: the server chooses.
    """
    found = re.findall(r"(?:\A|:)(\[[^\[\]]*\]|[^:\[\]]*)", text)
    shape = "".join("p" if "/" in part else "w" for part in found)
    known = _DYNAMIC if dynamic else _SHAPES
    if ":".join(found) != text or shape not in known:
        raise ConfigError(
            f'"{visible(text)}" is no forwarding',
            hint=f"write {'[bind:]port' if dynamic else '[bind:]port:host:hostport'}, IPv6 in brackets",
        )
    parts = dict(zip(known[shape], (part.removeprefix("[").removesuffix("]") for part in found), strict=True))
    if parts.get("host") == "":
        raise ConfigError(f'"{visible(text)}" names no host to forward to')
    bind = parts.get("bind")
    return Forward(
        "" if bind == "*" else bind,
        number(parts.get("port", "0"), 0 if remote or "path" in parts else 1, 65535),
        parts.get("host", ""), port(parts["target"]) if "target" in parts else 0,
        parts.get("path", ""), parts.get("host_path", ""),
    )  # fmt: skip


_SHAPES: Final[dict[str, tuple[str, ...]]] = {
    "www": ("port", "host", "target"),
    "wwww": ("bind", "port", "host", "target"),
    "pp": ("path", "host_path"),
    "wp": ("port", "host_path"),
    "pww": ("path", "host", "target"),
    "wwp": ("bind", "port", "host_path"),
}
"""What the parts of a forwarding are, by which of them are paths (p) and which words (w)."""

_DYNAMIC: Final[dict[str, tuple[str, ...]]] = {"w": ("port",), "ww": ("bind", "port"), "p": ("path",)}


def _local_forward(line: Line) -> tuple[Forward, ...]:
    return (parse_forward(":".join(line.args)),)


def _remote_forward(line: Line) -> tuple[Forward, ...]:
    text = ":".join(line.args)
    try:
        return (parse_forward(text, remote=True),)
    except ConfigError:
        if len(line.args) > 1 or text.count(":") > 4:
            raise
        return (parse_forward(text, remote=True, dynamic=True),)


def _dynamic_forward(line: Line) -> tuple[Forward, ...]:
    return (parse_forward(line.one(), dynamic=True),)


def show_forward(forward: Forward, nowhere: str = "") -> str:
    """As -G prints it; `nowhere` stands for the other side where it is chosen for each connection."""
    bind = "*" if forward.bind == "" else forward.bind
    place = forward.path or (str(forward.port) if bind is None else f"[{bind}]:{forward.port}")
    if forward.host_path:
        return f"{place} {forward.host_path}"
    return f"{place} [{forward.host}]:{forward.host_port}" if forward.host else place + nowhere


_NEVER_IN_NAMES: Final = frozenset("'`\"$\\;&<>|(){},")
_NEVER_IN_USERS: Final = frozenset("'`\";&<>|(){}")


def valid_host(name: str) -> bool:
    """Whether a host's name is one that no shell could take for anything else (CVE-2023-51385)."""
    return (
        not name.startswith("-")
        and name.isprintable()
        and not _NEVER_IN_NAMES & set(name)
        and " " not in name
    )


def valid_user(name: str) -> bool:
    """Whether a user's name is one that no shell could take for anything else."""
    return (
        not name.startswith("-") and name.isprintable() and not _NEVER_IN_USERS & set(name)
        and " -" not in name and not name.endswith("\\")
    )  # fmt: skip


def parse_jumps(text: str, *, strict: bool = False) -> tuple[Jump, ...]:
    """The hops of ProxyJump: `[user@]host[:port]` or a URI each, with commas between. Raises ConfigError.

    `strict`: it came from the command line; names that a shell would read are refused.
    """
    hops = tuple(_jump(each) for each in text.split(","))
    for user, host, _ in hops:
        if strict and not (valid_host(host) and valid_user(user or "")):
            raise ConfigError(f'"{visible(text)}" has characters that no host or user has')
    return hops


def _jump(text: str) -> Jump:
    bare = text.removeprefix("ssh://")
    user, at, place = bare.rpartition("@")
    match = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^\[\]:/]+))(?::([0-9]*))?/?", place.strip())
    if match is None or (at and not user) or (place.endswith("/") and bare == text):
        raise ConfigError(f'"{visible(text)}" is not [user@]host[:port]')
    return Jump(user.partition(";")[0] or None, match[1] or match[2], port(match[3]) if match[3] else None)


def _proxy_jump(line: Line) -> tuple[Jump, ...]:
    text = line.rest.lstrip(" \t=").partition("#")[0].strip()
    return () if text.lower() == "none" else parse_jumps(text, strict=line.path == COMMAND_LINE)


# ---- the table


def _client(name: str) -> Callable[[], Sequence[str]]:
    def usual() -> Sequence[str]:
        from ..policy import Policy  # late, as the algorithms: see `forms`

        listed: Sequence[str] = getattr(Policy.client(), name)
        return listed

    return usual


_KEYS: Final = algorithms(Kind.HOST_KEY, _client("pubkey_algorithms"))
_OPTIONAL: Final = Form(_optional)

KEYWORDS: Final[Mapping[str, Row]] = {
    "hostname": Row("hostname", TEXT),
    "port": Row("port", PORT),
    "user": Row("user", TEXT),
    "tag": Row("tag", TEXT),
    "ignoreunknown": Row("ignore_unknown", TEXT),
    "refuseconnection": Row("refuse_connection", TEXT),
    # Reaching it
    "addressfamily": Row("address_family", choice(any="any", inet="inet", inet6="inet6")),
    "bindaddress": Row("bind_address", TEXT),
    "bindinterface": Row("bind_interface", TEXT),
    "connecttimeout": Row("connect_timeout", SECONDS),
    "connectionattempts": Row("connection_attempts", Form(lambda line: number(line.one(), 1))),
    "tcpkeepalive": Row("tcp_keepalive", choice(
        yes="true", true="true", transport="true", all="all", no="false", false="false")),
    "ipqos": Row("ip_qos", QOS),
    "proxycommand": Row("proxy_command", COMMAND),
    "proxyjump": Row("proxy_jump", Form(_proxy_jump, hops)),
    "proxyusefdpass": Row("proxy_use_fdpass", FLAG),
    "canonicalizehostname": Row("canonicalize_hostname", choice(
        true="yes", yes="yes", false="no", no="no", always="always", show={"yes": "true", "no": "false"})),
    "canonicaldomains": Row("canonical_domains", Form(_domains, spaced)),
    "canonicalizefallbacklocal": Row("canonicalize_fallback_local", FLAG),
    "canonicalizemaxdots": Row("canonicalize_max_dots", COUNT),
    "canonicalizepermittedcnames": Row("canonicalize_permitted_cnames", Form(
        _cnames, lambda pairs: spaced([f"{a}:{b}" for a, b in pairs]))),
    "controlmaster": Row("control_master", choice(
        true="yes", yes="yes", false="no", no="no", auto="auto", ask="ask", autoask="autoask",
        show={"yes": "true", "no": "false"})),
    "controlpath": Row("control_path", _OPTIONAL),
    "controlpersist": Row("control_persist", Form(
        _persist, lambda value: {None: "no", 0: "yes"}.get(value, str(value)))),
    "versionaddendum": Row("version_addendum", Form(_addendum)),
    # Who the host is
    "userknownhostsfile": Row("user_known_hosts", PATHS),
    "globalknownhostsfile": Row("global_known_hosts", PATHS),
    "knownhostscommand": Row("known_hosts_command", COMMAND),
    "revokedhostkeys": Row("revoked_host_keys", PATHS),
    "stricthostkeychecking": Row("strict_host_key_checking", choice(
        yes="yes", true="yes", ask="ask", accept_new="accept-new", no="no", off="no", false="no",
        show={"yes": "true", "no": "false"})),
    "checkhostip": Row("check_host_ip", FLAG),
    "hashknownhosts": Row("hash_known_hosts", FLAG),
    "hostkeyalias": Row("host_key_alias", TEXT),
    "updatehostkeys": Row("update_host_keys", choice(
        yes="yes", true="yes", ask="ask", no="no", false="no", show={"yes": "true", "no": "false"})),
    "verifyhostkeydns": Row("verify_host_key_dns", choice(
        yes="yes", true="yes", ask="ask", no="no", false="no", show={"yes": "true", "no": "false"})),
    "nohostauthenticationforlocalhost": Row("no_host_authentication_for_localhost", FLAG),
    "visualhostkey": Row("visual_host_key", FLAG),
    "fingerprinthash": Row("fingerprint_hash", HASH),
    # Who the user is
    "identityfile": Row("identity_files", Form(_identity), adds=True),
    "certificatefile": Row("certificate_file", Form(_identity), adds=True),
    "identitiesonly": Row("identities_only", FLAG),
    "identityagent": Row("identity_agent", Form(_agent)),
    "addkeystoagent": Row("add_keys_to_agent", Form(_add_keys, _show_add_keys)),
    "forwardagent": Row("forward_agent", Form(
        _forward_agent, lambda value: value if isinstance(value, str) else flag(value))),
    "pkcs11provider": Row("pkcs11_provider", _OPTIONAL),
    "securitykeyprovider": Row("security_key_provider", _OPTIONAL),
    "batchmode": Row("batch_mode", FLAG),
    "preferredauthentications": Row("preferred_authentications", Form(_comma, ",".join)),
    "passwordauthentication": Row("password_authentication", FLAG),
    "pubkeyauthentication": Row("pubkey_authentication", choice(
        yes="true", true="true", no="false", false="false", unbound="unbound", host_bound="host-bound")),
    "kbdinteractiveauthentication": Row("kbd_interactive_authentication", FLAG),
    "kbdinteractivedevices": Row("kbd_interactive_devices", TEXT),
    "numberofpasswordprompts": Row("number_of_password_prompts", COUNT),
    "gssapiauthentication": Row("gssapi_authentication", FLAG),
    "gssapidelegatecredentials": Row("gssapi_delegate_credentials", FLAG),
    "hostbasedauthentication": Row("hostbased_authentication", FLAG),
    "hostbasedacceptedalgorithms": Row("hostbased_accepted_algorithms", _KEYS),
    "enablesshkeysign": Row("enable_ssh_keysign", FLAG),
    # How they speak
    "ciphers": Row("ciphers", algorithms(Kind.CIPHER, _client("ciphers"))),
    "macs": Row("macs", algorithms(Kind.MAC, _client("macs"))),
    "kexalgorithms": Row("kex", algorithms(Kind.KEX, _client("kex"))),
    "hostkeyalgorithms": Row("host_key_algorithms", algorithms(
        Kind.HOST_KEY, _client("host_key_algorithms"))),
    "pubkeyacceptedalgorithms": Row("pubkey_algorithms", _KEYS),
    "casignaturealgorithms": Row("ca_signature_algorithms", algorithms(
        Kind.HOST_KEY, _client("ca_signature_algorithms"))),
    "requiredrsasize": Row("required_rsa_size", COUNT),
    "compression": Row("compression", FLAG),
    "rekeylimit": Row("rekey_limit", REKEY),
    "serveraliveinterval": Row("server_alive_interval", SECONDS),
    "serveralivecountmax": Row("server_alive_count_max", COUNT),
    "warnweakcrypto": Row("warn_weak_crypto", choice(
        yes=True, true=True, no=False, false=False, no_pq_kex=False, show={True: "yes", False: "no"})),
    "profile": Row("profile", choice(modern="modern", compatible="compatible", legacy="legacy")),
    "allowterrapin": Row("allow_terrapin", FLAG),
    "refusetrivialauth": Row("refuse_trivial_auth", FLAG),
    "speculation": Row("speculation", FLAG),
    # What runs there
    "requesttty": Row("request_tty", choice(
        no="no", false="no", yes="yes", true="yes", force="force", auto="auto",
        show={"yes": "true", "no": "false"})),
    "sessiontype": Row("session_type", choice(none="none", subsystem="subsystem", default="default")),
    "remotecommand": Row("remote_command", COMMAND),
    "localcommand": Row("local_command", COMMAND),
    "permitlocalcommand": Row("permit_local_command", FLAG),
    "setenv": Row("set_env", VARIABLES),
    "sendenv": Row("send_env", NAMES, adds=True),
    "stdinnull": Row("stdin_null", FLAG),
    "forkafterauthentication": Row("fork", FLAG),
    "escapechar": Row("escape_char", Form(_escape, _show_escape)),
    "enableescapecommandline": Row("enable_escape_commandline", FLAG),
    "obscurekeystroketiming": Row("obscure_keystroke_timing", Form(_keystrokes, _show_keystrokes)),
    "channeltimeout": Row("channel_timeout", TIMEOUTS),
    "loglevel": Row("log_level", LOG_LEVEL),
    "logverbose": Row("log_verbose", WORDS),
    "syslogfacility": Row("syslog_facility", FACILITY),
    # Forwardings
    "localforward": Row("local_forwards", Form(_local_forward, show_forward), adds=True),
    "remoteforward": Row("remote_forwards", Form(
        _remote_forward, lambda value: show_forward(value, " [socks]:0")), adds=True),
    "dynamicforward": Row("dynamic_forward", Form(_dynamic_forward, show_forward), adds=True),
    "permitremoteopen": Row("permit_remote_open", Form(_places, lambda words: " ".join(words) or "any")),
    "gatewayports": Row("gateway_ports", FLAG),
    "exitonforwardfailure": Row("exit_on_forward_failure", FLAG),
    "clearallforwardings": Row("clear_all_forwardings", FLAG),
    "streamlocalbindmask": Row("stream_local_bind_mask", MASK),
    "streamlocalbindunlink": Row("stream_local_bind_unlink", FLAG),
    "forwardx11": Row("forward_x11", FLAG),
    "forwardx11trusted": Row("forward_x11_trusted", FLAG),
    "forwardx11timeout": Row("forward_x11_timeout", SECONDS),
    "xauthlocation": Row("xauth_location", TEXT),
    "tunnel": Row("tunnel", choice(
        ethernet="ethernet", point_to_point="point-to-point", yes="point-to-point", true="point-to-point",
        no="no", false="no", show={"no": "false"})),
    "tunneldevice": Row("tunnel_device", Form(_tunnel_device, _show_tunnel_device)),
}  # fmt: skip
"""Keyword, in lower case -> its row."""

ALIASES: Final = {
    "challengeresponseauthentication": "kbdinteractiveauthentication",
    "skeyauthentication": "kbdinteractiveauthentication",
    "tisauthentication": "kbdinteractiveauthentication",
    "dsaauthentication": "pubkeyauthentication",
    "identityfile2": "identityfile",
    "keepalive": "tcpkeepalive",
    "smartcarddevice": "pkcs11provider",
    "hostbasedkeytypes": "hostbasedacceptedalgorithms",
    "pubkeyacceptedkeytypes": "pubkeyacceptedalgorithms",
    "protocolkeepalives": "serveraliveinterval",
    "setuptimeout": "serveraliveinterval",
}
"""Older names that OpenSSH still takes; the last two are Debian's."""

DEPRECATED: Final = frozenset({
    "protocol", "cipher", "fallbacktorsh", "globalknownhostsfile2", "rhostsauthentication",
    "useblacklistedkeys", "userknownhostsfile2", "useroaming", "usersh", "useprivilegedport",
})  # fmt: skip
"""What OpenSSH passes over in silence."""

UNSUPPORTED: Final = frozenset({
    "afstokenpassing", "kerberosauthentication", "kerberostgtpassing", "rsaauthentication",
    "rhostsrsaauthentication", "compressionlevel",
})  # fmt: skip
"""What OpenSSH calls unsupported, and goes on."""

LISTS: Final = {
    "ciphers": Kind.CIPHER, "macs": Kind.MAC, "kex": Kind.KEX, "host_key_algorithms": Kind.HOST_KEY,
    "pubkey_algorithms": Kind.HOST_KEY, "hostbased_accepted_algorithms": Kind.HOST_KEY,
    "ca_signature_algorithms": Kind.HOST_KEY,
}  # fmt: skip
"""Fields that are lists of algorithms."""
