"""The keywords of sshd_config(5) of OpenSSH 10.6: one row each, with what it sets and the form of its value.

What is read is held under the row's name; `sshd_config` makes the Policy and the ServerOptions of all that.
What has no effect in this program is in `unbuilt`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from ..crypto.registry import Kind
from ..errors import ConfigError, KeyFormatError
from ..keys.patterns import match_addresses, parse_address
from ..policy import Policy
from ..wire import visible
from .forms import (
    COUNT,
    FACILITY,
    FLAG,
    HASH,
    LOG_LEVEL,
    MASK,
    NAMES,
    PATHS,
    QOS,
    REKEY,
    SECONDS,
    TEXT,
    TIMEOUTS,
    VARIABLES,
    WORDS,
    Form,
    algorithms,
    checked_addendum,
    choice,
    exact_seconds,
    flag,
    lone,
    number,
    port,
    seconds,
    spaced,
)
from .parse import Line

__all__ = ["ALIASES", "DEPRECATED", "KEYWORDS", "LISTS", "Row", "places", "subsystem_words"]


class Row(NamedTuple):
    """One keyword. `name` is what its value is held under; `matched`: it may stand in a Match block; `adds`:
    every line adds to it, else the first counts."""

    name: str
    form: Form
    matched: bool = False
    adds: bool = False


# ---- values that one keyword has alone


def _optional(line: Line) -> str | None:
    return None if line.one().lower() == "none" else line.one()


def _or_none(value: str | None) -> str:
    return value or "none"


def _address(line: Line) -> tuple[tuple[str, int | None], ...]:
    """One ListenAddress: host, host:port, [IPv6], [IPv6]:port, or an IPv6 address by itself."""
    value = line.args[0]
    if len(line.args) > 1:
        raise ConfigError("routing domains are not supported on this platform")
    if parse_address(value) is not None:
        return ((value, None),)
    match = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^\[\]:]+))(?::([0-9]+))?", value)
    if match is None:
        raise ConfigError(f'"{visible(value)}" is no address')
    return ((match[1] or match[2], port(match[3]) if match[3] else None),)


def _startups(line: Line) -> tuple[int, int, int]:
    """MaxStartups: begin:rate:full, or full alone."""
    parts = [number(part, 1) for part in line.one().split(":")]
    if len(parts) == 1:
        return parts[0], 30, parts[0]
    if len(parts) != 3 or parts[2] < parts[0] or parts[1] > 100:
        raise ConfigError(f'"{visible(line.one())}" is not begin:rate:full')
    return parts[0], parts[1], parts[2]


def _blocks(line: Line) -> tuple[int, int]:
    four, _, six = line.one().partition(":")
    return number(four, 0, 32), number(six, 0, 128) if six else 128


def _most(line: Line) -> int | None:
    return None if line.one() == "none" else number(line.one())


def _exempt(line: Line) -> str:
    _check_networks(line.one())
    return line.one()


def _check_networks(patterns: str) -> None:
    try:
        match_addresses("192.0.2.1", None, patterns.split(","))
    except KeyFormatError as error:
        raise ConfigError(str(error)) from None


PENALTIES: Final[dict[str, float | str]] = {
    "crash": 90.0, "authfail": 5.0, "noauth": 1.0, "invaliduser": 5.0, "grace-exceeded": 10.0,
    "refuseconnection": 10.0, "max": 600.0, "min": 15.0, "max-sources4": "65536", "max-sources6": "65536",
    "overflow": "permissive", "overflow6": "permissive",
}  # fmt: skip
"""PerSourcePenalties where nothing is said, in the order in which they are shown."""


def _penalties(line: Line) -> tuple[tuple[str, float | str], ...]:
    words = lone(line.args, "yes", "no")
    if words[0].lower() in ("yes", "no"):
        return (("enabled", words[0].lower()),)
    return tuple(_penalty(word) for word in words)


def _penalty(word: str) -> tuple[str, float | str]:
    name, sign, value = word.partition(":")
    known = PENALTIES.get(name)
    if known is None or not sign:
        raise ConfigError(f'"{visible(word)}" is none of {", ".join(PENALTIES)} with its value')
    if isinstance(known, float):
        return name, exact_seconds(value)
    if known == "permissive":
        if value not in ("permissive", "deny-all"):
            raise ConfigError(f'"{visible(value)}" is neither permissive nor deny-all')
        return name, value
    return name, str(number(value))


def show_penalties(said: Sequence[tuple[str, float | str]]) -> str:
    """All of them, as -T prints them."""
    found: dict[str, float | str] = {}
    enabled = ""
    for name, value in said:
        if name == "enabled":
            enabled = enabled or str(value)
        else:
            found.setdefault(name, value)
            enabled = "yes"
    if enabled == "no":
        return "no"
    found.setdefault("overflow6", found.get("overflow", "permissive"))
    merged = PENALTIES | found
    return " ".join(f"{k}:{v:f}" if isinstance(v, float) else f"{k}:{v}" for k, v in merged.items())


def _users(line: Line) -> tuple[str, ...]:
    for pattern in line.args:
        if not pattern:
            raise ConfigError("an empty pattern")
        _check_networks(pattern.rpartition("@")[2] if "@" in pattern else "")
    return line.args


def _groups(line: Line) -> tuple[str, ...]:
    if not all(line.args):
        raise ConfigError("an empty pattern")
    return line.args


_FILES_TOKENS: Final = re.compile("(?:[^%]|%[%huU])*")


def _key_files(line: Line) -> tuple[str, ...]:
    for pattern in lone(line.args, "none"):
        if not _FILES_TOKENS.fullmatch(pattern):
            raise ConfigError(f'"{visible(pattern)}" has a token that is none of %% %h %u %U')
    return PATHS.read(line)  # type: ignore[no-any-return]


def _one_path(line: Line) -> str | None:
    if not _FILES_TOKENS.fullmatch(line.one()):
        raise ConfigError(f'"{visible(line.one())}" has a token that is none of %% %h %u %U')
    return _optional(line)


def _program(line: Line) -> str | None:
    text = line.rest.strip()
    if text.lower() == "none":
        return None
    if not text.startswith("/"):
        raise ConfigError("the command must be an absolute path")
    return text


_METHODS: Final = frozenset({
    "any", "none", "publickey", "password", "keyboard-interactive", "hostbased", "gssapi-with-mic",
})  # fmt: skip


def _methods(line: Line) -> tuple[str, ...]:
    words = lone(line.args, "any")
    if words == ("any",):
        return ()
    for method in (method for word in words for method in word.split(",")):
        name, sign, device = method.partition(":")
        if name not in _METHODS or name == "any" or (sign and (name != "keyboard-interactive" or not device)):
            raise ConfigError(f'"{visible(method)}" is no method')
    return words


def _key_options(line: Line) -> tuple[tuple[str, ...], int | None]:
    """PubkeyAuthOptions: the words, and how many queries are free."""
    found: list[str] = []
    queries: int | None = None
    for word in line.args:
        if word.lower() in ("touch-required", "verify-required"):
            found.append(word.lower())
        elif word.lower().startswith("max-pk-ok:"):
            queries = number(word[10:])
        elif word.lower() != "none":
            raise ConfigError(
                f'"{visible(word)}" is none of touch-required, verify-required, max-pk-ok:number'
            )
    return tuple(each for each in ("touch-required", "verify-required") if each in found), queries


def _show_key_options(value: tuple[tuple[str, ...], int | None]) -> str:
    return (" ".join(value[0]) or "none") + ("" if value[1] is None else f" max-pk-ok:{value[1]}")


def _variables_allowed(line: Line) -> bool | str:
    return {"yes": True, "no": False}.get(line.one(), line.one())


def _show_variables_allowed(value: bool | str) -> str:
    return value if isinstance(value, str) else flag(value)


def subsystem_words(line: Line) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """Subsystem: its name, its command as it stands there, and that in words."""
    if len(line.args) < 2 or not line.args[0] or not line.args[1]:
        raise ConfigError("Subsystem takes a name and a command")
    return ((line.args[0], _after_first(line.rest), line.args[1:]),)


def _after_first(text: str) -> str:
    """What follows the first word, which may be in quotes."""
    match = re.match(r'(?:"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|\\.|[^\s"\'])+\s+', text)
    return text[match.end() :] if match else text.split(maxsplit=1)[1]


def show_subsystem(value: tuple[str, str, Sequence[str]]) -> str:
    """As -T prints it: words with spaces in quotes."""
    return " ".join([value[0], *map(_quoted, value[2])])


def _quoted(word: str) -> str:
    escaped = re.sub(r"([\\'\"])", r"\\\1", word)
    return f'"{escaped}"' if re.search(r"[ \t]", word) else escaped


def places(line: Line, *, host_needed: bool) -> tuple[str, ...]:
    """PermitOpen and PermitListen as they are written; empty for any. Raises ConfigError."""
    words = lone(line.args, "any", "none")
    if words[0] == "any":
        return ()
    for word in words if words[0] != "none" else ():
        host, colon, digits = word.rpartition(":")
        if (not colon and host_needed) or (colon and not host):
            raise ConfigError(f'"{visible(word)}" is not host:port')
        if digits != "*":
            port(digits)
    return words if host_needed else tuple(w if ":" in w or w == "none" else f"*:{w}" for w in words)


def _any_place(words: Sequence[str]) -> str:
    return " ".join(words) or "any"


def _addendum(line: Line) -> str:
    text = line.rest.partition("#")[0].strip()
    return "" if text.lower() == "none" else checked_addendum(text)


def _service(line: Line) -> str:
    """The name of a file in /etc/pam.d."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", line.one()):
        raise ConfigError(f'"{visible(line.one())}" is no name of a PAM service')
    return line.one()


def _forced(line: Line) -> str | None:
    return None if line.rest.lower() == "none" else line.rest


def _unused(line: Line) -> int:
    return 0 if line.one().lower() == "none" else seconds(line.one())


# ---- the table


def _server(name: str) -> Callable[[], Sequence[str]]:
    return lambda: getattr(Policy.server(), name)


_TEXT: Final = Form(_optional, _or_none)
_PATH: Final = Form(_one_path, _or_none)
_PROGRAM: Final = Form(_program, _or_none)
_FORWARDING: Final = choice(yes="yes", all="yes", no="no", local="local", remote="remote")
_USERS: Final = Form(_users)
_GROUPS: Final = Form(_groups)

KEYWORDS: Final[Mapping[str, Row]] = {
    # Where it listens, and as whom
    "port": Row("ports", Form(lambda line: (port(line.one()),)), adds=True),
    "addressfamily": Row("family", choice(any="any", inet="inet", inet6="inet6")),
    "listenaddress": Row("listen", Form(_address), adds=True),
    "rdomain": Row("rdomain", _TEXT, matched=True),
    "hostkey": Row("host_keys", Form(lambda line: (line.one(),)), adds=True),
    "hostcertificate": Row("host_certificate", Form(lambda line: (line.one(),)), adds=True),
    "hostkeyagent": Row("host_key_agent", _TEXT),
    "maxstartups": Row("max_startups", Form(_startups, lambda v: ":".join(map(str, v)))),
    "persourcemaxstartups": Row("per_source_max_startups", Form(
        _most, lambda v: "none" if v is None else str(v))),
    "persourcenetblocksize": Row("per_source_net_block_size", Form(_blocks, lambda v: f"{v[0]}:{v[1]}")),
    "persourcepenalties": Row("per_source_penalties", Form(_penalties, show_penalties), adds=True),
    "persourcepenaltyexemptlist": Row("per_source_penalty_exempt_list", Form(_exempt, _or_none)),
    "tcpkeepalive": Row("tcp_keepalive", choice(
        yes="true", true="true", transport="true", all="all", no="false", false="false")),
    "ipqos": Row("ip_qos", QOS, matched=True),
    "usedns": Row("use_dns", FLAG),
    "loglevel": Row("log_level", LOG_LEVEL, matched=True),
    "logverbose": Row("log_verbose", WORDS, matched=True),
    "syslogfacility": Row("syslog_facility", FACILITY),
    "fingerprinthash": Row("fingerprint_hash", HASH),
    "pidfile": Row("pid_file", _TEXT),
    "modulifile": Row("moduli_file", TEXT),
    "sshdsessionpath": Row("sshd_session_path", TEXT),
    "sshdauthpath": Row("sshd_auth_path", TEXT),
    "debianbanner": Row("debian_banner", FLAG),
    "warnweakcrypto": Row("warn_weak_crypto", choice(
        yes=True, true=True, no=False, false=False, no_pq_kex=False, show={True: "true", False: "false"})),
    "refuseconnection": Row("refuse_connection", FLAG, matched=True),
    "unusedconnectiontimeout": Row("unused_connection_timeout", Form(
        _unused, lambda v: str(v or "none")), matched=True),
    "channeltimeout": Row("channel_timeout", TIMEOUTS, matched=True),
    # The Policy of each connection
    "ciphers": Row("ciphers", algorithms(Kind.CIPHER, _server("ciphers"))),
    "macs": Row("macs", algorithms(Kind.MAC, _server("macs"))),
    "kexalgorithms": Row("kex", algorithms(Kind.KEX, _server("kex"))),
    "hostkeyalgorithms": Row("host_key_algorithms", algorithms(
        Kind.HOST_KEY, _server("host_key_algorithms"))),
    "pubkeyacceptedalgorithms": Row(
        "pubkey_algorithms", algorithms(Kind.HOST_KEY, _server("pubkey_algorithms")), matched=True),
    "compression": Row("compression", choice(yes="yes", delayed="yes", no="no")),
    "rekeylimit": Row("rekey_limit", REKEY, matched=True),
    "logingracetime": Row("login_grace_time", Form(lambda line: seconds(line.one()))),
    "maxauthtries": Row("max_auth_tries", Form(lambda line: number(line.one(), 1)), matched=True),
    "maxsessions": Row("max_sessions", COUNT, matched=True),
    "clientaliveinterval": Row("client_alive_interval", SECONDS, matched=True),
    "clientalivecountmax": Row("client_alive_count_max", COUNT, matched=True),
    "requiredrsasize": Row("required_rsa_size", COUNT, matched=True),
    "versionaddendum": Row("version_addendum", Form(_addendum, _or_none)),
    "allowterrapin": Row("allow_terrapin", FLAG),
    # Who may log in
    "authorizedkeysfile": Row("authorized_keys", Form(_key_files, spaced), matched=True),
    "authorizedkeyscommand": Row("authorized_keys_command", _PROGRAM, matched=True),
    "authorizedkeyscommanduser": Row("authorized_keys_command_user", _TEXT, matched=True),
    "authorizedprincipalsfile": Row("authorized_principals_file", _PATH, matched=True),
    "authorizedprincipalscommand": Row("authorized_principals_command", _PROGRAM, matched=True),
    "authorizedprincipalscommanduser": Row("authorized_principals_command_user", _TEXT, matched=True),
    "trustedusercakeys": Row("trusted_user_ca_keys", _TEXT, matched=True),
    "casignaturealgorithms": Row(
        "ca_signature_algorithms", algorithms(Kind.HOST_KEY, _server("ca_signature_algorithms")),
        matched=True),
    "revokedkeys": Row("revoked_keys", PATHS, matched=True),
    "authenticationmethods": Row("authentication_methods", Form(_methods, _any_place), matched=True),
    "strictmodes": Row("strict_modes", FLAG),
    "pubkeyauthentication": Row("pubkey", FLAG, matched=True),
    "pubkeyauthoptions": Row("pubkey_auth_options", Form(_key_options, _show_key_options), matched=True),
    "passwordauthentication": Row("password_authentication", FLAG, matched=True),
    "permitemptypasswords": Row("permit_empty_passwords", FLAG, matched=True),
    "kbdinteractiveauthentication": Row("kbd_interactive_authentication", FLAG, matched=True),
    "hostbasedauthentication": Row("hostbased_authentication", FLAG, matched=True),
    "hostbasedacceptedalgorithms": Row(
        "hostbased_accepted_algorithms", algorithms(Kind.HOST_KEY, _server("pubkey_algorithms")),
        matched=True),
    "hostbasedusesnamefrompacketonly": Row("hostbased_uses_name_from_packet_only", FLAG, matched=True),
    "ignorerhosts": Row("ignore_rhosts", choice(yes="yes", no="no", shosts_only="shosts-only"), matched=True),
    "ignoreuserknownhosts": Row("ignore_user_known_hosts", FLAG),
    "gssapiauthentication": Row("gssapi_authentication", FLAG, matched=True),
    "gssapicleanupcredentials": Row("gssapi_cleanup_credentials", FLAG),
    "gssapidelegatecredentials": Row("gssapi_delegate_credentials", FLAG),
    "gssapistrictacceptorcheck": Row("gssapi_strict_acceptor_check", FLAG),
    "kerberosauthentication": Row("kerberos_authentication", FLAG, matched=True),
    "kerberosorlocalpasswd": Row("kerberos_or_local_passwd", FLAG),
    "kerberosticketcleanup": Row("kerberos_ticket_cleanup", FLAG),
    "kerberosgetafstoken": Row("kerberos_get_afs_token", FLAG),
    "permitrootlogin": Row("root_login", choice(
        yes="yes", no="no", prohibit_password="prohibit-password", without_password="prohibit-password",
        forced_commands_only="forced-commands-only"), matched=True),
    "allowusers": Row("allow_users", _USERS, matched=True, adds=True),
    "denyusers": Row("deny_users", _USERS, matched=True, adds=True),
    "allowgroups": Row("allow_groups", _GROUPS, matched=True, adds=True),
    "denygroups": Row("deny_groups", _GROUPS, matched=True, adds=True),
    "usepam": Row("use_pam", FLAG),
    "pamservicename": Row("pam_service_name", Form(_service), matched=True),
    "exposeauthinfo": Row("expose_auth_info", FLAG, matched=True),
    "securitykeyprovider": Row("security_key_provider", _TEXT),
    "banner": Row("banner", _TEXT, matched=True),
    # What a session may do
    "acceptenv": Row("accept_env", NAMES, matched=True, adds=True),
    "setenv": Row("set_env", VARIABLES, matched=True),
    "forcecommand": Row("force_command", Form(_forced, _or_none), matched=True),
    "chrootdirectory": Row("chroot_directory", _PATH, matched=True),
    "permittty": Row("permit_tty", FLAG, matched=True),
    "permituserrc": Row("permit_user_rc", FLAG, matched=True),
    "permituserenvironment": Row("permit_user_environment", Form(
        _variables_allowed, _show_variables_allowed)),
    "printmotd": Row("print_motd", FLAG),
    "printlastlog": Row("print_last_log", FLAG),
    "subsystem": Row("subsystems", Form(subsystem_words), matched=True, adds=True),
    "allowagentforwarding": Row("allow_agent_forwarding", FLAG, matched=True),
    "agentsocketpath": Row("agent_socket_path", TEXT, matched=True),
    "allowtcpforwarding": Row("allow_tcp_forwarding", _FORWARDING, matched=True),
    "allowstreamlocalforwarding": Row("allow_stream_local_forwarding", _FORWARDING, matched=True),
    "disableforwarding": Row("disable_forwarding", FLAG, matched=True),
    "gatewayports": Row("gateway_ports", choice(
        yes="yes", no="no", clientspecified="clientspecified"), matched=True),
    "permitopen": Row("permit_open", Form(
        lambda line: places(line, host_needed=True), _any_place), matched=True),
    "permitlisten": Row("permit_listen", Form(
        lambda line: places(line, host_needed=False), _any_place), matched=True),
    "permittunnel": Row("permit_tunnel", choice(
        no="no", yes="yes", point_to_point="point-to-point", ethernet="ethernet"), matched=True),
    "streamlocalbindmask": Row("stream_local_bind_mask", MASK, matched=True),
    "streamlocalbindunlink": Row("stream_local_bind_unlink", FLAG, matched=True),
    "x11forwarding": Row("x11_forwarding", FLAG, matched=True),
    "x11displayoffset": Row("x11_display_offset", COUNT, matched=True),
    "x11uselocalhost": Row("x11_use_localhost", FLAG, matched=True),
    "xauthlocation": Row("xauth_location", _TEXT),
}  # fmt: skip
"""Keyword, in lower case -> its row."""

ALIASES: Final = {
    "hostdsakey": "hostkey",
    "hostbasedacceptedkeytypes": "hostbasedacceptedalgorithms",
    "pubkeyacceptedkeytypes": "pubkeyacceptedalgorithms",
    "dsaauthentication": "pubkeyauthentication",
    "challengeresponseauthentication": "kbdinteractiveauthentication",
    "skeyauthentication": "kbdinteractiveauthentication",
    "keepalive": "tcpkeepalive",
}

DEPRECATED: Final = frozenset({
    "serverkeybits", "keyregenerationinterval", "rhostsauthentication", "rhostsrsaauthentication",
    "rsaauthentication", "checkmail", "uselogin", "verifyreversemapping", "reversemappingcheck",
    "authorizedkeysfile2", "useprivilegeseparation", "kerberostgtpassing", "afstokenpassing", "protocol",
})  # fmt: skip

LISTS: Final = {
    "ciphers": Kind.CIPHER, "macs": Kind.MAC, "kex": Kind.KEX, "host_key_algorithms": Kind.HOST_KEY,
    "pubkey_algorithms": Kind.HOST_KEY, "hostbased_accepted_algorithms": Kind.HOST_KEY,
    "ca_signature_algorithms": Kind.HOST_KEY,
}  # fmt: skip
"""Rows that are lists of algorithms."""
