"""One connection from lookup to teardown, made by hand, with secrets in every place that can hold one."""

from __future__ import annotations

from glasshell.messages import auth as a
from glasshell.messages import connection as c
from glasshell.messages import transport as t
from glasshell.wire import Secret

from .tape import AGREED, HOST_KEY, INIT, REPLY, Tape, kexinit

PASSWORD, NEW_PASSWORD, ANSWER = b"pa55-w0rd-of-tester", b"n3w-pa55-w0rd", b"one-time-123456"
COOKIE, TYPED = b"c00kie-of-the-display", b"typed-at-the-prompt"
SECRETS = (PASSWORD, NEW_PASSWORD, ANSWER, COOKIE, TYPED)
WALL = 1_795_345_200.5


def request(method: str, body: object) -> a.UserauthRequest:
    return a.UserauthRequest("tester", "ssh-connection", method, body)  # type: ignore[arg-type]


def client_connection(*, data: int = 20) -> Tape:
    """A client's records: 1 ms before each message, and `data` messages of 32,768 bytes from the server."""
    tape = Tape(step=0.001)
    tape.state("started", role="client", wall_time=WALL, software="glasshell_0.1", version="Python 3")
    tape.state("connecting", host="example.org", address="192.0.2.7", port=22, user="tester")
    tape.wait(0.010)
    tape.state("connected", address="192.0.2.7", port=22, local_address="192.0.2.1", local_port=40000)
    tape.state("identification_sent", line="SSH-2.0-glasshell_0.1", length=23)
    tape.state("kex_started", first=True, by="us", reason="the connection begins")
    tape.sent(kexinit())
    tape.wait(0.010)
    tape.state("identification_received", line="SSH-2.0-Peer_1", protocol="2.0", software="Peer_1", length=16)
    tape.received(kexinit())
    tape.state("negotiated", **AGREED)
    tape.wait(0.002)
    tape.sent(INIT)
    tape.received(REPLY)
    tape.state("host_key", type="ssh-ed25519", algorithm="ssh-ed25519", fingerprint="SHA256:x", bits=256)
    tape.state("host_key_verdict", accepted=True, how="known", host="example.org", file="kh", line=3)
    tape.sent(t.NewKeys())
    tape.state("keys_installed", sent=True, epoch=1, seq_reset=True, seq=3, bytes=1 << 30)
    tape.received(t.NewKeys())
    tape.state("keys_installed", sent=False, epoch=1, seq_reset=True, seq=3, bytes=1 << 30)
    tape.state("kex_done", first=True)
    _login(tape)
    _session(tape, data)
    return tape


def _login(tape: Tape) -> None:
    tape.sent(t.ServiceRequest("ssh-userauth"))
    tape.received(t.ServiceAccept("ssh-userauth"))
    tape.sent(request("none", a.NoneRequest()))
    tape.received(a.UserauthFailure(("password", "keyboard-interactive"), False))
    tape.state("auth_methods", methods=("password", "keyboard-interactive"), partial=False)
    tape.state("auth_next", method="password", remaining=("keyboard-interactive",))
    tape.sent(request("password", a.PasswordRequest(True, Secret(PASSWORD), Secret(NEW_PASSWORD))))
    tape.received(a.UserauthFailure(("keyboard-interactive",), True))
    tape.state("auth_next", method="keyboard-interactive", remaining=())
    tape.sent(request("keyboard-interactive", a.KeyboardInteractiveRequest()))
    tape.received(a.UserauthInfoRequest("", "", "", (a.Prompt("Code: ", False),)))
    tape.sent(a.UserauthInfoResponse((a.Response(Secret(ANSWER)),)))
    tape.received(a.UserauthSuccess())
    tape.state("authenticated", user="tester", method="keyboard-interactive")


def _session(tape: Tape, data: int) -> None:
    tape.sent(c.ChannelOpen("session", 0, 2097152, 32768, c.SessionOpen()))
    tape.state("interactive", pty=True)
    tape.received(c.ChannelOpenConfirmation(0, 7, 2097152, 32768))
    tape.sent(c.ChannelRequest(7, "pty-req", True, c.PtyReq("xterm", 80, 24, 0, 0, b"\0")))
    tape.sent(c.ChannelRequest(7, "x11-req", False, c.X11Req(False, "MIT", Secret(COOKIE), 0)))
    tape.sent(c.ChannelRequest(7, "shell", True, c.Shell()))
    tape.received(c.ChannelSuccess(0), c.ChannelSuccess(0))
    tape.sent(c.ChannelData(7, TYPED))
    for _ in range(data):
        tape.received(c.ChannelData(0, bytes(32768)))
    tape.received(c.ChannelEof(0), c.ChannelRequest(0, "exit-status", False, c.ExitStatus(3)))
    tape.state("exit_status", channel=0, status=3, signal="")
    tape.received(c.ChannelClose(0))
    tape.sent(c.ChannelClose(7), t.Disconnect(11, "disconnected by user"))
    tape.state("disconnect", sent=True, reason=11, description="disconnected by user")
    tape.state("closed", sent_bytes=5000, received_bytes=700_000)


def server_connection() -> Tape:
    """A server's records of a login by key and one command."""
    tape = Tape(step=0.001)
    tape.state("started", role="server", wall_time=WALL, software="glasshell_0.1", version="Python 3")
    tape.state("accepted", address="192.0.2.1", port=40000, local_address="192.0.2.7", local_port=22)
    tape.state("identification_sent", line="SSH-2.0-glasshell_0.1", length=23)
    tape.sent(kexinit())
    tape.state("identification_received", line="SSH-2.0-Peer_1", protocol="2.0", software="Peer_1", length=16)
    tape.received(kexinit())
    tape.state("negotiated", **AGREED)
    tape.received(INIT)
    tape.sent(REPLY, t.NewKeys())
    tape.received(t.NewKeys())
    tape.state("kex_done", first=True)
    tape.received(t.ServiceRequest("ssh-userauth"))
    tape.sent(t.ServiceAccept("ssh-userauth"))
    tape.received(request("none", a.NoneRequest()))
    tape.sent(a.UserauthFailure(("publickey",), False))
    tape.received(request("publickey", a.PublickeyRequest(False, "ssh-ed25519", HOST_KEY)))
    tape.sent(a.UserauthPkOk("ssh-ed25519", HOST_KEY))
    tape.received(request("publickey", a.PublickeyRequest(True, "ssh-ed25519", HOST_KEY, b"signature")))
    tape.sent(a.UserauthSuccess())
    tape.state("authenticated", user="tester", method="publickey")
    tape.received(c.ChannelOpen("session", 0, 2097152, 32768, c.SessionOpen()))
    tape.sent(c.ChannelOpenConfirmation(0, 0, 2097152, 32768))
    tape.received(c.ChannelRequest(0, "exec", True, c.Exec("true")))
    tape.sent(c.ChannelSuccess(0), c.ChannelEof(0))
    tape.sent(c.ChannelRequest(0, "exit-status", False, c.ExitStatus(0)), c.ChannelClose(0))
    tape.received(c.ChannelClose(0), t.Disconnect(11, "disconnected by user"))
    return tape
