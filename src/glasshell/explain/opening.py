"""Why the two sides did not come to common keys, or the server's host key was not taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..crypto.registry import Kind as Row
from ..crypto.registry import Status, names
from ..messages.transport import KexInit
from .rules import Facts, Phase, Rule, When
from .story import Story
from .verdicts import Kind, is_marker, verdict

__all__ = ["NEGOTIATE", "TRUST"]

# ---- no algorithm in common

LISTS: Final[tuple[tuple[Kind, str, str, Row, tuple[str, ...]], ...]] = (
    ("kex", "key exchange method", "KexAlgorithms", Row.KEX, ("kex_algorithms",)),
    ("host_key", "host key type", "HostKeyAlgorithms", Row.HOST_KEY, ("server_host_key_algorithms",)),
    ("cipher", "cipher", "Ciphers", Row.CIPHER,
     ("encryption_algorithms_client_to_server", "encryption_algorithms_server_to_client")),
    ("mac", "MAC", "MACs", Row.MAC,
     ("mac_algorithms_client_to_server", "mac_algorithms_server_to_client")),
    ("compression", "compression method", "Compression", Row.COMPRESSION,
     ("compression_algorithms_client_to_server", "compression_algorithms_server_to_client")),
)  # fmt: skip
"""What is negotiated: its kind, OpenSSH's words, the keyword, the table's rows, the fields of KEXINIT."""

SHOWN: Final = 12
"""Most names of a list that are shown."""
LONGEST_NAME: Final = 64
"""Longest name of an algorithm, in characters (RFC 4251 §6)."""


def _names(message: KexInit | None, field: str) -> tuple[str, ...]:
    return tuple(n for n in getattr(message, field, ()) if not is_marker(n)) if message else ()


def joined(given: Sequence[str], most: int = SHOWN) -> str:
    """Names of a list, the first of them where there are many."""
    more = f" and {len(given) - most} more" if len(given) > most else ""
    return ", ".join(name[:LONGEST_NAME] for name in given[:most]) + more


def _aead(client: KexInit, server: KexInit, place: int) -> bool:
    """Whether the cipher agreed on brings its own MAC: then none is negotiated."""
    field = LISTS[2][4][place]
    offered = _names(server, field)
    chosen = next((name for name in _names(client, field) if name in offered), "")
    return "gcm" in chosen or "poly1305" in chosen


def _lacking(kind: Kind) -> When:
    """The facts where the two lists of `kind` have nothing in common."""
    _, _, keyword, row, fields = next(each for each in LISTS if each[0] == kind)

    def when(story: Story) -> Facts | None:
        client, server = story.opening.client_kex, story.opening.server_kex
        if client is None or server is None:
            return None
        for place, field in enumerate(fields):
            wanted, offered = _names(client, field), _names(server, field)
            if set(wanted) & set(offered) or (kind == "mac" and _aead(client, server, place)):
                continue
            return _no_match(kind, keyword, row, wanted, offered)
        return None

    return when


def _no_match(
    kind: Kind, keyword: str, row: Row, wanted: tuple[str, ...], offered: tuple[str, ...]
) -> Facts:
    built = [name for name in offered if name in names(row)]
    best = built[0] if built else ""
    legacy = [] if built else [name for name in offered if name in names(row, Status.LEGACY)]
    grade = verdict(kind, best) if best else None
    judged = [f"{name} is {v.grade}: {v.reason}" for name in offered[:4]
              if (v := verdict(kind, name)).grade in ("weak", "broken")]  # fmt: skip
    old = bool(offered) and all(verdict(kind, name).grade in ("weak", "broken") for name in offered)
    return {
        "wanted": joined(wanted, 3) or "nothing", "offered": joined(offered, 3) or "nothing",
        "keyword": keyword, "best": best,
        "wise": "which is sound" if grade and grade.grade == "good" else "",
        "unwise": f"though it is {grade.grade}: {grade.reason}" if grade and grade.grade != "good" else "",
        "unbuilt": joined([n for n in offered if n not in built]) if not built and not legacy else "",
        "legacy": joined(legacy),
        "judged": "; ".join(judged), "old": "yes" if old else "",
        "missing": wanted[0] if wanted else "",
    }  # fmt: skip


def _no_matching(kind: Kind) -> Rule:
    _, word, _, _, _ = next(each for each in LISTS if each[0] == kind)
    return Rule(
        name=f"no-matching-{kind.replace('_', '-')}",
        when=_lacking(kind),
        what=f"The two sides have no {word} in common: the client takes {{wanted}}; the server offers"
        " {offered}.",
        causes=(
            ("[old]the server is old, or was told to offer only what is weak", "{judged}"),
            "[!old]the server, or this client, was told to take few: {keyword} in sshd_config or ssh_config",
            "[unbuilt]what the server offers is not built into this program",
            "a policy of the system narrows the lists (FIPS, crypto-policies)",
        ),
        user=(
            "[wise]-o {keyword}=+{best}  ({wise})",
            "[unwise]-o {keyword}=+{best}  for this host only, {unwise}",
            "[legacy]-o Profile=legacy  speaks {legacy}: for this host only, in a Host block",
            "[unbuilt]none of {unbuilt} is built here: another client may have it",
        ),
        admin=(
            "let sshd offer {missing} too: sshd -T | grep -i ^{keyword}; change {keyword} in sshd_config",
            "[old]upgrade the server",
        ),
    )


# ---- the exchange itself


def _said(story: Story) -> tuple[Sequence[str], Sequence[str]]:
    opening = story.opening
    sides: list[list[str]] = []
    for line, message in ((opening.client, opening.client_kex), (opening.server, opening.server_kex)):
        told = [line] * bool(line)
        for _, word, _, _, fields in LISTS[:4]:
            if offered := _names(message, fields[0]):
                told.append(f"{word}: {joined(offered)}")
        sides.append(told)
    return sides[0], sides[1]


def _by_server(story: Story) -> Facts | None:
    told = story.end.by_server
    return {"text": told[1] or "nothing", "reason": str(told[0])} if told else None


def _after_kexinit(story: Story) -> Facts:
    seen = story.opening.server_kex is not None
    return {"seen": "yes" if seen else "", "unseen": "" if seen else "yes", "last": str(story.opening.last)}


def _closed(story: Story) -> Facts | None:
    return _after_kexinit(story) if story.end.eof else None


def _late(story: Story) -> Facts | None:
    return _after_kexinit(story) if story.end.type == "DeadlineExceeded" else None


def _not_taken(story: Story) -> bool:
    """A capture of a client that never answered the server's reply with its own NEWKEYS."""
    opening = story.opening
    return bool(story.end.ways) and opening.last in (21, 31, 33) and opening.client_last != 21


_LOOK: Final = ("journalctl -u ssh -e: sshd says why", "/usr/sbin/sshd -ddd -p 2222, then connect to it")

NEGOTIATE: Final = Phase(
    name="negotiation",
    said=_said,
    rules=(
        *(_no_matching(kind) for kind, *_ in LISTS),
        Rule(
            name="terrapin",
            when=lambda story: "Terrapin" in story.end.text,
            what="The server has no strict key exchange, and the cipher agreed on is open to the Terrapin"
            " attack without it (CVE-2023-48795): the connection is refused.",
            causes=(("the server is older than December 2023", "{server_line}"),),
            user=(
                "-o Ciphers=aes256-gcm@openssh.com,aes256-ctr  (not open to it), if the server has one",
                "-o AllowTerrapin=yes  on a network you trust",
            ),
            admin=("upgrade it: OpenSSH 9.6, dropbear 2024.84, tinyssh 20240101 and later are strict",),
        ),
        Rule(
            name="host-signature-wrong",
            when=lambda story: "signature" in story.end.text and story.end.type == "HostKeyRefused",
            what="The server could not prove that it holds the host key that it shows.",
            causes=(
                "somebody in the middle shows another's key",
                "the server is broken: its private and public host key do not belong together",
            ),
            user=("do not log in; ask the server's administrator",),
            admin=("ssh-keygen -y -f /etc/ssh/ssh_host_ed25519_key: is it what the .pub file says?",),
        ),
        Rule(
            name="kex-refused",
            when=_by_server,
            what='The server ended the key exchange, saying "{text}" (reason {reason}).',
            causes=("it found nothing in what the client offers, or did not like how it was asked",),
            admin=_LOOK,
        ),
        Rule(
            name="kex-timeout",
            when=_late,
            what="The key exchange came to a halt: the server stopped answering in the middle.",
            causes=(
                "[seen]packets of full size, and only they, are lost: an MTU too large (VPN, tunnel)",
                "[unseen]the server named itself and then said nothing: it is overloaded, or no SSH server",
                "the server is overloaded, or stopped",
            ),
            user=(
                "[seen]ping -M do -s 1400 {address}; ip link set dev INTERFACE mtu 1280, and try again",
                "try again later",
            ),
            admin=("uptime", *_LOOK),
        ),
        Rule(
            name="host-key-not-taken",
            when=_not_taken,
            what="The client ended the connection when it had seen the server's host key.",
            causes=(
                "it does not know the key, or knows another for this server (known_hosts)",
                "it only wanted to see what the server offers: ssh-keyscan, a scanner, an audit",
            ),
            user=("ssh -v: what does the client say of the host key?",),
        ),
        Rule(
            name="kex-ended",
            when=lambda story: bool(story.end.ways),
            what="The connection ended in the middle of the key exchange, and neither side said why.",
            causes=(
                "one of the two found nothing to agree on, and hung up",
                "it was a scanner, which had seen enough",
                "something in between cut the connection",
            ),
            admin=_LOOK,
        ),
        Rule(
            name="kex-reset",
            when=lambda story: "reset" in story.end.socket.lower(),
            what="The connection was reset in the middle of the key exchange.",
            causes=(
                "a firewall or an intrusion prevention cuts it once it sees what it is",
                "the server's process died: its log, or the kernel's, tells",
                "the port belongs to a forwarder whose other end was refused",
            ),
            admin=_LOOK,
        ),
        Rule(
            name="kex-closed",
            when=_closed,
            what="The server named itself and closed the connection in the middle of the key exchange.",
            causes=(
                "[unseen]what answers is only a front: a proxy, a honeypot, a forwarder, or a tarpit",
                "sshd could not go on: no host key that it can read, no /run/sshd, no memory",
                "the address is not let in: hosts.deny, a penalty, DenyUsers with an address",
                "it did not like an algorithm or the length of a list: some devices stumble over new names",
            ),
            user=("[seen]offer less: -o KexAlgorithms=curve25519-sha256,ecdh-sha2-nistp256",),
            admin=(*_LOOK, "ls -l /etc/ssh/ssh_host_*; sshd -t"),
        ),
        Rule(
            name="kex-broken",
            when=lambda story: bool(story.end.type),
            what="The key exchange failed: {error}.",
            causes=(
                "something in between changes what is sent",
                "one of the two programs is wrong: a case for its authors",
            ),
            user=("write everything down: --trace FILE.jsonl",),
            admin=_LOOK,
        ),
    ),
)

# ---- the host key


def _verdict(how: str) -> When:
    def when(story: Story) -> Facts | None:
        told, key = story.opening.verdict, story.opening.key
        if told.get("how") != how or told.get("accepted"):
            return None
        file, line = str(told.get("file") or ""), str(told.get("line") or "")
        return {
            "name": str(told.get("host") or story.way.host), "file": file,
            "where": f"{file}:{line}" if file else "", "type": str(key.get("type", "")),
            "fingerprint": str(key.get("fingerprint", "")), "bad": "; ".join(story.opening.bad_lines[:3]),
            "nobody": "yes" if "nobody can be asked" in story.end.text else "",
            "others": str(told.get("others") or ""), "known": str(told.get("known") or ""),
            "objection": str(told.get("objection") or ""),
        }  # fmt: skip

    return when


def _key_said(story: Story) -> tuple[Sequence[str], Sequence[str]]:
    key, told = story.opening.key, story.opening.verdict
    shown = f"{key.get('type', '')} {key.get('bits', '')} {key.get('fingerprint', '')}"
    known = f"known_hosts has {told.get('known')}" if told.get("known") else ""
    return [known] * bool(known), [f"host key: {shown}"] if key else []


_COMPARE: Final = "what the server has: for f in /etc/ssh/ssh_host_*.pub; do ssh-keygen -lf $f; done"

TRUST: Final = Phase(
    name="host key",
    said=_key_said,
    rules=(
        Rule(
            name="host-key-changed",
            when=_verdict("changed"),
            what="{name} shows another host key than the one it is known by: {type} {fingerprint}.",
            causes=(
                ("the server was installed anew, or was given new keys", "the old key is at {where}"),
                "another machine has the name or the address now (DHCP, a load balancer, a published port)",
                "somebody is in the middle, and would read everything",
            ),
            user=(
                "ask the administrator for the fingerprint before anything else",
                "[file]if it is the server's: ssh-keygen -f '{file}' -R '{name}'",
            ),
            admin=(_COMPARE,),
        ),
        Rule(
            name="host-key-revoked",
            when=_verdict("revoked"),
            what="The host key that {name} shows is marked as revoked: {type} {fingerprint}.",
            causes=(
                ("the key was stolen, and whoever has it can be this server", "@revoked at {where}"),
                "the server was not given its new key yet",
            ),
            user=("do not log in; ask the administrator",),
            admin=("make new keys: rm /etc/ssh/ssh_host_*; ssh-keygen -A; systemctl restart ssh",),
        ),
        Rule(
            name="host-key-unknown",
            when=_verdict("unknown"),
            what="The host key of {name} is not known, and a host that is not known is not trusted:"
            " {type} {fingerprint}.",
            causes=(
                ("its certificate does not hold, so that its key alone was judged", "{objection}"),
                ("its line in known_hosts cannot be read", "{bad}"),
                ("the same key is known by another name", "{others}"),
                "[nobody]nobody can be asked here: BatchMode, or no terminal",
                "[!nobody]StrictHostKeyChecking is yes",
                "the host was never connected to under this name and port",
            ),
            user=(
                "ssh-keyscan -p {port} {host}, compare the fingerprint with the server's, then add the line",
                "-o StrictHostKeyChecking=accept-new  adds it unseen",
            ),
            admin=(_COMPARE,),
        ),
        Rule(
            name="host-address-changed",
            when=_verdict("address"),
            what="{name} shows the key it is known by, and its address is known by another (CheckHostIP).",
            causes=("another host has had the address before", "the name leads to another machine now"),
            user=("remove the address's line, if the host has moved: ssh-keygen -R ADDRESS",),
            admin=(_COMPARE,),
        ),
        Rule(
            name="host-key-declined",
            when=_verdict("declined"),
            what="The host key of {name} was shown, and you did not accept it: {type} {fingerprint}.",
            user=("get the fingerprint from the administrator, and connect again",),
            admin=(_COMPARE,),
        ),
        Rule(
            name="known-hosts-unreadable",
            when=lambda story: "cannot read known_hosts" in story.end.text,
            what="Whether the server may be trusted cannot be told: {error}.",
            user=("correct the file's owner and mode (chmod 600), or name another: UserKnownHostsFile",),
        ),
        Rule(
            name="host-key-refused",
            when=lambda story: story.end.type == "HostKeyRefused",
            what="The server's host key was not taken: {error}.",
            admin=(_COMPARE,),
        ),
    ),
)
