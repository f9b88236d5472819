"""What is an SSH connection and what is not, over sockets and processes that are made up."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.errors import ConfigError
from glasshell.policy import Policy
from glasshell.system import sockets
from glasshell.system.connections import Connection, join
from glasshell.system.cpu import cpu, has_aes
from glasshell.system.processes import Held, Holders, Process, holders, program_name
from glasshell.system.sockets import Place, Socket, Sockets, tcp_sockets
from glasshell.system.status import Status

NOW = 1000.0
MOMENT = st.text(max_size=12)


def sock(local: int, peer: int, inode: int, state: str = "ESTABLISHED") -> Socket:
    return Socket(Place("10.0.0.1", local), Place("10.0.0.2", peer), state, 0, inode)


def process(pid: int, program: str, started: float = 900.0) -> Process:
    return Process(pid, 1, program, "ada", program, started)


def joined(
    all_: list[Socket], held: dict[int, list[tuple[Process, int]]], *statuses: Status
) -> dict[int, Connection]:
    """The connections by inode."""
    of = {inode: [Held(*each) for each in pairs] for inode, pairs in held.items()}
    found = join(Sockets(tuple(all_)), Holders(of), statuses, frozenset({22}), NOW)
    return {each.socket.inode: each for each in found}


def test_by_port_alone() -> None:
    """Without root nobody's processes are known; port 22 is."""
    found = joined([sock(22, 5000, 1), sock(5001, 22, 2), sock(22, 0, 3, "LISTEN"), sock(80, 5002, 4)], {})
    assert [(each.what, each.direction) for each in found.values()] == [
        ("ssh", "in"), ("ssh", "out"), ("listener", "listen"), ("other", ""),
    ]  # fmt: skip


def test_sshd_on_another_port_with_its_sessions() -> None:
    listener, monitor, session = process(1, "sshd", 1.0), process(2, "sshd", 950.0), process(3, "sshd", 951.0)
    found = joined(
        [sock(2222, 0, 1, "LISTEN"), sock(2222, 5000, 2), sock(6000, 80, 3)],
        {1: [(listener, 3)], 2: [(monitor, 4), (session, 4)], 3: [(session, 9)]},
    )
    assert (found[1].what, found[1].direction) == ("listener", "listen")
    assert (found[2].what, found[2].direction) == ("ssh", "in")
    assert found[2].process == session  # who speaks for the user
    assert found[2].age == NOW - 950.0  # since the first of them began
    assert found[3].what == "forwarded"


def test_sshd_of_inetd_has_no_listener() -> None:
    alone = process(2, "sshd", 990.0)
    found = joined([sock(2222, 5000, 1), sock(6000, 80, 2)], {1: [(alone, 3)], 2: [(alone, 7)]})
    assert [(each.what, each.direction) for each in found.values()] == [("ssh", "in"), ("forwarded", "out")]


def test_a_client_that_forwards() -> None:
    client = process(2, "ssh", 990.0)
    found = joined(
        [sock(5000, 2222, 1), sock(8080, 0, 2, "LISTEN"), sock(8080, 5001, 3)],
        {1: [(client, 3)], 2: [(client, 4)], 3: [(client, 5)]},
    )
    assert (found[1].what, found[1].direction, found[1].age) == ("ssh", "out", 10.0)
    assert found[2].what == "other"
    assert (found[3].what, found[3].direction) == ("forwarded", "in")


def test_one_process_with_many_connections_has_no_age_unless_it_tells() -> None:
    daemon = process(7, "glasshell-sshd", 1.0)
    all_ = [sock(2222, 0, 1, "LISTEN"), sock(2222, 5000, 2), sock(2222, 5001, 3), sock(6000, 80, 4)]
    held = {inode: [(daemon, inode)] for inode in (1, 2, 3, 4)}
    told = {"id": 1, "peer": ["10.0.0.2", 5000], "local": ["10.0.0.1", 2222], "age": 3.5, "user": "bob"}
    found = joined(all_, held, Status(Path("/s"), 7, {}, (told,), 0.0))
    assert (found[2].what, found[2].age, found[2].user) == ("ssh", 3.5, "bob")
    assert (found[3].what, found[4].what) == ("forwarded", "forwarded")
    assert all(each.age is None for each in joined(all_, held).values())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("peer", "local", "age", "user", "id"), JSON)))
def test_whatever_a_server_says_of_a_connection(told: dict[str, Any]) -> None:
    daemon = process(7, "python", 1.0)
    status = Status(Path("/s"), 7, {}, (told,), 0.0)
    found = joined([sock(22, 5000, 1)], {1: [(daemon, 3)]}, status)
    assert isinstance(found[1].user, str)


@pytest.mark.parametrize(
    ("name", "words", "told"),
    [
        ("python3", ["/usr/bin/python3", "-m", "glasshell", "sshd", "-D"], "glasshell-sshd"),
        ("glasshell", ["/usr/bin/python", "/usr/bin/glasshell", "ssh", "host"], "glasshell-ssh"),
        ("sshd-session", ["sshd-session: ada [priv]"], "sshd-session"),
        ("two words", [], "two_words"),
        ("", [], "?"),
        ("ssh", ["ssh", "host", "glasshell"], "ssh"),
    ],
)
def test_names_of_programs(name: str, words: list[str], told: str) -> None:
    assert program_name(name, words) == told


@given(st.text(), st.lists(st.text()))
def test_a_name_is_one_word(name: str, words: list[str]) -> None:
    assert len(program_name(name, words).split()) == 1


# -- the real system


def test_ipv4_ipv6_and_mapped() -> None:
    if sys.platform != "linux":
        pytest.skip("sock_diag is Linux's")
    pytest.importorskip("pyroute2")
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as four, socket.create_connection(("::1", port)):
            found = [each for each in tcp_sockets().all if each.peer.port == port]
            assert {str(each.peer) for each in found} == {f"127.0.0.1:{port}", f"[::1]:{port}"}
            here = [each for each in tcp_sockets().all if each.local.port == port and each.state != "LISTEN"]
            assert {each.local.address for each in here} == {"127.0.0.1", "::1"}
            mine = next(each for each in found if each.local.port == four.getsockname()[1])
            [held] = holders([mine.inode]).of[mine.inode]
            assert held.fd == four.fileno()


def test_without_netlink_the_rest_is_shown_and_the_missing_part_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused() -> list[Socket]:
        raise OSError(1, "Operation not permitted")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        truth = {(each.local, each.state) for each in tcp_sockets().all}
        monkeypatch.setattr(sockets, "_by_netlink", refused)
        found = tcp_sockets()
        mine = next(each for each in found.all if each.local.port == listener.getsockname()[1])
    assert found.missing == ("no rtt, cwnd, bytes and retransmits: the kernel gives no sock_diag:"
                             " Operation not permitted",)  # fmt: skip
    assert mine.state == "LISTEN"
    assert mine.owner is not None
    assert {(mine.local, mine.state)} <= truth


def test_without_psutil(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    with pytest.raises(ConfigError, match="psutil is not installed") as error:
        holders([1])
    assert error.value.hint == "pip install 'glasshell[ps]'"


@given(st.binary(max_size=200))
def test_any_processor(text: bytes) -> None:
    from tempfile import NamedTemporaryFile

    with NamedTemporaryFile() as file:
        file.write(text)
        file.flush()
        name, features = cpu(file.name)
    assert isinstance(name, str)
    assert set(features) <= {"aes", "avx", "adx", "sve"} | set(features)


def test_a_processor(tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(
        "processor\t: 0\nmodel name\t: Imaginary 3000\nflags\t\t: fpu aes avx2 sha_ni\n\nmodel name: x\n"
    )
    assert cpu(str(path)) == ("Imaginary 3000", ("aes", "avx2", "sha_ni"))
    path.write_text("Features : fp asimd aes pmull sha2\n")
    assert cpu(str(path)) == ("", ("aes", "pmull", "sha2", "asimd"))
    assert cpu(str(tmp_path / "none")) == ("", ())


@pytest.mark.parametrize(("text", "aes"), [
    ("processor: 0\nflags\t: fpu vaes avx2 aes sha_ni\n", True), ("flags: fpu vaes sse2\n", False),
    ("Features\t: fp asimd aes pmull\n", True), ("Features\t: half thumb neon vfpv4\n", False),
    ("isa: rv64imafdc\n", True), ("", True),
])  # fmt: skip
def test_instructions_for_aes_decide_which_cipher_leads(tmp_path: Path, text: str, aes: bool) -> None:
    """A Raspberry Pi 4 has none, and OpenSSL's ChaCha20 is several times as fast as its AES there."""
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    assert has_aes(str(path)) == aes
    first = "aes256-gcm@openssh.com" if aes else "chacha20-poly1305@openssh.com"
    for policy in (Policy.client(), Policy.server()):
        ordered = policy.for_processor(aes=aes)
        assert ordered.ciphers[0] == first
        assert sorted(ordered.ciphers) == sorted(policy.ciphers)


def test_an_order_of_ciphers_that_was_chosen_stays() -> None:
    chosen = Policy.client(ciphers=("aes128-gcm@openssh.com", "chacha20-poly1305@openssh.com"))
    assert chosen.for_processor(aes=False) is chosen
