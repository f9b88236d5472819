"""Pseudo-terminals: opening one, its size, and its modes under the names of RFC 4254 §8.

Modes are a mapping from the RFC's names ("ECHO", "VINTR", ...) to values; what this system does not
have is passed over, as the RFC asks for. `termios` and `fcntl` are imported late.
"""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Mapping
from typing import Any, Final

from ..values import slotted
from .accounts import Account, is_root

__all__ = ["Terminal", "apply_modes", "get_size", "open_terminal", "read_modes", "send_break", "set_size"]

IFLAG, OFLAG, CFLAG, LFLAG, ISPEED, OSPEED, CC = range(7)
"""Where tcgetattr() keeps what."""

_CHARACTERS: Final = (
    "VINTR", "VQUIT", "VERASE", "VKILL", "VEOF", "VEOL", "VEOL2", "VSTART", "VSTOP", "VSUSP", "VDSUSP",
    "VREPRINT", "VWERASE", "VLNEXT", "VSWTCH", "VSTATUS", "VDISCARD",
)  # fmt: skip
_FLAGS: Final = {
    IFLAG: (
        "IGNPAR", "PARMRK", "INPCK", "ISTRIP", "INLCR", "IGNCR", "ICRNL", "IUCLC", "IXON", "IXANY", "IXOFF",
        "IMAXBEL", "IUTF8",
    ),
    LFLAG: (
        "ISIG", "ICANON", "XCASE", "ECHO", "ECHOE", "ECHOK", "ECHONL", "NOFLSH", "TOSTOP", "IEXTEN",
        "ECHOCTL", "ECHOKE", "PENDIN",
    ),
    OFLAG: ("OPOST", "OLCUC", "ONLCR", "OCRNL", "ONOCR", "ONLRET"),
    CFLAG: ("PARENB", "PARODD"),
}  # fmt: skip
_SIZES: Final = ("CS7", "CS8")
_SPEEDS: Final = {"TTY_OP_ISPEED": ISPEED, "TTY_OP_OSPEED": OSPEED}

_NO_CHARACTER: Final = 255
"""A special character that is switched off (RFC 4254 §8)."""
_DISABLED: Final = b"\0" if sys.platform == "linux" else b"\xff"
"""What _POSIX_VDISABLE is here."""

_LINUX: Final = {"IUTF8": 0o40000, "IUCLC": 0o1000, "XCASE": 0o4, "OLCUC": 0o2}
"""Flags of Linux that not every Python's termios names."""


@slotted
class Terminal:
    """A pseudo-terminal: the descriptors of both ends, and the name of the end that programs use."""

    master: int
    slave: int
    name: str

    def close_slave(self) -> None:
        """The program has its end; ours is not needed, and would keep the terminal from ending."""
        if self.slave >= 0:
            os.close(self.slave)
            self.slave = -1

    def close(self) -> None:
        """Closes both ends: programs on it are hung up."""
        self.close_slave()
        if self.master >= 0:
            os.close(self.master)
            self.master = -1


def open_terminal(account: Account) -> Terminal:
    """Opens a pseudo-terminal that belongs to `account`. Raises OSError."""
    master, slave = os.openpty()
    terminal = Terminal(master, slave, os.ttyname(slave))
    if is_root():
        try:
            gid, mode = _tty_group(account)
            os.chown(terminal.name, account.uid, gid)
            os.chmod(terminal.name, mode)  # noqa: PTH101 (beside chown)
        except OSError:
            terminal.close()
            raise
    return terminal


def _tty_group(account: Account) -> tuple[int, int]:
    """Group and mode of a terminal: write(1) is in the group `tty`, where there is one."""
    import grp

    try:
        return grp.getgrnam("tty").gr_gid, 0o620
    except KeyError:
        return account.gid, 0o600


def _opened(descriptor: int) -> int:
    if descriptor < 0:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    return descriptor


def set_size(descriptor: int, columns: int, rows: int, width: int = 0, height: int = 0) -> None:
    """Sets the size in characters, and in pixels; programs on the terminal get SIGWINCH. Raises OSError."""
    import fcntl
    import termios

    fcntl.ioctl(_opened(descriptor), termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, width, height))


def get_size(descriptor: int) -> tuple[int, int, int, int]:
    """Columns, rows, width and height in pixels. Raises OSError."""
    import fcntl
    import termios

    raw = fcntl.ioctl(_opened(descriptor), termios.TIOCGWINSZ, b"\0" * 8)
    rows, columns, width, height = struct.unpack("HHHH", raw)
    return columns, rows, width, height


def send_break(descriptor: int) -> None:
    """A BREAK on the line (RFC 4335). Raises OSError."""
    import termios

    try:
        termios.tcsendbreak(_opened(descriptor), 0)
    except termios.error as error:
        raise OSError(*error.args) from None


def apply_modes(descriptor: int, modes: Mapping[str, int]) -> None:
    """Sets the modes of a terminal; what `modes` does not name stays. Raises OSError."""
    import termios

    try:
        attributes = termios.tcgetattr(_opened(descriptor))
        for name, value in modes.items():
            _set_mode(attributes, name, value)
        termios.tcsetattr(descriptor, termios.TCSANOW, attributes)
    except termios.error as error:
        # A pseudo-terminal has 8 bits and no parity whatever is asked for; glibc says so after it has
        # done all the rest.
        if error.args[0] != errno.EINVAL:
            raise OSError(*error.args) from None


def read_modes(descriptor: int) -> dict[str, int]:
    """The modes of a terminal, every one that the RFC names and this system has. Raises OSError."""
    import termios

    try:
        attributes = termios.tcgetattr(_opened(descriptor))
    except termios.error as error:
        raise OSError(*error.args) from None
    modes = {}
    for name in _CHARACTERS:
        if (index := getattr(termios, name, None)) is not None:
            raw = attributes[CC][index]
            value = raw if isinstance(raw, int) else raw[0]
            modes[name] = _NO_CHARACTER if bytes([value]) == _DISABLED else value
    for group, names in _FLAGS.items():
        modes |= {name: int(bool(attributes[group] & flag)) for name in names if (flag := _flag(name))}
    for name in _SIZES:
        modes[name] = int(attributes[CFLAG] & termios.CSIZE == _flag(name))
    rates = {code: rate for rate, code in _rates().items()}
    return modes | {name: rates.get(attributes[where], 0) for name, where in _SPEEDS.items()}


def _set_mode(attributes: list[Any], name: str, value: int) -> None:
    import termios

    if name in _CHARACTERS:
        if (index := getattr(termios, name, None)) is not None:
            attributes[CC][index] = _DISABLED if value == _NO_CHARACTER else bytes([value & 0xFF])
    elif name in _SIZES:
        if value:
            attributes[CFLAG] = attributes[CFLAG] & ~termios.CSIZE | _flag(name)
    elif name in _SPEEDS:
        attributes[_SPEEDS[name]] = _rates().get(value, attributes[_SPEEDS[name]])
    else:
        for group, names in _FLAGS.items():
            if name in names:
                flag = _flag(name)
                attributes[group] = attributes[group] | flag if value else attributes[group] & ~flag


def _flag(name: str) -> int:
    """The bits of a flag; 0 where this system has no such flag."""
    import termios

    fallback = _LINUX.get(name, 0) if sys.platform == "linux" else 0
    return int(getattr(termios, name, fallback))


def _rates() -> dict[int, int]:
    """Bits per second -> the constant that stands for them; without B0, which would hang up."""
    import termios

    rates = {name[1:]: code for name, code in vars(termios).items() if name[:1] == "B" and name != "B0"}
    return {int(rate): code for rate, code in rates.items() if rate.isdecimal()}
