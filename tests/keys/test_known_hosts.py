"""known_hosts against OpenSSH's torture file, with ssh-keygen as the judge of what matches."""

from __future__ import annotations

import base64
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.crypto.signatures import SIGNING_TYPES, PrivateKey
from glasshell.errors import CryptoError, UsageError
from glasshell.keys.known_hosts import Kind, KnownHosts, format_entry, host_name
from glasshell.keys.patterns import match_pattern

from .conftest import Keygen

ED, ED2 = (PrivateKey.generate("ssh-ed25519").public for _ in range(2))
EC = PrivateKey.generate("ecdsa-sha2-nistp256").public
SALT = bytes(range(20))


def text_of(key: object) -> str:
    return f"{key.type} {base64.b64encode(key.blob).decode()}"  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def torture(shared: Path) -> Path:
    return shared / "vectors/openssh/unittests/hostkeys/testdata/known_hosts"


# ---- OpenSSH's files and program


def test_torture_file(torture: Path) -> None:
    text = torture.read_text()
    known = KnownHosts.parse(text, "torture")
    lines = text.split("\n")
    invalid = lines.index("# Some invalid lines") + 1
    wanted = [n for n, line in enumerate(lines[invalid:], invalid + 1) if line.strip()]
    assert [bad.line for bad in known.bad_lines] == wanted
    assert len(wanted) == 6
    assert {entry.marker for entry in known.entries} == {"", "@revoked", "@cert-authority"}
    assert known.entries[0].where == "torture:2"


@pytest.mark.parametrize(
    "host",
    [
        "sisyphus.example.com",
        "prometheus.example.com",
        "192.0.2.1",
        "2001:db8::1",
        "192.0.2.77",
        "2001:db8::9",
        "hades.example.com",
        "192.0.2.3",
        "2001:db8::3",
        "hades2.example.com",
        "www.example.com",
        "example.com",
        "192.0.3.1",
        "[sisyphus.example.com]:2222",
        "nobody.invalid",
        "hashed.example.com",
    ],
)
def test_lookup_is_that_of_ssh_keygen(host: str, torture: Path, ssh_keygen: Keygen) -> None:
    said = ssh_keygen("-F", host, "-f", torture, ok=False)
    theirs = {int(number) for number in re.findall(r"found: line (\d+)", said)}
    name, port = (host[1:].split("]:")[0], 2222) if host.startswith("[") else (host, 22)
    known = KnownHosts.parse(torture.read_bytes())
    # ssh-keygen shows lines whose key it never parsed; here they are among the bad ones
    theirs -= {bad.line for bad in known.bad_lines}
    assert {entry.line for entry in known.lookup(name, port)} == theirs


def test_patterns_are_those_of_ssh_keygen(ssh_keygen: Keygen, tmp_path: Path) -> None:
    fields = [
        "*",
        "*.b.c",
        "a*,!a.b.c",
        "!a.b.c,a*",
        "?.b.c",
        "a.?.c",
        "a.b.c",
        "a.*.c",
        "a*b*c",
        "*a*",
        "**",
        "?",
        "a.b.c?",
        "?*?*?",
        "[a.b.c]:2222",
        "*:2222",
        "[*]:2222",
        "A.B.C",
        "!*",
        "!x,y",
        "x,a.b.c,y",
        "a.b.c,!*.c",
    ]
    path = tmp_path / "known_hosts"
    path.write_text("".join(f"{field} {text_of(ED)}\n" for field in fields))
    known = KnownHosts.parse(path.read_bytes())
    for name, port in (
        ("a.b.c", 22),
        ("abc", 22),
        ("x", 22),
        ("a.b.c", 2222),
        ("xa.b.c", 22),
        ("aabbcc", 22),
    ):
        host = name if port == 22 else f"[{name}]:{port}"
        said = ssh_keygen("-F", host, "-f", path, ok=False)
        theirs = [int(number) for number in re.findall(r"found: line (\d+)", said)]
        assert [entry.line for entry in known.lookup(name, port)] == theirs, host


def test_hashed_names_both_ways(ssh_keygen: Keygen, tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(format_entry("a.example", 22, ED) + format_entry("b.example", 2222, EC))
    ssh_keygen("-H", "-f", path)
    known = KnownHosts.parse(path.read_bytes())
    assert all(entry.hashed for entry in known.entries)
    assert known.check("A.example", 22, ED).kind is Kind.KNOWN
    assert known.check("b.example", 2222, EC).kind is Kind.KNOWN
    assert known.check("b.example", 22, EC).kind is Kind.UNKNOWN
    path.write_text(format_entry("C.example", 2222, ED, hashed=True, salt=SALT, comment="me"))
    assert "c.example" not in path.read_text().lower()
    assert "found: line 1" in ssh_keygen("-F", "[c.example]:2222", "-f", path)
    assert ssh_keygen("-F", "c.example", "-f", path, ok=False) == ""


# ---- verdicts


def test_verdicts() -> None:
    text = "\n".join(
        [
            f"host {text_of(ED)}",
            f"[host]:2222 {text_of(EC)}",
            f"@revoked * {text_of(ED2)}",
            f"@cert-authority *.ca {text_of(EC)}",
        ]
    )
    known = KnownHosts.parse(text, "/home/me/.ssh/known_hosts")
    verdict = known.check("host", 22, ED)
    assert (verdict.kind, verdict.entry) == (Kind.KNOWN, known.entries[0])
    assert known.check("HOST", 22, ED).kind is Kind.KNOWN
    assert known.check("host", 2222, EC).kind is Kind.KNOWN
    assert known.check("host", 2200, ED).kind is Kind.UNKNOWN
    assert known.check("other", 22, ED).kind is Kind.UNKNOWN
    # an authority's key is nobody's host key
    assert known.check("x.ca", 22, EC).kind is Kind.UNKNOWN
    assert known.check("host", 22, ED2).kind is Kind.REVOKED
    assert known.check("other", 22, ED2).kind is Kind.REVOKED


def test_another_key_is_a_changed_key_whatever_its_type() -> None:
    dsa = "ssh-dss " + base64.b64encode(b"\0\0\0\7ssh-dss\0\0\0\1\1").decode()
    known = KnownHosts.parse(f"host {dsa}\nhost {text_of(ED)}\n")
    verdict = known.check("host", 22, ED2)
    assert verdict.kind is Kind.CHANGED
    assert verdict.entry is known.entries[1]
    assert verdict.entry.fingerprint == ED.fingerprint()
    verdict = known.check("host", 22, EC)
    assert verdict.kind is Kind.CHANGED
    assert verdict.entries == known.entries
    assert KnownHosts.parse(f"host {dsa}\n").check("host", 22, ED).kind is Kind.CHANGED
    assert known.known_key_types("host") == ("ssh-dss", "ssh-ed25519")
    assert known.known_key_types("other") == ()


@pytest.mark.parametrize("kind", SIGNING_TYPES)
def test_every_type_of_key_is_read_and_called_by_its_name(kind: str) -> None:
    try:
        key = PrivateKey.generate(kind, 2048 if kind == "ssh-rsa" else None).public
    except CryptoError as error:
        pytest.skip(str(error))
    known = KnownHosts.parse(format_entry("host.example", 22, key))
    assert not known.bad_lines
    assert known.check("host.example", 22, key).kind is Kind.KNOWN
    assert known.entries[0].label == key.label


def test_several_files() -> None:
    known = KnownHosts.parse(f"a {text_of(ED)}", "user") + KnownHosts.parse(
        f"\n@x\nb {text_of(ED)}", "system"
    )
    assert [entry.where for entry in known.other_names(ED)] == ["user:1", "system:3"]
    verdict = known.check("b", 22, ED)
    assert verdict.entry is not None
    assert verdict.entry.where == "system:3"
    assert [(bad.source, bad.line) for bad in known.bad_lines] == [("system", 2)]


@pytest.mark.parametrize(
    "line",
    [
        "@what host KEY",
        "@revoked @cert-authority host KEY",
        "@revoked",
        "@revoked host",
        "host",
        "host KEY-CUT",
        "host ssh-ed25519",
        "ho\u00a0st KEY",
        "host\u00a0KEY",
        "ho\x1bst KEY",
        "|1|AAAA|AAAA KEY",
        "|1|x KEY",
        "|2|a|b KEY",
        "|1|B7t/AYabn8zgwU47Cb4A/Nqt3eI=|arQPZyRphkzisr7w6wwikvhaOyE KEY",
        "||| KEY",
        "host ssh-rsa AAAA",
        "\0",
    ],
)
def test_lines_that_are_set_aside(line: str) -> None:
    good = f"host {text_of(ED)}"
    line = line.replace("KEY-CUT", text_of(ED)[:-4]).replace("KEY", text_of(ED))
    known = KnownHosts.parse(f"{line}\n{good}\r\n")
    assert [(bad.line, bool(bad.reason)) for bad in known.bad_lines] == [(1, True)]
    assert [entry.line for entry in known.entries] == [2]


# ---- writing


@pytest.mark.parametrize(
    "host",
    [
        "",
        "a b",
        "a\nb",
        "a\r",
        "a\tb",
        "a,b",
        "*",
        "a?",
        "!a",
        "@revoked",
        "#a",
        "|1|",
        "[a]",
        "a\0",
        "a\u00a0b",
        "\x1b",
        "\u2028",
        "x" * 1026,
    ],
)
def test_host_names_that_are_never_written(host: str) -> None:
    with pytest.raises(UsageError):
        format_entry(host, 22, ED)


def test_written_lines() -> None:
    assert format_entry("Host", 22, ED) == f"host {text_of(ED)}\n"
    assert format_entry("::1", 22, ED, comment="c d") == f"::1 {text_of(ED)} c d\n"
    assert host_name("fe80::1%eth0", 2222) == "[fe80::1%eth0]:2222"
    for port in (0, -1, 65536):
        with pytest.raises(UsageError):
            host_name("a", port)
    for salt in (b"", bytes(19), bytes(21)):
        with pytest.raises(UsageError):
            format_entry("a", 22, ED, hashed=True, salt=salt)
    with pytest.raises(UsageError):
        format_entry("a", 22, ED, comment="c\nd")


# ---- hostile files


def test_ten_megabytes_are_linear() -> None:
    def seconds(text: str) -> float:
        start = time.perf_counter()
        KnownHosts.parse(text).check("a" * 60, 22, ED2)
        return time.perf_counter() - start

    bomb = "*a" * 40 + "*b"
    salt = "|1|B7t/AYabn8zgwU47Cb4A/Nqt3eI=|arQPZyRphkzisr7w6wwikvhaOyE="
    for hosts in ("host.example,192.0.2.1", bomb, salt, "?" * 59 + "*x"):
        line = f"{hosts} {text_of(ED)}\n"
        text = line * (10_000_000 // len(line))
        assert seconds(text) < 30
    assert seconds("host,!" * 1_600_000 + f"x {text_of(ED)}\n") < 30
    assert seconds("A" * 10_000_000) < 30


@given(st.text(max_size=200))
def test_any_text_is_read(text: str) -> None:
    for whole in (text, f"host {text_of(ED)}\n" + text, text + f" {text_of(ED)}"):
        known = KnownHosts.parse(whole)
        known.check("host", 22, ED)
        known.lookup(text[:20], 2222)
    KnownHosts.parse(text.encode("utf-8", "surrogatepass"))


@given(st.text("ab.*?", max_size=12), st.text("ab.", max_size=10))
def test_patterns_are_those_of_regular_expressions(pattern: str, text: str) -> None:
    expression = "".join({"*": ".*", "?": "."}.get(c, re.escape(c)) for c in pattern)
    assert match_pattern(text, pattern) == bool(re.fullmatch(expression, text))
