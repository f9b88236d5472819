"""What lengths give away, held against Zeek's baselines of the same captures and against servers' logs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from glasshell.capture.infer import Login, Sizes, Traffic

from .reading import captures, read

__all__ = ["captures"]


def outcome(path: Path, stream: int = 0) -> tuple[str, int]:
    *_, last = read(path).facts("inferred", stream)
    return last["what"], last["attempts"]


def test_password_guessing_as_zeek_counts_it(captures: Path) -> None:
    """Zeek's baseline of one-auth-fail-only.test: eleven failures, by how many attempts each had."""
    got = read(captures / "zeek__sshguess.pcap")
    last = {stream: got.facts("inferred", stream)[-1] for stream in range(11)}
    assert {facts["what"] for facts in last.values()} == {"authentication_failed"}
    assert Counter(facts["attempts"] for facts in last.values()) == Counter({2: 7, 3: 2, 4: 2})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # auth_success T and auth_attempts of Zeek's ssh.log
        ("zeek__ssh_kex_curve25519.pcap", ("authenticated", 2)),
        ("OISF__icmp_and_ssh.pcap", ("authenticated", 1)),
        # the servers' own logs say "Accepted publickey", at the first attempt after `none`
        ("generated__g01-gcm128-exec.pcap", ("authenticated", 1)),
        ("generated__g03-chacha-strict-sftp.pcap", ("authenticated", 1)),
        ("generated__g05-ctr256-hmac256.pcap", ("authenticated", 1)),
        ("generated__g09-ctr256-hmacsha1.pcap", ("authenticated", 1)),
        ("generated__g13-gcm-zlib.pcap", ("authenticated", 1)),
        ("generated__p01-openssh106-client-mlkem768x25519-aes128-gcm.pcap", ("authenticated", 1)),
    ],
)
def test_logins(captures: Path, name: str, expected: tuple[str, int]) -> None:
    assert outcome(captures / name) == expected


def test_a_login_that_is_not_in_the_capture_is_not_inferred(captures: Path) -> None:
    assert outcome(captures / "OISF__ssh-hassh.pcap", 1) == ("no_login", 0)


def test_somebody_types(captures: Path) -> None:
    (facts,) = read(captures / "OISF__icmp_and_ssh.pcap").facts("traffic")
    assert facts["kind"] == "interactive"


def told() -> tuple[list[tuple[str, int]], Login]:
    heard: list[tuple[str, int]] = []

    def tell(name: str, time: float, frames: tuple[int, int], **facts: object) -> None:
        heard.append((str(facts["what"]), int(str(facts["attempts"]))))

    return heard, Login(tell, Sizes(16, 4, 16))


SIZE = Sizes(16, 4, 16).wire
FAILURE, PK_OK, EXT_INFO, BANNER = SIZE(6 + 18), SIZE(71), SIZE(220), SIZE(900)


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        # Each turn is what the server answers to one packet of the client; the first asks for the service.
        ([[SIZE(17)], [FAILURE], [SIZE(1)]], [("authenticated", 1)]),
        ([[EXT_INFO, SIZE(17)], [FAILURE], [PK_OK], [SIZE(1)]], [("authenticated", 1)]),
        ([[EXT_INFO + SIZE(17)], [FAILURE], [SIZE(1)]], [("authenticated", 1)]),
        ([[SIZE(17)], [EXT_INFO, FAILURE], [FAILURE], [SIZE(1)]],
         [("authentication_failed", 1), ("authenticated", 2)]),
        ([[SIZE(17)], [BANNER, FAILURE], [FAILURE]], [("authentication_failed", 1)]),
        ([[SIZE(17)], [BANNER], [FAILURE], [FAILURE]], [("authentication_failed", 1)]),
        ([[SIZE(17)], [SIZE(1)]], [("authenticated", 1)]),
        ([[SIZE(17)], [FAILURE]], []),
    ],
    ids=["usual", "EXT_INFO before", "EXT_INFO in one segment", "EXT_INFO while logging in", "banner",
         "banner alone", "none", "unfinished"],
)  # fmt: skip
def test_traps(turns: list[list[int]], expected: list[tuple[str, int]]) -> None:
    heard, login = told()
    login.server([EXT_INFO], 0.0, (0, 0))  # before the client has said anything
    for turn in turns:
        login.client(0.0)
        login.server(turn, 0.0, (0, 0))
    assert heard == expected


def test_a_failure_in_one_segment_with_ext_info() -> None:
    """Lengths of OpenSSH 10.6 under chacha20-poly1305, two strange keys before the right one."""
    heard, _ = told()
    login = Login(lambda *_, what, attempts, **__: heard.append((what, attempts)), Sizes(8, 4, 16))
    login.server([244], 0.0, (0, 0))
    for answer in (44, 232, 76, 76, 100, 28):
        login.client(0.0)
        login.server([answer], 0.0, (0, 0))
    assert heard == [("authentication_failed", 1), ("authentication_failed", 2), ("authenticated", 3)]


@pytest.mark.parametrize(
    ("block", "aad", "tag", "accept", "success"),
    [
        # Seen on the wire of OpenSSH 9.2: AES-GCM, chacha20-poly1305, CTR with HMAC-SHA-256
        (16, 4, 16, 52, 36),
        (8, 4, 16, 44, 28),
        (16, 0, 32, 64, 48),
    ],
)
def test_sizes(block: int, aad: int, tag: int, accept: int, success: int) -> None:
    sizes = Sizes(block, aad, tag)
    assert (sizes.wire(17), sizes.wire(1)) == (accept, success)


def test_bulk_and_keystrokes() -> None:
    sizes = {True: Sizes(8, 4, 16)}
    bulk = Traffic(sizes)
    for at in range(100):
        bulk.take(False, [32_000], at)
        bulk.take(True, [44], at)
    assert bulk.verdict()["kind"] == "bulk"
    typing = Traffic(sizes)
    for at in range(40):
        typing.take(True, [36], at * 0.02)
        typing.take(False, [36], at * 0.02 + 0.001)
    facts = typing.verdict()
    assert (facts["kind"], facts["keystrokes"], facts["echoes"]) == ("interactive", 40, 40)
    assert "20 ms" in facts["evidence"]
