"""Two servers for the tests, written with asyncssh and with paramiko: programs, not imported.

    python python_servers.py asyncssh|paramiko PORT HOST_KEY AUTHORIZED_KEYS [name=value ...]

Both run commands by sh(1), with a real pseudo-terminal where one is asked for, and take the keys
authorized. `rekey_bytes=N`: the server exchanges keys anew after that many bytes. `password=WORD`: the word
is taken as a password and as the answer to a prompt, and a user named "both" must show a key before.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path
from typing import Any

CHUNK = 65536


def set_size(terminal: int, columns: int, rows: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def start_on_terminal(
    command: str, columns: int, rows: int, term: str
) -> tuple[subprocess.Popen[bytes], int]:
    """`command` with a new pseudo-terminal as its controlling terminal; the master's descriptor."""
    master, slave = os.openpty()
    set_size(slave, columns, rows)
    child = subprocess.Popen(
        ["setsid", "--ctty", "sh", "-c", command], stdin=slave, stdout=slave, stderr=slave,
        env={**os.environ, "TERM": term},
    )  # fmt: skip
    os.close(slave)
    return child, master


def read_terminal(master: int) -> bytes:
    """The next output, b"" at its end: Linux says EIO once the last program has let go."""
    try:
        return os.read(master, CHUNK)
    except OSError:
        return b""


# -- asyncssh ------------------------------------------------------------------------------------


async def serve_asyncssh(port: int, host_key: str, authorized: str, options: dict[str, str]) -> None:
    import asyncssh

    password = options.get("password", "")

    class Rules(asyncssh.SSHServer):
        def password_auth_supported(self) -> bool:
            return bool(password)

        def validate_password(self, username: str, given: str) -> bool:
            return given == password

        def kbdint_auth_supported(self) -> bool:
            return bool(password)

        def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
            return "Two questions", "Answer both.", "", [("Name: ", True), ("Word: ", False)]

        def validate_kbdint_response(self, username: str, responses: Any) -> bool:
            return list(responses) == [username, password]

        def connection_requested(self, *_place: Any) -> bool:
            return True

        def server_requested(self, listen_host: str, listen_port: int) -> bool:
            return True

    await asyncssh.create_server(
        Rules, "127.0.0.1", port, server_host_keys=[host_key], authorized_client_keys=authorized,
        encoding=None, process_factory=run_asyncssh, line_editor=False,
        **({"rekey_bytes": int(options["rekey_bytes"])} if "rekey_bytes" in options else {}),
    )  # fmt: skip
    await asyncio.Event().wait()


async def run_asyncssh(process: Any) -> None:
    if process.term_type is not None:
        await on_terminal_asyncssh(process)
        return
    pipe = asyncio.subprocess.PIPE
    env = {**os.environ, **{name: value for name, value in process.env.items() if isinstance(name, str)}}
    child = await asyncio.create_subprocess_shell(
        process.command or "sh", stdin=pipe, stdout=pipe, stderr=pipe, env=env
    )
    # asyncssh's own redirect() reads a stream twice when its channel is paused and resumed under load.
    feeding = asyncio.ensure_future(copy(process.stdin, child.stdin))
    await asyncio.gather(copy(child.stdout, process.stdout), copy(child.stderr, process.stderr))
    status = await child.wait()
    feeding.cancel()
    if status < 0:
        process.exit_with_signal(signal.Signals(-status).name.removeprefix("SIG"))
    else:
        process.exit(status)


async def copy(source: Any, sink: Any) -> None:
    with contextlib.suppress(OSError):  # a program need not read what it is given
        while data := await source.read(CHUNK):
            sink.write(data)
            await sink.drain()
    if sink.can_write_eof():
        sink.write_eof()


async def on_terminal_asyncssh(process: Any) -> None:
    import asyncssh

    columns, rows = process.term_size[:2]
    child, master = start_on_terminal(process.command or "sh", columns, rows, process.term_type)

    async def feed() -> None:
        while True:
            try:
                data = await process.stdin.read(CHUNK)
            except asyncssh.TerminalSizeChanged as change:
                set_size(master, change.width, change.height)
                continue
            if not data:
                return
            os.write(master, data)

    feeding = asyncio.ensure_future(feed())
    while data := await asyncio.to_thread(read_terminal, master):
        process.stdout.write(data)
    status = await asyncio.to_thread(child.wait)
    feeding.cancel()
    process.exit(status)


# -- paramiko ------------------------------------------------------------------------------------


def serve_paramiko(port: int, host_key: str, authorized: str, options: dict[str, str]) -> None:
    import paramiko

    key = paramiko.Ed25519Key.from_private_key_file(host_key)
    blobs = {line.split()[1] for line in Path(authorized).read_text("utf-8").splitlines()}
    password = options.get("password", "")

    class Rules(paramiko.ServerInterface):
        """One connection: who may log in, and what its sessions do."""

        def __init__(self) -> None:
            self.terminals: dict[int, tuple[str, int, int]] = {}
            self.masters: dict[int, int] = {}
            self.env: dict[int, dict[str, str]] = {}
            self.key_shown = False

        def get_allowed_auths(self, username: str) -> str:
            if username == "both":
                return "password" if self.key_shown else "publickey"
            return "publickey,password,keyboard-interactive" if password else "publickey"

        def check_auth_publickey(self, username: str, key: Any) -> int:
            if key.get_base64() not in blobs:
                return paramiko.AUTH_FAILED
            if username == "both":
                self.key_shown = True
                return paramiko.AUTH_PARTIALLY_SUCCESSFUL
            return paramiko.AUTH_SUCCESSFUL

        def check_auth_password(self, username: str, given: str) -> int:
            right = password and given == password and (self.key_shown or username != "both")
            return paramiko.AUTH_SUCCESSFUL if right else paramiko.AUTH_FAILED

        def check_auth_interactive(self, username: str, submethods: str) -> Any:
            if not password or username == "both":
                return paramiko.AUTH_FAILED
            self.username = username
            prompts = ("Name: ", True), ("Word: ", False)
            return paramiko.InteractiveQuery("Two questions", "Answer both.", *prompts)

        def check_auth_interactive_response(self, responses: Any) -> int:
            right = list(responses) == [self.username, password]
            return paramiko.AUTH_SUCCESSFUL if right else paramiko.AUTH_FAILED

        def check_channel_request(self, kind: str, chanid: int) -> int:
            known = kind == "session"
            return paramiko.OPEN_SUCCEEDED if known else paramiko.OPEN_FAILED_UNKNOWN_CHANNEL_TYPE

        def check_channel_pty_request(
            self, channel: Any, term: bytes, width: int, height: int, *_rest: Any
        ) -> bool:
            self.terminals[channel.get_id()] = (term.decode(), width, height)
            return True

        def check_channel_window_change_request(
            self, channel: Any, width: int, height: int, *_pixels: int
        ) -> bool:
            set_size(self.masters[channel.get_id()], width, height)
            return True

        def check_channel_env_request(self, channel: Any, name: bytes, value: bytes) -> bool:
            self.env.setdefault(channel.get_id(), {})[name.decode()] = value.decode()
            return True

        def check_channel_exec_request(self, channel: Any, command: bytes) -> bool:
            terminal = self.terminals.get(channel.get_id())
            env = {**os.environ, **self.env.get(channel.get_id(), {})}
            if terminal is None:
                work, args = on_pipes_paramiko, (channel, command.decode(), env)
            else:
                child, master = start_on_terminal(command.decode(), terminal[1], terminal[2], terminal[0])
                self.masters[channel.get_id()] = master
                work, args = on_terminal_paramiko, (channel, child, master)  # type: ignore[assignment]
            threading.Thread(target=work, args=args, daemon=True).start()
            return True

    def serve_one(connection: socket.socket) -> None:
        transport = paramiko.Transport(connection)
        if "rekey_bytes" in options:
            transport.packetizer.REKEY_BYTES = int(options["rekey_bytes"])
        transport.add_server_key(key)
        try:
            transport.start_server(server=Rules())
            channels = []
            while transport.is_active():
                channel = transport.accept(1)
                channels.append(channel)  # paramiko closes a channel that nobody holds
        except (paramiko.SSHException, EOFError):
            transport.close()

    with socket.create_server(("127.0.0.1", port)) as listener:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve_one, args=(connection,), daemon=True).start()


def on_pipes_paramiko(channel: Any, command: str, env: dict[str, str]) -> None:
    pipe = subprocess.PIPE
    child = subprocess.Popen(["sh", "-c", command], stdin=pipe, stdout=pipe, stderr=pipe, env=env)
    stdin, stdout, stderr = child.stdin, child.stdout, child.stderr
    assert stdin is not None
    assert stdout is not None
    assert stderr is not None

    def feed() -> None:
        with contextlib.suppress(OSError), stdin:
            while data := channel.recv(CHUNK):
                stdin.write(data)

    def errors() -> None:
        while data := os.read(stderr.fileno(), CHUNK):
            channel.sendall_stderr(data)

    helpers = [threading.Thread(target=work, daemon=True) for work in (feed, errors)]
    for helper in helpers:
        helper.start()
    with contextlib.suppress(OSError):
        while data := os.read(stdout.fileno(), CHUNK):
            channel.sendall(data)
        helpers[1].join()
        channel.send_exit_status(child.wait() % 256)
    channel.close()


def on_terminal_paramiko(channel: Any, child: subprocess.Popen[bytes], master: int) -> None:
    def feed() -> None:
        while data := channel.recv(CHUNK):
            os.write(master, data)

    threading.Thread(target=feed, daemon=True).start()
    while data := read_terminal(master):
        channel.sendall(data)
    channel.send_exit_status(child.wait())
    channel.close()


def main(name: str, port: str, host_key: str, authorized: str, *words: str) -> None:
    options = dict(word.split("=", 1) for word in words)
    if name == "asyncssh":
        asyncio.run(serve_asyncssh(int(port), host_key, authorized, options))
    else:
        serve_paramiko(int(port), host_key, authorized, options)


if __name__ == "__main__":
    main(*sys.argv[1:])
