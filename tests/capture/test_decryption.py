"""Captures with a key log: what comes out is what OpenSSH says that it sent and received."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from glasshell.observe.record import MessageRecord

from .reading import captures, read, table

__all__ = ["captures"]

NAMES = (
    "g01-gcm128-exec", "g03-chacha-strict-sftp", "g05-ctr256-hmac256", "g09-ctr256-hmacsha1", "g13-gcm-zlib",
    "g14-gcm-rekey", "g20-chacha-nostrict", "p01-openssh106-client-mlkem768x25519-aes128-gcm",
)  # fmt: skip


def generated(captures: Path, name: str) -> Path:
    return captures / f"generated__{name}.pcap"


LOGS = [(name, "shared") for name in NAMES] + [(name, "private") for name in NAMES[:-1]]
"""The private log of a hybrid has the X25519 half alone, of which K cannot be made."""


@pytest.mark.parametrize(("name", "kind"), LOGS)
def test_messages_are_those_of_openssh_s_own_log(captures: Path, name: str, kind: str) -> None:
    capture = generated(captures, name)
    truth = json.loads(Path(f"{capture}.openssh-types.json").read_text())
    got = read(capture, Path(f"{capture}.keylog.{kind}"))
    assert got.numbers(client=True) == truth["client_to_server"]
    assert got.numbers(client=False) == truth["server_to_client"]
    assert not got.troubles.lines
    # Every packet after NEWKEYS has a tag, and every tag is right.
    assert {bool(seen.record.epoch): seen.verified for seen in got.messages} == {False: None, True: True}
    assert {seen.verified for seen in got.messages if seen.record.epoch} == {True}
    assert [seen.verified for seen in got.states("host_key")][:1] == [True]


@pytest.mark.parametrize("name", ["g03-chacha-strict-sftp", "g05-ctr256-hmac256", "g20-chacha-nostrict"])
def test_sftp_packets_are_tshark_s(captures: Path, name: str) -> None:
    capture = generated(captures, name)
    rows = table(Path(f"{capture}.tshark46.decrypted.fields.tsv.xz"))
    truth = [int(each) for row in rows for each in (row["sftp.packet_type"] or "").split("|") if each]
    got = read(capture, Path(f"{capture}.keylog.shared"))
    assert Counter(record.number for record in got.subsystem) == Counter(truth)
    assert truth


def test_sequence_numbers_are_tshark_s(captures: Path) -> None:
    capture = generated(captures, "g01-gcm128-exec")
    rows = table(Path(f"{capture}.tshark46.decrypted.fields.tsv.xz"))
    truth = Counter(
        (row["frame.number"], each) for row in rows for each in row["ssh.seq_num"].split("|") if each
    )
    got = read(capture, Path(f"{capture}.keylog.shared"))
    ours = Counter(
        (str(seen.frames[1]), str(seen.record.seq))
        for seen in got.messages
        if isinstance(seen.record, MessageRecord)
    )
    assert ours == truth


def test_without_the_key_of_a_rekey_the_rest_is_named(captures: Path, tmp_path: Path) -> None:
    capture = generated(captures, "g14-gcm-rekey")
    first = tmp_path / "first"
    first.write_text(Path(f"{capture}.keylog.shared").read_text().splitlines()[0])
    got = read(capture, first)
    assert {seen.record.epoch for seen in got.messages} == {0, 1}
    (why,) = [facts["why"] for facts in got.facts("not_decrypted")]
    assert why.startswith("no key for cookie ")
    assert got.troubles.lines


def test_a_secret_of_another_connection_does_not_fit_and_is_named(captures: Path, tmp_path: Path) -> None:
    capture = generated(captures, "g01-gcm128-exec")
    cookie = Path(f"{capture}.keylog.shared").read_text().split()[0]
    wrong = tmp_path / "wrong"
    wrong.write_text(f"{cookie} SHARED_SECRET {'5a' * 32}\n")
    got = read(capture, wrong)
    assert [facts["why"] for facts in got.facts("not_decrypted")] == [
        "wrong:1: with this secret the host's signature does not verify"
    ]
    assert {seen.record.epoch for seen in got.messages} == {0}


def test_the_x25519_half_of_a_hybrid_is_not_enough_and_is_named(captures: Path) -> None:
    capture = generated(captures, NAMES[-1])
    got = read(capture, Path(f"{capture}.keylog.private"))
    (why,) = [facts["why"] for facts in got.facts("not_decrypted")]
    assert why.endswith(".keylog.private:1: the PRIVATE_KEY does not fit mlkem768x25519-sha256")
