"""Certificates and security keys against the server's core. See docs/attacks.md."""

from __future__ import annotations

import time
from typing import Any

import pytest

from glasshell.auth import server as server_auth
from glasshell.crypto.signatures import PrivateKey, plain_algorithm
from glasshell.errors import HostKeyRefused, ProtocolViolation
from glasshell.events import (
    Authenticated,
    CredentialNeeded,
    HostKeyOffered,
    HostKeySignatureNeeded,
    KeyMethod,
    KeyOffered,
    NoneMethod,
    SignatureNeeded,
    Verdict,
)
from glasshell.keys.certificate import Certificate, sign_certificate
from glasshell.keys.public import AnyKey
from glasshell.policy import Policy
from glasshell.testing.pair import Pair
from tests.certs import (
    CA,
    PLAIN,
    RSA_CA,
    RSA_USER,
    STRANGER,
    TABLE,
    USER,
    Case,
    Offered,
    blob_of,
    build,
    judge,
    signature,
)
from tests.fido import ECDSA, ED25519, TOUCHED, VERIFIED, WEBAUTHN, Token

HOST = PrivateKey.generate("ssh-ed25519")
YES = Verdict(True)


def login(
    key: Any, sign: Any, answer: Any, *, server: dict[str, Any] | None = None, probe: bool = True,
    then: Any = None,
) -> Pair:  # fmt: skip
    """One login by `key`, then by `then`, each signed by `sign(question)`, at a server that answers
    `answer(question)`."""
    keys = [key] if then is None else [key, then]

    def credential(question: CredentialNeeded) -> Any:
        if question.methods is None:
            return NoneMethod()
        tried = [attempt for attempt in question.attempts if attempt.method == "publickey"]
        return KeyMethod(keys[len(tried)], probe=probe) if len(tried) < len(keys) else None

    client = Policy.client()
    names = [name for each in keys for name in each.algorithms]
    made = Pair(
        client.but(pubkey_algorithms=tuple(dict.fromkeys((*names, *client.pubkey_algorithms)))),
        Policy.server(**(server or {})), host_keys=[HOST],
        answers={CredentialNeeded: credential, SignatureNeeded: sign, KeyOffered: answer},
    )  # fmt: skip
    # An attacker does not care for what the server says it takes.
    made.run(lambda: made.client.transport.extensions)
    made.client.transport.extensions.clear()
    made.run()
    assert sum(p.sender == "client" and p.number == 50 for p in made.sent) >= 2
    return made


def is_in(made: Pair) -> bool:
    return bool(made.told("server", Authenticated))


# ---- K3: what a certificate says, held


@pytest.mark.parametrize("probe", [True, False], ids=["asked", "signed"])
@pytest.mark.parametrize("case", TABLE, ids=str)
def test_k3_certificate_restrictions(case: Case, probe: bool) -> None:
    offered = Offered(blob_of(case, "ada"), case.algorithm)
    made = login(
        offered, lambda q: signature(case, q.data), lambda q: judge(q, time.time()), probe=probe
    )  # fmt: skip
    assert is_in(made) is case.good


def test_k3_the_table_has_forty_cases_and_more() -> None:
    assert len({case.name for case in TABLE}) == len(TABLE) >= 40
    assert all(case.why for case in TABLE if case.sshd is not None)


@pytest.mark.parametrize(("allowed", "good"), [(("rsa-sha2-512",), True), (("ssh-ed25519",), False)])
def test_k3_signature_algorithms_of_authorities(allowed: tuple[str, ...], good: bool) -> None:
    offered = Offered(build(b"ada", signer=RSA_CA), PLAIN)
    made = login(
        offered, lambda q: USER.sign("ssh-ed25519", q.data), lambda q: judge(q, time.time()),
        server={"ca_signature_algorithms": allowed},
    )  # fmt: skip
    assert is_in(made) is good
    assert bool(made.told("server", KeyOffered)) is good


@pytest.mark.parametrize("verdict", [YES, Verdict(True, touch_required=False)])
def test_k3_verify_required_holds_whatever_the_verdict_says(verdict: Verdict) -> None:
    token = Token(ED25519)
    blob = build(b"ada", key=token.public, critical=b"\0\0\0\x0fverify-required\0\0\0\0")
    offered = Certificate.from_blob(blob)
    assert not is_in(login(offered, lambda q: token.sign(q.data), lambda q: verdict))
    both = TOUCHED | VERIFIED
    assert is_in(login(offered, lambda q: token.sign(q.data, flags=both), lambda q: verdict))


# ---- K4: Go CVE-2026-39831


@pytest.mark.parametrize("kind", [ED25519, ECDSA])
@pytest.mark.parametrize(
    ("verdict", "flags", "good"),
    [
        (YES, TOUCHED, True), (YES, 0, False), (YES, VERIFIED, False),
        (Verdict(True, touch_required=False), 0, True),
        (Verdict(True, verify_required=True), TOUCHED, False),
        (Verdict(True, verify_required=True), VERIFIED, False),
        (Verdict(True, verify_required=True), TOUCHED | VERIFIED, True),
        (Verdict(True, touch_required=False, verify_required=True), VERIFIED, True),
        (Verdict(False, touch_required=False), TOUCHED, False),
    ],
    ids=range(9),
)  # fmt: skip
def test_k4_go_cve_2026_39831_touch(kind: str, verdict: Verdict, flags: int, good: bool) -> None:
    token = Token(kind)
    assert is_in(login(token.public, lambda q: token.sign(q.data, flags=flags), lambda q: verdict)) is good


@pytest.mark.parametrize("kind", [ED25519, ECDSA])
def test_k4_go_cve_2026_39831_application(kind: str) -> None:
    token = Token(kind)
    wrong = login(token.public, lambda q: token.sign(q.data, application="ssh:x"), lambda q: YES)
    assert not is_in(wrong)


@pytest.mark.parametrize("flags", [TOUCHED, 0])
def test_k4_go_cve_2026_39831_touch_in_a_browser(flags: int) -> None:
    token = Token(ECDSA)
    offered = Offered(token.blob, WEBAUTHN)
    offered.type, offered.plain = ECDSA, token.public
    made = login(offered, lambda q: token.sign_in_browser(q.data, flags=flags), lambda q: YES)
    assert is_in(made) is bool(flags)


# ---- K1: Go CVE-2024-45337, russh 0.61.2


def test_k1_go_cve_2024_45337_certificate_asked_about_plain_key_signed() -> None:
    """The query is granted, the signature comes by a key that is not: the verdict on the query is no use."""
    certificate = Certificate.from_blob(build(b"ada"))
    asked: list[AnyKey] = []

    def answer(question: KeyOffered) -> Verdict:
        asked.append(question.key)
        return judge(question, time.time())

    made = login(
        certificate, lambda q: STRANGER.sign("ssh-ed25519", q.data), answer, then=STRANGER.public, probe=True
    )  # fmt: skip
    assert not is_in(made)
    assert asked == [certificate, certificate, STRANGER.public]
    by_plain = login(USER.public, lambda q: USER.sign("ssh-ed25519", q.data), lambda q: judge(q, time.time()))
    assert not is_in(by_plain)


def test_k1_the_identity_is_the_key_that_signed() -> None:
    """Two certificates of one key: what is granted is that of the one in the signed request."""
    narrow = Certificate.from_blob(build(b"ada", serial=1, extensions=b""))
    wide = Certificate.from_blob(build(b"ada", serial=2))

    def answer(question: KeyOffered) -> Verdict:
        assert isinstance(question.key, Certificate)
        return Verdict(question.key == narrow, grant=question.key.serial)

    made = login(wide, lambda q: USER.sign("ssh-ed25519", q.data), answer, then=narrow)
    assert made.told("server", Authenticated)[0].grants == (1,)


# ---- K2: hostile blobs


def nested(depth: int) -> bytes:
    inner = build(b"ada")
    for _ in range(depth):
        inner = build(b"ada", authority=inner)
    return inner


@pytest.mark.parametrize(
    "blob",
    [
        nested(500),
        build(b"ada", principals=bytes(4) * 60_000),
        build(b"ada", extensions=bytes(8) * 30_000),
        build(b"ada", key_id=b"x" * 200_000)[:-1],
    ],
    ids=["go_90f76b8_nested", "names", "extensions", "cut"],
)
def test_k2_hostile_certificates(blob: bytes) -> None:
    asked: list[KeyOffered] = []
    began = time.process_time()
    made = login(Offered(blob, PLAIN), lambda q: USER.sign("ssh-ed25519", q.data), asked.append)
    assert time.process_time() - began < 1
    assert not is_in(made)
    assert not asked


def test_k2_every_cut_fails_that_attempt_alone() -> None:
    whole = build(b"ada")
    for length in range(30, len(whole), 7):
        made = login(
            Offered(whole[:length], PLAIN), lambda q: USER.sign("ssh-ed25519", q.data), lambda q: YES,
            then=USER.public, probe=False,
        )  # fmt: skip
        assert is_in(made)


@pytest.mark.parametrize("named", [PLAIN, "ssh-ed25519"])
def test_k2_what_is_not_allowed_is_refused_before_it_is_parsed(
    named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[bytes] = []
    monkeypatch.setattr(server_auth, "read_key", lambda blob, **_: parsed.append(blob))
    made = login(
        Offered(build(b"ada"), named), lambda q: USER.sign("ssh-ed25519", q.data), lambda q: YES,
        server={"pubkey_algorithms": ("ssh-ed25519", "rsa-sha2-512")},
    )  # fmt: skip
    assert not is_in(made)
    assert not parsed


# ---- K5: host certificates


def host_certificate(key: PrivateKey = HOST, **changes: Any) -> Certificate:
    told: dict[str, Any] = {"kind": "host", "key_id": "host", "principals": ["host"]}
    return sign_certificate(key.public, CA, **{**told, **changes})


def shown(certificate: AnyKey, key: PrivateKey = HOST, **more: Any) -> tuple[Pair, list[HostKeyOffered]]:
    """A client that wants a certificate, at a server that has `certificate` of `key`; what it was asked."""
    asked: list[HostKeyOffered] = []

    def trust(question: HostKeyOffered) -> bool:
        asked.append(question)
        return True

    made = Pair(
        Policy.client(host_key_algorithms=(*certificate.algorithms, "ssh-ed25519", "rsa-sha2-512")),
        host_keys=[key], certificates=[certificate], answers={HostKeyOffered: trust}, **more,
    )  # fmt: skip
    made.run()
    return made, asked


@pytest.mark.parametrize("kind", ["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp384"])
def test_a_host_shows_its_certificate(kind: str) -> None:
    key = PrivateKey.generate(kind, 2048 if kind == "ssh-rsa" else None)
    certificate = host_certificate(key)
    server = Policy.server(host_key_algorithms=(*certificate.algorithms, *key.public.algorithms))
    made, asked = shown(certificate, key, server=server)
    assert is_in(made)
    assert [question.key for question in asked] == [certificate]
    assert made.client.host_key == made.server.host_key == certificate
    assert asked[0].algorithm in certificate.algorithms
    (needed,) = made.told("server", HostKeySignatureNeeded)
    assert (needed.key, needed.algorithm) == (key.public, plain_algorithm(asked[0].algorithm))


def test_a_certificate_is_shown_to_who_asks_for_one() -> None:
    made = Pair(host_keys=[HOST], certificates=[host_certificate()])
    made.run()
    assert made.client.host_key == HOST.public


@pytest.mark.parametrize(
    "blob",
    [
        build(b"host", kind=2, key=HOST.public, spoil=True),
        build(b"host", kind=2, key=HOST.public, authority=build(b"host"), signer=STRANGER),
        build(b"host", kind=2, key=STRANGER.public),  # whose key has not signed the exchange
        build(b"host", kind=2, key=RSA_USER.public),  # of another type than agreed on
        HOST.public.blob,
    ],
    ids=["spoiled", "nested", "another_key", "another_type", "plain"],
)  # fmt: skip
def test_k5_a_false_host_certificate_ends_the_connection(blob: bytes) -> None:
    offered = Offered(blob, PLAIN)
    offered.plain = HOST.public
    offered.verify = lambda *_, **__: True  # type: ignore[attr-defined]
    made, asked = shown(offered)  # type: ignore[arg-type]
    assert isinstance(made.error("client"), HostKeyRefused | ProtocolViolation)
    assert not asked


def test_k5_another_certificate_in_a_later_exchange_is_another_host_key() -> None:
    first, second = host_certificate(), host_certificate()
    made, _ = shown(first)
    made.server.transport.kex._host_keys = (second,)
    made.server.rekey(made.now)
    made.run()
    assert isinstance(made.error("client"), HostKeyRefused)
