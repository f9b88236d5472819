"""The process of one login: what asks PAM, or shadow(5), and holds the session that PAM has opened.

Modules block, sleep, change credentials and limits of their process, and start others: each login has a
process for them, begun with nothing of the server's in its memory. It is led over a socket pair of whole
packets (SOCK_SEQPACKET): an operation, one byte, then fields of a length, four bytes, and so much.
Where the server is gone, it closes the session and ends. The programs of the login's sessions are its
children, so that the limits, the audit id and the control group that modules have set hold for them.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import struct
import sys
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from ..errors import SSHError
from .pam import ECHO_OFF, MAX_TEXT, SUCCESS, Handle, Said

if TYPE_CHECKING:
    import subprocess

__all__ = ["MAX_PACKET", "main", "pack", "unpack"]

MAX_PACKET: Final = 144 * 1024
"""Bytes of a packet: the texts of one round, or a program's arguments and environment."""
MAX_ROUND: Final = 128 * 1024
"""Bytes of the texts of one round."""

# What the server asks for.
START = b"s"  # service ("": shadow), user, address, folder of services, NAME=VALUE...
AUTHENTICATE = b"a"  # "1" where an empty password may do
PASSWORD = b"p"  # the same, the password
ACCOUNT = b"c"
CHANGE = b"n"
OPEN = b"o"
RUN = b"x"  # JSON; the program's streams come with it
SIGNAL = b"k"  # process id, name
CLOSE = b"z"
ANSWERS = b"r"
GIVE_UP = b"g"
# What it is told.
QUERY = b"?"  # style and text, for each message
TELL = b"t"  # the same, where no answer is wanted
DONE = b"!"  # code, PAM's words, user, and what else there is
FAILED = b"f"  # a text: nothing more can be asked
EXITED = b"e"  # process id, status of wait(2)

_U32: Final = struct.Struct(">I")
_NOT_DUMPABLE: Final = (4, 0)
"""prctl(2): PR_SET_DUMPABLE off: no core dump, no ptrace by the user; execve(2) sets it back for programs."""


def pack(operation: bytes, *fields: bytes | bytearray | str) -> bytes:
    """A packet. Raises ValueError where it is too long."""
    raw = [each.encode("utf-8", "surrogateescape") if isinstance(each, str) else each for each in fields]
    packet = operation + b"".join(_U32.pack(len(each)) + each for each in raw)
    if len(packet) > MAX_PACKET:
        raise ValueError("a packet that is too long")
    return packet


def unpack(packet: bytes | bytearray | memoryview) -> tuple[bytes, list[bytearray]]:
    """The operation and the fields of a packet. Raises ValueError for what is none."""
    view = memoryview(packet)
    fields, at = [], 1
    while at < len(view):
        if at + 4 > len(view) or (end := at + 4 + _U32.unpack_from(view, at)[0]) > len(view):
            raise ValueError("a packet that is cut short")
        fields.append(bytearray(view[at + 4 : end]))
        at = end
    return bytes(view[:1]), fields


class _Gone(Exception):
    """The end."""


class _Child:
    """The process: obeys one operation after another. Its state is the handle and the programs."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._handle: Handle | None = None
        self._user = ""
        self._password: bytearray | None = None
        self._answers: Sequence[bytearray] = ()
        self._buffer = bytearray(MAX_PACKET)
        self._open = False
        self._established = False
        self._authenticated = False
        self._programs: dict[int, subprocess.Popen[bytes]] = {}
        """Programs by descriptor (pidfd)."""

    def serve(self) -> None:
        """Obeys until the server closes its end."""
        while True:
            server = self._sock.fileno()
            ready, _, _ = select.select([server, *self._programs], [], [])
            for descriptor in ready:
                if descriptor != server:
                    self._reap(descriptor)
            if server in ready:
                operation, fields, descriptors = self._receive()
                try:
                    self._obey(operation, fields, descriptors)
                finally:
                    _wipe([*fields, *self._answers])
                    for each in descriptors:
                        os.close(each)

    def close(self) -> None:
        """The session's end: what was opened is closed, what was given is taken away."""
        for program in self._programs.values():
            with suppress(OSError):
                os.killpg(program.pid, signal.SIGHUP)  # the client has hung up
        handle, self._handle = self._handle, None
        if handle is None:
            return
        if self._open:
            handle.close_session()
        if self._established:
            handle.delete()
        handle.end()

    def _receive(self) -> tuple[bytes, list[bytearray], list[int]]:
        size, ancillary, _, _ = self._sock.recvmsg_into([self._buffer], socket.CMSG_SPACE(3 * 4))
        descriptors = array("i")
        for _, _, carried in ancillary:
            descriptors.frombytes(carried[: len(carried) - len(carried) % descriptors.itemsize])
        if not size:
            raise _Gone
        packet = memoryview(self._buffer)[:size]
        operation, fields = unpack(packet)
        packet[:] = bytes(size)
        return operation, fields, descriptors.tolist()

    def _send(self, operation: bytes, *fields: bytes | str) -> None:
        try:
            self._sock.send(pack(operation, *fields))
        except OSError:
            raise _Gone from None

    def _obey(self, operation: bytes, fields: Sequence[bytearray], descriptors: list[int]) -> None:
        match operation:
            case b"s":
                self._start(*map(_text, fields))
            case b"a":
                self._authenticate(empty=bool(fields[0]))
            case b"p":
                self._check(fields[1], empty=bool(fields[0]))
            case b"c":
                self._tell(self._pam.account(empty_passwords=bool(fields[0])))
            case b"n":
                self._tell(self._pam.change_expired())
            case b"o":
                self._open_session()
            case b"x":
                self._run(fields[0], descriptors)
            case b"k":
                self._signal(int(fields[0]), _text(fields[1]))
            case _:
                raise _Gone  # `z`, and what is not known

    @property
    def _pam(self) -> Handle:
        if self._handle is None:
            raise _Gone
        return self._handle

    # Who is it?

    def _start(self, service: str, user: str, address: str, folder: str, *variables: str) -> None:
        self._user = user
        if service:
            self._handle = Handle(service, user, self._converse, folder)
            self._handle.set("rhost", address)
            self._handle.set("tty", "ssh")  # modules want one, long before there is a terminal (as sshd)
            for each in variables:
                self._handle.put_environment(*each.partition("=")[::2])
        self._tell(SUCCESS)

    def _check(self, password: bytearray, *, empty: bool) -> None:
        if self._handle is None:
            from .shadow import check_password

            good = check_password(self._user, bytes(password), empty_passwords=empty)
            self._send(DONE, "0" if good else "7", "" if good else "Authentication failure", self._user)
            return
        self._password = password
        try:
            self._authenticate(empty=empty)
        finally:
            self._password = None

    def _authenticate(self, *, empty: bool) -> None:
        code = self._pam.authenticate(empty_passwords=empty)
        self._authenticated = code == SUCCESS
        self._tell(code)

    def _tell(self, code: int, *more: str) -> None:
        handle = self._handle
        text, user = (handle.explain(code), handle.user) if handle else ("", self._user)
        self._send(DONE, str(code), text, user, *more)

    def _converse(self, said: Sequence[Said]) -> Sequence[bytearray] | None:
        asking = [each for each in said if each.asks]
        if self._password is not None:
            self._send(TELL, *_packed(each for each in said if not each.asks))
            # As sshd answers for a client that sent a password: each hidden prompt, and no other.
            hidden = all(each.style == ECHO_OFF for each in asking)
            return [self._password] * len(asking) if hidden else None
        self._send(QUERY if asking else TELL, *_packed(said))
        if not asking:
            return []
        _wipe(self._answers)
        operation, self._answers, descriptors = self._receive()
        for each in descriptors:
            os.close(each)
        return self._answers if operation == ANSWERS else None

    # The session

    def _open_session(self) -> None:
        """Credentials, then the session, both before the user's rights are put on (as sshd)."""
        pam = self._pam
        if os.geteuid() == 0:
            import pwd

            with suppress(KeyError):
                os.initgroups(self._user, pwd.getpwnam(self._user).pw_gid)
        code = pam.establish()
        self._established = code == SUCCESS
        # Whoever came by a key has shown these modules nothing, which some take amiss (as sshd has it).
        if code == SUCCESS or not self._authenticated:
            code = pam.open_session()
            self._open = code == SUCCESS
        self._tell(code, *(f"{name}={value}" for name, value in pam.environment().items()))
        # What a program will need, while the client is still to ask for one.
        from . import accounts, children  # noqa: F401

    def _run(self, wanted: bytearray, descriptors: list[int]) -> None:
        import json

        from .accounts import Account
        from .children import spawn

        facts = json.loads(wanted)
        groups = tuple(os.getgrouplist(self._user, facts["gid"])) if os.geteuid() else tuple(os.getgroups())
        account = Account(self._user, facts["uid"], facts["gid"], groups, facts["home"], facts["shell"])
        terminal = len(descriptors) == 1
        first, second, third = descriptors * 3 if terminal else descriptors
        try:
            program = spawn(
                account, facts["arguments"], facts["environment"], (first, second, third), terminal=terminal
            )
        except OSError as error:
            self._send(DONE, "4", error.strerror or str(error), self._user)
            return
        self._programs[os.pidfd_open(program.pid)] = program
        self._send(DONE, "0", "", self._user, str(program.pid))

    def _signal(self, pid: int, name: str) -> None:
        """A signal for a program's process group, while its number is certainly its own."""
        if any(each.pid == pid for each in self._programs.values()):
            with suppress(OSError):
                os.killpg(pid, getattr(signal, f"SIG{name}"))

    def _reap(self, descriptor: int) -> None:
        program = self._programs.pop(descriptor)
        os.close(descriptor)
        _, status = os.waitpid(program.pid, 0)
        program.returncode = os.waitstatus_to_exitcode(status)
        self._send(EXITED, str(program.pid), str(status))


def _packed(said: Iterator[Said] | Sequence[Said]) -> Iterator[bytes]:
    left = MAX_ROUND
    for each in said:
        text = each.text.encode("utf-8", "surrogateescape")[: min(left, MAX_TEXT)]
        left -= len(text)
        yield bytes([each.style & 0xFF]) + text


def _text(field: bytearray) -> str:
    return field.decode("utf-8", "surrogateescape")


def _wipe(fields: Sequence[bytearray]) -> None:
    """Overwrites what may be a password."""
    for each in fields:
        each[:] = bytes(len(each))


def main() -> None:
    """The process. Its only argument is the descriptor of its end of the socket pair."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(*_NOT_DUMPABLE, 0, 0, 0)
    sock = socket.socket(fileno=int(sys.argv[1]))
    sock.set_inheritable(False)
    child = _Child(sock)
    try:
        child.serve()
    except _Gone:
        pass
    except Exception as error:
        # In one sentence, and to the server's log alone: a traceback might show what was asked.
        text = str(error) if isinstance(error, SSHError) else f"a defect: {type(error).__name__}"
        with suppress(_Gone, ValueError):
            child._send(FAILED, text)
    finally:
        with suppress(_Gone):
            child.close()
