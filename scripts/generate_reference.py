"""Writes docs/reference/messages.md out of the catalogue; `--check` only says whether it is current."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "src"))

from glasshell.agent import adding  # noqa: E402
from glasshell.agent import messages as agent  # noqa: E402
from glasshell.messages import CATALOGUE, SUBSYSTEMS, Message, Struct, auth, blobs, connection  # noqa: E402
from glasshell.messages.declare import Field, Holding, Items, Nested  # noqa: E402
from glasshell.sftp import messages as sftp  # noqa: E402

TARGET = ROOT / "docs" / "reference" / "messages.md"

CONTEXTS = {
    "": "in every context",
    "dh": "while a Diffie-Hellman exchange runs",
    "gex": "while a group exchange runs",
    "ecdh": "while an elliptic-curve exchange runs",
    "hybrid": "while a post-quantum hybrid exchange runs",
    "sftp": "in a channel of the subsystem `sftp`",
    "agent": "between an agent and its clients",
}

BODIES: dict[str, Mapping[str, type[Struct]]] = {
    "Authentication methods": auth.AUTH_METHODS,
    "Global requests": connection.GLOBAL_REQUESTS,
    "Channel types": connection.CHANNEL_TYPES,
    "Channel requests": connection.CHANNEL_REQUESTS,
    "SFTP extended requests": sftp.EXTENDED_REQUESTS,
    "Private keys for an agent": adding.PRIVATE_KEYS,
    "Constraints of an agent's key": {cls.__name__: cls for cls in adding.CONSTRAINTS.values()},
    "Extensions of those constraints": adding.CONSTRAINT_EXTENSIONS,
    "Extensions of an agent": agent.EXTENSIONS,
    "Keys and certificates": blobs.KEY_TYPES,
    "Signatures": blobs.SIGNATURE_TYPES,
}

REPLIES: dict[str, tuple[type[Struct], ...]] = {
    "Replies to global requests": (connection.TcpipForwardReply, connection.HostkeysProveReply),
    "Replies to SFTP extended requests": tuple(dict.fromkeys(sftp.EXTENDED_REPLIES.values())),
}

PARTS: tuple[type[Struct], ...] = (
    blobs.PublicKeyBlob, blobs.PlainKeyBlob, blobs.SignatureBlob, blobs.Certified, blobs.PrincipalList,
    blobs.OptionList, blobs.EcdsaPair, sftp.Attrs, adding.Destinations, adding.Destination, adding.Hop,
)  # fmt: skip
"""Structures that stand inside messages, whole or in a string."""

HEAD = """\
# Messages

Generated from the declarations in `glasshell.messages` by `scripts/generate_reference.py`; do not edit.

A message is found by its number and, for 30-49 and 60-79, by its context: the family of the key
exchange, or the authentication method. Fields stand in the order of the wire, in the data types of RFC 4251
section 5. A **secret** field is never shown and is zeroed before a record reaches any view; **content** is
shown as its length. The packets of SFTP and the agent's messages have
numbers of their own, in the contexts `sftp` and `agent`.
"""


def reference() -> str:
    """The page."""
    return "\n".join([HEAD, *_index(), *_messages(), *_bodies(), *_replies()])


def _index() -> Iterator[str]:
    yield from ("| number | name | context | class | clause |", "|---|---|---|---|---|")
    for cls in _ordered():
        link = f"[`{cls.__name__}`](#{cls.__name__.lower()})"
        yield f"| {cls.NUMBER} | {cls.NAME} | {cls.CONTEXT} | {link} | {cls.CLAUSE} |"
    yield ""


def _ordered() -> Iterable[type[Message]]:
    own = [cls for packets in SUBSYSTEMS.values() for cls in packets.values()]
    return [
        *sorted(CATALOGUE.values(), key=lambda cls: (cls.NUMBER, cls.CONTEXT)),
        *sorted(own, key=lambda cls: (cls.CONTEXT, cls.NUMBER)),
    ]


def _messages() -> Iterator[str]:
    for cls in _ordered():
        where = CONTEXTS.get(cls.CONTEXT, f"while the method `{cls.CONTEXT}` runs")
        yield from (f"## {cls.__name__}", "", f"{cls.NUMBER} {cls.NAME}, {where} ({cls.CLAUSE}).", "")
        yield from _struct(cls)


def _bodies() -> Iterator[str]:
    for title, table in BODIES.items():
        yield from (f"# {title}", "")
        for name, cls in table.items():
            yield from (f"## `{name}`", "", f"`{cls.__name__}` ({cls.CLAUSE}).", "")
            yield from _struct(cls)


def _replies() -> Iterator[str]:
    for title, classes in {**REPLIES, "Parts of messages": PARTS}.items():
        yield from (f"# {title}", "")
        for cls in classes:
            yield from (f"## `{cls.__name__}`", "", f"({cls.CLAUSE}).", "")
            yield from _struct(cls)


def _struct(cls: type[Struct]) -> Iterator[str]:
    yield from ((cls.__doc__ or "").strip(), "")
    if cls.FIELDS:
        yield from ("| field | type | |", "|---|---|---|")
    for field in cls.FIELDS:
        yield f"| {field.name} | {_type(field)} | {_notes(field)} |"
    if cls.FIELDS:
        yield ""


def _type(field: Field) -> str:
    if field.choice is not None:
        return "by name"
    if isinstance(field.type, Items):
        inside = ", ".join(f"{f.type.name} {f.name}" for f in field.type.item.FIELDS)
        return f"({inside}) {'counted by a uint32' if field.type.counted else 'until the end'}"
    return field.type.name


def _notes(field: Field) -> str:
    notes = [field.doc]
    if field.present_if:
        flag = f" has 0x{field.bits:x}" if field.bits > 0 else ""
        notes.append(f"only if `{field.present_if}`{flag}")
    if field.choice is not None:
        notes.append(f"selected by `{field.choice[0]}`")
    inner = field.type.item.SECRET if isinstance(field.type, Items | Nested) else False
    if field.type.secret or inner:
        notes.append("**secret**")
    if isinstance(field.type, Holding):
        notes.append(f"shown as `{field.type.item.__name__}`")
    if field.guarded:
        notes.append("**secret** where the name is not known")
    if field.type.content:
        notes.append("**content**")
    return "; ".join(note for note in notes if note).replace("|", "\\|")


def main(arguments: list[str]) -> int:
    """Writes the page, or with `--check` returns 1 where it is not current."""
    if "--check" not in arguments:
        TARGET.parent.mkdir(parents=True, exist_ok=True)
        TARGET.write_text(reference(), encoding="utf-8")
        return 0
    if TARGET.is_file() and TARGET.read_text(encoding="utf-8") == reference():
        return 0
    sys.stderr.write(f"{TARGET} is not current: run scripts/generate_reference.py\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
