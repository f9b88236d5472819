"""The forms that values of ssh_config and sshd_config take: how each is read, and how -G and -T show it.

A form reads the arguments of one line and raises ConfigError for what it cannot understand; the file and
the line are put before that by whoever has them. What it reads it can show, in OpenSSH's spelling.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from ..crypto.kinds import Kind
from ..errors import ConfigError
from ..keys.patterns import match_list, match_pattern
from ..wire import visible
from .parse import Line

__all__ = [
    "COMMAND", "COUNT", "FACILITIES", "FACILITY", "FLAG", "HASH", "LEVELS", "LOG_LEVEL", "MASK", "NAMES",
    "PATHS", "PORT", "QOS", "REKEY", "SECONDS", "TEXT", "TIMEOUTS", "UNSET", "VARIABLES", "WORDS",
    "Form", "algorithm_list", "algorithms", "choice", "flag", "lone", "number", "octal", "port",
    "qos_byte", "rekey_limit", "seconds", "size", "unknown_algorithms", "yes_no",
]  # fmt: skip

UNSET: Final[Any] = object()
"""What a line reads as that leaves its keyword as it was, as in `ConnectTimeout none`."""


class Form(NamedTuple):
    """`read` makes a value of a line's arguments; `show` is how -G and -T print it."""

    read: Callable[[Line], Any]
    show: Callable[[Any], str] = str


# ---- single values


def yes_no(value: str) -> bool:
    """yes, true or no, false. Raises ConfigError."""
    word = value.lower()
    if word in ("yes", "true"):
        return True
    if word in ("no", "false"):
        return False
    raise ConfigError(f'"{visible(value)}" is neither yes nor no')


def flag(value: bool) -> str:
    """yes or no."""
    return "yes" if value else "no"


def number(value: str, low: int = 0, high: int = (1 << 31) - 1) -> int:
    """A whole number within bounds. Raises ConfigError."""
    if not re.fullmatch("[0-9]{1,10}", value, re.ASCII):
        raise ConfigError(f'"{visible(value)}" is not a number')
    if not low <= int(value) <= high:
        raise ConfigError(f"{value} is not within {low} to {high}")
    return int(value)


def port(value: str) -> int:
    """A TCP port, 1 to 65535. Raises ConfigError."""
    return number(value, 1, 65535)


_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def exact_seconds(value: str) -> float:
    """Seconds of a time as sshd_config(5) has it: 600, 10m, 1h30m, 1.5. Raises ConfigError.

    Only seconds may have a fraction, and they are given once.
    """
    if len(value) > 32:
        raise ConfigError("a time that is out of range")
    if not re.fullmatch("(?:[0-9]+[mhdw]|[0-9]+(?:[.][0-9]+)?(?:s|\\Z|(?=.))){1,8}", value, re.ASCII | re.I):
        raise ConfigError(f'"{visible(value)}" is not a time such as 90, 10m or 1h30m')
    parts = re.findall("([0-9.]+)([a-z]?)", value.lower())
    if sum(unit in ("", "s") for _, unit in parts) > 1:
        raise ConfigError(f'"{visible(value)}" has its seconds twice')
    total = sum(float(count) * _UNITS[unit] for count, unit in parts)
    if total >= 1 << 31:
        raise ConfigError(f"the time {value} is out of range")
    return total


def seconds(value: str) -> int:
    """Whole seconds of a time; see `exact_seconds`. Raises ConfigError."""
    return int(exact_seconds(value))


def size(value: str) -> int:
    """Bytes of a size such as 512, 64K, 1M or 4G. Raises ConfigError."""
    match = re.fullmatch("([0-9]{1,15})([kmg]?)", value, re.ASCII | re.IGNORECASE)
    if match is None:
        raise ConfigError(f'"{visible(value)}" is not a size such as 512, 64K, 1M or 4G')
    return int(match[1]) << {"": 0, "k": 10, "m": 20, "g": 30}[match[2].lower()]


def octal(value: str) -> int:
    """A mode such as 0177. Raises ConfigError."""
    if not re.fullmatch("0*[0-7]{1,3}", value, re.ASCII) or len(value) > 16:
        raise ConfigError(f'"{visible(value)}" is no octal mode')
    return int(value, 8)


def rekey_limit(args: Sequence[str]) -> tuple[int | None, int | None]:
    """RekeyLimit: bytes, then seconds; None where it says `default` or `none`, or nothing."""
    if len(args) > 2:
        raise ConfigError("RekeyLimit takes a size and a time")
    volume = None if args[0].lower() in ("default", "none") else size(args[0])
    if volume is not None and 0 < volume < 16:
        raise ConfigError("a RekeyLimit of less than 16 bytes")
    if len(args) < 2 or args[1].lower() == "none":
        return volume or None, None
    return volume or None, seconds(args[1])


def lone(args: Sequence[str], *words: str) -> tuple[str, ...]:
    """`args`; one of `words`, such as none, has to stand alone. Raises ConfigError."""
    for word in words:
        if len(args) > 1 and any(arg.lower() == word for arg in args):
            raise ConfigError(f'"{word}" must stand alone')
    if not all(args):
        raise ConfigError("an empty argument")
    return tuple(args)


# ---- lists of algorithms


def algorithm_list(kind: Kind, value: str, defaults: Sequence[str]) -> tuple[str, ...]:
    """A list of algorithms in order of preference; `+`, `-`, `^` before it change `defaults`.

    + appends, - removes, ^ puts first; patterns are allowed. Names that are not built are left out, which
    only narrows the choice; `unknown_algorithms` tells them. Raises ConfigError where none is left.
    """
    sign, wanted = _split_list(value)
    known = _names_of(kind)
    chosen = [name for pattern in wanted for name in known if match_pattern(name, pattern)]
    result = {
        "": chosen,
        "+": [*defaults, *chosen],
        "^": [*chosen, *defaults],
        "-": [name for name in defaults if not match_list(name, wanted)],
    }[sign]
    if not result:
        raise ConfigError(
            f'no {kind.value} of "{visible(value)}" is to be had', hint=f"known: {', '.join(known)}"
        )
    return tuple(dict.fromkeys(result))


def _names_of(kind: Kind) -> tuple[str, ...]:
    # Imported late: most files name no algorithm, and who reads them has to be quick.
    from ..crypto.registry import names

    return names(kind)


def unknown_algorithms(kind: Kind, value: str) -> tuple[str, ...]:
    """The names in a list of algorithms that are not built here."""
    sign, wanted = _split_list(value)
    known = _names_of(kind)
    if sign == "-":
        return ()
    return tuple(name for name in wanted if "*" not in name and "?" not in name and name not in known)


def _split_list(value: str) -> tuple[str, list[str]]:
    sign, listed = (value[0], value[1:]) if value[:1] in ("+", "-", "^") else ("", value)
    return sign, listed.split(",")


# ---- forms


def choice(*, show: dict[Any, str] | None = None, **words: Any) -> Form:
    """One of some words; `_` in a name stands for `-`. `show` says what is printed for a value that is not
    printed as it is held."""
    table = {name.replace("_", "-"): value for name, value in words.items()}
    shown = show or {}

    def read(line: Line) -> Any:
        word = line.one().lower()
        if word not in table:
            raise ConfigError(f'"{visible(line.one())}" is none of {", ".join(table)}')
        return table[word]

    return Form(read, lambda value: shown.get(value, value))


def algorithms(kind: Kind, defaults: Callable[[], Sequence[str]]) -> Form:
    """A list of algorithms; what + - ^ change comes out of `defaults`, when it is needed."""
    return Form(lambda line: algorithm_list(kind, line.one(), defaults()), ",".join)


def _seconds_or_unset(line: Line) -> Any:
    return UNSET if line.one().lower() == "none" else seconds(line.one())


def _variables(line: Line) -> tuple[tuple[str, str], ...]:
    pairs = [word.partition("=") for word in line.args]
    for name, sign, _ in pairs:
        if not name or not sign:
            raise ConfigError(f'"{visible(name)}" is not NAME=value')
    found: dict[str, str] = {}
    for name, _, value in pairs:
        found.setdefault(name, value)
    return tuple(found.items())


def _names(line: Line) -> tuple[str, ...]:
    for name in line.args:
        if not name or "=" in name:
            raise ConfigError(f'"{visible(name)}" is no name of a variable')
    return line.args


def _command(line: Line) -> str | None:
    """All that follows, as it stands; None for none."""
    text = line.rest.lstrip(" \t\r\n=")
    return None if text.lower() == "none" else text


LEVELS: Final = ("QUIET", "FATAL", "ERROR", "INFO", "VERBOSE", "DEBUG", "DEBUG1", "DEBUG2", "DEBUG3")


def _level(line: Line) -> str:
    word = line.one().upper()
    if word == "SILENT":
        return "QUIET"
    if word not in LEVELS:
        raise ConfigError(f'"{visible(line.one())}" is none of {", ".join(LEVELS)}')
    return "DEBUG1" if word == "DEBUG" else word


FACILITIES: Final = (
    "DAEMON", "USER", "AUTH", "AUTHPRIV", "LOCAL0", "LOCAL1", "LOCAL2", "LOCAL3", "LOCAL4", "LOCAL5",
    "LOCAL6", "LOCAL7",
)  # fmt: skip


def _facility(line: Line) -> str:
    word = line.one().upper()
    if word not in FACILITIES:
        raise ConfigError(f'"{visible(line.one())}" is none of {", ".join(FACILITIES)}')
    return word


_QOS: Final = {
    "none": -1, "af11": 0x28, "af12": 0x30, "af13": 0x38, "af21": 0x48, "af22": 0x50, "af23": 0x58,
    "af31": 0x68, "af32": 0x70, "af33": 0x78, "af41": 0x88, "af42": 0x90, "af43": 0x98, "cs0": 0x00,
    "cs1": 0x20, "cs2": 0x40, "cs3": 0x60, "cs4": 0x80, "cs5": 0xA0, "cs6": 0xC0, "cs7": 0xE0, "ef": 0xB8,
    "le": 0x04, "va": 0xB0,
}  # fmt: skip
"""Names of DSCP values as they stand in the byte of the IP header (RFC 2474, 2597, 3246, 5865, 8622)."""

_OLD_QOS: Final = ("lowdelay", "throughput", "reliability")
"""Names of the TOS byte of before 1998: OpenSSH takes them for none."""


def _qos(line: Line) -> tuple[str, str]:
    if len(line.args) > 2:
        raise ConfigError("IPQoS takes one value, or one for sessions and one for bulk")
    found = [_one_qos(word) for word in line.args]
    return found[0], found[-1]


def _one_qos(word: str) -> str:
    name = word.lower()
    if name in _OLD_QOS:
        return "none"
    if name in _QOS:
        return name
    value = number(word, 0, 255)
    return next((name for name, byte in _QOS.items() if byte == value), f"0x{value:02x}")


def qos_byte(name: str) -> int | None:
    """The byte of the IP header that a value of IPQoS stands for; None: the system's own."""
    if name in _QOS:
        return _QOS[name] if name != "none" else None
    return int(name, 16) if name.startswith("0x") else None


def _words(line: Line) -> tuple[str, ...]:
    return lone(line.args, "none")


def _paths(line: Line) -> tuple[str, ...]:
    words = lone(line.args, "none")
    return () if words[0].lower() == "none" else words


def _hash(line: Line) -> str:
    word = line.one().upper()
    if word not in ("MD5", "SHA1", "SHA256", "SHA384", "SHA512"):
        raise ConfigError(f'"{visible(line.one())}" is no hash')
    return word


def _timeouts(line: Line) -> tuple[str, ...]:
    words = lone(line.args, "none")
    if words[0].lower() == "none":
        return ()
    for word in words:
        kind, sign, time = word.partition("=")
        if not kind or not sign:
            raise ConfigError(f'"{visible(word)}" is not channel=time')
        seconds(time)
    return words


def checked_addendum(text: str) -> str:
    """What may stand behind the program's name in its identification (RFC 4253 §4.2). Raises ConfigError."""
    if not (text.isascii() and text.isprintable()) or len(text) > 128:
        raise ConfigError("a VersionAddendum is printable ASCII of at most 128 characters")
    return text


def spaced(words: Sequence[str]) -> str:
    """Words in one line; `none` where there are none."""
    return " ".join(words) or "none"


FLAG: Final = Form(lambda line: yes_no(line.one()), flag)
TEXT: Final = Form(Line.one)
COUNT: Final = Form(lambda line: number(line.one()))
PORT: Final = Form(lambda line: port(line.one()))
SECONDS: Final = Form(_seconds_or_unset)
WORDS: Final = Form(_words, spaced)
PATHS: Final = Form(_paths, spaced)
NAMES: Final = Form(_names, spaced)
VARIABLES: Final = Form(_variables)
COMMAND: Final = Form(_command)
LOG_LEVEL: Final = Form(_level, lambda level: {"DEBUG1": "DEBUG", "QUIET": "SILENT"}.get(level, level))
HASH: Final = Form(_hash)
TIMEOUTS: Final = Form(_timeouts, spaced)
FACILITY: Final = Form(_facility)
MASK: Final = Form(lambda line: octal(line.one()), lambda value: f"0{value:o}")
QOS: Final = Form(_qos, " ".join)
REKEY: Final = Form(lambda line: rekey_limit(line.args), lambda pair: f"{pair[0] or 0} {pair[1] or 0}")
