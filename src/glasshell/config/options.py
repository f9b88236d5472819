"""What a server is told beside the Policy of its connections: where it listens, who may log in, and what
a session may do. Frozen, like the Policy; the names are those of sshd_config(5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from ..keys.authorized_keys import Permissions
from ..keys.patterns import match_addresses, match_list, match_pattern
from ..values import field, slotted

__all__ = ["NEVER_ACCEPTED", "Forwarding", "ServerOptions", "UserList"]

Forwarding = Literal["yes", "no", "local", "remote"]

INTERNAL_SFTP: Final = "internal-sftp"

NEVER_ACCEPTED: Final = (
    "PATH", "HOME", "SHELL", "USER", "LOGNAME", "MAIL", "TERM", "IFS", "ENV", "BASH_ENV", "BASH_FUNC_*",
    "SHELLOPTS", "BASHOPTS", "CDPATH", "GCONV_PATH", "GETCONF_DIR", "HOSTALIASES", "LOCALDOMAIN", "LOCPATH",
    "MALLOC_*", "NIS_PATH", "NLSPATH", "PERL*", "PYTHON*", "RESOLV_HOST_CONF", "RES_OPTIONS", "RUBY*",
    "TMPDIR", "TZDIR", "LD_*", "DYLD_*", "GLIBC_TUNABLES", "SSH_*",
)  # fmt: skip
"""Variables that no client may set, whatever AcceptEnv says: they decide what is executed, and where."""


@dataclass(frozen=True, slots=True)
class UserList:
    """AllowUsers or DenyUsers: patterns of names, each with a pattern of the client's address or not."""

    patterns: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.patterns)

    def matches(self, user: str, address: str, hostname: str | None = None) -> bool:
        """Whether `user` from `address` is in the list. Raises KeyFormatError for a CIDR that is none."""
        return any(_matches_user(user, address, hostname, pattern) for pattern in self.patterns)


def _matches_user(user: str, address: str, hostname: str | None, pattern: str) -> bool:
    name, at, place = pattern.rpartition("@")
    if not at:
        return match_pattern(user, pattern)
    return match_pattern(user, name) and match_addresses(address, hostname, [place])


@slotted(frozen=True, kw_only=True)
class ServerOptions:
    """Settings of a server: every keyword of sshd_config(5) of OpenSSH 10.6 that is not in the Policy.

    Times are seconds; empty tuples and None mean what the keyword's absence means. Of Match blocks the
    values are those for the login that they were asked for (`ServerConfig.at`).
    """

    # Where it listens, and as whom
    ports: tuple[int, ...] = (22,)
    listen: tuple[tuple[str, int | None], ...] = ()
    """Addresses with their port, None: each of `ports`. Empty: every address."""
    family: str = "any"
    """any, inet or inet6."""
    rdomain: str | None = None
    host_keys: tuple[str, ...] = ()
    """Files of private keys."""
    host_certificate: tuple[str, ...] = ()
    """Files of their certificates."""
    host_key_agent: str | None = None
    """A socket, or "SSH_AUTH_SOCK" for what that variable names."""
    max_startups: int = 100
    """Connections that may wait to log in: the last of the three numbers of MaxStartups."""
    max_startups_begin: int = 10
    max_startups_rate: int = 30
    """Per cent of the connections beyond `max_startups_begin` that are turned away."""
    per_source_max_startups: int | None = None
    per_source_net_block_size: tuple[int, int] = (32, 128)
    per_source_penalties: tuple[tuple[str, float | str], ...] = ()
    """What was said, in order; `enabled` is yes or no by itself."""
    per_source_penalty_exempt_list: str | None = None
    tcp_keepalive: bool = True
    ip_qos: tuple[str, str] = ("ef", "cs0")
    use_dns: bool = False
    log_level: str = "INFO"
    log_verbose: tuple[str, ...] = ()
    syslog_facility: str = "AUTH"
    fingerprint_hash: str = "SHA256"
    pid_file: str | None = "/run/sshd.pid"
    moduli_file: str = "/etc/ssh/moduli"
    sshd_session_path: str = "/usr/lib/openssh/sshd-session"
    sshd_auth_path: str = "/usr/lib/openssh/sshd-auth"
    debian_banner: bool = True
    warn_weak_crypto: bool = True
    refuse_connection: bool = False
    unused_connection_timeout: int = 0
    channel_timeout: tuple[str, ...] = ()

    # Who may log in
    authorized_keys: tuple[str, ...] = (".ssh/authorized_keys", ".ssh/authorized_keys2")
    authorized_keys_command: str | None = None
    authorized_keys_command_user: str | None = None
    authorized_principals_file: str | None = None
    authorized_principals_command: str | None = None
    authorized_principals_command_user: str | None = None
    trusted_user_ca_keys: str | None = None
    ca_signature_algorithms: tuple[str, ...] | None = None
    revoked_keys: tuple[str, ...] = ()
    authentication_methods: tuple[str, ...] = ()
    """Lists of methods with commas between, all of one of which have to succeed; empty: any one method."""
    strict_modes: bool = True
    pubkey: bool = True
    pubkey_auth_options: tuple[str, ...] = ()
    """touch-required, verify-required."""
    max_pk_ok: int = 6
    """Queries for a key that count as no failure; of PubkeyAuthOptions."""
    hostbased_authentication: bool = False
    hostbased_accepted_algorithms: tuple[str, ...] | None = None
    hostbased_uses_name_from_packet_only: bool = False
    ignore_rhosts: Literal["yes", "no", "shosts-only"] = "yes"
    ignore_user_known_hosts: bool = False
    gssapi_authentication: bool = False
    gssapi_cleanup_credentials: bool = True
    gssapi_delegate_credentials: bool = True
    gssapi_strict_acceptor_check: bool = True
    kerberos_authentication: bool = False
    kerberos_or_local_passwd: bool = True
    kerberos_ticket_cleanup: bool = True
    kerberos_get_afs_token: bool = False
    root_login: str = "prohibit-password"
    """yes, prohibit-password, forced-commands-only or no."""
    allow_users: UserList = UserList()
    deny_users: UserList = UserList()
    allow_groups: tuple[str, ...] = ()
    deny_groups: tuple[str, ...] = ()
    password_authentication: bool = True
    """Without PAM this is for a server of root's: nobody else may look at shadow(5)."""
    kbd_interactive_authentication: bool = True
    """Through PAM, if that is used."""
    permit_empty_passwords: bool = False
    use_pam: bool = False
    pam_service_name: str = "sshd"
    expose_auth_info: bool = False
    security_key_provider: str | None = "internal"
    banner: str = ""
    """The file whose text is shown before login; empty: none."""

    # What a session may do
    accept_env: tuple[str, ...] = ()
    set_env: Mapping[str, str] = field(default_factory=dict)
    permissions: Permissions = field(default_factory=Permissions)
    """What every login may do at most, out of ForceCommand and the keywords that say so of their own."""
    chroot_directory: str | None = None
    """With its tokens."""
    permit_user_rc: bool = True
    print_motd: bool = True
    print_last_log: bool = True
    subsystems: Mapping[str, str] = field(default_factory=dict)
    permit_user_environment: bool | str = False
    """A string is a list of patterns of names."""
    allow_agent_forwarding: bool = True
    agent_socket_path: str = "user:.ssh/agent"
    allow_tcp_forwarding: Forwarding = "yes"
    allow_stream_local_forwarding: Forwarding = "yes"
    disable_forwarding: bool = False
    gateway_ports: str = "no"
    """no: remote forwards listen on the loopback only; yes: on every address; clientspecified."""
    stream_local_bind_mask: int = 0o177
    stream_local_bind_unlink: bool = False
    permit_tunnel: Literal["no", "yes", "point-to-point", "ethernet"] = "no"
    x11_forwarding: bool = False
    x11_display_offset: int = 10
    x11_use_localhost: bool = True
    xauth_location: str | None = "/usr/bin/xauth"

    def user_objection(
        self, user: str, groups: Sequence[str], address: str, hostname: str | None = None
    ) -> str:
        """Why the lists do not let `user` in, in OpenSSH's words; empty where they do.

        `hostname` is the client's name, where names are looked up.
        The order is that of sshd_config(5): DenyUsers, AllowUsers, DenyGroups, AllowGroups.
        """
        if self.refuse_connection:
            return "RefuseConnection is set"
        if self.deny_users.matches(user, address, hostname):
            return "listed in DenyUsers"
        if self.allow_users and not self.allow_users.matches(user, address, hostname):
            return "not listed in AllowUsers"
        if _any_group(groups, self.deny_groups):
            return "a group is listed in DenyGroups"
        if self.allow_groups and not _any_group(groups, self.allow_groups):
            return "none of user's groups are listed in AllowGroups"
        return ""

    def root_objection(self, method: str, forced_command: bool) -> str:
        """Why PermitRootLogin keeps root from logging in with `method`; empty where it does not."""
        match self.root_login:
            case "yes":
                return ""
            case "prohibit-password" if method in ("publickey", "hostbased", "gssapi-with-mic"):
                return ""
            case "forced-commands-only" if forced_command:
                return ""
        return "ROOT LOGIN REFUSED"

    def accepts_variable(self, name: str) -> bool:
        """Whether a client may set the variable `name`."""
        # A control character, or the parentheses of an exported function, has no place in a name.
        if not name.isascii() or not name.replace("_", "a").isalnum():
            return False
        return not _any_pattern(name, NEVER_ACCEPTED) and _any_pattern(name, self.accept_env)


def _any_group(groups: Iterable[str], patterns: Sequence[str]) -> bool:
    return any(match_list(group, patterns) for group in groups) if patterns else False


def _any_pattern(name: str, patterns: Iterable[str]) -> bool:
    return any(match_pattern(name, pattern) for pattern in patterns)
