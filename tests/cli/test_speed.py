"""`glasshell speed`: every row can be measured, and what is said is true of this machine."""

from __future__ import annotations

import json
import re
import subprocess

import cryptography
import pytest

from glasshell.cli import speed
from glasshell.crypto.registry import Kind, names
from glasshell.crypto.signatures import SIGNING_ALGORITHMS
from glasshell.errors import UsageError

SLOW = re.compile(r"diffie-hellman-group(16|18)|rsa-")


def test_every_row_of_the_registry_is_there() -> None:
    found = [name for _, name, _ in speed.candidates()]
    assert found == [*names(Kind.KEX), *SIGNING_ALGORITHMS, *names(Kind.CIPHER), *names(Kind.MAC)]


@pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group, name, _ in speed.candidates() if not SLOW.match(name)]
)
def test_each_row(group: str, name: str) -> None:
    measure = next(measure for _, each, measure in speed.candidates() if each == name)
    result = measure(0.0005)
    assert tuple(result.figures) == speed.GROUPS[group][1]
    assert all(rate > 1 for rate in result.figures.values())


def test_the_rate_is_that_of_the_clock() -> None:
    """Work that takes a quarter of a second of an imaginary clock is done four times a second."""
    now = 0.0

    def work() -> None:
        nonlocal now
        now += 0.25

    assert speed.rate(work, 10.0, lambda: now) == 4.0
    assert speed.rate(work, 0.1, lambda: now) == 4.0  # once at least


def test_megabytes_are_of_full_packets() -> None:
    result = speed.Result("macs", "x", "", {"32K": 1000.0, "64": 5.0})
    assert result.megabytes == {"32K": 32.768}


def test_choice_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["aes128-gcm", "hmac-sha2-512*", "curve25519-sha256", "--seconds", "0.001", "--json"]
    assert speed.main(words) == 0
    shown = json.loads(capsys.readouterr().out)
    # What is written before the @ chooses both names of the one exchange.
    assert [row["name"] for row in shown["rows"]] == [
        "curve25519-sha256", "curve25519-sha256@libssh.org", "aes128-gcm@openssh.com",
        "hmac-sha2-512-etm@openssh.com", "hmac-sha2-512",
    ]  # fmt: skip
    assert shown["cryptography"] == cryptography.__version__
    assert re.match(r"OpenSSL [\d.]+", shown["openssl"])
    flags = subprocess.run(["grep", "-cw", "aes", "/proc/cpuinfo"], capture_output=True, check=False)
    assert ("aes" in shown["cpu_features"]) == (flags.returncode == 0)


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert speed.main(["macs", "ciphers", "--seconds", "0.001"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^cipher \(MB/s, packets/s\) +seal 32K +open 32K +seal 64 +open 64$", out, re.MULTILINE)
    assert re.search(r"^aes256-ctr  with hmac-sha2-256-etm( +[\d.]+){4}$", out, re.MULTILINE)
    assert re.search(r"^hmac-sha2-256( +[\d.]+){2}$", out, re.MULTILINE)


def test_a_name_that_is_not_known() -> None:
    with pytest.raises(UsageError, match="nothing is called 'rot13'") as error:
        speed.main(["rot13"])
    assert "chacha20-poly1305@openssh.com" in error.value.hint
