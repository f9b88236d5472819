"""One scripted session of our core, deterministic: the recorder runs it with OpenSSH, the test replays it.

Whatever is random comes from a seed. The encapsulation of hybrids takes no randomness from outside, so that
what it gave is kept in the recording.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from glasshell.connection.channel import Channel
from glasshell.crypto import registry
from glasshell.crypto.groups import rfc3526
from glasshell.crypto.key_exchange import (
    X25519,
    Agreement,
    Classical,
    Ecdh,
    FiniteField,
    Hybrid,
    KeyExchange,
)
from glasshell.crypto.registry import Kind
from glasshell.crypto.signatures import PrivateKey
from glasshell.events import (
    Authenticated,
    ChannelClosed,
    ChannelEof,
    ChannelOffered,
    ChannelOpened,
    ChannelReadable,
    ChannelRequested,
    ChannelWritable,
    Closed,
    CredentialNeeded,
    Event,
    GlobalRequested,
    HostKeyOffered,
    HostKeySignatureNeeded,
    KeyMethod,
    KeyOffered,
    NoneOffered,
    Question,
    SignatureNeeded,
    Verdict,
)
from glasshell.messages.connection import Exec, SessionOpen
from glasshell.policy import Policy
from glasshell.protocol import ClientProtocol, Protocol, ServerProtocol

FOLDER = Path(__file__).parent
NOT_OPENSSH = {"mlkem1024nistp384-sha384"}
"""What of our table OpenSSH does not have."""

COMMAND = "echo one two three"
OUTPUT = b"said by the server of the recording\n"


@dataclass
class Transcript:
    """A recording. `flights` are what the peer sent (`<`) and what we did (`>`), hexadecimal, in turns."""

    peer: str
    role: str
    seed: str
    settings: dict[str, Any]
    rekey: bool
    user: str
    host_key: str
    user_key: str
    flights: list[str] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    session_id: str = ""
    encapsulated: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The file's, without its ending."""
        s = self.settings
        suite = "+".join([s["ciphers"][0], *s["macs"]]).replace("@openssh.com", "")
        extra = "-rekey-zlib" if self.rekey else ""
        return f"{self.role}-{s['kex'][0].replace('@', '-')}-{suite}{extra}"

    def save(self) -> None:
        """Writes the recording beside this module."""
        text = json.dumps(asdict(self), indent=1)
        (FOLDER / f"{self.name}.json").write_text(text + "\n", "utf-8")

    @classmethod
    def load(cls, path: Path) -> Transcript:
        """Reads a recording."""
        return cls(**json.loads(path.read_text("utf-8")))

    def append(self, direction: str, data: bytes) -> None:
        """Adds to the flight under way, or begins a new one."""
        if self.flights and self.flights[-1][0] == direction:
            self.flights[-1] += data.hex()
        else:
            self.flights.append(direction + data.hex())


def stream(seed: str, what: str) -> Callable[[int], bytes]:
    """Bytes that follow from the seed alone."""
    count = iter(range(1 << 30))

    def draw(size: int) -> bytes:
        return hashlib.shake_256(f"{seed} {what} {next(count)}".encode()).digest(size)

    return draw


class Session:
    """Our core and its script: what it is asked it answers, and what is told leads to the next step."""

    def __init__(self, transcript: Transcript) -> None:
        self.t = transcript
        self.host_key = _key(transcript.host_key)
        self.user_key = _key(transcript.user_key)
        self.core = self._core()
        self.told: list[str] = []
        self.before_login = 0
        """Bytes that were sent before the login: those that no zlib has a say in."""
        self._sent = 0
        self._unsent = b""

    def _core(self) -> Protocol:
        t, random = self.t, stream(self.t.seed, "core")
        settings = {k: tuple(v) if isinstance(v, list) else v for k, v in t.settings.items()}
        settings.setdefault("max_packet", 32 * 1024)  # as it was when the recordings were made
        if t.role == "client":
            return ClientProtocol(Policy.client(**settings), user=t.user, now=0.0, random=random)
        keys = [self.host_key.public]
        return ServerProtocol(Policy.server(**settings), host_keys=keys, now=0.0, random=random)

    def begin(self) -> bytes:
        """The first bytes."""
        self.core.start(0.0)
        return self.turn(b"")

    def turn(self, data: bytes) -> bytes:
        """Takes bytes of the peer; returns ours."""
        if data:
            self.core.receive_data(data, 0.0)
        out = b""
        while True:
            events = self.core.events()
            for event in events:
                self._step(event)
            more = bytes(self.core.data_to_send(0.0))
            out += more
            self._sent += len(more)
            if not more and not events:
                return out

    def _step(self, event: Event) -> None:
        if not isinstance(event, ChannelReadable):  # told once for each `receive_data`: it counts pieces
            ended = f" {type(event.error).__name__}" if isinstance(event, Closed) else ""
            self.told.append(type(event).__name__ + ended)
        if isinstance(event, Authenticated):
            self.before_login = self._sent
        if isinstance(event, Question):
            answer = self._answer(event)
            self.core.answer(event, answer, 0.0)
        if self.t.role == "client":
            self._client_step(event)
        else:
            self._server_step(event)

    def _answer(self, question: Question) -> Any:
        match question:
            case HostKeyOffered():
                return True
            case HostKeySignatureNeeded():
                return self.host_key.sign(question.algorithm, question.data)
            case CredentialNeeded():
                return KeyMethod(self.user_key.public)
            case SignatureNeeded():
                return self.user_key.sign(question.algorithm, question.data)
            case NoneOffered():
                return Verdict(False)
            case KeyOffered():
                return Verdict(question.key.blob == self.user_key.public.blob)
            case ChannelOffered():
                return True
            case ChannelRequested():
                return question.type == "exec"
            case GlobalRequested():
                return False
        raise AssertionError(question)

    def _client_step(self, event: Event) -> None:
        match event:
            case Authenticated():
                self.core.mux.open("session", SessionOpen())
            case ChannelOpened():
                if self.t.rekey:
                    self.core.rekey(0.0)
                event.channel.request("exec", Exec(COMMAND), want_reply=True)
            case ChannelReadable():
                assert event.channel.read() == b"one two three\n"
            case ChannelClosed():
                self.core.close(0.0)

    def _server_step(self, event: Event) -> None:
        match event:
            case ChannelRequested(type="exec") if self.t.rekey:
                self.core.rekey(0.0)
            case ChannelEof():  # the command reads all its input before it says a word
                self._unsent = OUTPUT
                self._say(event.channel)
            case ChannelWritable():
                self._say(event.channel)

    def _say(self, channel: Channel) -> None:
        if not self._unsent:
            return
        self._unsent = self._unsent[channel.send(self._unsent) :]
        if not self._unsent:
            channel.exit(0)
            channel.send_eof()
            channel.close()


def _key(seed: str) -> PrivateKey:
    return PrivateKey(ed25519.Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed)))


# --- key exchange without chance


@contextmanager
def fixed_kex(transcript: Transcript, *, recording: bool) -> Iterator[None]:
    """In here every method's row draws its private values from the transcript's seed."""
    draw = stream(transcript.seed, "kex")
    with patch.dict(registry._BY_NAME):
        for name in registry.names(Kind.KEX):
            row = registry.find(Kind.KEX, name)
            factory = _factory(row, draw, transcript.encapsulated, recording)
            registry._BY_NAME[Kind.KEX, name] = replace(row, factory=factory)
        yield


def _factory(
    row: registry.KexAlgorithm, draw: Callable[[int], bytes], kept: list[str], recording: bool
) -> Callable[..., KeyExchange]:
    def number(size: int) -> int:
        return int.from_bytes(draw(size), "big") | 1

    if row.context == "gex":
        return lambda group: Classical(FiniteField(group, number(64)))
    if row.context == "dh":
        which = int(row.name.split("group")[1].split("-")[0])
        return lambda: Classical(FiniteField(rfc3526(which), number(64)))
    if row.context == "hybrid":
        like = row.factory()
        assert isinstance(like, Hybrid)
        if "nistp256" in row.name:
            return lambda: FixedHybrid(Ecdh(ec.SECP256R1(), number(31)), draw(64), kept, recording, like)
        return lambda: FixedHybrid(X25519(draw(32)), draw(64), kept, recording, like)
    if row.name.startswith("curve25519"):
        return lambda: Classical(X25519(draw(32)))
    curve, size = CURVES[row.name]
    return lambda: Classical(Ecdh(curve, number(size)))


CURVES = {
    "ecdh-sha2-nistp256": (ec.SECP256R1(), 31),
    "ecdh-sha2-nistp384": (ec.SECP384R1(), 47),
    "ecdh-sha2-nistp521": (ec.SECP521R1(), 65),
}
"""The curve, and bytes enough for a private value below its order."""


class FixedHybrid(Hybrid):
    """Keeps, or takes from the recording, what encapsulation gave."""

    def __init__(
        self, agreement: Agreement, seed: bytes, kept: list[str], recording: bool, like: Hybrid
    ) -> None:
        super().__init__(agreement, seed, kem=like._kem, hash_name=like._hash_name)
        self._kept, self._recording = kept, recording

    def respond(self, client_public: bytes) -> tuple[bytes, Any]:
        key, point = self._split(client_public, self._kem.key_size)
        classical = self._agreement.shared(point)
        if self._recording:
            secret, ciphertext = self._kem.encapsulate(key)
            self._kept[:] = [secret.hex(), ciphertext.hex()]
        secret, ciphertext = map(bytes.fromhex, self._kept)
        return ciphertext + self._agreement.public, self._combine(secret, classical)
