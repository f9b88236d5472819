"""`glasshell doctor [flags] [user@]host`: why does it not work? The flags that matter are those of ssh(1)."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from ..errors import UsageError
from ..wire import visible
from .report import FAILED
from .ssh import FLAGS, Invocation, facts, parse

if TYPE_CHECKING:
    from ..aio.login import Asking
    from ..config.ssh_config import ClientOptions
    from ..explain.failure import Explanation
    from ..explain.steps import Step

__all__ = ["main"]

USAGE: Final = (
    "usage: glasshell doctor [flags] [user@]host\n"
    "       glasshell doctor --server USER [--from ADDRESS] [-i KEY] [--sshd-config FILE]\n"
)

OWN: Final = {
    "--json": "write one JSON object, and nothing else",
    "--ask": "ask for passphrases and passwords, as ssh does; without it none is tried",
    "--no-run": "run nothing on the server",
    "--brief": "the steps without their details",
    "--timeout SECONDS": "how long one answer may take (10; ConnectTimeout, if set)",
    "--server USER": "look on this machine, as root, why sshd lets USER in or not",
    "--from ADDRESS": "with --server: where the client comes from (127.0.0.1)",
    "--sshd-config FILE": "with --server: the file of sshd -f",
}
"""What only doctor has."""

TAKEN: Final = "46bcFiJlmop"
"""The flags of ssh(1) that can matter here."""


def main(arguments: Sequence[str]) -> int:
    """Runs `glasshell doctor`: 0 all is well, 1 a problem was found, 255 it cannot begin."""
    if list(arguments) in (["--help"], ["-h"], []):
        print(_help(), end="", file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else FAILED
    own, words = _own(arguments)
    if "--server" in own:
        return _on_server(own, words)
    said = parse(words)
    if said.command is not None:
        raise UsageError("doctor runs no command of yours", hint=USAGE.strip())
    from ..config.ssh_config import load

    options = load(said.host, facts(), command_line=said.lines, file=said.config)
    return _examine(said, options, own)


def _help() -> str:
    rows = {f"-{name} {FLAGS[name].value}": FLAGS[name].about for name in TAKEN} | OWN
    lines = [f"  {left:18} {about}\n" for left, about in rows.items()]
    status = "\nExit status: 0 all is well, 1 a problem was found and explained, 255 it could not begin.\n"
    return "".join([USAGE, "\nWalks through a login, says what fails and why; changes nothing.\n\n", *lines,
                    status])  # fmt: skip


def _own(arguments: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """What only doctor has, and the words for ssh's own reading."""
    own: dict[str, str] = {}
    rest: list[str] = []
    words = iter(arguments)
    valued = {flag.partition(" ")[0] for flag in OWN if " " in flag}
    for word in words:
        name, sign, value = word.partition("=")
        if name in valued:
            own[name] = value if sign else next(words, "")
            if not own[name]:
                raise UsageError(f"{name} takes a value", hint="glasshell doctor --help")
        elif word in OWN:
            own[word] = ""
        else:
            rest.append(word)
    seconds = own.get("--timeout", "1")
    if not seconds.replace(".", "", 1).isdigit() or float(seconds) <= 0:
        raise UsageError(f"--timeout takes seconds, not '{visible(seconds)}'")
    return own, rest


def _on_server(own: dict[str, str], words: Sequence[str]) -> int:
    """--server: what a client cannot see."""
    import getopt

    from ..aio.serverside import Question, examine

    try:
        flags, rest = getopt.getopt(list(words), "i:")
    except getopt.GetoptError as error:
        raise UsageError(f"with --server: {error.msg}", hint=USAGE.strip()) from None
    if rest:
        raise UsageError(f"with --server no host is named: '{visible(rest[0])}'", hint=USAGE.strip())
    question = Question(
        user=own["--server"], address=own.get("--from", "127.0.0.1"), keys=tuple(path for _, path in flags),
        config=own.get("--sshd-config", ""),
    )  # fmt: skip
    shown = _Shown(own)
    found = examine(question, shown.tell)
    return shown.end({"user": question.user, "address": question.address}, found)


class _Shown:
    """The steps as they come, for people or for programs."""

    def __init__(self, own: dict[str, str]) -> None:
        from ..views.checkup import Checkup
        from ..views.screen import coloured

        self._steps: list[Step] = []
        color = coloured(sys.stdout)
        self._checkup = None
        if "--json" not in own:
            self._checkup = Checkup(sys.stdout, color=color, details="--brief" not in own)

    def tell(self, step: Step) -> None:
        """One step."""
        self._steps.append(step)
        if self._checkup is not None:
            self._checkup.step(step)

    def end(self, about: dict[str, Any], found: Explanation | None) -> int:
        """What it all means; the exit status."""
        if self._checkup is None:
            steps = [step.to_dict() for step in self._steps]
            explanation = found.to_dict() if found else None
            whole = {**about, "well": found is None, "steps": steps, "explanation": explanation}
            print(json.dumps(whole, indent=2))
        elif found is not None:
            self._checkup.explanation(found)
        return 1 if found is not None else 0


def _examine(said: Invocation, options: ClientOptions, own: dict[str, str]) -> int:
    from .watching import close_views, open_views

    views = open_views(said.views)
    shown = _Shown(own)
    try:
        found = asyncio.run(_walk(said, options, own, shown.tell, views))
    finally:
        close_views(views)
    return shown.end({"host": options.hostname, "port": options.port, "user": options.user}, found)


async def _walk(
    said: Invocation, options: ClientOptions, own: dict[str, str], tell: Any, views: Any
) -> Explanation | None:
    from ..aio.doctor import Doctor
    from .jumps import Jumping, Piping

    by: Jumping | Piping | None = None
    if options.proxy_jump or options.proxy_command:
        by = Jumping(said, options) if options.proxy_jump else Piping(options)
    doctor = Doctor(
        options, tell, seconds=float(own.get("--timeout") or 10), run="--no-run" not in own, sinks=views,
        asking=_asking(options) if "--ask" in own and not options.batch_mode else None,
        way=by.reached if by is not None else None,
    )  # fmt: skip
    try:
        return await doctor.examine()
    finally:
        if by is not None:
            await by.close()


def _asking(options: ClientOptions) -> Asking:
    from .questions import Questions

    return Questions(options, lambda text: print(text, file=sys.stderr), lambda *_, **__: None).asking
