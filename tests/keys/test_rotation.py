"""UpdateHostKeys: what is new, what is gone, what stays as it is; lines written by hand as in sshd(8)."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.crypto.signatures import PrivateKey
from glasshell.keys.known_hosts import KnownHosts
from glasshell.keys.rotation import MAX_KEYS, compare, proof_data, proven, rewrite, usable_keys
from glasshell.policy import Policy

ED, ECDSA, RSA, OLD = (
    PrivateKey.generate("ssh-ed25519"), PrivateKey.generate("ecdsa-sha2-nistp256"),
    PrivateKey.generate("ssh-rsa", 2048), PrivateKey.generate("ssh-ed25519"),
)  # fmt: skip
ALL = tuple(key.public for key in (ED, ECDSA, RSA))
HOST, PORT = "host.example", 2222


def line(hosts: str, key: PrivateKey, *, marker: str = "", comment: str = "") -> str:
    encoded = base64.b64encode(key.public.blob).decode()
    return " ".join(filter(None, (marker, hosts, key.public.type, encoded, comment))) + "\n"


NAME = f"[{HOST}]:{PORT}"
OURS = line(NAME, ED)


def test_what_is_new_and_what_is_gone() -> None:
    found = compare(KnownHosts.parse(OURS + line(NAME, OLD)), HOST, PORT, ALL)
    assert found.new == (ECDSA.public, RSA.public)
    assert [entry.blob for entry in found.gone] == [OLD.public.blob]
    assert found.reason == ""


@pytest.mark.parametrize("more", [
    line(NAME, OLD, marker="@revoked"), line("*.example,[host.example]:*", OLD), line(f"{NAME},other", OLD),
    line("other.example", ECDSA), line("other.example", ED), line(NAME, OLD) + line("other.example", OLD),
])  # fmt: skip
def test_lines_that_stand_for_more_are_left_alone(more: str) -> None:
    assert compare(KnownHosts.parse(OURS + more), HOST, PORT, ALL).reason


def test_the_address_beside_the_name_is_the_hosts_own() -> None:
    """What OpenSSH wrote into one line until 8.5, and does with CheckHostIP."""
    both = f"{NAME},[192.0.2.7]:{PORT}"
    assert not compare(KnownHosts.parse(line(both, ED) + line(both, OLD)), HOST, PORT, ALL).reason
    assert compare(KnownHosts.parse(line(f"{both},x", ED)), HOST, PORT, ALL).reason
    assert compare(KnownHosts.parse(line(f"[192.0.2.7]:{PORT},{NAME}", ED)), HOST, PORT, ALL).reason


ADDRESS = "192.0.2.7"
AT = f"[{ADDRESS}]:{PORT}"


def test_the_address_is_to_have_the_same_keys() -> None:
    def found(text: str) -> str:
        return compare(KnownHosts.parse(text), HOST, PORT, ALL, address=ADDRESS).reason

    for text in (OURS, OURS + line(AT, OLD), line(f"{NAME},{AT}", ED)):
        assert not found(text), text
    elsewhere = line(f"{NAME},[192.0.2.8]:{PORT}", ED)
    for text in (elsewhere, OURS + line(f"other,{AT}", OLD), line(f"{NAME},x", ED)):
        assert found(text), text


@pytest.mark.parametrize(("text", "after"), [
    ("", line(f"{NAME},{AT}", ED)), (OURS, OURS + line(AT, ED)), (line(AT, ED), line(AT, ED) + OURS),
    (line(f"{NAME},{AT}", ED), line(f"{NAME},{AT}", ED)),
    (line(f"{NAME},{AT}", OLD) + line(AT, OLD), line(f"{NAME},{AT}", ED)),
])  # fmt: skip
def test_what_is_written_of_an_address(text: str, after: str) -> None:
    only = ALL[:1]
    done = rewrite(text.encode(), HOST, PORT, only, only, hashed=False, salt=bytes, address=ADDRESS)
    assert done.decode() == after
    hidden = rewrite(text.encode(), HOST, PORT, only, only, hashed=True, salt=bytes, address=ADDRESS)
    known = KnownHosts.parse(hidden)
    assert (
        [e.blob for e in known.lookup(HOST, PORT)]
        == [e.blob for e in known.lookup(ADDRESS, PORT)]
        == [ED.public.blob]
    )


def test_other_hosts_with_keys_of_their_own_are_nobodys_business() -> None:
    assert not compare(KnownHosts.parse(OURS + line("other.example", OLD)), HOST, PORT, ALL).reason


def test_a_file_is_rewritten_and_the_rest_of_it_is_not() -> None:
    text = "# mine\n\nbad line\n" + line("other.example", OLD) + line(NAME, ED, comment="note")
    text += line(NAME, OLD) + line(NAME, OLD, marker="@revoked") + "last without an end"
    found = rewrite(text.encode(), HOST, PORT, ALL, ALL, hashed=False, salt=bytes).decode()
    assert found == text.replace(line(NAME, OLD), "", 1) + "\n" + line(NAME, ECDSA) + line(NAME, RSA)
    again = rewrite(found.encode(), HOST, PORT, ALL, ALL, hashed=False, salt=bytes).decode()
    assert again == found


def test_hashed_names_are_found_and_written() -> None:
    text = rewrite(b"", HOST, PORT, ALL, ALL[:1], hashed=True, salt=lambda count: b"s" * count)
    assert text.startswith(b"|1|")
    both = rewrite(text, HOST, PORT, ALL, ALL[:2], hashed=True, salt=lambda count: b"t" * count)
    assert [e.key_type for e in KnownHosts.parse(both).lookup(HOST, PORT)] == [key.type for key in ALL[:2]]
    assert rewrite(both, HOST, PORT, ALL[1:2], (), hashed=True, salt=bytes) == both[len(text) :]


@given(text=st.text(max_size=300), names=st.lists(st.sampled_from([NAME, "other", "*"]), max_size=4))
def test_whatever_is_in_a_file_stays(text: str, names: list[str]) -> None:
    lines = "".join(line(name, OLD) for name in names)
    before = (text.replace("host", "h") + "\n" + lines).encode("utf-8", "surrogatepass")
    after = rewrite(before, HOST, PORT, [OLD.public], (), hashed=False, salt=bytes)
    assert after == before


def test_keys_that_cannot_be_used_are_passed_over() -> None:
    policy = Policy.client()
    blobs = [key.blob for key in ALL]
    assert usable_keys([*blobs, *blobs, b"", b"\0\0\0\x04what"], policy.host_key_algorithms) == ALL
    assert usable_keys(blobs, ("ssh-ed25519",)) == ALL[:1]
    assert usable_keys([*[b"x"] * MAX_KEYS, *blobs], policy.host_key_algorithms) == ()


@pytest.mark.parametrize(("key", "algorithm", "agreed", "holds"), [
    (ED, "ssh-ed25519", "rsa-sha2-512", True), (RSA, "rsa-sha2-256", "ssh-ed25519", True),
    (RSA, "rsa-sha2-512", "rsa-sha2-512", True), (RSA, "rsa-sha2-256", "rsa-sha2-512", False),
])  # fmt: skip
def test_a_proof_is_a_signature_over_session_and_key(
    key: PrivateKey, algorithm: str, agreed: str, holds: bool
) -> None:
    session = bytes(range(32))
    by_hand = (
        b"\0\0\0\x1dhostkeys-prove-00@openssh.com" + b"\0\0\0\x20" + session
        + len(key.public.blob).to_bytes(4, "big") + key.public.blob
    )  # fmt: skip
    assert proof_data(session, key.public) == by_hand
    signature = key.sign(algorithm, by_hand)
    assert proven(key.public, signature, session, agreed) is holds
    assert not proven(key.public, signature, bytes(32), agreed)
    assert not proven(key.public, OLD.sign("ssh-ed25519", by_hand), session, agreed)
    assert not proven(key.public, b"", session, agreed)
