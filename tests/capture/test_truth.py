"""`inspect -T fields` beside TShark 4.6.9 on captures by others and of our own: each value of each frame.

The shared folder has tshark's rows of every capture; where the two differ, `deviations.toml` says why, or
this fails. With keys, OpenSSH's own debug log of the same connection is held against what is decrypted.
"""

from __future__ import annotations

import json
import lzma
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from glasshell.cli import inspect
from glasshell.observe.record import MessageRecord
from glasshell.observe.seen import Frame, Seen
from glasshell.views.fieldtable import FIELDS

HERE = Path(__file__).parent
LISTED: dict[str, Any] = tomllib.loads((HERE / "deviations.toml").read_text("utf-8"))
NOT_OURS = {"_ws.expert.message", "ssh.kex_hybrid_msg_code", "ssh.reassembled_in"}
"""Columns of tshark that tell of tshark: its remarks, and its own reassembly."""
NEVER_LOGGED = {93, 94, 95, 192, 193}
"""Messages that OpenSSH's log leaves out (packet.c)."""
SHORT = 32

Table = dict[int, dict[str, str]]
Difference = tuple[int, str, str, str]


@dataclass(frozen=True)
class Truth:
    """One table of tshark: of which capture, and whether it had the keys."""

    capture: Path
    decrypted: bool

    @property
    def table(self) -> Path:
        """The file."""
        kind = "tshark46.decrypted.fields" if self.decrypted else "tshark46.fields"
        return self.capture.with_name(f"{self.capture.name}.{kind}.tsv.xz")

    @property
    def keys(self) -> list[str]:
        """The arguments that give the keys."""
        return ["--keylog", f"{self.capture}.keylog.shared"] if self.decrypted else []


def tables(folder: Path) -> list[Truth]:
    found = sorted(folder.glob("*.tshark46*.fields.tsv.xz"))
    return [Truth(folder / path.name.split(".tshark46")[0], ".decrypted." in path.name) for path in found]


def read_table(text: str) -> tuple[list[str], Table]:
    head, *lines = text.split("\n")
    names = head.split("\t")
    rows = [dict(zip(names, line.split("\t"), strict=True)) for line in lines if line]
    return names, {int(row["frame.number"]): row for row in rows}


def ours(truth: Truth, names: list[str], capsys: pytest.CaptureFixture[str]) -> Table:
    """Our table of the same columns."""
    fields = [word for name in names for word in ("-e", name)]
    layout = ["-E", "header=y", "-E", "aggregator=|"]
    status = inspect.main([str(truth.capture), "-T", "fields", *layout, *truth.keys, *fields])
    printed = capsys.readouterr()
    assert status == (1 if printed.err else 0)
    return read_table(printed.out)[1]


def differences(mine: Table, theirs: Table, names: list[str]) -> Iterator[Difference]:
    for frame in sorted(mine.keys() | theirs.keys()):
        if frame not in mine or frame not in theirs:
            yield frame, "row", "yes" if frame in mine else "no", "yes" if frame in theirs else "no"
            continue
        for name in names:
            if mine[frame][name] != theirs[frame][name]:
                yield frame, name, short(mine[frame][name]), short(theirs[frame][name])


def short(value: str) -> str:
    return value if len(value) <= SHORT + 8 else f"{value[:SHORT]}..."


def listed(truth: Truth) -> set[Difference]:
    rows = [row for each in LISTED["deviation"] for row in each["at"]]
    where = (truth.capture.name, truth.decrypted)
    return {(row[2], row[3], row[4], row[5]) for row in rows if (row[0], row[1]) == where}


def test_what_differs_from_tshark_is_listed_and_what_is_listed_differs(
    shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compared = 0
    wrong: list[str] = []
    captures = tables(shared / "captures")
    assert captures
    for truth in captures:
        head, theirs = read_table(
            lzma.decompress(truth.table.read_bytes()).decode("utf-8", "surrogateescape")
        )
        names = [name for name in head if name not in NOT_OURS]
        assert set(names) <= FIELDS.keys()
        mine = ours(truth, names, capsys)
        compared += sum(len(row) for row in theirs.values())
        found = set(differences(mine, theirs, names))
        if truth.decrypted:
            found = apart_from_undecrypted(truth, mine, found, wrong)
        where = f"{truth.capture.name}{' with keys' if truth.decrypted else ''}"
        wrong += [f"{where}: {each} is not listed" for each in sorted(found - listed(truth))]
        wrong += [f"{where}: {each} does not occur" for each in sorted(listed(truth) - found)]
    assert compared > 100_000
    assert not wrong, "\n".join(wrong)


def apart_from_undecrypted(
    truth: Truth, mine: Table, found: set[Difference], wrong: list[str]
) -> set[Difference]:
    """Without what is in stretches that tshark cannot decrypt; a rule that explains nothing is wrong."""
    client = next(row["tcp.srcport"] for row in mine.values() if row["ssh.direction"] == "False")
    for rule in LISTED["undecrypted"]:
        if rule["capture"] != truth.capture.name:
            continue
        explained = {
            each
            for each in found
            if each[0] >= rule["from"]
            and each[1].startswith(("ssh.", "sftp."))
            and rule.get("client") in (None, mine[each[0]]["tcp.srcport"] == client)
        }
        if not explained:
            wrong.append(f"{truth.capture.name}: nothing is explained by {rule['reason']!r}")
        found = found - explained
    return found


def test_every_reason_is_said() -> None:
    for each in [*LISTED["deviation"], *LISTED["undecrypted"]]:
        assert len(each["reason"]) > 20


@pytest.mark.parametrize("log", ["shared", "private"])
def test_decrypted_messages_are_those_of_opensshs_own_log(
    shared: Path, capsys: pytest.CaptureFixture[str], log: str
) -> None:
    """The private value of a hybrid exchange is not in a key log: there only the shared secret will do."""
    captures = sorted((shared / "captures").glob("*.openssh-types.json"))
    assert captures
    for types in captures:
        capture = types.with_name(types.name.removesuffix(".openssh-types.json"))
        if log == "private" and "mlkem" in capture.name:
            continue
        keys = capture.with_name(f"{capture.name}.keylog.{log}")
        fields = ["-e", "ssh.direction", "-e", "ssh.message_code", "-e", "ssh.mac.status"]
        status = inspect.main([str(capture), "--keylog", str(keys), *fields])
        out, err = capsys.readouterr()
        assert (status, err) == (0, "")
        seen: dict[str, list[int]] = {"False": [], "True": []}
        for line in out.splitlines():
            direction, codes, macs = line.split("\t")
            seen.setdefault(direction, []).extend(int(code) for code in codes.split(",") if code)
            assert set(macs.split(",")) <= {"1", ""}
        for name, direction in (("client_to_server", "False"), ("server_to_client", "True")):
            expected = json.loads(types.read_text())[name]
            assert [code for code in seen[direction] if code not in NEVER_LOGGED] == expected, capture.name


def test_the_times_of_messages_are_those_of_their_frames(shared: Path) -> None:
    """Each message of each capture within a microsecond of tshark's frame.time_epoch."""
    from glasshell.capture.reader import read

    messages = 0
    for truth in tables(shared / "captures"):
        if truth.decrypted:
            continue
        theirs = read_table(lzma.decompress(truth.table.read_bytes()).decode("utf-8", "surrogateescape"))[1]
        began: dict[int, float] = {}
        for item in read(truth.capture):
            if isinstance(item, Frame):
                continue
            if not isinstance(item.record, MessageRecord):
                if item.record.name == "started":  # type: ignore[union-attr]
                    began[item.stream] = item.record.facts["wall_time"]  # type: ignore[union-attr]
                continue
            assert isinstance(item, Seen)
            row = theirs.get(item.frames[1])
            if row is not None:
                messages += 1
                assert began[item.stream] + item.record.time == pytest.approx(
                    float(row["frame.time_epoch"]), abs=1e-6, rel=0
                )
    assert messages > 300
