"""Accounts of the machine: who somebody is, and why somebody may not log in at all.

`pwd` and `grp` are imported late: the package imports on systems without them.
"""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..values import slotted

if TYPE_CHECKING:
    import pwd

__all__ = [
    "RIGHTS", "Account", "account_objection", "current_account", "find_account", "group_names", "is_root",
]  # fmt: skip


@slotted(frozen=True)
class Account:
    """One line of the user database; `groups` are all of its groups, `gid` among them."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    shell: str


def is_root() -> bool:
    """Whether this process may become anybody; also while it has a user's rights on files (`as_account`):
    that holds in all of its threads, and must not make one of them take root's rights for its own."""
    return 0 in (os.getuid(), os.geteuid())


RIGHTS: Final = threading.RLock()
"""Held while the process has a user's rights on files, and while a thread starts a process that is to have
another's: it would begin without root's, and could not."""


def find_account(name: str) -> Account | None:
    """The account called `name`, or None. An empty shell is /bin/sh (passwd(5))."""
    import pwd

    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError):  # ValueError: a NUL, or characters no file system has
        return None
    return _account(entry)


def current_account() -> Account:
    """The account that this process runs as. Raises KeyError where its uid has none."""
    import pwd

    return _account(pwd.getpwuid(os.getuid()))


def _account(entry: pwd.struct_passwd) -> Account:
    name, _, uid, gid, _, home, shell = entry
    return Account(name, uid, gid, tuple(os.getgrouplist(name, gid)), home, shell or "/bin/sh")


def group_names(account: Account) -> tuple[str, ...]:
    """The names of an account's groups; a group without a name is left out."""
    import grp

    names = []
    for gid in account.groups:
        try:
            names.append(grp.getgrgid(gid).gr_name)
        except KeyError:
            continue
    return tuple(names)


def account_objection(account: Account, *, today: int, check_lock: bool, check_end: bool = True) -> str:
    """Why nobody may log in as `account`, in OpenSSH's words; empty where somebody may.

    `today` is days since 1970. `check_lock` and `check_end` are for systems where no PAM looks at the lock
    and at the day on which the account ends. What shadow(5) says is seen by root only; the shell is looked
    at by everybody.
    """
    try:
        mode = Path(account.shell).stat().st_mode
    except OSError:
        return f"shell {account.shell} does not exist"
    if not stat.S_ISREG(mode) or not mode & 0o111:
        return f"shell {account.shell} is not executable"
    password, expires = _shadow(account.name)
    if check_lock and password.startswith("!"):
        return "account is locked"
    if check_end and expires is not None and today > expires:
        return "account has expired"
    return ""


def _shadow(name: str) -> tuple[str, int | None]:
    """The password field of `name` and the day on which the account ends (shadow(5)); spwd has gone."""
    try:
        lines = Path("/etc/shadow").read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return "", None
    for line in lines:
        fields = line.split(":")
        if fields[0] == name and len(fields) >= 8:
            return fields[1], int(fields[7]) if fields[7].isdecimal() else None
    return "", None
