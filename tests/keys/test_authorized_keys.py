"""authorized_keys as sshd(8) has it: what is read is enforced, what cannot be enforced is refused."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.crypto.signatures import PrivateKey
from glasshell.keys.authorized_keys import AuthorizedKey, AuthorizedKeys, Decision, Permissions
from glasshell.keys.certificate import Certificate, sign_certificate

KEY, OTHER = (PrivateKey.generate("ssh-ed25519").public for _ in range(2))
TEXT = f"{KEY.type} {base64.b64encode(KEY.blob).decode()}"


def only(options: str) -> AuthorizedKey:
    """The entry of the one line with these options."""
    parsed = AuthorizedKeys.parse(f"{options} {TEXT} me@host")
    assert not parsed.refused, parsed.refused
    (entry,) = parsed.entries
    assert (entry.key, entry.comment, entry.line) == (KEY, "me@host", 1)
    return entry


def reason(options: str) -> str:
    parsed = AuthorizedKeys.parse(f"{options} {TEXT} me@host")
    assert not parsed.entries
    return parsed.refused[0].reason


def test_without_options_everything_is_allowed() -> None:
    parsed = AuthorizedKeys.parse(f"\n# c\n  {TEXT} me\r\n\t{TEXT}\n", "file")
    assert [(entry.where, entry.comment) for entry in parsed.entries] == [("file:3", "me"), ("file:4", "")]
    assert parsed.entries[0].permissions == Permissions()
    assert Permissions().may_open("x", 1)


RESTRICTED = Permissions(
    pty=False, port_forwarding=False, agent_forwarding=False, x11_forwarding=False, user_rc=False
)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ("no-pty", Permissions(pty=False)),
        ("No-PTY,no-user-rc", Permissions(pty=False, user_rc=False)),
        ("no-port-forwarding", Permissions(port_forwarding=False)),
        ("no-agent-forwarding,no-X11-forwarding", Permissions(agent_forwarding=False, x11_forwarding=False)),
        ("restrict", RESTRICTED),
        ("restrict,pty,port-forwarding,agent-forwarding,X11-forwarding,user-rc", Permissions()),
        ("pty,restrict", RESTRICTED),
        ("no-pty,pty", Permissions()),
        ('command="ls"', Permissions(command="ls")),
        ('command="echo \\"a b\\", # c\\n",no-pty', Permissions(command='echo "a b", # c\\n', pty=False)),
        ('command=""', Permissions(command="")),
        ('permitopen="h:80",permitopen="[::1]:*"', Permissions(permit_open=(("h", 80), ("::1", None)))),
        (
            'permitlisten="8080",permitlisten="localhost:9"',
            Permissions(permit_listen=(("*", 8080), ("localhost", 9))),
        ),
    ],
)
def test_options(options: str, wanted: Permissions) -> None:
    assert only(options).permissions == wanted


@pytest.mark.parametrize(
    "options",
    [
        "unknown",
        "no-unknown",
        "no-restrict",
        "no-command",
        "command",
        "command=ls",
        'command="a',
        'command="a\\"',
        'command="a\\\\"',
        'command="a"b',
        'command="a",command="b"',
        'pty="x"',
        'restrict="x"',
        "no-cert-authority",
        'cert-authority="yes"',
        'principals="a"',
        'cert-authority,principals=""',
        'cert-authority,principals="a,,b"',
        'cert-authority,principals="a",principals="b"',
        "cert-authority,principals",
        'no-touch-required="x"',
        "tunnel",
        'tunnel=""',
        'tunnel="-1"',
        'tunnel="tun0"',
        'tunnel="0:any"',
        'tunnel="99999999999"',
        "no-pty,",
        ",no-pty",
        "no-pty,,pty",
        "no-pty, pty",
        "no-pty pty",
        'permitopen="h"',
        'permitopen="h:0"',
        'permitopen="h:65536"',
        'permitopen=":1"',
        'permitopen="h:4294967295"',
        'permitopen="h:-1"',
        'permitopen="h:1:2"',
        'permitopen="h:٣"',
        'permitlisten="x"',
        'permitlisten="70000"',
        'environment="A"',
        'environment="A-B=c"',
        'environment="=c"',
        'environment="Ä=c"',
        'from=""',
        'from="a,,b"',
        'from="10.0.0.1/8"',
        'from="10.0.0.0/33"',
        'from="a/b"',
        'from="10.0.0.0/255.0.0.0"',
        'from="a",from="b"',
        'expiry-time="2026"',
        'expiry-time="20261301"',
        'expiry-time="20260230"',
        'expiry-time="202601012500"',
        'expiry-time="٢٠٢٦٠١٠١"',
        'expiry-time="00000101"',
        'agent="x"',
        '"',
        "=",
        "\u00a0pty",
        "pty\u00a0",
    ],
)
def test_a_line_that_cannot_be_enforced_is_refused(options: str) -> None:
    assert reason(options)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("restrict", "without a key"),
        ("restrict ssh-ed25519", "without a key"),
        ("ssh-ed25519", "without a key"),
        ("sk-ssh-ed25519@openssh.com AAAA", "cut short"),
        ("ssh-dss AAAA", "not supported"),
        ("ssh-ed25519-cert-v01@openssh.com AAAA", "not supported"),
        (TEXT[:-4], "key"),
        (TEXT.replace("ssh-ed25519", "ssh-rsa"), "says"),
        (f"pty {TEXT}\0", "NUL"),
        (f'command="{"x" * 65536}" {TEXT}', "characters"),
        ("x" * 1_000_000, "characters"),
    ],
    ids=range(11),  # the lines hold a fresh key, and two processes must collect the same names
)
def test_lines_without_a_good_key(line: str, words: str) -> None:
    parsed = AuthorizedKeys.parse(f"{line}\n{TEXT}")
    assert words in parsed.refused[0].reason
    assert (parsed.refused[0].line, parsed.entries[0].line) == (1, 2)


def test_environment() -> None:
    """Whether it is set is for PermitUserEnvironment; the line serves, as with OpenSSH."""
    entry = only('environment="A=b c=d",environment="A=x",environment="B_1="')
    assert entry.permissions.environment == (("A", "b c=d"), ("B_1", ""))


@pytest.mark.parametrize(
    ("options", "touch", "verify"),
    [
        ("pty", True, False),
        ("no-touch-required", False, False),
        ("verify-required", True, True),
        ("no-touch-required,touch-required", True, False),
        ("verify-required,no-verify-required,No-Touch-Required", False, False),
    ],
)
def test_touch(options: str, touch: bool, verify: bool) -> None:
    found = only(options).options
    assert (found.touch_required, found.verify_required) == (touch, verify)


@pytest.mark.parametrize(("text", "device"), [("0", "0"), ("Any", "any"), ("2147483", "2147483")])
def test_a_tunnel_is_read_and_the_line_serves(text: str, device: str) -> None:
    found = only(f'tunnel="{text}"')
    assert (found.options.tunnel, found.permissions) == (device, Permissions())


def test_the_key_of_an_authority_lets_nobody_in_by_itself() -> None:
    """Nor does a key that is none sign for anybody: two rights, and each line gives one of them."""
    keys = AuthorizedKeys.parse(f"cert-authority {TEXT}\n")
    assert keys.entries[0].options.cert_authority
    assert keys.decide(KEY, address="::1", hostname=None, now=0).entry is None


def test_places() -> None:
    permissions = only('permitopen="db:5432",permitopen="web:*",permitlisten="8080"').permissions
    assert permissions.may_open("db", 5432)
    assert permissions.may_open("web", 1)
    assert not permissions.may_open("db", 5433)
    assert not permissions.may_open("db.example", 5432)
    assert permissions.may_listen("", 8080)
    assert not permissions.may_listen("", 8081)
    assert not only('restrict,permitopen="db:5432"').permissions.may_open("db", 5432)
    assert only('permitopen="*:80"').permissions.may_open("anything", 80)


@pytest.mark.parametrize(
    ("patterns", "address", "hostname", "allowed"),
    [
        ("10.0.0.0/8", "10.255.0.1", None, True),
        ("10.0.0.0/8", "11.0.0.1", None, False),
        ("10.0.0.0/8", "::ffff:10.0.0.1", None, True),
        ("10.0.0.0/8,!10.1.0.0/16", "10.1.2.3", None, False),
        ("!10.1.0.0/16,10.0.0.0/8", "10.1.2.3", None, False),
        ("!10.1.0.0/16", "10.2.0.0", None, False),
        ("2001:db8::/32", "2001:0DB8:0::1", None, True),
        ("2001:db8::1", "2001:db8:0:0::1", None, True),
        ("fe80::/10", "fe80::1%eth0", None, True),
        ("192.0.2.*", "192.0.2.7", None, True),
        ("192.0.2.?", "192.0.2.77", None, False),
        ("*.example.com", "192.0.2.7", "www.Example.com", True),
        ("*.example.com", "192.0.2.7", None, False),
        ("*.example.com,!evil.example.com", "192.0.2.7", "evil.example.com", False),
        ("*,!evil.example.com", "192.0.2.7", "evil.example.com", False),
        ("*", "not an address", None, True),
        ("0.0.0.0/0", "not an address", None, False),
    ],
)
def test_from(patterns: str, address: str, hostname: str | None, allowed: bool) -> None:
    keys = AuthorizedKeys.parse(f'from="{patterns}" {TEXT}')
    decision = keys.decide(KEY, address=address, hostname=hostname, now=0)
    assert (decision.permissions is not None) == allowed
    assert bool(decision.reasons) != allowed
    assert all("correct key but not from a permitted host" in reason for reason in decision.reasons)


@pytest.fixture
def time_zone() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "UTC-2"  # two hours east of Greenwich
    time.tzset()
    yield
    os.environ.pop("TZ")
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.usefixtures("time_zone")
@pytest.mark.parametrize(
    ("value", "seconds"),  # as `date -u -d ... +%s` has them
    [
        ("20260101Z", 1767225600),
        ("202601010000Z", 1767225600),
        ("20260101000001z", 1767225601),
        ("20260101", 1767225600 - 7200),
        ("20260101120000", 1767225600 + 36000),
        ("19700101000000Z", 0),
    ],
)
def test_expiry_time(value: str, seconds: int) -> None:
    keys = AuthorizedKeys.parse(f'expiry-time="{value}" {TEXT}')
    assert keys.decide(KEY, address="::1", hostname=None, now=seconds - 1).permissions == Permissions()
    late = keys.decide(KEY, address="::1", hostname=None, now=seconds)
    assert late.permissions is None
    assert "expired" in late.reasons[0]


def test_the_earlier_expiry_counts() -> None:
    assert only('expiry-time="20260101Z",expiry-time="20250101Z"').options.expires == 1735689600
    assert only('expiry-time="20250101Z",expiry-time="20260101Z"').options.expires == 1735689600


def test_the_first_line_without_objection_decides() -> None:
    keys = AuthorizedKeys.parse(f'from="10.0.0.1" {TEXT}\nno-pty {TEXT}\n{TEXT}\n')
    far = keys.decide(KEY, address="10.0.0.2", hostname=None, now=0)
    assert far.entry is keys.entries[1]
    near = keys.decide(KEY, address="10.0.0.1", hostname=None, now=0)
    assert near.permissions == Permissions()
    nobody = keys.decide(OTHER, address="10.0.0.1", hostname=None, now=0)
    assert (nobody.permissions, nobody.reasons) == (None, ())
    both = AuthorizedKeys() + keys
    assert both.entries == keys.entries


AUTHORITY = PrivateKey.generate("ssh-ed25519")
CA = f"{AUTHORITY.public.type} {base64.b64encode(AUTHORITY.public.blob).decode()}"


def certificate(**over: Any) -> Certificate:
    told = {"kind": "user", "key_id": "id", "principals": ["ada"], "extensions": {"permit-pty": ""}, **over}
    return sign_certificate(KEY, AUTHORITY, **told)


def decided(options: str, cert: Certificate, user: str = "ada", key: str = CA) -> Decision:
    keys = AuthorizedKeys.parse(f"{options} {key}", "file")
    assert not keys.refused
    return keys.decide(cert, user=user, address="10.0.0.1", hostname=None, now=1000)


def test_a_certificate_is_found_under_its_authority() -> None:
    found = decided("cert-authority", certificate())
    assert found.permissions == replace(RESTRICTED, pty=True)  # what a certificate does not permit is not had
    assert decided("cert-authority,no-pty", certificate()).permissions == RESTRICTED
    assert decided("", certificate()) == Decision(None)
    assert decided("cert-authority", certificate(), key=TEXT) == Decision(None)
    assert decided("", certificate(), key=TEXT) == Decision(None)


@pytest.mark.parametrize(
    ("options", "over", "word"),
    [
        ("", {"principals": ["bob"]}, "name is not a listed principal"),
        ("", {"principals": []}, "lacks principal list"),
        ("", {"principals": ["ada,bob"]}, "name is not a listed principal"),
        (',principals="bob"', {}, "does not contain an authorized principal"),
        (',principals="bob,eve"', {"principals": ["bob,eve"]}, "does not contain an authorized principal"),
        (',principals="ad*"', {}, "does not contain an authorized principal"),
        (',principals="eve"', {"principals": []}, "does not contain an authorized principal"),
        ("", {"valid_before": 1000}, "expired"),
        ("", {"valid_after": 1001}, "not yet valid"),
        ("", {"kind": "host"}, "not a user certificate"),
        ("", {"critical": {"source-address": "10.0.0.2"}}, "10.0.0.1"),
        ("", {"critical": {"no-such": "x"}}, "not supported"),
        (',command="a"', {"critical": {"force-command": "b"}}, "forced command options do not match"),
        (',from="10.0.0.2"', {}, "not from a permitted host"),
        (',expiry-time="19700101000010Z"', {}, "entry expired"),
    ],
)
def test_c12_what_a_certificate_or_its_line_says_against_it(
    options: str, over: dict[str, Any], word: str
) -> None:
    found = decided(f"cert-authority{options}", certificate(**over))
    assert (found.entry, found.permissions) == (None, None)
    assert word in found.reasons[0]
    assert found.reasons[0].startswith('file:1: Refusing certificate ID "id" serial=0 signed by ED25519 CA ')


@pytest.mark.parametrize(
    ("options", "over", "command"),
    [
        ("", {"critical": {"force-command": "b"}}, "b"),
        (',command="b"', {"critical": {"force-command": "b"}}, "b"),
        (',command="a"', {}, "a"),
        ("", {}, None),
    ],
)
def test_whoever_forces_a_command_has_it_run(options: str, over: dict[str, Any], command: str | None) -> None:
    found = decided(f"cert-authority{options}", certificate(**over)).permissions
    assert found is not None
    assert found.command == command


def test_principals_of_a_line_stand_in_for_the_users_name() -> None:
    found = decided('cert-authority,principals="ops,web"', certificate(principals=["web"]), user="root")
    assert found.entry is not None
    assert decided('cert-authority,principals="ops"', certificate(principals=["ada"])).entry is None


WORDS = st.lists(
    st.sampled_from(
        ["command=", '"', "\\", ",", " ", "restrict", "no-pty", "from=", "10.0.0.0/8", TEXT, "ssh-", "ä"]
    )
)


@given(st.one_of(st.text(max_size=100), WORDS.map("".join)))
def test_any_text_is_read(text: str) -> None:
    for whole in (text, f"{text} {TEXT}", f'from="{text}" {TEXT}', f'permitopen="{text}" {TEXT}'):
        AuthorizedKeys.parse(whole).decide(KEY, address=text, hostname=text, now=0)
    AuthorizedKeys.parse(text.encode("utf-8", "surrogatepass"))


@given(WORDS.map("".join))
def test_no_key_is_without_the_restriction_on_its_line(text: str) -> None:
    """Whatever stands between `restrict,` and the key, either nobody gets in or the restriction holds."""
    for entry in AuthorizedKeys.parse(f"restrict,{text} {TEXT}").entries:
        assert not entry.permissions.pty
