"""`glasshell COMMAND ...`: finds the command's file and runs it. Imports are late: start-up matters."""

from __future__ import annotations

import errno
import gc
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import Final

COMMANDS: Final = {
    "ssh": "log in to a server, or run a command there",
    "sshd": "serve logins",
    "keygen": "keys, certificates, signatures, and lists of them",
    "keyscan": "the host keys of servers",
    "agent": "hold keys for ssh, and sign with them",
    "add": "give keys to an agent, list them and take them back",
    "inspect": "the SSH connections of a capture file, decrypted where there are keys",
    "strace": "run ssh under strace, and show its connections",
    "ps": "every SSH connection of this machine",
    "top": "the same live, and what passes in those of our servers",
    "watch": "every SSH connection of this machine as it comes and goes",
    "doctor": "walk through a login, and say what fails and why",
    "explain": "where each value of the configuration comes from, and what lost against it",
    "audit": "what is weak in a server, a capture or a configuration file",
    "speed": "how fast this machine is at each algorithm",
    "demo": "a server, a client and the timeline of their whole connection",
}

FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""Why a file that is open takes no more."""

YOUNG: Final = 50_000
"""Objects made before the collector looks at them: more than a start makes, none of which is garbage."""

USAGE: Final = "usage: glasshell COMMAND ...\n       glasshell --version\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, TextIOWrapper):  # what its encoding has no sign for must not end the program
        sys.stdout.reconfigure(errors="backslashreplace")
    if words[:1] in (["--version"], ["-V"]):
        from .. import __version__

        print(f"glasshell {__version__}")
        return 0
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help(), end="", file=sys.stdout if words else sys.stderr)
        return 0 if words else 255
    if words[0] not in COMMANDS:
        print(f"glasshell: there is no command {words[0]!r}\n{_help()}", end="", file=sys.stderr)
        return 255
    return _run(words[0], words[1:])


def _help() -> str:
    lines = [f"  {name:8} {about}\n" for name, about in COMMANDS.items()]
    return "".join([USAGE, "\nSSH made of glass. The commands:\n\n", *lines])


def _run(name: str, arguments: list[str]) -> int:
    from ..errors import SSHError

    gc.set_threshold(YOUNG)
    try:
        status: int = import_module(f".{name}", __package__).main(arguments)
        if sys.stdout is not None:  # closed by whoever started us
            sys.stdout.flush()
        return status
    except SSHError as error:
        from .report import report

        return report(error, name)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 255
    except OSError as error:
        if error.errno not in FULL or error.filename is not None:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is still buffered has no place either
        print(f"glasshell {name}: cannot write the output: {error.strerror}", file=sys.stderr)
        return 255
    except KeyboardInterrupt:
        # The shell above wants to see that it was the signal, or it would go on with its script.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        return 130
