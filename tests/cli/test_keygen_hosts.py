"""known_hosts searched and edited as ssh-keygen does it: the same words, the same status, the same file."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from glasshell.cli.keygen_hosts import find, hash_file, remove
from glasshell.crypto.signatures import PrivateKey
from glasshell.errors import ConfigError
from glasshell.keys.hostlines import hash_host, scan
from glasshell.keys.public import dump_public_key
from tests.interop.peers import Place, require_peer

ED, RSA, EC = (
    dump_public_key(key.public).strip()
    for key in (PrivateKey.generate("ssh-ed25519"), PrivateKey.generate("ssh-rsa", 2048),
                PrivateKey.generate("ecdsa-sha2-nistp384"))
)  # fmt: skip
HIDDEN = hash_host("hidden.example", bytes(range(20)))

FILE = f"""\
# a comment

plain.example,192.0.2.7 {ED} first
Plain.Example {RSA}
[plain.example]:2222 {EC} on its own port
\t tabbed.example\t{ED}
{HIDDEN} {ED} with a comment
*.wild.example,!not.wild.example {RSA}
@cert-authority *.wild.example {EC} the CA
@revoked plain.example {EC}
last.example {ED}"""

BAD = {
    "two words": "half.example ssh-ed25519\n",
    "one word": "half.example\n",
    "marker": f"@unknown plain.example {ED}\n",
    "two markers": f"@revoked @cert-authority plain.example {ED}\n",
    "key type": "plain.example ssh-ed448 AAAA\n",
    "hash": f"|1|AAAA|AAAA {ED}\n",
    "comment": f"plain.example # {ED}\n",
}

NAMES = ["plain.example", "PLAIN.example", "192.0.2.7", "[plain.example]:2222", "hidden.example",
         "HIDDEN.example", "a.wild.example", "not.wild.example", "tabbed.example", "last.example",
         "nobody.example", "[plain.example]:22", "*", ""]  # fmt: skip


class Both:
    """One file for each program, in the same place one after the other, and what both did with it."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.place, self.folder = place, folder
        self.file = folder / "known_hosts"

    def theirs(self, text: str, *flags: str) -> tuple[int, str, str]:
        self._fresh(text)
        line = self.place.command("ssh-keygen", *flags, "-f", self.place.inside(self.file))
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        folder, seen = str(self.folder), self.place.inside(self.folder)
        out, err = (x.replace("\r\n", "\n").replace(seen, folder) for x in (done.stdout, done.stderr))
        return done.returncode, out, err

    def ours(
        self, text: str, capfd: pytest.CaptureFixture[str], call: Callable[[str], int]
    ) -> tuple[int, str, str]:
        self._fresh(text)
        status = call(str(self.file))
        return status, *capfd.readouterr()

    def _fresh(self, text: str) -> None:
        for file in self.folder.iterdir():
            file.unlink()
        self.file.write_text(text)
        self.file.chmod(0o640)

    def left(self) -> dict[str, str]:
        return {file.name: file.read_text() for file in sorted(self.folder.iterdir())}


@pytest.fixture(params=["openssh-9.2", "openssh-10.6"])
def both(request: pytest.FixtureRequest) -> Iterator[Both]:
    place = require_peer(request.param)
    folder = place.scratch()
    yield Both(place, folder)
    shutil.rmtree(folder)


def test_find_says_what_ssh_keygen_says(both: Both, capfd: pytest.CaptureFixture[str]) -> None:
    for name in NAMES:
        assert both.ours(FILE, capfd, lambda path, name=name: find(name, path)) == both.theirs(
            FILE, "-F", name
        ), name


@pytest.mark.parametrize(("flags", "settings"), [
    (["-l"], {"fingerprint": True}), (["-l", "-E", "md5"], {"fingerprint": True, "digest": "md5"}),
    (["-lv"], {"fingerprint": True, "verbose": True}), (["-q"], {"quiet": True}),
    (["-l", "-q"], {"fingerprint": True, "quiet": True}),
])  # fmt: skip
def test_find_with_other_flags(
    both: Both, capfd: pytest.CaptureFixture[str], flags: list[str], settings: dict[str, object]
) -> None:
    for name in ("plain.example", "hidden.example", "a.wild.example", "nobody.example"):
        ours = both.ours(FILE, capfd, lambda path, name=name: find(name, path, **settings))
        theirs = both.theirs(FILE, *flags, "-F", name)
        assert ours[:2] == theirs[:2], name


def test_find_and_hide(both: Both, capfd: pytest.CaptureFixture[str]) -> None:
    ours = both.ours(FILE, capfd, lambda path: find("plain.example", path, hashed=True))
    theirs = both.theirs(FILE, "-H", "-F", "plain.example")
    assert [_no_hash(x) for x in ours[1:2]] == [_no_hash(x) for x in theirs[1:2]]


@pytest.mark.parametrize("flaw", BAD)
def test_find_passes_bad_lines_over(both: Both, capfd: pytest.CaptureFixture[str], flaw: str) -> None:
    text = BAD[flaw] + FILE
    for name in ("plain.example", "half.example"):
        ours = both.ours(text, capfd, lambda path, name=name: find(name, path))
        assert ours[:2] == both.theirs(text, "-F", name)[:2]


def test_remove_leaves_the_file_that_ssh_keygen_leaves(both: Both, capfd: pytest.CaptureFixture[str]) -> None:
    for name in NAMES:
        theirs, left = both.theirs(FILE, "-R", name), both.left()
        assert both.ours(FILE, capfd, lambda path, name=name: remove(name, path)) == theirs, name
        assert both.left() == left, name


@pytest.mark.parametrize("flaw", BAD)
def test_a_file_with_a_bad_line_is_not_edited(
    both: Both, capfd: pytest.CaptureFixture[str], flaw: str
) -> None:
    text = FILE + "\n" + BAD[flaw]
    theirs = both.theirs(text, "-R", "plain.example")
    assert theirs[0] == 1, "ssh-keygen has become milder"
    assert both.ours(text, capfd, lambda path: remove("plain.example", path)) == theirs
    assert both.left() == {"known_hosts": text}


def _no_hash(text: str) -> str:
    return re.sub(r"\|1\|\S+", "|1|", text)


def test_hash_leaves_the_file_that_ssh_keygen_leaves(both: Both, capfd: pytest.CaptureFixture[str]) -> None:
    for text in (FILE, BAD["two words"] + FILE, "", f"{HIDDEN} {ED}\n"):
        theirs, left = both.theirs(text, "-H"), both.left()
        assert both.ours(text, capfd, hash_file) == theirs
        assert {name: _no_hash(x) for name, x in both.left().items()} == {
            name: _no_hash(x) for name, x in left.items()
        }


def test_ssh_keygen_finds_what_we_hid(both: Both, capfd: pytest.CaptureFixture[str]) -> None:
    both.ours(FILE, capfd, hash_file)
    assert "plain.example" not in re.sub("(?m)^@.*$", "", both.file.read_text())
    hidden = both.file.read_text()
    for name, lines in (("plain.example", 3), ("192.0.2.7", 1), ("[plain.example]:2222", 1)):
        status, out, _ = both.theirs(hidden, "-F", name)
        assert (status, out.count("# Host ")) == (0, lines)


def test_links_and_modes_stay(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file, link = tmp_path / "real" / "hosts", tmp_path / "known_hosts"
    file.parent.mkdir()
    file.write_text(FILE)
    file.chmod(0o644)
    link.symlink_to(file)
    assert remove("plain.example", str(link)) == 0
    assert link.is_symlink()
    assert file.stat().st_mode & 0o777 == 0o644
    assert sorted(path.name for path in file.parent.iterdir()) == ["hosts"]
    assert (tmp_path / "known_hosts.old").read_text() == FILE


def test_no_file_is_one_clear_error(tmp_path: Path) -> None:
    for call in (find, remove):
        with pytest.raises(ConfigError, match="No such file or directory"):
            call("a.example", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="Cannot stat"):
        hash_file(str(tmp_path / "none"))


def test_what_is_no_text_stays_as_it_is(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "known_hosts"
    rest = b"other.example " + ED.encode() + b" caf\xe9 \xff\r\n"
    file.write_bytes(b"plain.example " + ED.encode() + b"\n" + rest)
    assert remove("plain.example", str(file)) == 0
    assert file.read_bytes() == rest


def test_lines_are_told_apart() -> None:
    lines = list(scan(FILE))
    assert [line.number for line in lines if line.entry] == [3, 4, 5, 6, 7, 8, 9, 10, 11]
    assert [line.marker for line in lines if line.marker] == ["@cert-authority", "@revoked"]
    assert all(next(scan(text)).problem for name, text in BAD.items() if name != "hash")
