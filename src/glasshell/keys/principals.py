"""Names that certificates may have for an account (sshd_config(5), AuthorizedPrincipalsFile).

    [options]  principal

The options are those of authorized_keys, but for `cert-authority` and `principals`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import KeyFormatError
from .authorized_keys import Options, RefusedLine, parse_options
from .public import BLANKS, as_text

__all__ = ["AuthorizedPrincipals", "PrincipalLine"]


@dataclass(frozen=True, slots=True)
class PrincipalLine:
    """One name, and what restricts the logins of certificates that have it."""

    source: str
    line: int
    principal: str
    options: Options = field(default_factory=Options)

    @property
    def where(self) -> str:
        """`file:line`."""
        return f"{self.source}:{self.line}"


class AuthorizedPrincipals:
    """The lines of such a file, or of a command's output."""

    __slots__ = ("entries", "refused")

    def __init__(
        self, entries: tuple[PrincipalLine, ...] = (), refused: tuple[RefusedLine, ...] = ()
    ) -> None:
        self.entries = entries
        self.refused = refused

    @classmethod
    def parse(cls, text: str | bytes, source: str = "authorized_principals") -> AuthorizedPrincipals:
        """Reads a file; never raises: a line that cannot be read counts for nothing, and is in `refused`."""
        entries: list[PrincipalLine] = []
        refused: list[RefusedLine] = []
        for number, raw in enumerate(as_text(text).split("\n"), 1):
            # As sshd has it, a comment begins anywhere, in quotes as well.
            line = raw.partition("#")[0].strip(BLANKS + "\r")
            if not line:
                continue
            try:
                entries.append(_parse_line(line, source, number))
            except KeyFormatError as error:
                refused.append(RefusedLine(source, number, str(error)))
        return cls(tuple(entries), tuple(refused))

    def find(self, principals: Sequence[str]) -> PrincipalLine | None:
        """The first line whose name is one of `principals`, each taken whole."""
        return next((entry for entry in self.entries if entry.principal in principals), None)


def _parse_line(line: str, source: str, number: int) -> PrincipalLine:
    at = max(line.rfind(blank) for blank in BLANKS)
    options = parse_options(line[: max(at, 0)].rstrip(BLANKS))
    if options.cert_authority:
        raise KeyFormatError("cert-authority flag invalid here")
    return PrincipalLine(source, number, line[at + 1 :], options)
