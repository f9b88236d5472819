"""What `glasshell audit` takes for a capture, a configuration, and neither."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from glasshell.cli import audit
from tests.cli.test_inspect import Recorded


def test_a_capture_that_is_packed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """RFC 1952: gzip, as tcpdump's -z and rotating logs leave it."""
    recorded = Recorded(tmp_path)
    told = []
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(recorded.capture.read_bytes()))
    for path in (recorded.capture, packed):
        assert audit.main([str(path)]) == 0
        told.append(capsys.readouterr().out)
    assert told[0] == told[1]
    assert "stream 0, server" in told[0]


def test_a_configuration_without_algorithms_is_not_called_good(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "sshd_config"
    path.write_text("Port 22\nPermitRootLogin no\n")
    assert audit.main([str(path)]) == 0
    out = capsys.readouterr().out
    assert "nothing to judge" in out
    assert "good" not in out


def test_a_file_that_may_not_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sshd_config"
    path.write_text("Port 22\n")

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)  # root may read everything
    assert audit.main([str(path)]) == audit.UNREACHED
    assert capsys.readouterr().err == f"glasshell audit: {path}: Permission denied\n"
