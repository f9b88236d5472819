"""Fingerprints in DNS: records that ssh-keygen makes, served on loopback, and what is believed of them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.aio import sshfp
from glasshell.aio.sshfp import Answer, look_up, trusts_resolver
from glasshell.aio.trust import HostChecks, NewHostKey, Trust
from glasshell.crypto.signatures import PrivateKey, PublicKey
from glasshell.errors import ConfigError, HostKeyRefused
from glasshell.keys.known_hosts import KnownHosts
from glasshell.keys.public import dump_public_key
from glasshell.keys.sshfp import Fingerprint, fingerprints, matches
from tests.aio.kit import HOST_KEY, STRANGER, run
from tests.interop.nameserver import NameServer
from tests.keys.conftest import Keygen, ssh_keygen

__all__ = ["ssh_keygen"]

KEY, OTHER = HOST_KEY.public, STRANGER.public
ADDRESS = "host.example IN A 192.0.2.1\n"


@pytest.fixture(scope="module")
def records(ssh_keygen: Keygen, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `ssh-keygen -r` prints for KEY."""
    public = tmp_path_factory.mktemp("sshfp") / "key.pub"
    public.write_text(dump_public_key(KEY))
    return ssh_keygen("-r", "host.example", "-f", public)


def ask(
    server: NameServer, tmp_path: Path, host: str = "host.example", *, options: str = "trust-ad",
    seconds: float = 10,
) -> Answer:  # fmt: skip
    conf = tmp_path / "resolv.conf"
    conf.write_text(f"nameserver 127.0.0.1\nsearch elsewhere.example\noptions {options} timeout:1\n")
    return run(look_up(host, resolv_conf=str(conf), port=server.port, seconds=seconds))


@pytest.mark.parametrize("kind", ["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp521"])
def test_records_are_those_of_ssh_keygen(kind: str, ssh_keygen: Keygen, tmp_path: Path) -> None:
    key = PrivateKey.generate(kind, 2048 if kind == "ssh-rsa" else None).public
    (tmp_path / "key.pub").write_text(dump_public_key(key))
    shown = ssh_keygen("-r", "h", "-f", tmp_path / "key.pub").splitlines()
    ours = fingerprints(key)
    assert shown == [f"h IN SSHFP {each.algorithm} {each.hash} {each.digest.hex()}" for each in ours]
    assert len(shown) == 2


def test_what_matches() -> None:
    sha1, sha256 = fingerprints(KEY)
    wrong1, wrong256 = fingerprints(OTHER)
    rsa = Fingerprint(1, 2, bytes(32))
    for good in ([sha1, sha256], [sha256], [sha1], [rsa, sha256], [Fingerprint(4, 9, b"x"), sha256]):
        assert matches(KEY, good), good
    cut, strange = Fingerprint(4, 2, sha256.digest[:-1]), Fingerprint(4, 9, b"x")
    for bad in ([], [rsa], [wrong256], [sha256, wrong256], [sha1, wrong256], [wrong1], [strange], [cut],
                [Fingerprint(1, 2, sha256.digest)]):  # fmt: skip
        assert not matches(KEY, bad), bad


@given(st.lists(st.builds(Fingerprint, st.integers(0, 255), st.integers(0, 255), st.binary(max_size=40))))
def test_no_records_of_others_match(found: list[Fingerprint]) -> None:
    assert not matches(KEY, found)


def test_an_answer_is_secure_where_the_resolver_is_trusted(records: str, tmp_path: Path) -> None:
    zone = ADDRESS + records
    with NameServer(zone) as server:
        answer = ask(server, tmp_path)
        assert (matches(KEY, answer.records), answer.secure, answer.problem) == (True, True, "")
        assert server.asked == ["host.example SSHFP"]
        assert not ask(server, tmp_path, options="edns0").secure
    with NameServer(zone, validated=False) as server:
        assert not ask(server, tmp_path).secure


@pytest.mark.parametrize(("text", "environment", "trusted"), [
    ("options trust-ad", "", True), ("options edns0 trust-ad\n", "", True), ("", "trust-ad", True),
    ("options edns0\noptions trust-ad", "", True), ("", "", False), ("# options trust-ad", "", False),
    ("search trust-ad", "", False), ("options no-trust-ad", "edns0", False),
])  # fmt: skip
def test_whether_a_resolver_is_trusted(text: str, environment: str, trusted: bool) -> None:
    assert trusts_resolver(text, environment) == trusted


def test_what_goes_wrong_is_no_answer(records: str, tmp_path: Path) -> None:
    zone = ADDRESS + records
    with NameServer(zone) as server:
        assert ask(server, tmp_path, "nobody.example").problem == "DNS lookup error: name does not exist"
        assert "numerical" in ask(server, tmp_path, "192.0.2.1").problem
        assert "numerical" in ask(server, tmp_path, "2001:db8::1").problem
        assert "nobody.example SSHFP" in server.asked
        assert not any("elsewhere" in name for name in server.asked), "no search list leads to another host"
    with NameServer(ADDRESS) as server:
        assert ask(server, tmp_path).problem == "DNS lookup error: data does not exist"
    for garble in (lambda data: data[:20], lambda data: b"\xff" * len(data), lambda data: data[:2]):
        with NameServer(zone, garble=garble) as server:
            answer = ask(server, tmp_path, seconds=0.3)
            assert answer.problem.startswith("DNS lookup error")
            assert not answer.records
    with NameServer(zone, silent=True) as server:
        assert ask(server, tmp_path, seconds=0.3).problem.startswith("DNS lookup error")


def test_an_answer_for_another_host_is_none(tmp_path: Path) -> None:
    """An alias leads on, as with any look-up; records of a name that nobody asked for do not."""
    other = fingerprints(KEY)[1]
    with NameServer(f"other.example IN SSHFP 4 2 {other.digest.hex()}\n{ADDRESS}") as server:
        assert not ask(server, tmp_path).records


# -- what becomes of it --------------------------------------------------------------------------


class Case:
    """One verdict with VerifyHostKeyDNS, DNS answering `answer`."""

    def __init__(
        self, mode: Any, answer: Answer | Exception, *, known: str = "", key: PublicKey = KEY,
        person: bool | None = None, strict: Any = "yes",
    ) -> None:  # fmt: skip
        self.warnings: list[str] = []
        self.asked: list[NewHostKey] = []
        self.records: dict[str, dict[str, Any]] = {}
        self.looked: list[str] = []

        async def look(host: str) -> Answer:
            self.looked.append(host)
            if isinstance(answer, Exception):
                raise answer
            return answer

        async def ask(new: NewHostKey) -> bool:
            self.asked.append(new)
            return bool(person)

        trust = Trust(
            "host.example", known_hosts=KnownHosts.parse(known), strict=strict, warn=self.warnings.append,
            ask=ask if person is not None else None, checks=HostChecks(dns=mode),
        )  # fmt: skip
        self.trust = trust
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sshfp, "look_up", look)
            self.verdict = run(trust.judge(key, "192.0.2.1", self._state))
        self.how = self.records.get("host_key_verdict", {}).get("how")

    def _state(self, name: str, **facts: Any) -> None:
        self.records[name] = facts


GOOD = Answer(fingerprints(KEY), secure=True)
LINE = f"host.example {dump_public_key(KEY)}"


def test_a_secure_match_is_enough_where_yes_was_said() -> None:
    case = Case("yes", GOOD)
    assert (case.verdict, case.how, case.looked) == (True, "dns", ["host.example"])
    assert not case.trust.trusted_by([Path("known_hosts")])
    assert Case("ask", GOOD).how == "unknown"
    assert Case("yes", Answer(GOOD.records)).how == "unknown"


@pytest.mark.parametrize(("answer", "found"), [
    (Answer(GOOD.records), "Matching"), (GOOD, "Matching"), (Answer(problem="none"), "No matching"),
    (Answer(fingerprints(OTHER), secure=True), "No matching"),
])  # fmt: skip
def test_the_person_is_told_what_dns_says(answer: Answer, found: str) -> None:
    case = Case("ask", answer, person=True, strict="ask")
    assert case.verdict is True
    assert f"\n{found} host key fingerprint found in DNS.\n" in case.asked[0].text
    assert "DNS" not in Case("no", answer, person=True, strict="ask").asked[0].text


def test_a_mismatch_is_told_and_known_hosts_decides() -> None:
    wrong = Answer(fingerprints(OTHER), secure=True)
    for mode in ("yes", "ask"):
        case = Case(mode, wrong)
        assert isinstance(case.verdict, HostKeyRefused)
        remedy = "Update the SSHFP RR in DNS with the new host key to get rid of this message."
        assert case.warnings[0].endswith(remedy)
        assert "HAS CHANGED" in case.warnings[0]
    assert Case("yes", wrong, known=LINE).how == "known"
    assert Case("yes", wrong, strict="accept-new").how == "added"


def test_revoked_counts_before_dns(tmp_path: Path) -> None:
    revoked = tmp_path / "revoked"
    revoked.write_text(dump_public_key(KEY))
    trust = Trust("host.example", known_hosts=None, checks=HostChecks(dns="yes", revoked=(str(revoked),)))
    assert isinstance(run(trust.judge(KEY, "192.0.2.1", lambda name, **facts: None)), HostKeyRefused)


def test_nobody_asks_dns_unasked() -> None:
    assert Case("no", GOOD).looked == []


def test_dns_without_its_library_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dns.asyncresolver", None)
    trust = Trust("host.example", known_hosts=None, checks=HostChecks(dns="yes"))
    with pytest.raises(ConfigError, match="dnspython") as caught:
        run(trust.prepare())
    assert caught.value.hint == "pip install glasshell[dns]"
