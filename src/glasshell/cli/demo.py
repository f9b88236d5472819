"""`glasshell demo`: a server, a client, and the timeline of their whole connection.

The server serves this account on a loopback port with keys made for the occasion; nothing of the system's
is read or changed. The client logs in without a password and runs a command on a pseudo-terminal and another
one on a second channel at the same time.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from ..errors import ConfigError
from .watching import add_flags, check_views, close_views, for_capture, open_views, tell_of_secrets, wanted

if TYPE_CHECKING:
    from ..observe.hub import Sink
    from ..policy import Policy

HOST: Final = "127.0.0.1"
ON_TERMINAL: Final = 'echo "a terminal of $(stty size | tr " " x), $(tty), for $(whoami)"'
ON_PIPES: Final = "echo a second channel at the same time; exit 3"
SECONDS: Final = 30.0


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    made = argparse.ArgumentParser(prog="glasshell demo", description=(__doc__ or "").partition(": ")[2])
    made.add_argument("--svg", metavar="FILE", type=Path, help="draw the timeline into FILE as well")
    add_flags(made)
    return made


def main(arguments: Sequence[str]) -> int:
    """Runs the demonstration; 0 when everything went as it should."""
    options = parser().parse_args(arguments)
    from ..policy import Policy
    from ..views.screen import coloured
    from ..views.timeline import Timeline

    timeline = Timeline()
    asked = wanted(options.views)
    check_views(asked)
    views = open_views(each for each in asked if each[0] != "--timeline")  # it is drawn anyway
    tell_of_secrets(views, lambda line: print(line, file=sys.stderr))
    policy = for_capture(Policy.client(login_grace=0), views)
    try:
        asyncio.run(_connection((timeline, *views), policy))
    finally:
        close_views(views)
    print()
    timeline.render(None, coloured(sys.stdout), sys.stdout)
    if options.svg:
        try:
            options.svg.write_text(timeline.to_svg(120, "glasshell demo"), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"cannot write the picture {options.svg}: {error.strerror}") from error
    return 0


async def _connection(sinks: Sequence[Sink], policy: Policy) -> None:
    from ..aio.connecting import connect
    from ..aio.process import Terminal
    from ..aio.server import serve
    from ..aio.shellgate import AccountGatekeeper
    from ..aio.shellserver import run_program
    from ..config.options import ServerOptions
    from ..crypto.signatures import PrivateKey
    from ..keys.public import dump_public_key

    host_key, user_key = PrivateKey.generate("ssh-ed25519"), PrivateKey.generate("ssh-ed25519")
    with TemporaryDirectory() as folder:
        authorized = Path(folder, "authorized_keys")
        authorized.write_text(dump_public_key(user_key.public, "demo"))  # noqa: ASYNC240 (nobody waits)
        # Only root's daemon reads the file as another user; the folder is ours alone.
        options = ServerOptions(authorized_keys=(str(authorized),), strict_modes=False, root_login="yes")
        async with serve(
            HOST, 0, host_keys=[host_key], gatekeeper=AccountGatekeeper(options), handler=run_program
        ) as server:
            print(f"a server on {HOST} port {server.port}, host key {host_key.public.fingerprint()}")
            async with connect(
                HOST, server.port, user=getpass.getuser(), keys=[user_key], agent=False,
                known_hosts=host_key.public, deadline=SECONDS, sinks=sinks, policy=policy,
            ) as connection:  # fmt: skip
                terminal = Terminal(os.environ.get("TERM", "xterm"))
                results = await asyncio.gather(
                    connection.run(ON_TERMINAL, pty=terminal, deadline=SECONDS),
                    connection.run(ON_PIPES, deadline=SECONDS),
                )
                for result in results:
                    print(f"$ {result.command}\n{result.stdout.rstrip()}")
                    print(f"exit status {result.status}")
