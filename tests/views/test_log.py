"""The log against OpenSSH's own: the lines of real connections, in their order, from records by hand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from glasshell.messages import auth as a
from glasshell.messages import connection as c
from glasshell.messages import kex as k
from glasshell.messages import transport as t
from glasshell.views import Role
from glasshell.views.log import LogView

from .tape import AGREED, HOST_KEY, INIT, REPLY, Tape, kexinit

LOGS = Path(__file__).with_name("openssh")

NOT_IN_THE_STREAM = re.compile(
    r"""
    # how OpenSSH is built: file descriptors, sandbox, buffers, its table of old bugs
    debug\d:\ (fd\ \d|set_sock_tos|pledge|client_repledge|compat_banner|process_channel_timeouts
      |channel_clear|permanently_set_uid|temporarily_use_uid|restore_uid|auth_activate|do_cleanup|SELinux
      |audit_event|ssh_packet_set|Network\ child|preauth\ child|notify_hostkeys|server_init_dispatch
      |active:\ key|session_unused|session_new:\ allocate|session_by_pid|channel_set_xtype|enqueue|dequeue
      |rekeying\ in\ progress|ssh_set_newkeys:\ rekeying|ssh_msg_|load_server_config|parse_server|sshd_config
      |append_hostkey|list_hostkey|inetd|kbdint_|auth2_chall|keyboard-interactive\ devs|Set\ /proc|oom_adjust
      |user_specific_delay|do_pam|bits\ set|ssh_tty_make_modes|session_by_tty|session_pty
      |Killing\ privsep|Setting\ controlling|rexec|recv_rexec|send_rexec|sock_set|read_passphrase
      |input_userauth_request:\ setting)
    |debug2:\ channel\ 0:\ (read|written|rwin|window|sent\ ext|closing|obuf\ empty)|debug\d:\ chan_shutdown
    |debug3:\ channel\ 0:\ (status|will\ not)|debug1:\ session_new:\ session\ 0$
    |debug3:\ (ensure_minimum|Copy\ env)|User\ child
    # known_hosts and keys as files, before they become a verdict and an offer
    |debug\d:\ (put_host_port|record_hostkey|load_hostkeys|order_hostkeyalgs|resolve_canon|ssh_connect_direct
      |pubkey_prepare|identity\ file\ .*-cert)
    # key checks of the server's monitor that end in one line
    |debug\d:\ (userauth_pubkey:|.*check\ options|.*advance:|auth_check_authkeys|Could\ not\ open\ user)
    |debug3:\ .*:\ key\ options|'$
    # what the server's program wrote
    |Environment:|\ \ [A-Z_]+=|err$|\ \ \#0|\s*$
    |Permission\ denied,\ please|syslogin|Connection\ to\ .*x
    """,
    re.VERBOSE,
)


def real(name: str) -> list[str]:
    """The lines of a real log that say what a stream of records says."""
    lines = (LOGS / f"{name}.log").read_bytes().decode().split("\r\n")
    flat = [each for line in lines for each in line.split("\n")]
    return [line for line in flat if not NOT_IN_THE_STREAM.match(line)]


def ours(tape: Tape, role: Role, level: int = 3) -> list[str]:
    """The lines of our log."""
    out: list[str] = []
    tape.play(LogView(out.append, level, role, preauth=role == "server"))
    assert all(line.endswith("\r\n") and line.count("\n") == 1 for line in out)
    return [line[:-2] for line in out if not NOT_IN_THE_STREAM.match(line[:-2])]


def proposals(name: str) -> tuple[t.KexInit, t.KexInit]:
    """The two KEXINITs that a real log lists: the local one and the peer's."""
    fields = (
        "kex_algorithms", "server_host_key_algorithms",
        "encryption_algorithms_client_to_server", "encryption_algorithms_server_to_client",
        "mac_algorithms_client_to_server", "mac_algorithms_server_to_client",
        "compression_algorithms_client_to_server", "compression_algorithms_server_to_client",
    )  # fmt: skip
    lists = re.findall(
        r"^debug2: (?:KEX|host key|ciphers|MACs|compression)[^:]*: (\S*)",
        (LOGS / f"{name}.log").read_text(), re.M,
    )  # fmt: skip
    made = [kexinit(**dict(zip(fields, (tuple(x.split(",")) for x in lists[i : i + 8]), strict=True)))
            for i in (0, 8)]  # fmt: skip
    return made[0], made[1]


IDENT = "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u10"
SIG_ALGS = (
    b"ssh-ed25519,sk-ssh-ed25519@openssh.com,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521,"
    b"sk-ecdsa-sha2-nistp256@openssh.com,webauthn-sk-ecdsa-sha2-nistp256@openssh.com,ssh-dss,ssh-rsa,"
    b"rsa-sha2-256,rsa-sha2-512"
)
EXT_INFO = t.ExtInfo(
    (t.Extension("server-sig-algs", SIG_ALGS), t.Extension("publickey-hostbound@openssh.com", b"0"))
)
HOST = "SHA256:u8AW8tfFNCAceWvv4jqF5zy291pFZWqXI/thEx5BX2U"
KEYS = {
    "k1": "SHA256:YZs3Q1S5RC+TQjMGcs8h8XBbcnCFq4wH0JtYILcVmeU",
    "k2": "SHA256:/GBfQKN6el5Z/wOcD1BM20tQ3mrxR3l8shnyyFo6s4c",
    "k3": "SHA256:+k7r8AGS5jrdzoTYRob4LFxrvrCeyqNCOX5BFV2MOdo",
}
OPTIONS = "agent-forwarding port-forwarding pty user-rc x11-forwarding"
REMOTE = f"/home/tester/.ssh/authorized_keys:1: key options: {OPTIONS}"


def key(name: str) -> dict[str, str]:
    return {"key_type": "ED25519", "fingerprint": KEYS[name], "source": name, "origin": "explicit"}


def client_until_auth(tape: Tape, name: str, keys: tuple[str, ...]) -> None:
    """From the start to the answer to the `none` request, which lists all methods."""
    local, peer = proposals(name)
    tape.state("started", role="client", software=IDENT[8:], version="OpenSSL 3.0.19 27 Jan 2026")
    tape.state("config_file", path="/home/me/ssh_config")
    tape.state("config_applied", path="/home/me/ssh_config", line=1, pattern="*")
    tape.state("connecting", host="127.0.0.1", address="127.0.0.1", port=2931, user="tester")
    tape.state("connected", address="127.0.0.1", port=2931)
    for each in keys:
        tape.state("identity_file", path=each, type="ssh-ed25519")
    tape.state("identification_sent", line=IDENT, length=41)
    tape.state("identification_received", line=IDENT, software=IDENT[8:], length=41)
    tape.state("kex_started", first=True, by="us", reason="the connection begins")
    tape.sent(local)
    tape.received(peer)
    tape.state("negotiated", **AGREED)
    tape.sent(INIT)
    tape.state("kex_waiting", message="SSH_MSG_KEX_HYBRID_REPLY")
    tape.received(REPLY)
    tape.state("host_key", type="ssh-ed25519", algorithm="ssh-ed25519", fingerprint=HOST, bits=256)
    tape.state("host_key_verdict", accepted=True, how="known", host="[127.0.0.1]:2931",
               file="/home/me/kh", line=1)  # fmt: skip
    newkeys(tape, sent_seq=3, received_seq=3, size=1 << 30)
    tape.state("kex_done", first=True)
    for each in keys:
        tape.state("auth_candidate", **key(each))
    tape.sent(t.ServiceRequest("ssh-userauth"))
    tape.received(EXT_INFO)
    tape.received(t.ServiceAccept("ssh-userauth"))
    tape.sent(a.UserauthRequest("tester", "ssh-connection", "none", a.NoneRequest()))


def newkeys(tape: Tape, *, sent_seq: int, received_seq: int, size: int) -> None:
    tape.sent(t.NewKeys())
    tape.state("keys_installed", sent=True, epoch=1, seq_reset=True, seq=sent_seq, bytes=size)
    tape.received(t.NewKeys())
    tape.state("keys_installed", sent=False, epoch=1, seq_reset=True, seq=received_seq, bytes=size)


def failure(tape: Tape, *methods: str, partial: bool = False) -> None:
    tape.received(a.UserauthFailure(methods, partial))
    tape.state("auth_methods", methods=methods, partial=partial)


ALL = ("publickey", "password", "keyboard-interactive")


def offer(tape: Tape, name: str) -> None:
    tape.state("auth_offer", **key(name))
    body = a.PublickeyRequest(False, "ssh-ed25519", HOST_KEY)
    tape.sent(a.UserauthRequest("tester", "ssh-connection", "publickey", body))


def sign(tape: Tape, name: str) -> None:
    tape.received(a.UserauthPkOk("ssh-ed25519", HOST_KEY))
    tape.state("auth_key_accepted", **key(name))
    tape.state("auth_signing", algorithm="ssh-ed25519", fingerprint=KEYS[name])
    body = a.HostboundRequest(True, "ssh-ed25519", HOST_KEY, HOST_KEY, b"signature")
    tape.sent(a.UserauthRequest("tester", "ssh-connection", a.HOSTBOUND, body))


def success(tape: Tape, method: str) -> None:
    tape.received(a.UserauthSuccess())
    tape.state("authenticated", user="tester", method=method)


def password(tape: Tape) -> None:
    body = a.PasswordRequest(False, a.PasswordRequest.FIELDS[1].type.decode(_string(b"s3cret")))
    tape.sent(a.UserauthRequest("tester", "ssh-connection", "password", body))


def _string(raw: bytes) -> Any:
    from glasshell.wire import Reader, string

    return Reader(string(raw))


def session_opens(tape: Tape, *, remote: bool = True, window: int = 2097152, size: int = 32768) -> None:
    tape.sent(c.ChannelOpen("session", 0, window, size, c.SessionOpen()))
    tape.sent(c.GlobalRequest("no-more-sessions@openssh.com", False, c.NoMoreSessions()))
    tape.state("interactive", pty=size == 16384)
    tape.received(c.GlobalRequest("hostkeys-00@openssh.com", False, c.Hostkeys((c.HostKeyBlob(HOST_KEY),))))
    for _ in range(2 if remote else 0):
        tape.received(t.Debug(True, REMOTE))
    tape.received(c.ChannelOpenConfirmation(0, 0, 0, 32768))


def request(kind: str, body: Any, *, reply: bool = True) -> c.ChannelRequest:
    return c.ChannelRequest(0, kind, reply, body)


def session_closes(tape: Tape, status: int, sent: int, received: int, seconds: float) -> None:
    tape.received(c.ChannelEof(0))
    tape.received(request("exit-status", c.ExitStatus(status), reply=False))
    tape.state("exit_status", channel=0, status=status, signal="")
    tape.received(c.ChannelClose(0))
    tape.sent(c.ChannelClose(0))
    tape.sent(t.Disconnect(11, "disconnected by user"))
    began = next(r.time for r in tape.records if getattr(r, "name", "") == "interactive")
    tape.now = began + seconds
    tape.state("closed", sent_bytes=sent, received_bytes=received)


def test_client_exec() -> None:
    tape = Tape(step=1e-6)
    client_until_auth(tape, "exec10.client", ("k3",))
    failure(tape, *ALL)
    tape.state("auth_next", method="publickey", remaining=("keyboard-interactive", "password"))
    offer(tape, "k3")
    sign(tape, "k3")
    success(tape, "publickey")
    session_opens(tape)
    tape.sent(request("exec", c.Exec("echo hi; echo err >&2; exit 3")))
    tape.received(c.ChannelWindowAdjust(0, 2097152), c.ChannelSuccess(0))
    tape.sent(c.ChannelEof(0))
    tape.received(c.ChannelExtendedData(0, 1, bytes(282)), c.ChannelExtendedData(0, 1, bytes(4)))
    session_closes(tape, 3, 3048, 4140, 0.06026066)
    assert ours(tape, "client") == real("exec10.client")


def test_client_pty() -> None:
    tape = Tape(step=1e-6)
    client_until_auth(tape, "pty.client", ("k3",))
    failure(tape, *ALL)
    tape.state("auth_next", method="publickey", remaining=("keyboard-interactive", "password"))
    offer(tape, "k3")
    sign(tape, "k3")
    success(tape, "publickey")
    session_opens(tape, window=1048576, size=16384)
    tape.sent(request("pty-req", c.PtyReq("xterm", 80, 24, 0, 0, b"\0")))
    tape.sent(request("exec", c.Exec("echo hi; exit 4")))
    tape.received(c.ChannelSuccess(0), c.ChannelWindowAdjust(0, 2097152), c.ChannelSuccess(0))
    tape.sent(c.ChannelEof(0))
    session_closes(tape, 4, 3548, 4172, 0.0570867)
    assert ours(tape, "client") == real("pty.client")


def test_client_tries_several_keys() -> None:
    tape = Tape()
    client_until_auth(tape, "many.client", ("k1", "k2", "k3"))
    failure(tape, *ALL)
    tape.state("auth_next", method="publickey", remaining=("keyboard-interactive", "password"))
    for name in ("k1", "k2"):
        offer(tape, name)
        failure(tape, *ALL)
    offer(tape, "k3")
    sign(tape, "k3")
    success(tape, "publickey")
    got, lines = ours(tape, "client"), real("many.client")
    assert got == lines[: len(got)]
    assert got[-1].startswith("Authenticated to 127.0.0.1")


def test_client_asks_and_is_refused() -> None:
    tape = Tape()
    client_until_auth(tape, "kbdrefused.client", ())
    failure(tape, *ALL)
    tape.state("auth_next", method="keyboard-interactive", remaining=("password",))
    for _ in range(2):
        body = a.KeyboardInteractiveRequest()
        tape.sent(a.UserauthRequest("tester", "ssh-connection", "keyboard-interactive", body))
        tape.received(a.UserauthInfoRequest("", "", "", (a.Prompt("Password: ", False),)))
        tape.sent(a.UserauthInfoResponse(()))
        failure(tape, *ALL)
    tape.state("auth_next", method="password", remaining=())
    for _ in range(2):
        password(tape)
        failure(tape, *ALL)
    tape.state("auth_exhausted")
    tape.state("error", type="AuthenticationFailed", text=f"Permission denied ({','.join(ALL)}).", hint="")
    # The identity files of a user who has none, and how often a command without terminal asks.
    lines = [x for x in real("kbdrefused.client") if not re.search("identity file|Will attempt", x)]
    assert ours(tape, "client") == lines


def test_client_partial_success() -> None:
    tape = Tape()
    client_until_auth(tape, "multi.client", ("k3",))
    failure(tape, "publickey")
    tape.state("auth_next", method="publickey", remaining=("keyboard-interactive", "password"))
    offer(tape, "k3")
    sign(tape, "k3")
    failure(tape, "password", partial=True)
    tape.state("auth_next", method="password", remaining=())
    password(tape)
    success(tape, "password")
    # OpenSSH 9.2 computes these two lists from a string it has already cut up.
    odd = re.compile("debug3: (remaining preferred|preferred)")
    got = [x for x in ours(tape, "client") if not odd.match(x)]
    assert got == [x for x in real("multi.client") if not odd.match(x)][: len(got)]
    assert got[-1].endswith('using "password".')


def test_client_without_common_cipher() -> None:
    tape = Tape()
    local, peer = proposals("noalgo.client")
    tape.state("connecting", host="127.0.0.1", address="127.0.0.1", port=2931, user="tester")
    tape.state("kex_started", first=True, by="us", reason="")
    tape.sent(local)
    tape.received(peer)
    offer = ",".join(peer.encryption_algorithms_server_to_client)
    text = f"no matching cipher found. Their offer: {offer}"
    tape.state("error", type="NegotiationFailed", text=text, hint="")
    lines = real("noalgo.client")
    assert ours(tape, "client")[1:-1] == [
        x for x in lines[lines.index("debug3: send packet: type 20") : -1] if not re.match("debug.: kex", x)
    ]
    assert ours(tape, "client", level=0) == [lines[-1]]


def test_client_rekeys() -> None:
    """The lines of a second key exchange that our side started, from its KEXINIT to its NEWKEYS."""
    name = "rekey.client"
    local, peer = proposals(name)
    gcm = {"cipher_c2s": "aes128-gcm@openssh.com", "cipher_s2c": "aes128-gcm@openssh.com"}
    tape = Tape()
    client_until_auth(tape, name, ())
    start = len(ours(tape, "client"))
    tape.state("kex_started", first=False, by="us", reason="1048576 bytes under the same keys")
    tape.sent(local)
    tape.received(peer)
    tape.state("negotiated", **{**AGREED, **gcm})
    tape.sent(INIT)
    tape.state("kex_waiting", message="SSH_MSG_KEX_HYBRID_REPLY")
    tape.received(REPLY)
    tape.state("host_key", type="ssh-ed25519", algorithm="ssh-ed25519", fingerprint=HOST, bits=256)
    newkeys(tape, sent_seq=19, received_seq=130, size=1 << 20)
    lines = real(name)
    at = lines.index("debug3: ssh_packet_check_rekey: rekex triggered")
    got = [x for x in ours(tape, "client")[start:] if not re.search("KEX algorithms|ext-info", x)]
    want = [x for x in lines[at:] if not re.search("KEX algorithms|ext-info", x)]
    assert got == want[: len(got)]
    assert got[-1] == "debug1: rekey in after 65536 blocks"


def server_until_auth(tape: Tape, name: str, port: int) -> None:
    local, peer = proposals(name)
    tape.state("accepted", address="127.0.0.1", port=port, local_address="127.0.0.1", local_port=2931)
    tape.state("identification_sent", line=IDENT, length=41)
    tape.state("identification_received", line=IDENT, software=IDENT[8:], length=41)
    tape.state("kex_started", first=True, by="us", reason="the connection begins")
    tape.sent(local)
    tape.received(peer)
    tape.state("negotiated", **AGREED)
    tape.state("kex_waiting", message="SSH_MSG_KEX_HYBRID_INIT")
    tape.received(INIT)
    tape.sent(REPLY, t.NewKeys())
    tape.state("keys_installed", sent=True, epoch=1, seq_reset=True, seq=3, bytes=1 << 30)
    tape.sent(EXT_INFO)
    tape.received(t.NewKeys())
    tape.state("keys_installed", sent=False, epoch=1, seq_reset=True, seq=3, bytes=1 << 30)
    tape.state("kex_done", first=True)
    tape.received(t.ServiceRequest("ssh-userauth"))
    tape.sent(t.ServiceAccept("ssh-userauth"))


def asks(tape: Tape, user: str, method: str, body: Any, attempt: int, failures: int = 0) -> None:
    tape.received(a.UserauthRequest(user, "ssh-connection", method, body))
    tape.state("auth_request", user=user, service="ssh-connection", method=method, attempt=attempt,
               failures=failures)  # fmt: skip


def verdict(tape: Tape, user: str, method: str, *, accepted: bool, name: str = "", **more: Any) -> None:
    shown = {"key_type": "ED25519" if name else "", "fingerprint": KEYS.get(name, "")}
    tape.state("auth_verdict", user=user, method=method, accepted=accepted, partial=False, **shown, **more)


PROBE = a.PublickeyRequest(False, "ssh-ed25519", HOST_KEY)


def found(tape: Tape) -> None:
    path = "/home/tester/.ssh/authorized_keys"
    tape.state("authorized_keys", path=path)
    tape.state("authorized_key", path=path, line=1, key_type="ED25519", fingerprint=KEYS["k3"],
               options=OPTIONS)  # fmt: skip


def started(name: str) -> list[str]:
    lines = real(name)
    return lines[next(i for i, x in enumerate(lines) if x.startswith("Connection from")) :]


def test_server_exec() -> None:
    tape = Tape()
    server_until_auth(tape, "exec10.server", 57784)
    asks(tape, "tester", "none", a.NoneRequest(), 0)
    tape.sent(a.UserauthFailure(ALL, False))
    asks(tape, "tester", "publickey", PROBE, 1)
    found(tape)
    tape.sent(a.UserauthPkOk("ssh-ed25519", HOST_KEY))
    body = a.HostboundRequest(True, "ssh-ed25519", HOST_KEY, HOST_KEY, b"signature")
    asks(tape, "tester", a.HOSTBOUND, body, 2)
    found(tape)
    verdict(tape, "tester", a.HOSTBOUND, accepted=True, name="k3")
    tape.sent(a.UserauthSuccess())
    tape.sent(c.GlobalRequest("hostkeys-00@openssh.com", False, c.Hostkeys((c.HostKeyBlob(HOST_KEY),))))
    tape.sent(t.Debug(True, REMOTE), t.Debug(True, REMOTE))
    tape.state("authenticated", user="tester", method="publickey")
    tape.received(c.ChannelOpen("session", 0, 2097152, 32768, c.SessionOpen()))
    tape.sent(c.ChannelOpenConfirmation(0, 0, 0, 32768))
    tape.received(c.GlobalRequest("no-more-sessions@openssh.com", False, c.NoMoreSessions()))
    tape.received(request("exec", c.Exec("echo hi; echo err >&2; exit 3")))
    tape.state("session_started", channel=0, kind="exec", command="echo hi", user="tester")
    tape.sent(c.ChannelSuccess(0))
    tape.received(c.ChannelEof(0))
    tape.sent(c.ChannelEof(0))
    tape.state("session_ended", channel=0, user="tester", status=3, signal="")
    tape.sent(request("exit-status", c.ExitStatus(3), reply=False))
    tape.sent(c.ChannelClose(0))
    tape.received(c.ChannelClose(0))
    tape.received(t.Disconnect(11, "disconnected by user"))
    tape.state("error", type="Disconnected", text="the peer disconnected", hint="")
    odd = re.compile("debug2: channel 0: request exit-status|debug1: session_exit_message: session")
    # After the login the real one takes the keys over from the child that served until then.
    again = re.compile(r"debug\d: (ssh_set_newkeys: mode \d|rekey (in|out) after \d+ blocks)$")
    want = [x for x in started("exec10.server") if not (odd.match(x) or again.match(x))]
    got = [x for x in ours(tape, "server") if not odd.match(x)]
    # The real log ends before the channel is freed: the client was faster.
    freed = re.compile("debug2: .*(is dead|gc: |garbage)|debug1: (channel 0: free|session_(by_ch|clo))|Close")
    assert [x for x in got if not freed.match(x)] == [x for x in want if not freed.match(x)]
    assert "Close session: user tester from 127.0.0.1 port 57784 id 0" in got


def test_server_of_an_unknown_user() -> None:
    tape = Tape()
    server_until_auth(tape, "baduser.server", 36446)
    asks(tape, "nobodyhere", "none", a.NoneRequest(), 0)
    verdict(tape, "nobodyhere", "none", accepted=False, valid=False)
    tape.sent(a.UserauthFailure(ALL, False))
    asks(tape, "nobodyhere", "publickey", PROBE, 1)
    tape.sent(a.UserauthFailure(ALL, False))
    tape.state("eof")
    tape.state("error", type="ConnectionLost", text="the peer closed the connection", hint="")
    moved = "Invalid user"  # the real one looks the user up before it tries a method
    want, got = started("baduser.server"), ours(tape, "server")
    assert [x for x in got if moved not in x] == [x for x in want if moved not in x]
    assert [x for x in got if moved in x] == [x for x in want if moved in x]
    assert ours(tape, "server", level=0) == [
        "Invalid user nobodyhere from 127.0.0.1 port 36446",
        "Connection closed by invalid user nobodyhere 127.0.0.1 port 36446 [preauth]",
    ]


def test_server_has_enough() -> None:
    tape = Tape()
    server_until_auth(tape, "toomany.server", 36436)
    asks(tape, "tester", "none", a.NoneRequest(), 0)
    tape.sent(a.UserauthFailure(ALL, False))
    asks(tape, "tester", "publickey", PROBE, 1)
    for path in ("/home/tester/.ssh/authorized_keys", "/home/tester/.ssh/authorized_keys2"):
        tape.state("authorized_keys", path=path)
    verdict(tape, "tester", "publickey", accepted=False, name="k1")
    tape.sent(t.Disconnect(2, "Too many authentication failures"))
    want = [x for x in started("toomany.server") if not x.startswith("maximum authentication attempts")]
    assert ours(tape, "server") == want


def test_server_asks_questions() -> None:
    tape = Tape()
    server_until_auth(tape, "kbdok.server", 50408)
    asks(tape, "tester", "none", a.NoneRequest(), 0)
    tape.sent(a.UserauthFailure(ALL, False))
    asks(tape, "tester", "keyboard-interactive", a.KeyboardInteractiveRequest(), 1)
    for prompts in ((a.Prompt("Password: ", False),), ()):
        tape.sent(a.UserauthInfoRequest("", "", "", prompts))
        tape.received(a.UserauthInfoResponse(()))
    verdict(tape, "tester", "keyboard-interactive", accepted=True)
    tape.sent(a.UserauthSuccess())
    got = ours(tape, "server")
    assert got == [x.replace("interactive/pam", "interactive") for x in started("kbdok.server")][: len(got)]
    assert got[-2].startswith("Accepted keyboard-interactive for tester from 127.0.0.1 port 50408 ssh2")


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_level_is_the_number_of_v(level: int) -> None:
    tape = Tape()
    client_until_auth(tape, "exec10.client", ("k3",))
    prefixes = {x[:6] for x in ours(tape, "client", level) if x.startswith("debug")}
    assert prefixes == {f"debug{i}" for i in range(1, level + 1)}


def test_greps_of_the_article() -> None:
    """`grep -E 'kex|cipher|mac|compress'` and `grep -E 'auth|Authentications'` find the same lines."""
    tape = Tape()
    client_until_auth(tape, "exec10.client", ("k3",))
    failure(tape, *ALL)
    tape.state("auth_next", method="publickey", remaining=("keyboard-interactive", "password"))
    offer(tape, "k3")
    sign(tape, "k3")
    success(tape, "publickey")
    session_opens(tape)
    whole = (LOGS / "exec10.client.log").read_bytes().decode().split("\r\n")
    out: list[str] = []
    tape.play(LogView(out.append, 3, "client"))
    for pattern in ("kex|cipher|mac|compress", "auth|Authentications"):
        want = [x for x in whole if re.search(pattern, x)]
        assert [x[:-2] for x in out if re.search(pattern, x)] == want
        assert len(want) >= 8


def test_compression_as_grep_finds_it() -> None:
    """The numbers and lines of `ssh -C -vvv HOST true`."""
    tape = Tape()
    zlib = {"compression_c2s": "zlib@openssh.com", "compression_s2c": "zlib@openssh.com"}
    tape.state("connecting", host="127.0.0.1", address="127.0.0.1", port=2931, user="tester")
    tape.state("negotiated", **{**AGREED, **zlib})
    success(tape, "publickey")
    tape.sent(c.ChannelOpen("session", 0, 2097152, 32768, c.SessionOpen()))
    tape.state("exit_status", channel=0, status=0, signal="")
    tape.state("compressed", deflated=(123, 111), inflated=(1118, 844))
    tape.state("closed", sent_bytes=0, received_bytes=0)
    ways = ("server->client", "client->server")
    cipher = "cipher: chacha20-poly1305@openssh.com MAC: <implicit>"
    assert [x for x in ours(tape, "client") if "compress" in x] == [
        *(f"debug1: kex: {way} {cipher} compression: zlib@openssh.com" for way in ways),
        "debug1: Enabling compression at level 6.",
        "debug1: compress outgoing: raw data 123, compressed 111, factor 0.90",
        "debug1: compress incoming: raw data 1118, compressed 844, factor 0.75",
    ]


def test_group_exchange_has_names_of_its_own() -> None:
    tape = Tape()
    tape.sent(k.KexDhGexRequest(2048, 8192, 8192))
    tape.state("kex_waiting", message="SSH_MSG_KEX_DH_GEX_GROUP")
    tape.received(k.KexDhGexGroup(23, 5))
    tape.sent(k.KexDhGexInit(5))
    tape.state("kex_waiting", message="SSH_MSG_KEX_DH_GEX_REPLY")
    tape.received(k.KexDhGexReply(HOST_KEY, 5, b""))
    assert ours(
        tape, "client", level=1
    ) == [  # of `ssh -v -oKexAlgorithms=diffie-hellman-group-exchange-sha256`
        "debug1: SSH2_MSG_KEX_DH_GEX_REQUEST(2048<8192<8192) sent",
        "debug1: expecting SSH2_MSG_KEX_DH_GEX_GROUP",
        "debug1: SSH2_MSG_KEX_DH_GEX_GROUP received",
        "debug1: SSH2_MSG_KEX_DH_GEX_INIT sent",
        "debug1: expecting SSH2_MSG_KEX_DH_GEX_REPLY",
        "debug1: SSH2_MSG_KEX_DH_GEX_REPLY received",
    ]


def test_peer_cannot_write_lines_of_its_own() -> None:
    tape = Tape()
    tape.received(t.Debug(True, "x\r\ndebug1: Host is known\x1b[2J\u202e"))
    tape.state("preface_line", text="\x1b]0;title\x07")
    lines = ours(tape, "client")
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)


def test_unreadable_message_keeps_its_packet_line() -> None:
    tape = Tape()
    tape.received(a.UserauthFailure(ALL, False))
    record = tape.records[0]
    record.payload = record.payload[:5]  # type: ignore[union-attr]
    assert ours(tape, "client") == ["debug3: receive packet: type 51"]


@pytest.mark.parametrize("ended", [True, False])
def test_who_hangs_up_after_the_session_is_all_one(ended: bool) -> None:
    """ssh leaves its loop with its last channel, and hears no more of the connection."""
    tape = Tape(step=1e-6)
    client_until_auth(tape, "exec10.client", ("k3",))
    success(tape, "publickey")
    session_opens(tape)
    if ended:
        tape.state("exit_status", channel=0, status=0, signal="")
        tape.received(c.ChannelClose(0))
        tape.sent(c.ChannelClose(0))
        tape.state("channel_closed", channel=0, type="session", sent=0, received=0)
    tape.state("error", type="ConnectionLost", text="the peer closed the connection", hint="", clause="")
    assert any("closed by remote host" in line for line in ours(tape, "client")) is not ended
