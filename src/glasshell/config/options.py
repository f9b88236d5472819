"""What a server is told beside the Policy of its connections: where it listens, who may log in, and what
a session may do. Frozen, like the Policy; the names are those of sshd_config(5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from ..keys.authorized_keys import Permissions
from ..keys.patterns import match_addresses, match_list, match_pattern

__all__ = ["NEVER_ACCEPTED", "ServerOptions", "UserList"]

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

    def matches(self, user: str, address: str) -> bool:
        """Whether `user` from `address` is in the list. Raises KeyFormatError for a CIDR that is none."""
        return any(_matches_user(user, address, pattern) for pattern in self.patterns)


def _matches_user(user: str, address: str, pattern: str) -> bool:
    name, at, place = pattern.rpartition("@")
    if not at:
        return match_pattern(user, pattern)
    return match_pattern(user, name) and match_addresses(address, None, [place])


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """Settings of a server. Times are seconds; empty tuples mean what the keyword's absence means."""

    # Where it listens, and as whom
    ports: tuple[int, ...] = (22,)
    listen: tuple[tuple[str, int | None], ...] = ()
    """Addresses with their port, None: each of `ports`. Empty: every address."""
    family: str = "any"
    """any, inet or inet6."""
    host_keys: tuple[str, ...] = ()
    """Files of private keys."""
    max_startups: int = 100
    """Connections that may wait to log in: the last of the three numbers of MaxStartups."""
    tcp_keepalive: bool = True
    log_level: str = "INFO"

    # Who may log in
    authorized_keys: tuple[str, ...] = (".ssh/authorized_keys", ".ssh/authorized_keys2")
    strict_modes: bool = True
    pubkey: bool = True
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
    banner: str = ""
    """The file whose text is shown before login; empty: none."""

    # What a session may do
    accept_env: tuple[str, ...] = ()
    set_env: Mapping[str, str] = field(default_factory=dict)
    permissions: Permissions = field(default_factory=Permissions)
    """What every login may do at most, ForceCommand among it."""
    print_motd: bool = True
    subsystems: Mapping[str, str] = field(default_factory=dict)
    permit_user_environment: bool = False
    gateway_ports: str = "no"
    """no: remote forwards listen on the loopback only; yes: on every address; clientspecified."""

    def user_objection(self, user: str, groups: Sequence[str], address: str) -> str:
        """Why the lists do not let `user` in, in OpenSSH's words; empty where they do.

        The order is that of sshd_config(5): DenyUsers, AllowUsers, DenyGroups, AllowGroups.
        """
        if self.deny_users.matches(user, address):
            return "listed in DenyUsers"
        if self.allow_users and not self.allow_users.matches(user, address):
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
            case "prohibit-password" if method == "publickey":
                return ""
            case "forced-commands-only" if method == "publickey" and forced_command:
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
