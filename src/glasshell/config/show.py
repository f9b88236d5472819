"""What `ssh -G` and `sshd -T` print: every keyword with the value that holds, spelled and ordered as there.

Keywords of our own are shown where they were set. Of lists of algorithms the names are those that this
program would offer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from ..policy import Policy
from ..values import specs
from . import client_keywords, server_keywords
from .client_options import ClientOptions
from .options import ServerOptions

__all__ = ["show_client", "show_server"]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# ---- ssh -G

_CLIENT_ORDER: Final = _words("""
    user hostname port addressfamily batchmode canonicalizefallbacklocal canonicalizehostname checkhostip
    compression controlmaster enablesshkeysign clearallforwardings exitonforwardfailure fingerprinthash
    forwardx11 forwardx11trusted gatewayports gssapiauthentication gssapidelegatecredentials
    hashknownhosts hostbasedauthentication identitiesonly kbdinteractiveauthentication
    nohostauthenticationforlocalhost passwordauthentication permitlocalcommand proxyusefdpass
    pubkeyauthentication requesttty sessiontype stdinnull forkafterauthentication streamlocalbindunlink
    stricthostkeychecking tcpkeepalive tunnel verifyhostkeydns visualhostkey updatehostkeys
    enableescapecommandline warnweakcrypto canonicalizemaxdots connectionattempts forwardx11timeout
    numberofpasswordprompts serveralivecountmax serveraliveinterval requiredrsasize
    obscurekeystroketiming bindaddress bindinterface ciphers controlpath hostkeyalgorithms hostkeyalias
    hostbasedacceptedalgorithms identityagent ignoreunknown kbdinteractivedevices kexalgorithms
    casignaturealgorithms localcommand remotecommand loglevel macs pkcs11provider securitykeyprovider
    preferredauthentications pubkeyacceptedalgorithms xauthlocation knownhostscommand tag versionaddendum
    dynamicforward localforward remoteforward identityfile canonicaldomains certificatefile
    globalknownhostsfile userknownhostsfile revokedhostkeys sendenv setenv logverbose channeltimeout
    permitremoteopen addkeystoagent forwardagent connecttimeout tunneldevice canonicalizepermittedcnames
    controlpersist escapechar ipqos rekeylimit streamlocalbindmask syslogfacility proxycommand proxyjump
    profile allowterrapin refusetrivialauth speculation
""")

_OURS: Final = frozenset({"profile", "allowterrapin", "refusetrivialauth", "speculation"})
_IF_SET: Final = frozenset({"preferredauthentications", "versionaddendum", "hostkeyalias"})
"""Keywords that OpenSSH does not show where nothing was said."""

_MANY: Final = frozenset({
    "dynamicforward", "localforward", "remoteforward", "identityfile", "certificatefile", "sendenv", "setenv",
})  # fmt: skip
"""Keywords with a line for each value."""

_NONE_SHOWN: Final = frozenset({"connecttimeout", "controlpersist", "escapechar"})
"""Keywords whose None has a word of its own."""

DEFAULT_IDENTITIES: Final = tuple(
    f"~/.ssh/id_{name}" for name in ("rsa", "ecdsa", "ecdsa_sk", "ed25519", "ed25519_sk", "mldsa44_ed25519")
)


def show_client(options: ClientOptions) -> Iterator[str]:
    """The lines of `ssh -G`."""
    yield f"host {options.host}"
    policy = options.policy()
    for keyword in _CLIENT_ORDER:
        row = client_keywords.KEYWORDS[keyword]
        if keyword in _OURS | _IF_SET and row.field not in options.sources:
            continue
        value = options.written.get(row.field, _client_value(keyword, row.field, options, policy))
        if keyword == "proxycommand" and options.proxy_jump:
            continue
        if keyword in _MANY:
            yield from _client_lines(keyword, row, value)
        elif (value is not None or keyword in _NONE_SHOWN) and (value or keyword != "proxyjump"):
            yield f"{keyword} {_client_text(keyword, row, value)}"


def _client_value(keyword: str, field: str, options: ClientOptions, policy: Policy) -> Any:
    """What holds where a field may be None."""
    value = getattr(options, field)
    if keyword == "pubkeyauthentication":
        return "true" if value else "false"
    if keyword == "tcpkeepalive":
        return "true" if value else "false"
    if keyword == "identityfile" and value is None:
        return DEFAULT_IDENTITIES
    if keyword == "updatehostkeys" and value is None:
        trusted = options.verify_host_key_dns == "no"
        return "yes" if trusted and "user_known_hosts" not in options.sources else "no"
    if value is None and keyword == "hostbasedacceptedalgorithms":
        return Policy.client().pubkey_algorithms
    if value is None and (setting := _SETTINGS.get(keyword)):
        return getattr(policy, setting)
    return value


_SETTINGS: Final = {
    "ciphers": "ciphers", "macs": "macs", "kexalgorithms": "kex", "hostkeyalgorithms": "host_key_algorithms",
    "pubkeyacceptedalgorithms": "pubkey_algorithms", "casignaturealgorithms": "ca_signature_algorithms",
    "requiredrsasize": "min_rsa_bits", "serveraliveinterval": "keepalive_interval",
    "serveralivecountmax": "keepalive_count",
}  # fmt: skip
"""Keywords whose default is the Policy's."""


def _client_text(keyword: str, row: client_keywords.Row, value: Any) -> str:
    if value is None:
        return {"controlpersist": "no"}.get(keyword, "none")
    if keyword == "identityagent" and value == "":
        return "none"
    return row.form.show(int(value) if isinstance(value, float) else value)


def _client_lines(keyword: str, row: client_keywords.Row, values: Sequence[Any]) -> Iterator[str]:
    for value in values:
        if keyword == "setenv":
            yield f"{keyword} {value[0]}={value[1]}"
        else:
            yield f"{keyword} {value if isinstance(value, str) else row.form.show(value)}"


# ---- sshd -T

_SERVER_ORDER: Final = _words("""
    UsePAM PAMServiceName LoginGraceTime X11DisplayOffset MaxAuthTries MaxSessions ClientAliveInterval
    ClientAliveCountMax RequiredRSASize StreamLocalBindMask UnusedConnectionTimeout PermitRootLogin
    IgnoreRhosts IgnoreUserKnownHosts HostbasedAuthentication HostbasedUsesNameFromPacketOnly
    PubkeyAuthentication GSSAPIAuthentication GSSAPICleanupCredentials GSSAPIDelegateCredentials
    GSSAPIStrictAcceptorCheck PasswordAuthentication KbdInteractiveAuthentication PrintMotd PrintLastLog
    X11Forwarding X11UseLocalhost PermitTTY PermitUserRC StrictModes TCPKeepAlive PermitEmptyPasswords
    Compression GatewayPorts UseDNS AllowTcpForwarding AllowAgentForwarding DisableForwarding
    AllowStreamLocalForwarding StreamLocalBindUnlink FingerprintHash ExposeAuthInfo WarnWeakCrypto
    RefuseConnection DebianBanner PidFile ModuliFile XAuthLocation Ciphers Macs Banner ForceCommand
    ChrootDirectory TrustedUserCAKeys SecurityKeyProvider AuthorizedPrincipalsFile VersionAddendum
    AuthorizedKeysCommand AuthorizedKeysCommandUser AuthorizedPrincipalsCommand
    AuthorizedPrincipalsCommandUser HostKeyAgent KexAlgorithms CASignatureAlgorithms
    HostbasedAcceptedAlgorithms HostKeyAlgorithms PubkeyAcceptedAlgorithms SshdSessionPath SshdAuthPath
    PerSourcePenaltyExemptList AgentSocketPath LogLevel SyslogFacility AuthorizedKeysFile RevokedKeys
    HostKey HostCertificate AllowUsers DenyUsers AllowGroups DenyGroups AcceptEnv SetEnv
    AuthenticationMethods LogVerbose ChannelTimeout Subsystem MaxStartups PerSourceMaxStartups
    PerSourceNetBlockSize PermitTunnel IPQoS RekeyLimit PermitOpen PermitListen PermitUserEnvironment
    PubkeyAuthOptions PerSourcePenalties AllowTerrapin
""")

_EACH: Final = frozenset({
    "HostKey", "HostCertificate", "AllowUsers", "DenyUsers", "AllowGroups", "DenyGroups", "AcceptEnv",
})  # fmt: skip
"""Keywords with a line for each value."""

_WHERE_SET: Final = frozenset({"RevokedKeys", "LogVerbose", "AllowTerrapin"})
_WHERE_ANY: Final = frozenset({"AuthorizedKeysFile"})
"""Keywords that are not shown where they say none."""
"""Keywords that are not shown where nothing was said."""


def show_server(
    values: Mapping[str, Any], policy: Policy, options: ServerOptions, addresses: Sequence[str]
) -> Iterator[str]:
    """The lines of `sshd -T` for the values of a login; `addresses` are what it listens on, with ports."""
    for number in values.get("ports", options.ports):
        yield f"Port {number}"
    yield f"AddressFamily {values.get('family', options.family)}"
    for address in addresses:
        yield f"ListenAddress {address}"
    for keyword in _SERVER_ORDER:
        row = server_keywords.KEYWORDS[keyword.lower()]
        if keyword in _WHERE_SET and not values.get(row.name):
            continue
        value = values[row.name] if row.name in values else _default(row.name, policy, options)
        if keyword in _WHERE_ANY and not value:
            continue
        if keyword in _EACH:
            for each in value:
                yield f"{keyword} {each}"
        elif keyword == "SetEnv":
            yield from (f"{keyword} {name}={text}" for name, text in value)
        elif keyword == "Subsystem":
            yield from (f"{keyword} {server_keywords.show_subsystem(each)}" for each in _first(value))
        else:
            value = int(value) if isinstance(value, float) else value
            yield f"{keyword} {'none' if value is None or value == '' else row.form.show(value)}"


def _first(value: Sequence[Any]) -> Iterator[Any]:
    """Of each name the first."""
    seen: set[str] = set()
    for each in value:
        if each[0] not in seen:
            seen.add(each[0])
            yield each


_FIELDS: Final = frozenset(spec.name for spec in specs(ServerOptions))


def _default(name: str, policy: Policy, options: ServerOptions) -> Any:
    """What holds where nothing was said."""
    if name in _SPECIAL:
        return _SPECIAL[name]
    if name == "subsystems":
        return tuple((key, command, tuple(command.split())) for key, command in options.subsystems.items())
    if name == "hostbased_accepted_algorithms":
        return Policy.server().pubkey_algorithms
    value = getattr(options, name) if name in _FIELDS else None
    if value is None and (name not in _FIELDS or name in _SERVER_SETTINGS):
        return getattr(policy, _SERVER_SETTINGS.get(name, name))
    return value


_SPECIAL: Final[dict[str, Any]] = {
    "max_startups": (10, 30, 100), "tcp_keepalive": "true", "pubkey_auth_options": ((), 6), "set_env": (),
    "allow_users": (), "deny_users": (), "compression": "no", "rekey_limit": (None, None), "permit_tty": True,
    "force_command": None, "permit_open": (), "permit_listen": (), "version_addendum": "",
}  # fmt: skip

_SERVER_SETTINGS: Final = {
    "login_grace_time": "login_grace", "max_auth_tries": "max_auth_failures",
    "client_alive_interval": "keepalive_interval", "client_alive_count_max": "keepalive_count",
    "required_rsa_size": "min_rsa_bits",
    "ca_signature_algorithms": "ca_signature_algorithms",
}  # fmt: skip
"""Rows whose default is the Policy's, under another name there."""
