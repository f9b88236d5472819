"""The agent that holds keys: what it is asked, what it refuses, and what holds it to its word.

The rows G2, G3 and G4 of the attacks are here, named after what taught them.
"""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.agent import adding
from glasshell.agent import messages as m
from glasshell.agent.client import parse_extensions, parse_identities, parse_signature
from glasshell.agent.destinations import Route, Stop, encode_routes, login_in, read_routes
from glasshell.agent.held import SecurityKey, add_request, read_private
from glasshell.agent.keyring import FAILURE, SUCCESS, Ask, Client, Keyring, Touch, Wait
from glasshell.crypto.signatures import PrivateKey, PublicKey
from glasshell.errors import KeyFormatError, LimitExceeded, MalformedMessage, SSHError
from glasshell.keys.certificate import sign_certificate
from glasshell.messages import SUBSYSTEMS, Message
from glasshell.messages.auth import HOSTBOUND, HostboundRequest, PublickeyRequest, UserauthRequest
from glasshell.testing.strategies import message_strategy
from glasshell.wire import Secret, string

KEY = PrivateKey.generate("ssh-ed25519", comment="mine")
OTHER = PrivateKey.generate("ecdsa-sha2-nistp256")
HOST_A = PrivateKey.generate("ssh-ed25519")
HOST_B = PrivateKey.generate("ssh-ed25519")
CA = PrivateKey.generate("ssh-ed25519")
SESSION_A, SESSION_B = b"a" * 32, b"b" * 32


class Bench:
    """A keyring whose time is what a test says it is."""

    def __init__(self, **settings: Any) -> None:
        self.told: list[str] = []
        self.now = 100.0
        self.keyring = Keyring(
            random=lambda size: b"\1" * size, tell=lambda level, text: self.told.append(text), **settings
        )

    def ask(self, request: Message | bytes, client: Client | None = None) -> Any:
        message = request if isinstance(request, bytes) else request.encode()
        return self.keyring.handle(client or Client(), message, self.now, 1e9)

    def seen(self, client: Client | None = None) -> list[PublicKey | Any]:
        return [held.key for held in parse_identities(self.ask(m.RequestIdentities(), client))]

    def sign(self, data: bytes, client: Client | None = None, key: Any = KEY.public) -> Any:
        return self.ask(m.SignRequest(key.blob, data, 0), client)


def bind(host: PrivateKey, session: bytes, *, forwarding: bool, key: Any = None) -> Message:
    signature = host.sign(host.public.algorithms[0], session)
    contents = m.SessionBind((key or host.public).blob, session, signature, forwarding)
    return m.Extension("session-bind@openssh.com", contents)


def login(session: bytes, user: str, host: Any = None, key: PublicKey = KEY.public) -> bytes:
    """What a client has signed to log in (RFC 4252 §7)."""
    if host is None:
        body: Any = PublickeyRequest(True, key.algorithms[0], key.blob, b"")
        request = UserauthRequest(user, "ssh-connection", "publickey", body)
    else:
        body = HostboundRequest(True, key.algorithms[0], key.blob, host.blob, b"")
        request = UserauthRequest(user, "ssh-connection", HOSTBOUND, body)
    return string(session) + request.encode()[:-4]


def stop(host: PrivateKey, name: str = "host", user: str = "", *, authority: bool = False) -> Stop:
    return Stop(name, ((host.public, authority),), user)


# ---- keys come, are used, and go


def test_a_key_comes_is_listed_signs_and_goes(private_key: PrivateKey) -> None:
    bench = Bench()
    assert bench.ask(add_request(private_key, "märz")) == SUCCESS
    (held,) = parse_identities(bench.ask(m.RequestIdentities()))
    assert (held.key, held.comment) == (private_key.public, "märz")
    for algorithm, flags in (("rsa-sha2-256", 2), ("rsa-sha2-512", 4)):
        if private_key.public.type != "ssh-rsa":
            algorithm = private_key.public.type
        signature = parse_signature(bench.ask(m.SignRequest(held.blob, b"data", flags)), algorithm)
        assert private_key.public.verify(algorithm, signature, b"data")
    assert bench.ask(m.RemoveIdentity(held.blob)) == SUCCESS
    assert bench.ask(m.RemoveIdentity(held.blob)) == FAILURE
    assert bench.sign(b"", key=private_key.public) == FAILURE


def test_a_certificate_comes_with_its_key(private_key: PrivateKey) -> None:
    certificate = sign_certificate(private_key.public, CA, kind="user", key_id="me", principals=["ada"])
    bench = Bench()
    assert bench.ask(add_request(private_key, "c", certificate=certificate)) == SUCCESS
    assert bench.seen() == [certificate]
    algorithm = private_key.public.algorithms[-1]
    flags = {"rsa-sha2-256": 2}.get(algorithm, 0)
    signature = parse_signature(bench.ask(m.SignRequest(certificate.blob, b"data", flags)), algorithm)
    assert private_key.public.verify(algorithm, signature, b"data")


def test_a_certificate_of_another_key_is_not_taken() -> None:
    certificate = sign_certificate(HOST_A.public, CA, kind="user", key_id="me", principals=["ada"])
    told = adding.PRIVATE_KEYS["ssh-ed25519"].decode(add_request(KEY, "").encode()[1 + 4 + 11 :][:-4])
    stolen = adding.Ed25519CertificatePrivate(certificate.blob, told.public, told.private)  # type: ignore[attr-defined]
    assert Bench().ask(adding.AddIdentity(certificate.type, stolen, "")) == FAILURE


def test_lifetime() -> None:
    bench = Bench(lifetime=60)
    bench.ask(add_request(KEY, "", lifetime=10))
    bench.ask(add_request(OTHER, ""))
    assert bench.keyring.expire(bench.now) == 110.0
    bench.now = 109.9
    assert bench.seen() == [KEY.public, OTHER.public]
    bench.now = 110.0
    assert bench.seen() == [OTHER.public]
    assert bench.sign(b"") == FAILURE
    bench.now = 160.0
    assert bench.seen() == []


@pytest.mark.parametrize("yes", [True, False])
def test_confirm(yes: bool) -> None:
    bench = Bench()
    bench.ask(add_request(KEY, "my key", confirm=True))
    question = bench.sign(b"data")
    assert isinstance(question, Ask)
    assert question.text == f"Allow use of key my key?\nKey fingerprint {KEY.public.fingerprint()}."
    answer = question.then(yes)
    assert isinstance(answer, bytes)
    if yes:
        assert KEY.public.verify("ssh-ed25519", parse_signature(answer, "ssh-ed25519"), b"data")
    else:
        assert answer == FAILURE


def test_the_fingerprint_that_people_are_shown() -> None:
    bench = Bench(hash="md5")
    bench.ask(add_request(KEY, "", confirm=True))
    assert KEY.public.fingerprint("md5") in bench.sign(b"data").text


def test_what_was_confirmed_too_late_is_refused() -> None:
    bench = Bench()
    bench.ask(add_request(KEY, "", confirm=True))
    locked, gone = bench.sign(b"data"), bench.sign(b"data")
    bench.ask(m.Lock(Secret(b"pw")))
    assert locked.then(True) == FAILURE
    bench.ask(m.Unlock(Secret(b"pw")))
    bench.ask(m.RemoveAllIdentities())
    assert gone.then(True) == FAILURE


def test_extensions() -> None:
    assert "session-bind@openssh.com" in parse_extensions(Bench().ask(m.Extension("query", m.Query())))
    assert Bench().ask(m.Extension("nobody@example.org", b"x")) == FAILURE


# ---- the lock


def test_lock() -> None:
    bench = Bench()
    bench.ask(add_request(KEY, ""))
    assert bench.ask(m.Lock(Secret(b""))) == FAILURE
    assert bench.ask(m.Lock(Secret(b"pw"))) == SUCCESS
    assert bench.ask(m.Lock(Secret(b"pw"))) == FAILURE
    assert bench.seen() == []
    assert bench.sign(b"") == FAILURE
    assert bench.ask(m.RemoveAllIdentities()) == bench.ask(add_request(OTHER, "")) == FAILURE
    waits = [bench.ask(m.Unlock(Secret(b"no"))) for _ in range(120)]
    assert all(isinstance(wait, Wait) and wait.answer == FAILURE for wait in waits)
    assert [wait.seconds for wait in waits[:3]] == pytest.approx([0.1, 0.2, 0.3])
    assert waits[-1].seconds == 10
    assert bench.ask(m.Unlock(Secret(b"pw"))) == SUCCESS
    assert bench.seen() == [KEY.public]
    assert bench.ask(m.Unlock(Secret(b"pw"))) == FAILURE


def test_the_lock_compares_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """G3: whatever the password, digests of one length are compared, by `hmac.compare_digest` alone."""
    import hmac

    compared: list[tuple[int, int]] = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((len(a), len(b)))
        return a == b

    monkeypatch.setattr(hmac, "compare_digest", compare)
    bench = Bench()
    bench.ask(m.Lock(Secret(b"password")))
    for wrong in (b"p", b"passwore", b"x" * 1000):
        bench.ask(m.Unlock(Secret(wrong)))
    assert compared == [(32, 32)] * 3


# ---- G3: no constraint is dropped


def constrained(*constraints: adding.Constraint, key: PrivateKey = KEY) -> adding.AddIdConstrained:
    plain = add_request(key, "")
    assert isinstance(plain, adding.AddIdentity)
    return adding.AddIdConstrained(plain.type, plain.key, "", constraints)


@pytest.mark.parametrize(
    "constraints",
    [
        [adding.Constraint(3, adding.MaxSign(1))],
        [adding.Constraint(4, b"")],
        [adding.Constraint(255, adding.ConstraintExtension("nobody@example.org", b""))],
        [adding.Constraint(255, adding.ConstraintExtension("associated-certs-v00@openssh.com",
                                                           adding.AssociatedCertificates(True, b"")))],
        [adding.constraint(adding.Confirm())] * 2,
        [adding.constraint(adding.Lifetime(1)), adding.constraint(adding.Lifetime(2))],
        [adding.constraint(adding.RestrictDestination(b""))] * 2,
        [adding.constraint(adding.SkProvider("internal"))],
    ],
    ids=["maxsign", "unknown", "extension", "certificates", "twice", "two-lives", "two-ways", "provider"],
)  # fmt: skip
def test_cve_2026_39832_a_constraint_that_is_not_held_to_refuses_the_key(
    constraints: list[adding.Constraint],
) -> None:
    bench = Bench()
    assert bench.ask(constrained(*constraints)) == FAILURE
    assert bench.seen() == []


def test_go_cve_2025_47914_a_constraint_that_is_cut_short_refuses_the_key() -> None:
    routes = (Route(Stop(), stop(HOST_A)),)
    whole = add_request(KEY, "", lifetime=9, confirm=True, routes=routes).encode()
    plain = len(add_request(KEY, "").encode())
    kept = 0
    for size in range(1, len(whole)):
        bench = Bench()
        if bench.ask(whole[:size]) == SUCCESS:
            # Cut between constraints it is another message, of fewer: held to what it says.
            assert size in (plain, plain + 5, plain + 6)
            kept += 1
    assert kept == 3
    assert Bench().ask(whole + b"\0") == FAILURE


def test_go_cve_2026_39833_a_key_added_again_has_its_new_constraints() -> None:
    bench = Bench()
    bench.ask(add_request(KEY, "", confirm=True))
    bench.ask(add_request(KEY, ""))
    assert isinstance(bench.sign(b""), bytes)
    bench.ask(add_request(KEY, "", confirm=True, lifetime=1))
    assert isinstance(bench.sign(b""), Ask)


# ---- G3: destinations


def test_a_key_goes_where_it_may_and_nowhere_else() -> None:
    bench = Bench()
    bench.ask(add_request(KEY, "", routes=[Route(Stop(), stop(HOST_A, user="ada"))]))
    assert bench.seen() == [KEY.public]  # who is here may see it
    to_a, to_b = Client(), Client()
    assert bench.ask(bind(HOST_A, SESSION_A, forwarding=False), to_a) == SUCCESS
    assert bench.ask(bind(HOST_B, SESSION_B, forwarding=False), to_b) == SUCCESS
    assert bench.seen(to_a) == [KEY.public]
    assert bench.seen(to_b) == []
    good = bench.sign(login(SESSION_A, "ada"), to_a)
    parse_signature(good, "ssh-ed25519")
    parse_signature(bench.sign(login(SESSION_A, "ada", HOST_A.public), to_a), "ssh-ed25519")
    for data, client in [
        (login(SESSION_A, "ada"), Client()),  # unbound
        (login(SESSION_A, "eve"), to_a),
        (login(SESSION_B, "ada"), to_a),  # another session
        (login(SESSION_A, "ada", HOST_B.public), to_a),  # another host
        (login(SESSION_A, "ada", key=OTHER.public), to_a),
        (b"data", to_a),
        (b"SSHSIG" + bytes(40), to_a),
        (login(SESSION_B, "ada"), to_b),
    ]:
        assert bench.sign(data, client) == FAILURE


def test_a_forwarded_key_goes_hop_by_hop() -> None:
    """here -> A -> B is allowed, and neither B from here nor anything beyond B."""
    bench = Bench()
    routes = [Route(Stop(), stop(HOST_A, "a")), Route(stop(HOST_A, "a"), stop(HOST_B, "b"))]
    bench.ask(add_request(KEY, "", routes=routes))
    over_a = Client()
    bench.ask(bind(HOST_A, SESSION_A, forwarding=True), over_a)
    assert bench.seen(over_a) == [KEY.public]
    assert bench.sign(login(SESSION_A, "ada", HOST_A.public), over_a) == FAILURE  # that hop only forwards
    bench.ask(bind(HOST_B, SESSION_B, forwarding=False), over_a)
    assert bench.sign(login(SESSION_B, "ada"), over_a) == FAILURE  # it has to say for which host
    parse_signature(bench.sign(login(SESSION_B, "ada", HOST_B.public), over_a), "ssh-ed25519")
    straight = Client()
    bench.ask(bind(HOST_B, SESSION_B, forwarding=False), straight)
    assert bench.seen(straight) == []
    assert bench.sign(login(SESSION_B, "ada", HOST_B.public), straight) == FAILURE
    beyond = Client()
    for host, session in ((HOST_A, SESSION_A), (HOST_B, SESSION_B)):
        bench.ask(bind(host, session, forwarding=True), beyond)
    assert bench.seen(beyond) == []  # of no use there, and not shown


def test_what_is_not_shown_is_neither_changed_nor_removed() -> None:
    bench = Bench()
    bench.ask(add_request(KEY, "mine", routes=[Route(Stop(), stop(HOST_A))]))
    elsewhere = Client()
    bench.ask(bind(HOST_B, SESSION_B, forwarding=True), elsewhere)
    assert bench.ask(add_request(KEY, "free"), elsewhere) == FAILURE
    assert bench.ask(m.RemoveIdentity(KEY.public.blob), elsewhere) == FAILURE
    assert bench.seen() == [KEY.public]
    assert bench.sign(login(SESSION_B, "ada", HOST_B.public), elsewhere) == FAILURE


def test_a_destination_by_its_authority() -> None:
    bench = Bench()
    bench.ask(add_request(KEY, "", routes=[Route(Stop(), stop(CA, "a.example", authority=True))]))
    good = sign_certificate(HOST_A.public, CA, kind="host", key_id="a", principals=["a.example"])
    wrong_name = sign_certificate(HOST_A.public, CA, kind="host", key_id="a", principals=["b.example"])
    of_user = sign_certificate(HOST_A.public, CA, kind="user", key_id="a", principals=["a.example"])
    by_other = sign_certificate(HOST_A.public, HOST_B, kind="host", key_id="a", principals=["a.example"])
    old = sign_certificate(
        HOST_A.public, CA, kind="host", key_id="a", principals=["a.example"], valid_before=10**9
    )
    for shown, expected in [(good, [KEY.public]), (wrong_name, []), (of_user, []), (by_other, []), (old, [])]:
        client = Client()
        assert bench.ask(bind(HOST_A, SESSION_A, forwarding=False, key=shown), client) == SUCCESS
        assert bench.seen(client) == expected
    plain = Client()  # the key without its certificate, or the authority's own key, is another host
    bench.ask(bind(CA, SESSION_A, forwarding=False), plain)
    assert bench.seen(plain) == []


@pytest.mark.parametrize("broken", ["signature", "host key", "type", "short", "empty"])
def test_a_client_that_failed_to_say_where_it_leads_is_not_local(broken: str) -> None:
    """G3, forwarded and unbound: a bind that failed must leave nothing that passes for the owner's use."""
    bench = Bench()
    bench.ask(add_request(KEY, "", routes=[Route(Stop(), stop(HOST_A))]))
    right = bind(HOST_A, SESSION_A, forwarding=True)
    assert isinstance(right, m.Extension)
    assert isinstance(right.contents, m.SessionBind)
    told = right.contents
    wrong = {
        "signature": m.SessionBind(told.host_key, SESSION_B, told.signature, True),
        "host key": m.SessionBind(HOST_B.public.blob, SESSION_A, told.signature, True),
        "type": m.SessionBind(string(b"ssh-dss"), SESSION_A, told.signature, True),
    }
    whole = right.encode()
    data = m.Extension(right.type, wrong[broken]).encode() if broken in wrong else whole[:-1]
    client = Client()
    assert bench.ask(data if broken != "empty" else whole[:29], client) == FAILURE
    assert bench.seen(client) == []
    assert bench.seen() == [KEY.public]


def test_a_bind_while_the_agent_is_locked_counts() -> None:
    """OpenSSH: what came over a forwarded connection must not pass for local once the agent is open again."""
    bench = Bench()
    bench.ask(add_request(KEY, "", routes=[Route(Stop(), stop(HOST_A))]))
    bench.ask(m.Lock(Secret(b"pw")))
    client = Client()
    bench.ask(bind(HOST_B, SESSION_B, forwarding=True), client)
    bench.ask(m.Unlock(Secret(b"pw")))
    assert bench.seen(client) == []


def test_binds_that_contradict_earlier_ones() -> None:
    bench, client = Bench(), Client()
    assert bench.ask(bind(HOST_A, SESSION_A, forwarding=True), client) == SUCCESS
    assert bench.ask(bind(HOST_A, SESSION_A, forwarding=True), client) == SUCCESS  # said twice
    assert bench.ask(bind(HOST_B, SESSION_A, forwarding=True), client) == FAILURE  # that session is A's
    assert bench.ask(bind(HOST_B, SESSION_B, forwarding=False), client) == SUCCESS
    assert bench.ask(bind(HOST_A, b"c" * 32, forwarding=False), client) == FAILURE  # it was to log in, there
    assert len(client.way) == 2
    long = Client()
    answers = [bench.ask(bind(HOST_A, bytes([i]) * 32, forwarding=True), long) for i in range(20)]
    assert answers == [SUCCESS] * 16 + [FAILURE] * 4
    assert bench.ask(bind(HOST_A, bytes(129), forwarding=True), Client()) == FAILURE


@pytest.mark.parametrize(
    ("origin", "target"),
    [
        (Stop(), Stop()),
        (Stop(), Stop("host")),
        (Stop("host"), stop(HOST_A)),
        (Stop(user="ada"), stop(HOST_A)),
        (stop(HOST_B, user="ada"), stop(HOST_A)),
    ],
    ids=["nowhere", "no keys", "origin without keys", "user here", "user at origin"],
)
def test_a_destination_that_contradicts_itself_refuses_the_key(origin: Stop, target: Stop) -> None:
    bench = Bench()
    assert bench.ask(constrained(adding.constraint(encode_routes([Route(origin, target)])))) == FAILURE
    assert bench.seen() == []


def test_g2_who_a_destination_is_for_is_a_short_pattern() -> None:
    """What a forwarded client adds, and then asks about, must not keep the agent busy for a minute."""
    long = Route(Stop(), stop(HOST_A, user="*" + "a?" * 30_000 + "b*"))
    with pytest.raises(LimitExceeded):
        read_routes(encode_routes([long]))


def test_too_many_destinations() -> None:
    item = adding.Destinations.decode(encode_routes([Route(Stop(), stop(HOST_A))]).destinations).items[0]
    too_many = adding.RestrictDestination(adding.Destinations((item,) * 1025).encode())
    with pytest.raises(LimitExceeded):
        read_routes(too_many)


# ---- G4: no library is loaded


@pytest.mark.parametrize("forwarded", [True, False])
@pytest.mark.parametrize("provider", ["/tmp/evil.so", "/usr/lib/libp11.so", "relative.so", "", "internal"])
def test_cve_2023_38408_no_library_is_loaded(
    provider: str, forwarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ctypes

    monkeypatch.setattr(ctypes, "CDLL", lambda *_: pytest.fail("a library was loaded"))
    bench, client = Bench(), Client()
    if forwarded:
        bench.ask(bind(HOST_A, SESSION_A, forwarding=True), client)
    assert bench.ask(adding.AddSmartcardKey(provider, Secret(b"1234")), client) == FAILURE
    constraints = (adding.constraint(adding.Confirm()),)
    request = adding.AddSmartcardKeyConstrained(provider, Secret(b"1234"), constraints)
    assert bench.ask(request, client) == FAILURE
    if provider != "internal":
        assert bench.ask(add_request(SK, "", provider=provider or "none"), client) == FAILURE
    assert bench.seen() == []
    assert not any("1234" in text for text in bench.told)
    if forwarded:
        assert any("forwarded" in text for text in bench.told)


# ---- security keys

SK = SecurityKey(
    PublicKey.from_blob(
        string(b"sk-ssh-ed25519@openssh.com") + HOST_A.public.blob[15:] + string(b"ssh:")
    ), "ssh:", 1, Secret(b"handle"),
)  # fmt: skip


def test_a_security_key_is_touched() -> None:
    bench = Bench()
    assert bench.ask(add_request(SK, "sk", provider="internal")) == SUCCESS
    assert bench.seen() == [SK.public]
    touch = bench.sign(b"data", key=SK.public)
    assert isinstance(touch, Touch)
    assert (touch.key.handle, touch.data) == (SK.handle, b"data")
    assert touch.then(None) == FAILURE
    signature = string(SK.public.type.encode()) + string(b"s") + bytes(5)
    assert parse_signature(touch.then(signature), SK.public.type) == signature


def test_a_security_key_of_the_web_signs_what_is_of_ssh_alone() -> None:
    web = SecurityKey(
        PublicKey.from_blob(
            string(b"sk-ssh-ed25519@openssh.com") + HOST_A.public.blob[15:] + string(b"https://bank.example")
        ), "https://bank.example", 1, Secret(b"handle"),
    )  # fmt: skip
    bench = Bench()
    bench.ask(add_request(web, ""))
    assert bench.sign(b"\0" * 37 + b"data", key=web.public) == FAILURE
    assert isinstance(bench.sign(login(SESSION_A, "ada", key=web.public), key=web.public), Touch)
    free = Bench(websafe=False)
    free.ask(add_request(web, ""))
    assert isinstance(free.sign(b"anything", key=web.public), Touch)


# ---- whatever comes


REQUESTS = list(SUBSYSTEMS["agent"].values())


@given(st.one_of([message_strategy(cls) for cls in REQUESTS]))
def test_every_message_is_read_as_it_was_written(message: Message) -> None:
    try:
        data = message.encode()
        again = type(message).decode(data)
    except MalformedMessage:
        return  # a constraint of an unknown kind takes what follows it along
    assert again.encode() == data


@given(st.binary(max_size=200) | st.tuples(st.sampled_from(REQUESTS), st.binary(max_size=200)).map(
    lambda pair: bytes([pair[0].NUMBER]) + pair[1]
))  # fmt: skip
def test_g2_every_request_is_answered(data: bytes) -> None:
    bench = Bench()
    answer = bench.ask(data)
    assert isinstance(answer, bytes | Wait)
    assert bench.seen() == [] or data[:1] in (b"\x11", b"\x19")


@given(st.data())
def test_g2_a_key_that_is_damaged_is_a_failure(data: st.DataObject) -> None:
    whole = bytearray(add_request(data.draw(st.sampled_from([KEY, OTHER])), "comment", confirm=True).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(1, len(whole) - 1))] = data.draw(st.integers(0, 255))
    bench = Bench()
    assert bench.ask(bytes(whole)) in (SUCCESS, FAILURE)


@pytest.mark.parametrize("size", [0, 1, 31, 33, 63, 65])
def test_go_cve_2025_47913_an_ed25519_key_of_another_size(size: int) -> None:
    private = adding.Ed25519Private(KEY.public.blob[-32:], Secret(bytes(size)))
    request = adding.AddIdentity("ssh-ed25519", private, "")
    assert Bench().ask(request) == FAILURE
    short = adding.AddIdentity("ssh-ed25519", adding.Ed25519Private(bytes(size), Secret(bytes(64))), "")
    assert Bench().ask(short) == FAILURE


def test_keys_of_unknown_types_are_not_taken() -> None:
    with pytest.raises(KeyFormatError):
        read_private("ssh-dss", b"")
    assert Bench().ask(b"\x11" + string(b"ssh-dss") + string(b"x") * 5 + string(b"comment")) == FAILURE


def test_no_more_keys_than_a_client_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glasshell.agent.keyring.MAX_KEYS", 1)
    bench = Bench()
    assert bench.ask(add_request(KEY, "")) == SUCCESS
    assert bench.ask(add_request(OTHER, "")) == FAILURE
    assert bench.ask(add_request(KEY, "again")) == SUCCESS


@given(st.binary(max_size=120))
def test_what_is_no_login_is_none(data: bytes) -> None:
    for each in (data, string(SESSION_A) + data, string(SESSION_A) + b"\x32" + data):
        assert login_in(each, KEY.public.blob) is None
    real = login(SESSION_A, "ada")
    assert login_in(real, KEY.public.blob) is not None
    assert login_in(real[: len(real) - 1 - len(data) % (len(real) - 1)], KEY.public.blob) is None


@given(st.binary(max_size=120))
def test_any_destinations_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(SSHError):
        read_routes(adding.RestrictDestination(data))
    beyond = Route(stop(HOST_A, "a"), stop(CA, "b", authority=True))
    routes = [Route(Stop(), stop(HOST_A, "a", "ad?")), beyond]
    assert list(read_routes(encode_routes(routes))) == routes


def test_secrets_are_not_shown() -> None:
    request = add_request(KEY, "x")
    seed = KEY.reveal().private_bytes_raw()
    assert seed in request.encode()
    assert seed.hex() not in repr(request)
    assert "redacted" in repr(request)
