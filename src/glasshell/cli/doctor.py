"""`glasshell doctor [flags] [user@]host`: why does it not work? The flags that matter are those of ssh(1)."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from ..errors import UsageError
from .report import FAILED
from .ssh import FLAGS, Invocation, facts, parse

if TYPE_CHECKING:
    from ..aio.login import Asking
    from ..config.ssh_config import ClientOptions
    from ..explain.failure import Explanation
    from ..explain.steps import Step

__all__ = ["main"]

USAGE: Final = "usage: glasshell doctor [flags] [user@]host\n"

OWN: Final = {
    "--json": "write one JSON object, and nothing else",
    "--ask": "ask for passphrases and passwords, as ssh does; without it none is tried",
    "--no-run": "run nothing on the server",
    "--brief": "the steps without their details",
    "--timeout SECONDS": "how long one answer may take (10; ConnectTimeout, if set)",
}
"""What only doctor has."""

TAKEN: Final = "46bcFilmop"
"""The flags of ssh(1) that can matter here."""


def main(arguments: Sequence[str]) -> int:
    """Runs `glasshell doctor`: 0 all is well, 1 a problem was found, 255 it cannot begin."""
    if list(arguments) in (["--help"], ["-h"], []):
        print(_help(), end="", file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else FAILED
    own, words = _own(arguments)
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
    for word in words:
        name, sign, value = word.partition("=")
        if name == "--timeout":
            own[name] = value if sign else next(words, "")
            if not own[name].replace(".", "", 1).isdigit() or float(own[name]) <= 0:
                raise UsageError(f"--timeout takes seconds, not '{own[name]}'")
        elif word in OWN:
            own[word] = ""
        else:
            rest.append(word)
    return own, rest


def _examine(said: Invocation, options: ClientOptions, own: dict[str, str]) -> int:
    from ..views.checkup import Checkup
    from .watching import close_views, open_views

    steps: list[Step] = []
    views = open_views(said.views)
    shown = None
    if "--json" not in own:
        color = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        shown = Checkup(sys.stdout, color=color, details="--brief" not in own)

    def tell(step: Step) -> None:
        steps.append(step)
        if shown is not None:
            shown.step(step)

    try:
        found = asyncio.run(_walk(options, own, tell, views))
    finally:
        close_views(views)
    if shown is None:
        print(json.dumps(_document(options, steps, found), indent=2))
    elif found is not None:
        shown.explanation(found)
    return 1 if found is not None else 0


async def _walk(options: ClientOptions, own: dict[str, str], tell: Any, views: Any) -> Explanation | None:
    from ..aio.doctor import Doctor

    doctor = Doctor(
        options, tell, seconds=float(own.get("--timeout") or 10), run="--no-run" not in own, sinks=views,
        asking=_asking(options) if "--ask" in own and not options.batch_mode else None,
    )  # fmt: skip
    return await doctor.examine()


def _asking(options: ClientOptions) -> Asking:
    from .questions import Questions

    return Questions(options, lambda text: print(text, file=sys.stderr), lambda *_, **__: None).asking


def _document(options: ClientOptions, steps: list[Step], found: Explanation | None) -> dict[str, Any]:
    return {
        "host": options.hostname, "port": options.port, "user": options.user,
        "well": found is None,
        "steps": [step.to_dict() for step in steps],
        "explanation": found.to_dict() if found else None,
    }  # fmt: skip
