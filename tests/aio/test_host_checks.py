"""What ssh_config(5) asks for beside the files: certificates, what is revoked, a command, the address."""

from __future__ import annotations

import base64
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from glasshell.aio.doctor import Looking
from glasshell.aio.hostcommand import expand, known_by_command, split
from glasshell.aio.trust import HostChecks, NewHostKey, Trust
from glasshell.config.ssh_config import Facts, load, option
from glasshell.crypto.signatures import PrivateKey, PublicKey
from glasshell.errors import ConfigError, HostKeyRefused
from glasshell.keys.certificate import Certificate, sign_certificate
from glasshell.keys.known_hosts import KnownHosts
from glasshell.keys.public import AnyKey, dump_public_key
from glasshell.policy import Policy
from tests.aio.kit import HOST_KEY, STRANGER, run
from tests.keys.conftest import Keygen, ssh_keygen

__all__ = ["ssh_keygen"]

KEY, OTHER = HOST_KEY.public, STRANGER.public
AUTHORITY = PrivateKey.generate("ssh-ed25519")
ADDRESS = "192.0.2.1"


def line(hosts: str, key: AnyKey, marker: str = "") -> str:
    return f"{marker} {hosts} {dump_public_key(key)}".lstrip()


def certificate(**changes: Any) -> Certificate:
    settings = {
        "kind": "host", "key_id": "a host", "principals": ["host.example"], "serial": 7,
        "valid_after": 1_000_000_000, "valid_before": int(time.time()) + 3600,
    }  # fmt: skip
    return sign_certificate(KEY, AUTHORITY, **{**settings, **changes})


class Case:
    """One verdict: what was warned and asked, the record, and what was written."""

    def __init__(
        self, tmp_path: Path, text: str = "", key: AnyKey = KEY, *, host: str = "host.example",
        port: int = 22, address: str = ADDRESS, answer: bool | None = None,
        checks: dict[str, Any] | None = None, **settings: Any,
    ) -> None:  # fmt: skip
        self.file = tmp_path / "known_hosts"
        self.file.write_text(text)
        self.warnings: list[str] = []
        self.asked: list[NewHostKey] = []
        self.records: dict[str, dict[str, Any]] = {}

        async def ask(new: NewHostKey) -> bool:
            self.asked.append(new)
            return bool(answer)

        settings = {"strict": "yes", "ask": ask if answer is not None else None, **settings}
        self.trust = Trust(
            host, port, known_hosts=self.file, warn=self.warnings.append,
            checks=HostChecks(**(checks or {})), **settings,
        )  # fmt: skip

        async def judged() -> bool | HostKeyRefused:
            await self.trust.prepare(self._state)
            return await self.trust.judge(key, address, self._state)

        self.verdict = run(judged())

    def _state(self, name: str, **facts: Any) -> None:
        self.records[name] = facts

    @property
    def how(self) -> str:
        record = self.records["host_key_verdict"]
        assert record["accepted"] == (self.verdict is True)
        return str(record["how"])

    @property
    def said(self) -> str:
        return "\n".join(self.warnings)


# -- certificates --------------------------------------------------------------------------------


@pytest.mark.parametrize(("hosts", "host", "port"), [
    ("host.example", "host.example", 22), ("*.example", "HOST.example", 22), ("*", "host.example", 22),
    ("[host.example]:2222", "host.example", 2222), ("*", "host.example", 2222),
    ("*.example", "host.example", 2222),  # by its name alone, as OpenSSH does
])  # fmt: skip
def test_a_certificate_of_a_known_authority_is_taken(
    hosts: str, host: str, port: int, tmp_path: Path
) -> None:
    text = "# comment\n" + line(hosts, AUTHORITY.public, "@cert-authority")
    case = Case(tmp_path, text, certificate(), host=host, port=port)
    assert (case.verdict, case.how) == (True, "authority")
    assert case.records["host_key_verdict"]["line"] == 2
    assert case.warnings == []
    assert not case.trust.trusted_by([case.file]), "its keys are not to be learnt"


@pytest.mark.parametrize(("changes", "said"), [
    ({"principals": ["other.example"]}, "Certificate invalid: name is not a listed principal"),
    ({"principals": []}, "Certificate lacks principal list"),
    ({"kind": "user"}, "Certificate invalid: not a host certificate"),
    ({"valid_before": int(time.time()) - 1}, "Certificate invalid: expired"),
    ({"valid_after": int(time.time()) + 3600, "valid_before": int(time.time()) + 7200},
     "Certificate invalid: not yet valid"),
    ({"critical": {"force-command": "x"}}, "Certificate contains unsupported critical options"),
])  # fmt: skip
def test_d2_a_bad_certificate_leaves_its_key_to_be_judged(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    """curl CVE-2025-10966's class: what fails in one check must not skip the others."""
    trusted = line("*", AUTHORITY.public, "@cert-authority")
    bad = certificate(**changes)
    refused = Case(tmp_path, trusted, bad)
    assert isinstance(refused.verdict, HostKeyRefused)
    assert said in str(refused.verdict)
    assert said in refused.warnings
    assert refused.records["host_key_verdict"]["objection"] == said
    assert Case(tmp_path, trusted + line("host.example", KEY), bad).how == "known"
    assert Case(tmp_path, trusted + line("host.example", OTHER), bad).how == "changed"


@pytest.mark.parametrize("text", [
    "", line("host.example", AUTHORITY.public), line("other.example", AUTHORITY.public, "@cert-authority"),
    line("*", OTHER, "@cert-authority"), line("*,!host.example", AUTHORITY.public, "@cert-authority"),
])  # fmt: skip
def test_an_authority_counts_where_a_line_says_so(text: str, tmp_path: Path) -> None:
    assert isinstance(Case(tmp_path, text, certificate()).verdict, HostKeyRefused)


def test_an_authority_is_no_host_key(tmp_path: Path) -> None:
    text = line("*", KEY, "@cert-authority")
    assert Case(tmp_path, text, KEY).how == "unknown"


@pytest.mark.parametrize("revoked", [KEY, AUTHORITY.public])
@pytest.mark.parametrize("strict", ["yes", "no", "accept-new"])
def test_a_revoked_key_or_authority_is_refused(revoked: PublicKey, strict: str, tmp_path: Path) -> None:
    text = line("*", AUTHORITY.public, "@cert-authority") + line("host.example", KEY)
    case = Case(tmp_path, text + line("*", revoked, "@revoked"), certificate(), strict=strict)
    assert isinstance(case.verdict, HostKeyRefused)
    assert case.how == "revoked"
    assert "REVOKED HOST KEY DETECTED" in case.said


def test_an_alias_is_the_name_in_the_certificate_as_well(tmp_path: Path) -> None:
    text = line("alias", AUTHORITY.public, "@cert-authority")
    shown = certificate(principals=["alias"])
    assert Case(tmp_path, text, shown, alias="alias", port=2222).how == "authority"
    assert Case(tmp_path, text, certificate(), alias="alias").how == "unknown"


def test_algorithms_of_authorities_can_be_limited(tmp_path: Path) -> None:
    text = line("*", AUTHORITY.public, "@cert-authority")
    case = Case(tmp_path, text, certificate(), checks={"authority_algorithms": ("rsa-sha2-512",)})
    assert case.how == "unknown"
    assert "disallowed algorithm" in case.said


def test_what_is_known_comes_first_in_the_order() -> None:
    names = Policy.client().host_key_algorithms
    plain = Trust("host.example", known_hosts=KnownHosts.parse(line("host.example", KEY)))
    assert set(plain.order(names)[:2]) == {"ssh-ed25519-cert-v01@openssh.com", "ssh-ed25519"}
    assert plain.leads("ssh-ed25519", 2048)
    assert not plain.leads("rsa-sha2-512", 2048)
    text = line("*.example", AUTHORITY.public, "@cert-authority")
    for port in (22, 2222):
        order = Trust("host.example", port, known_hosts=KnownHosts.parse(text)).order(names)
        certified = [name.endswith("-cert-v01@openssh.com") for name in order]
        assert certified == sorted(certified, reverse=True)
        assert sorted(order) == sorted(names)
    assert not Trust("host.example", known_hosts=KnownHosts.parse(text)).leads("ssh-ed25519", 2048)
    assert Trust("host.example", known_hosts=KnownHosts.parse(text)).leads(
        "ssh-ed25519-cert-v01@openssh.com", 2048
    )


# -- another port --------------------------------------------------------------------------------


def test_a_host_is_known_on_another_port_by_its_name_alone(tmp_path: Path) -> None:
    case = Case(tmp_path, line("host.example", KEY), port=2222)
    assert (case.verdict, case.how) == (True, "by-host")
    assert not case.trust.trusted_by([case.file])
    assert Case(tmp_path, line("host.example", OTHER), port=2222).how == "unknown"
    both = line("host.example", KEY) + line("[host.example]:2222", OTHER)
    assert Case(tmp_path, both, port=2222).how == "changed"
    assert (
        Case(tmp_path, line("host.example", KEY, "@revoked"), port=2222, strict="accept-new").how == "revoked"
    )
    assert Case(tmp_path, line("[host.example]:2222", KEY)).how == "unknown"


# -- RevokedHostKeys -----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["text", "krl"])
def test_revoked_host_keys(form: str, tmp_path: Path, ssh_keygen: Keygen) -> None:
    revoked = tmp_path / "revoked"
    revoked.write_text(dump_public_key(KEY))
    if form == "krl":
        (tmp_path / "key.pub").write_text(dump_public_key(KEY))
        ssh_keygen("-k", "-f", revoked, tmp_path / "key.pub")
    known = line("host.example", KEY) + line("*", AUTHORITY.public, "@cert-authority")
    for shown in (KEY, certificate()):
        case = Case(tmp_path, known, shown, checks={"revoked": (str(revoked),)}, strict="no")
        assert isinstance(case.verdict, HostKeyRefused)
        assert case.how == "revoked"
        assert f"revoked by file {revoked}" in str(case.verdict)
    other = Case(tmp_path, line("host.example", OTHER), OTHER, checks={"revoked": (str(revoked),)})
    assert other.verdict is True


def test_revoked_host_keys_that_cannot_be_read_revoke_all(tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_text("no key at all\n")
    for path in (tmp_path / "none", bad, tmp_path):
        case = Case(tmp_path, line("host.example", KEY), checks={"revoked": (str(path),)})
        assert isinstance(case.verdict, HostKeyRefused), path
        assert case.how == "failed"
        assert f"in revoked keys file {path}" in str(case.verdict)


# -- KnownHostsCommand ---------------------------------------------------------------------------


def program(tmp_path: Path, code: str) -> str:
    file = tmp_path / "program.py"
    file.write_text(code)
    return f'{sys.executable} "{file}"'


def test_a_command_says_which_keys_are_known(tmp_path: Path) -> None:
    told = tmp_path / "told"
    code = f"import sys; open({str(told)!r}, 'a').write('|'.join(sys.argv[1:]) + '\\n')\n"
    code += f"print({line('[host.example]:2222', KEY)!r})"
    command = program(tmp_path, code) + " %I \"%H\" %t %f %K %r;x %% '${GLASSHELL_TEST}'"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GLASSHELL_TEST", "$(a b)")
        case = Case(tmp_path, "", port=2222, checks={"command": command, "tokens": {"r": "ada"}})
    assert (case.verdict, case.how) == (True, "known")
    assert case.records["host_key_verdict"]["file"] == "KnownHostsCommand-HOSTNAME"
    assert not case.trust.trusted_by([case.file])
    blob = base64.b64encode(KEY.blob).decode()
    assert told.read_text().splitlines() == [
        "ORDER|[host.example]:2222|NONE|NONE|NONE|ada;x|%|$(a b)",
        f"HOSTNAME|[host.example]:2222|ssh-ed25519|{KEY.fingerprint()}|{blob}|ada;x|%|$(a b)",
    ]
    assert case.file.read_text() == ""


def test_a_command_comes_after_the_files_and_may_revoke(tmp_path: Path) -> None:
    command = program(tmp_path, f"print({line('*', KEY, '@revoked')!r})")
    assert Case(tmp_path, line("host.example", KEY), checks={"command": command}).how == "revoked"
    command = program(tmp_path, f"print({line('*', AUTHORITY.public, '@cert-authority')!r})")
    assert Case(tmp_path, "", certificate(), checks={"command": command}).how == "authority"
    command = program(tmp_path, f"print({line('other.example', KEY)!r}); print('bad line')")
    assert Case(tmp_path, "", checks={"command": command}).how == "unknown"


@pytest.mark.parametrize("code", [
    "raise SystemExit(1)", "import os; os.kill(os.getpid(), 9)", "print('x' * 3_000_000)",
    "import sys; print(KNOWN); sys.exit(1)",
])  # fmt: skip
def test_d1_a_command_that_fails_trusts_nobody(code: str, tmp_path: Path) -> None:
    known = line("host.example", KEY)
    command = program(tmp_path, f"KNOWN = {known!r}\n{code}")
    with pytest.raises(HostKeyRefused, match="KnownHostsCommand failed"):
        Case(tmp_path, known, checks={"command": command}, strict="no")


@pytest.mark.parametrize("command", ["/nonexistent/program", "relative", '/bin/echo "open', "/bin/echo %x",
                                     "/bin/echo ${GLASSHELL_NOT_SET}", "  "])  # fmt: skip
def test_d1_a_command_that_cannot_be_run_trusts_nobody(command: str, tmp_path: Path) -> None:
    with pytest.raises((HostKeyRefused, ConfigError)):
        Case(tmp_path, line("host.example", KEY), checks={"command": command}, strict="no")


@pytest.mark.parametrize("then", ["wait", "exit"])
def test_a_command_that_hangs_is_ended_with_its_children(then: str, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    command = f"/bin/sh -c 'sleep 1000 & echo $! > {pid}; {then}'"
    with pytest.raises(HostKeyRefused, match=r"more than 0\.5 seconds"):
        run(known_by_command(command, "ORDER", {}, seconds=0.5))
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", pid.read_text().strip()], capture_output=True, text=True
    )
    assert state.stdout.strip()[:1] in ("", "Z")


def test_words_of_a_command() -> None:
    assert split(r"""/a  b\ c "d e" 'f"g' \"h \x "i\ j" '' k""") == [
        "/a", "b c", "d e", 'f"g', '"h', r"\x", r"i\ j", "", "k",
    ]  # fmt: skip
    assert expand("%%H%H", {"H": "%r"}, {}) == "%H%r"


# -- the address, and others ---------------------------------------------------------------------

IP = {"address": True}


def test_an_address_is_learnt_with_the_host(tmp_path: Path) -> None:
    case = Case(tmp_path, "", strict="accept-new", checks=IP)
    assert case.file.read_text() == line(f"host.example,{ADDRESS}", KEY)
    assert f"Permanently added 'host.example,{ADDRESS}' (ED25519)" in case.said
    case = Case(tmp_path, "", strict="accept-new", checks=IP, port=2222)
    assert case.file.read_text() == line(f"[host.example]:2222,[{ADDRESS}]:2222", KEY)
    case = Case(tmp_path, "", strict="accept-new", checks=IP, hashed=True)
    assert len(case.file.read_text().splitlines()) == 2
    known = KnownHosts.parse(case.file.read_text())
    assert [len(known.lookup(name)) for name in ("host.example", ADDRESS)] == [1, 1]


def test_the_address_of_a_known_host_is_learnt(tmp_path: Path) -> None:
    case = Case(tmp_path, line("host.example", KEY), checks=IP)
    assert (case.verdict, case.how) == (True, "known")
    assert case.file.read_text() == line("host.example", KEY) + line(ADDRESS, KEY)
    assert case.said == (
        f"Warning: Permanently added the ED25519 host key for IP address '{ADDRESS}' to the list of known"
        " hosts."
    )


@pytest.mark.parametrize(("strict", "answer", "good"), [
    ("yes", None, False), ("accept-new", None, False), ("no", None, True), ("ask", True, True),
    ("ask", False, False), ("ask", None, False),
])  # fmt: skip
def test_an_address_with_another_key(strict: str, answer: bool | None, good: bool, tmp_path: Path) -> None:
    text = line("host.example", KEY) + line(ADDRESS, OTHER)
    case = Case(tmp_path, text, checks=IP, strict=strict, answer=answer)
    assert (case.verdict is True) == good
    file = case.file
    said = (
        f"Warning: the ED25519 host key for 'host.example' differs from the key for the IP address"
        f" '{ADDRESS}'\n"
        f"Offending key for IP in {file}:2\nMatching host key in {file}:1"
    )
    assert said == (case.asked[0].text if case.asked else case.warnings[0])
    if case.asked:
        assert case.asked[0].question == "Are you sure you want to continue connecting (yes/no)? "


def test_spoofing_is_told_apart_from_a_new_key(tmp_path: Path) -> None:
    text = line("host.example", OTHER)
    assert "is unknown. This could either mean" in Case(tmp_path, text, checks=IP).said
    known = Case(tmp_path, text + line(ADDRESS, KEY), checks=IP)
    assert "POSSIBLE DNS SPOOFING DETECTED" in known.said
    assert "is unchanged. This could either mean that\nDNS SPOOFING" in known.said
    assert f"Offending key for IP in {known.file}:2" in known.said
    assert "SPOOFING" not in Case(tmp_path, line(f"host.example,{ADDRESS}", OTHER), checks=IP).said


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", ""])
def test_no_address_is_looked_at_where_it_says_nothing(address: str, tmp_path: Path) -> None:
    text = line("host.example", KEY) + (line(address, OTHER) if address else "")
    case = Case(tmp_path, text, checks=IP, address=address)
    assert case.verdict is True
    assert case.file.read_text() == text


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1"])
def test_localhost_may_be_anybody_where_that_was_said(address: str, tmp_path: Path) -> None:
    text = line("host.example", OTHER)
    local = {"any_localhost": True}
    assert Case(tmp_path, text, checks=local, address=address).how == "localhost"
    assert Case(tmp_path, text, checks=local, address=ADDRESS).how == "changed"
    assert Case(tmp_path, text, checks=local, address=address, alias="host.example").how == "changed"
    assert Case(tmp_path, text, address=address).how == "changed"


def test_the_picture_is_ssh_keygen_s(tmp_path: Path, ssh_keygen: Keygen) -> None:
    public = tmp_path / "key.pub"
    public.write_text(dump_public_key(KEY))
    drawn = "\n".join(ssh_keygen("-lv", "-f", public).splitlines()[1:])
    known = Case(tmp_path, line("host.example", KEY), checks={"picture": True})
    assert known.warnings == [f"Host key fingerprint is: {KEY.fingerprint()}\n{drawn}"]
    new = Case(tmp_path, "", strict="ask", answer=True, checks={"picture": True})
    assert drawn in new.asked[0].text
    assert Case(tmp_path, "", strict="ask", answer=True).asked[0].picture == ""


def test_many_other_names_are_counted(tmp_path: Path) -> None:
    text = "".join(line(f"other{i}.example", KEY) for i in range(11))
    shown = Case(tmp_path, text, strict="ask", answer=False).asked[0].text.splitlines()
    assert shown[2] == "This host key is known by the following other names/addresses:"
    assert len(shown) == 12
    assert shown[-1] == "    (3 additional names omitted)"


def test_a_command_is_asked_about_the_address_as_well(tmp_path: Path) -> None:
    log = tmp_path / "log"
    known = line("host.example", KEY) + line(ADDRESS, OTHER)
    code = f"import sys; open({str(log)!r}, 'a').write(sys.argv[1] + '\\n'); print({known!r})"
    command = program(tmp_path, code)
    case = Case(tmp_path, "", checks={**IP, "command": f"{command} '%I %H'"}, strict="no")
    asked = log.read_text().splitlines()
    assert asked == ["ORDER host.example", "HOSTNAME host.example", f"ADDRESS {ADDRESS}"]
    assert case.verdict is True
    assert "Offending key for IP in KnownHostsCommand-ADDRESS:2" in case.said
    assert case.file.read_text() == ""


def test_the_doctor_writes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    said = [option("UserKnownHostsFile", str(file)), option("CheckHostIP", "yes")]
    facts = Facts(home=str(tmp_path), user="ada", read=lambda path: None)
    options = load("host.example", facts, command_line=said, file="none")
    text = line("host.example", KEY)
    file.write_text(text)
    looking = Looking(options)
    assert run(looking.judge(KEY, ADDRESS, lambda name, **facts: None)) is True
    assert file.read_text() == text
