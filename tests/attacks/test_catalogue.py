"""docs/attacks.md names tests; each must exist, and each row must name one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/attacks.md").read_text("utf-8")
FOUND = re.finditer(r"^\*\*([A-Z]\d+) .*?(?=^\*\*|^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
ROWS = {match[1]: match[0] for match in FOUND}
DEFINITION = re.compile(r"^def (test_\w+)", re.MULTILINE)


def defined(folder: Path) -> set[str]:
    """The names of all tests below `folder`."""
    texts = [file.read_text("utf-8") for file in folder.rglob("test_*.py")]
    return {name for text in texts for name in DEFINITION.findall(text)}


def test_every_row_is_there() -> None:
    expected = {
        "A": range(1, 16),
        "B": range(1, 21),
        "C": range(1, 8),
        "D": (1, 2, 3, 5, 8, 9, 10),
        "G": range(1, 10),
        "H": range(1, 7),
        "K": range(1, 6),
        "P": range(1, 7),
        "L": range(1, 10),
    }
    for letter, numbers in expected.items():
        assert [row for row in ROWS if row[0] == letter] == [f"{letter}{n}" for n in numbers]
    assert len(ROWS) == len(set(ROWS))


@pytest.mark.parametrize("row", ROWS)
def test_a_row_names_tests_that_exist(row: str) -> None:
    names = set(re.findall(r"`(test_\w+)`", ROWS[row]))
    files = re.findall(r"`(tests/[\w/.]+)`", ROWS[row])
    assert names or files
    assert names <= defined(ROOT / "tests")
    assert all((ROOT / file).exists() for file in files)


def test_every_test_of_a_row_is_named_there() -> None:
    here = {name for name in defined(Path(__file__).parent) if re.match(r"test_[a-z]\d+_", name)}
    assert here <= set(re.findall(r"`(test_\w+)`", PAGE))
