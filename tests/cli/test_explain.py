"""`glasshell explain`: every value with its line, every line that lost, every block with its reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from glasshell.cli import explain
from glasshell.errors import ConfigError

CLIENT = """Host web*
  HostName %h.example.net
  Port 2222
  IdentityFile /k/a
Match host *.example.net exec "false"
  User nobody
Match tagged never
  User never
Host *
  Port 22
  User ada
  IdentityFile /k/b
"""


def told(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert explain.main(["--json", *words]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "config"
    path.write_text(CLIENT)
    return str(path)


def test_values_have_their_lines_and_what_lost(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, "-F", config, "web1")
    values = {each["keyword"]: each for each in found["values"]}
    assert found["title"] == "web1 is ada@web1.example.net port 2222"
    assert values["port"]["source"] == f"{config} line 3"
    assert values["port"]["shadowed"] == [
        {"where": f"{config} line 10", "line": f"Port 22: {config} line 3 came first"}
    ]
    assert values["identityfile"]["values"] == ["/k/a", "/k/b"]
    assert values["identityfile"]["source"] == f"{config} line 4, {config} line 12"
    assert values["user"]["source"] == f"{config} line 11"


def test_blocks_say_why(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = told(capsys, "-F", config, "web1")["blocks"]
    assert [(each["line"], each["holds"], each["reason"]) for each in blocks[1:]] == [
        ("Host web*", True, "web1 fits web*"),
        ('Match host *.example.net exec "false"', False, "host *.example.net: yes; exec false: no"),
        ("Match tagged never", False, "tagged never: no"),
        ("Host *", True, "web1 fits *"),
    ]


def test_the_command_line_comes_first(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert explain.main(["-F", config, "-p", "9", "db"]) == 0
    text = capsys.readouterr().out
    assert "  - Host web*\n" in text
    blank = " " * 16
    assert f"port          9\n{blank}from command line\n{blank}not  {config} line 10: " in text


def test_all_shows_the_defaults_too(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    values = {each["keyword"]: each for each in told(capsys, "--all", "-F", config, "db")["values"]}
    assert values["batchmode"]["values"] == ["no"]
    assert values["batchmode"]["source"] == "default"


def test_sshd_config_for_a_login(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sshd_config"
    blocks = "Match User ada\n  PermitRootLogin no\nMatch User bob\n  X11Forwarding no\n"
    path.write_text(f"PermitRootLogin yes\n{blocks}")
    found = told(capsys, "--server", "-f", str(path), "-C", "user=ada")
    assert [(each["line"], each["holds"]) for each in found["blocks"]] == [
        ("Match User ada", True), ("Match User bob", False),
    ]  # fmt: skip
    (root,) = [each for each in found["values"] if each["keyword"] == "PermitRootLogin"]
    assert (root["values"], root["source"]) == (["no"], f"{path} line 3")
    assert root["shadowed"][0]["where"] == f"{path} line 1"


def test_a_wrong_line_is_shown_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("Host a\n  StrictHostKeyChecking perhaps\n")
    with pytest.raises(ConfigError, match=r"config line 2: StrictHostKeyChecking: ") as caught:
        explain.main(["-F", str(path), "h"])
    assert caught.value.line == "StrictHostKeyChecking perhaps"
