"""What ssh_config and sshd_config share: lines, quoting, Include, and the forms that values take.

Nothing here opens a file: `read` and `find` come in as arguments. Every value that cannot be understood
is a ConfigError; `Line.error` puts the file and the line before it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from ..errors import ConfigError
from ..values import replace, slotted
from ..wire import visible

MAX_DEPTH: Final = 16
"""Deepest nesting of Include, as in OpenSSH."""
MAX_FILES: Final = 256
"""Most files that one file and its Includes may read."""
MAX_FILE: Final = 1 << 20
"""Largest file taken, in bytes."""
MAX_LINE: Final = 64 * 1024
"""Longest line taken, in characters."""

COMMAND_LINE: Final = "command line"
"""`Line.path` of what was given with -o."""

Read = Callable[[str], bytes]
"""The content of a file. Raises OSError."""
Find = Callable[[str], Sequence[str]]
"""The files that a glob(7) pattern names, in order; none is an empty answer."""


@slotted(frozen=True)
class Line:
    """One keyword with its arguments, and the file and line it came from.

    `keyword` is in lower case, `name` as it was written; `rest` is everything after it, unsplit, for
    keywords whose value is a command. An Include line carries the lines of each file it named.
    """

    keyword: str
    args: tuple[str, ...]
    path: str
    number: int
    name: str = ""
    rest: str = ""
    included: tuple[tuple[Line, ...], ...] = ()

    @property
    def where(self) -> str:
        """`file line N`, as OpenSSH names a place."""
        return f"{self.path} line {self.number}" if self.number else self.path

    def error(self, text: str, hint: str = "") -> ConfigError:
        """The error that says `text` of this line."""
        return ConfigError(f"{self.where}: {text}", hint=hint, line=self.text)

    @property
    def text(self) -> str:
        """The line as it was written, but for what stands around it; of a long one the beginning."""
        return f"{self.name} {self.rest}".strip()[:200]

    def one(self) -> str:
        """The only argument. Raises ConfigError where there are none or several."""
        if len(self.args) != 1 or not self.args[0]:
            raise ConfigError(f"one argument is wanted, not {len(self.args)}")
        return self.args[0]


# ---- lines


def _find_none(pattern: str) -> Sequence[str]:
    return ()


def read_file(
    path: str, read: Read, find: Find = _find_none, *, base: str = "", home: str = ""
) -> list[Line]:
    """The lines of `path`, those of its Includes within them.

    `base` is the folder of an Include with a relative path, `home` what a leading ~ stands for. Raises
    ConfigError for what cannot be parsed, and OSError where `path` itself cannot be read.
    """
    return _Files(read, find, base, home).lines(path, 0)


def parse_option(text: str) -> Line:
    """The line of `-o text`: `Keyword value` or `Keyword=value`. Raises ConfigError."""
    line = parse_line(text, COMMAND_LINE, 0)
    if line is None:
        raise ConfigError(f'{COMMAND_LINE}: "{visible(text)}" is no option', hint="write -o Keyword=value")
    return line


def flatten(lines: Iterable[Line]) -> Iterator[Line]:
    """Every line in order, those of Includes where the Include stands."""
    for line in lines:
        if line.keyword == "include":
            for one_file in line.included:
                yield from flatten(one_file)
        else:
            yield line


class _Files:
    """One reading of a file and everything it includes, with the bounds that keep it finite."""

    def __init__(self, read: Read, find: Find, base: str, home: str) -> None:
        self._read = read
        self._find = find
        self._base = base
        self._home = home
        self._count = 0

    def lines(self, path: str, depth: int) -> list[Line]:
        self._count += 1
        if self._count > MAX_FILES:
            raise ConfigError(f"{path}: more than {MAX_FILES} configuration files")
        data = self._read(path)
        found = []
        for line in parse_lines(data, path):
            if isinstance(line, ConfigError):
                raise line
            found.append(self._include(line, depth) if line.keyword == "include" else line)
        return found

    def _include(self, line: Line, depth: int) -> Line:
        if depth >= MAX_DEPTH:
            raise line.error(f"Include is nested more than {MAX_DEPTH} deep")
        paths = [path for pattern in line.args for path in self._paths(line, pattern)]
        return replace(line, included=tuple(tuple(self._included(line, path, depth)) for path in paths))

    def _paths(self, line: Line, pattern: str) -> Sequence[str]:
        if pattern.startswith("~"):
            if not self._home or pattern[1:2] not in ("", "/"):
                raise line.error(f"Include {visible(pattern)}: ~ stands for nobody's home here")
            pattern = self._home + pattern[1:]
        return self._find(posixpath.join(self._base, pattern))

    def _included(self, line: Line, path: str, depth: int) -> list[Line]:
        try:
            return self.lines(path, depth + 1)
        except OSError as error:
            raise line.error(f"Include {visible(path)}: {error.strerror or error}") from None


def parse_lines(data: bytes, path: str) -> Iterator[Line | ConfigError]:
    """The lines of a file that has been read; of those that are wrong what is wrong with them."""
    if len(data) > MAX_FILE:
        raise ConfigError(f"{path}: {len(data)} bytes; {MAX_FILE} are allowed")
    # Editors of some systems begin a file with a byte order mark.
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    for number, each in enumerate(text.split("\n"), 1):
        try:
            line = parse_line(each, path, number)
        except ConfigError as error:
            yield error
        else:
            if line is not None:
                yield line


_KEYWORD: Final = re.compile(r'[ \t]*(?:"([^"]*)"|([^ \t="]+))(?:[ \t]*=[ \t]*|[ \t]+|\Z)(.*)', re.DOTALL)


def parse_line(text: str, path: str, number: int) -> Line | None:
    """One line of a configuration file; None where it is empty or a comment. Raises ConfigError."""
    text = text.strip(" \t\r\n\f")
    place = Line("", (), path, number, text[:200])
    if not text or text.startswith("#"):
        return None
    if len(text) > MAX_LINE:
        raise place.error(f"a line of {len(text)} characters; {MAX_LINE} are allowed")
    if "\0" in text:
        raise place.error("a NUL in the line")
    match = _KEYWORD.match(text)
    if match is None:
        raise place.error(f'"{visible(text[:40])}" has no keyword')
    name = match[1] if match[1] is not None else match[2]
    try:
        args = split_words(match[3])
    except ConfigError as error:
        raise place.error(f"{visible(name)}: {error}") from None
    if not args:
        raise place.error(f'no argument after keyword "{visible(name)}"')
    return Line(name.lower(), args, path, number, name, match[3])


def split_words(text: str) -> tuple[str, ...]:
    """The words of `text`: quotes group, # starts a comment, \\ escapes a quote, itself, or a space.

    Raises ConfigError for a quote that is not closed.
    """
    words, pos, end = [], 0, len(text)
    while pos < end:
        if text[pos] in " \t":
            pos += 1
        elif text[pos] == "#":
            break
        else:
            word, pos = _word(text, pos)
            words.append(word)
    return tuple(words)


def _word(text: str, pos: int) -> tuple[str, int]:
    out: list[str] = []
    quote = ""
    while pos < len(text):
        char = text[pos]
        following = text[pos + 1 : pos + 2]
        if char == "\\" and following and following in ("'\"\\" if quote else "'\"\\ "):
            out.append(following)
            pos += 2
            continue
        if quote and char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        elif not quote and char in " \t":
            break
        else:
            out.append(char)
        pos += 1
    if quote:
        raise ConfigError("a quote that is not closed")
    return "".join(out), pos
