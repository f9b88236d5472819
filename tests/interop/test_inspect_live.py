"""Captures that nobody has seen before: real programs on the loopback, beside what both tsharks say."""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from glasshell.cli import inspect
from glasshell.views.fieldtable import FIELDS
from glasshell.views.filter import Kind
from tests.cli.kit import Commands
from tests.interop.conftest import Start
from tests.interop.glass import GlassServer
from tests.interop.peers import Client, Keys, OpenSSHServer, Server
from tests.interop.tap import Tap
from tests.interop.wireshark import Tshark
from tests.needs import absent

ALL = [name for name, row in FIELDS.items() if row.kind is not Kind.PROTOCOL]
NEVER_PRINTED = {"ssh.kex_hybrid_blob_client", "ssh.kex_hybrid_blob_server"}
"""Fields that tshark 4.6 declares and gives no value."""

Table = dict[int, dict[str, str]]


def ours(capture: Path, names: list[str], *words: str, status: int = 0) -> Table:
    out, err = io.StringIO(), io.StringIO()
    fields = [word for name in names for word in ("-e", name)]
    with redirect_stdout(out), redirect_stderr(err):
        assert inspect.main([str(capture), "-E", "aggregator=|", *words, *fields]) == status, err.getvalue()
    return table(out.getvalue(), names)


def theirs(
    tshark: Tshark, capture: Path, names: list[str], key_log: Path | None = None, only: str = "ssh"
) -> Table:
    fields = [word for name in names for word in ("-e", name)]
    layout = ["-T", "fields", "-E", "occurrence=a", "-E", "aggregator=|"]
    return table(tshark.read(capture, "-Y", only, *layout, *fields, key_log=key_log), names)


def table(text: str, names: list[str]) -> Table:
    rows = [dict(zip(names, line.split("\t"), strict=True)) for line in text.split("\n") if line]
    return {int(row["frame.number"]): row for row in rows}


def differences(mine: Table, other: Table, names: list[str]) -> Iterator[tuple[int, str, str, str]]:
    for frame in sorted(mine.keys() | other.keys()):
        if frame not in mine or frame not in other:
            yield frame, "row", str(frame in mine), str(frame in other)
            continue
        for name in names:
            if mine[frame][name] != other[frame][name]:
                yield frame, name, mine[frame][name][:80], other[frame][name][:80]


@dataclass(frozen=True)
class Talk:
    """Who talks to whom, and how."""

    server: str
    client: str
    options: tuple[str, ...] = ()
    address: str = "127.0.0.1"
    differs: frozenset[str] = frozenset()
    """Fields in which the two differ: known and explained."""


def openssh(kex: str, cipher: str, mac: str = "hmac-sha2-256") -> tuple[str, ...]:
    return ("-o", f"KexAlgorithms={kex}", "-c", cipher, "-m", mac)


GUESSED = frozenset({"ssh.dh.e", "ssh.ecdh.q_c", "ssh.ecdh.q_c_length"})
"""dbclient sends the packet that it guesses beside its KEXINIT: tshark, which has not seen the server's,
reads it as Diffie-Hellman."""
SNTRUP = frozenset({
    "ssh.dh.e", "ssh.dh.f", "ssh.ecdh.q_c", "ssh.ecdh.q_s", "ssh.kex.pq_kem_client", "ssh.kex.pq_kem_server",
    "ssh.kex_hybrid_blob_client_len", "ssh.kex_hybrid_blob_server_len",
})  # fmt: skip
"""tshark 4.6 does not know sntrup761x25519-sha512 by its older name, sntrup761x25519-sha512@openssh.com."""

TALKS = [
    Talk("openssh-9.2", "openssh-9.2", openssh("curve25519-sha256", "aes128-gcm@openssh.com")),
    Talk("openssh-10.6", "openssh-10.6", openssh("curve25519-sha256", "chacha20-poly1305@openssh.com")),
    Talk(
        "openssh-10.6",
        "openssh-9.2",
        openssh("ecdh-sha2-nistp256", "aes256-ctr", "hmac-sha2-256-etm@openssh.com"),
    ),
    Talk(
        "openssh-9.2", "openssh-10.6", openssh("diffie-hellman-group14-sha256", "aes256-ctr", "hmac-sha2-512")
    ),
    Talk(
        "openssh-9.2",
        "openssh-9.2",
        openssh("diffie-hellman-group-exchange-sha256", "aes256-gcm@openssh.com"),
    ),
    Talk(
        "openssh-9.2",
        "openssh-9.2",
        openssh("ecdh-sha2-nistp521", "aes128-ctr", "umac-64@openssh.com"),
        "::1",
    ),
    Talk("openssh-9.2", "dbclient", differs=GUESSED),
    Talk("tinysshd-newest", "openssh-9.2", openssh("curve25519-sha256", "chacha20-poly1305@openssh.com")),
    Talk("openssh-9.2", "plink", differs=SNTRUP),
]


@pytest.fixture
def captured(
    server: Callable[[str], Server], client: Callable[[str], Client], keys: Keys, start: Start, tmp_path: Path
) -> Callable[[Talk], tuple[Path, int]]:
    """A connection of that kind, as a capture and its port."""

    def capture(talk: Talk) -> tuple[Path, int]:
        at = server(talk.server)
        if talk.address != "127.0.0.1":
            at = start(OpenSSHServer("9.2", keys, extra_config=f"ListenAddress {talk.address}"))
        target = replace(at.target, host=talk.address)
        with Tap(target.port, tmp_path / "talk.pcap") as tap:
            done = client(talk.client).run(target, "echo heard", *talk.options, identity=keys.user("ed25519"))
            assert done.stdout == b"heard\n", done.stderr
        return tap.file, target.port

    return capture


@pytest.mark.parametrize(
    "talk", TALKS, ids=lambda talk: f"{talk.client} to {talk.server} {'-'.join(talk.options[1::2])}"
)
def test_what_passes_without_keys(captured: Callable[[Talk], tuple[Path, int]], talk: Talk) -> None:
    """Every field of every frame as tshark 4.6; up to the first new keys as tshark 4.0."""
    capture, port = captured(talk)
    names = [name for name in ALL if name not in NEVER_PRINTED]
    found = list(differences(ours(capture, names), theirs(Tshark("4.6", port), capture, names), names))
    assert {name for _, name, _, _ in found} == talk.differs, found
    older = ["frame.number", "frame.len", "tcp.stream", "tcp.seq", "tcp.ack", "ip.src", "ipv6.src",
             "ssh.protocol", "ssh.message_code", "ssh.packet_length", "ssh.padding_length", "ssh.cookie",
             "ssh.kex_algorithms", "ssh.server_host_key_algorithms", "ssh.kex.hassh",
             "ssh.kex.hasshserver", "ssh.host_key.type",
             "ssh.dh.e", "ssh.dh.f", "ssh.dh_gex.p", "ssh.ecdh.q_c", "ssh.ecdh.q_s"]  # fmt: skip
    mine, old = ours(capture, older), theirs(Tshark("4.0", port), capture, older)
    keys = min(frame for frame, row in mine.items() if "21" in row["ssh.message_code"].split("|"))
    found = list(differences(up_to(mine, keys), up_to(old, keys), older))
    assert {name for _, name, _, _ in found} <= talk.differs, found


def up_to(rows: Table, frame: int) -> Table:
    """What stands before the first frame with new keys."""
    return {number: row for number, row in rows.items() if number < frame}


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    with Commands(tmp_path) as made:
        yield made


@pytest.mark.parametrize("cipher", ["aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com", "aes256-ctr"])
def test_a_session_on_a_terminal_with_keys(
    server: Callable[[str], Server], keys: Keys, commands: Commands, tmp_path: Path, cipher: str
) -> None:
    """Terminal, modes, environment, signals of size, data both ways, a key re-exchange: each field."""
    from tests.cli.kit import Login

    at = server("openssh-9.2")
    login = Login(commands, at.target, keys.user().copy_to(tmp_path))
    log = tmp_path / "keys.log"
    options = (
        f"Ciphers={cipher}", "MACs=hmac-sha2-256", "KexAlgorithms=curve25519-sha256",
        "SetEnv=GLASSHELL_A=one GLASSHELL_B=two",
    )  # fmt: skip
    with Tap(at.target.port, tmp_path / "terminal.pcap") as tap:
        screen = login.shell("--keylog", str(log), options=options)
        screen.type(b"echo typed\n")
        screen.expect(b"\ntyped")
        screen.resize(50, 132)
        screen.type(b"exit 7\n")
        assert screen.wait() == 7
    names = [name for name in ALL if name not in NEVER_PRINTED]
    mine = ours(tap.file, names, "--keylog", str(log))
    other = theirs(Tshark("4.6", at.target.port), tap.file, names, key_log=log)
    assert list(differences(mine, other, names)) == []
    assert any(row["ssh.pty_term"] for row in mine.values())
    assert any(row["ssh.env_name"] for row in mine.values())


UNREAD = {"14", "15", "20"}
"""MKDIR, RMDIR and SYMLINK: tshark 4.6 gives their type and no field of theirs."""

BATCH = """\
mkdir made
put {here} made/one
chmod 640 made/one
ls -l made
symlink one made/two
ln made/one made/three
rename made/three made/four
df
get made/one {there}
reget made/one {there}
cd made
pwd
rm four
rm two
-rm nothing
rm one
cd ..
rmdir made
"""


def test_files_over_sftp_with_keys(start: Start, keys: Keys, tmp_path: Path) -> None:
    """OpenSSH's sftp does most of what it can at our server: each field of each of its packets."""
    folder = tmp_path / "files"
    folder.mkdir()
    (tmp_path / "here").write_bytes(b"some content " * 5000)
    (tmp_path / "batch").write_text(BATCH.format(here=tmp_path / "here", there=tmp_path / "there"))
    log = tmp_path / "keys.log"
    port = start(GlassServer(keys, "", "--keylog", str(log))).target.port
    with Tap(port, tmp_path / "sftp.pcap") as tap:
        line = ["sftp", "-F", "none", "-b", str(tmp_path / "batch"), "-P", str(port),
                "-i", str(keys.user().private), "-o", "StrictHostKeyChecking=no",
                "-o", f"UserKnownHostsFile={tmp_path / 'known'}", "-o", "IdentitiesOnly=yes",
                "-o", "KexAlgorithms=curve25519-sha256",
                "-c", "aes128-gcm@openssh.com", f"root@127.0.0.1:{folder}"]  # fmt: skip
        done = subprocess.run(line, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "there").read_bytes() == b"some content " * 5000
    names = [name for name in ALL if name not in NEVER_PRINTED]
    mine = ours(tap.file, names, "--keylog", str(log))
    other = theirs(Tshark("4.6", port), tap.file, names, key_log=log)
    types = {int(code) for row in mine.values() for code in row["sftp.packet_type"].split("|") if code}
    assert {*range(1, 7), *range(11, 16), *range(101, 105)} <= types
    found = list(differences(mine, other, names))
    assert {mine[frame]["sftp.packet_type"] for frame, _, _, _ in found} == UNREAD
    assert {value for _, _, _, value in found} == {""}


FILTERS = [
    "ssh.message_code == 20",
    "ssh.message_code in {21, 30..31}",
    "ssh.kex_algorithms contains \"curve25519\"",
    "ssh.protocol matches \"openssh_[0-9]\"",
    "ssh.direction == 1 && ssh.packet_length > 100",
    "ssh.message_code != 31",
    "!(ssh.message_code == 31) && ssh",
    "ssh.cookie",
    "ip.addr == 127.0.0.0/8 and not ssh.cookie",
    "tcp.len >= 48 || ssh.padding_length == 10",
    "ssh.host_key.type == \"ssh-ed25519\" or ssh.dh_gex.min",
    "frame.number < 12 && (ssh.seq_num == 1 || ssh.seq_num == 0)",
]  # fmt: skip


def test_display_filters_choose_the_frames_that_tshark_chooses(
    captured: Callable[[Talk], tuple[Path, int]],
) -> None:
    capture, port = captured(TALKS[0])
    tshark = Tshark("4.6", port)
    for text in FILTERS:
        mine = ours(capture, ["frame.number"], "-Y", text)
        assert mine.keys() == theirs(tshark, capture, ["frame.number"], only=f"ssh && ({text})").keys(), text


def test_with_frames_lost_what_came_before_is_the_same_and_the_loss_is_named(
    captured: Callable[[Talk], tuple[Path, int]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("editcap") is None:
        absent("editcap (tshark) is not installed")
    capture, port = captured(TALKS[1])
    whole = ours(capture, ["frame.number", "ssh.message_code"])
    kexinit, *_ = (frame for frame, row in whole.items() if row["ssh.message_code"] == "20")
    later = sorted(frame for frame in whole if frame > kexinit + 6)[::7]
    for lost in ([kexinit], later, [*later, kexinit]):
        lossy = tmp_path / "lossy.pcap"
        subprocess.run(["editcap", "-F", "nsecpcap", str(capture), str(lossy), *map(str, lost)], check=True)
        assert inspect.main([str(lossy)]) == 1
        out, err = capsys.readouterr()
        assert "bytes are not in the capture" in err
        assert "SSH-2.0-" in out
        names = ["frame.number", "ssh.protocol", "ssh.message_code", "ssh.cookie"]
        mine, other = ours(lossy, names, status=1), theirs(Tshark("4.6", port), lossy, names)
        capsys.readouterr()
        assert list(differences(up_to(mine, min(lost)), up_to(other, min(lost)), names)) == []
