"""OpenSSH's lines about TCP and the transport layer (RFC 4253)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..messages import UnknownMessage
from ..messages import kex as k
from ..messages import transport as t
from ..wire import visible
from .lines import (
    PACKET,
    Handler,
    Lines,
    Story,
    debug1,
    debug2,
    debug3,
    info,
    monitor,
    text_of,
    verbose,
    words,
)

PROPOSAL: Final = (
    ("KEX algorithms", "kex_algorithms"),
    ("host key algorithms", "server_host_key_algorithms"),
    ("ciphers ctos", "encryption_algorithms_client_to_server"),
    ("ciphers stoc", "encryption_algorithms_server_to_client"),
    ("MACs ctos", "mac_algorithms_client_to_server"),
    ("MACs stoc", "mac_algorithms_server_to_client"),
    ("compression ctos", "compression_algorithms_client_to_server"),
    ("compression stoc", "compression_algorithms_server_to_client"),
    ("languages ctos", "languages_client_to_server"),
    ("languages stoc", "languages_server_to_client"),
)

KEY_NUMBERS: Final = {"RSA": 0, "ECDSA": 2, "ED25519": 3, "ECDSA-SK": 10, "ED25519-SK": 12}
"""OpenSSH's numbers of key types; -1 is a file that is not there."""

LEVELS: Final = {"debug1": debug1, "debug2": debug2, "debug3": debug3, "verbose": verbose}


def kex_name(name: str) -> str:
    """A key exchange message as OpenSSH calls it: one pair of names for every method but group exchange."""
    if "GEX" in name or "KEX" not in name:
        return name.replace("SSH_", "SSH2_", 1)
    return f"SSH2_MSG_KEX_ECDH_{'INIT' if name.endswith('INIT') else 'REPLY'}"


def label(key_type: str) -> str:
    """ED25519, RSA or ECDSA, -SK in a security key, -CERT with a certificate; given so or as the name of a
    key type."""
    lower = key_type.lower()
    for word, short in (
        ("mldsa44-ed25519", "MLDSA44-ED25519"),
        ("ed25519", "ED25519"),
        ("ecdsa", "ECDSA"),
        ("rsa", "RSA"),
    ):
        if word in lower:
            hard = lower.startswith(("sk-", "webauthn-")) or "-sk" in lower
            return short + "-SK" * hard + "-CERT" * ("-cert" in lower)
    return key_type


class TransportLines:
    """The lines of TCP, identification, key exchange and the transport's own messages."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.ours: t.KexInit | None = None
        self.theirs: t.KexInit | None = None
        self.first = True
        self.cipher = {True: "", False: ""}
        self.ext_info = False
        self.key = ("", "")
        self.seen: set[bool] = set()
        self.prefaces = 0

    def messages(self) -> Mapping[tuple[bool, int], Handler]:
        """Handlers by (sent, number)."""
        kex = range(30, 35)
        return {
            (True, 20): self.kexinit_sent,
            (False, 20): self.kexinit_received,
            **{(True, number): self.method_sent for number in kex},
            **{(False, number): self.method_received for number in kex},
            (False, 6): self.service_accepted,
            (True, 7): self.ext_info_sent,
            (False, 7): self.ext_info_received,
            (True, 1): self.disconnect_sent,
            (False, 1): self.disconnect_received,
            (False, 2): lambda m: (PACKET, debug3("Received SSH2_MSG_IGNORE")),
            (False, 3): self.unimplemented,
            (False, 4): lambda m: (PACKET, debug1(f"Remote: {visible(m.message)}")),
            (True, 4): lambda m: (debug3(f"sending debug message: {visible(m.message)}"), PACKET),
            (False, 192): lambda m: (debug1(f"Received SSH2_MSG_PING len {len(m.data)}"),),
            (False, 193): lambda m: (debug1(f"Received SSH2_MSG_PONG len {len(m.data)}"),),
        }

    def states(self) -> Mapping[str, Handler]:
        """Handlers by the name of the state."""
        return {
            "started": self.started,
            "config_file": lambda f: (debug1(f"Reading configuration data {text_of(f.get('path'))}"),),
            "config_applied": self.config_applied,
            "identity_file": self.identity_file,
            "resolving": self.resolving,
            "jump": self.jump,
            "connecting": self.connecting,
            "connected": lambda f: (debug1("Connection established."),),
            "connect_failed": self.connect_failed,
            "host_key_loaded": self.host_key_loaded,
            "listening": self.listening,
            "accepted": self.accepted,
            "preface_line": self.preface_line,
            "identification_sent": self.identification_sent,
            "identification_received": self.identification_received,
            "kex_started": self.kex_started,
            "negotiated": self.negotiated,
            "kex_waiting": self.kex_waiting,
            "host_key": self.host_key,
            "host_certificate": self.host_certificate,
            "host_key_verdict": self.host_key_verdict,
            "sshfp": self.sshfp,
            "keys_installed": self.keys_installed,
            "kex_done": self.kex_done,
            "host_keys_changed": self.host_keys_changed,
            "note": self.note,
            "sink_dropped": self.sink_dropped,
            "error": self.error,
            "speculation": self.speculation,
            "speculation_failed": self.speculation_failed,
        }

    # --- TCP and the way to it

    def started(self, f: Any) -> Lines:
        told = ", ".join(filter(None, (text_of(f.get("software", "")), text_of(f.get("version", "")))))
        yield verbose(told) if self.story.role == "client" else debug1(f"sshd version {told}")

    def config_applied(self, f: Any) -> Lines:
        where = f"{text_of(f.get('path'))} line {f.get('line')}"
        yield debug1(f"{where}: Applying options for {text_of(f.get('pattern'))}")

    def identity_file(self, f: Any) -> Lines:
        number = KEY_NUMBERS.get(label(str(f.get("type") or "")), -1)
        yield debug1(f"identity file {text_of(f.get('path'))} type {number}")

    def resolving(self, f: Any) -> Lines:
        host = text_of(f.get("host"))
        yield debug2(f'resolving "{host}" port {f.get("port")}')
        yield debug3(f"resolve_host: lookup {host}:{f.get('port')}")

    def jump(self, f: Any) -> Lines:
        self.story.proxied = True
        yield debug1(f"Going by {text_of(f.get('via'))}")

    def connecting(self, f: Any) -> Lines:
        story = self.story
        story.host, story.port = text_of(f.get("host", "")), int(f.get("port", 22))
        story.address = text_of(f.get("address", story.host))
        story.user = text_of(f.get("user", story.user))
        yield debug1(f"Connecting to {story.host} [{story.address}] port {story.port}.")

    def connect_failed(self, f: Any) -> Lines:
        address = text_of(f.get("address", f.get("host", "")))
        yield debug1(f"connect to address {address} port {f.get('port')}: {text_of(f.get('error'))}")

    def host_key_loaded(self, f: Any) -> Lines:
        key = words(f.get("type", ""), f.get("fingerprint", ""))
        yield debug1(f"private host key #{f.get('index')}: {key}")

    def listening(self, f: Any) -> Lines:
        address, port = text_of(f.get("address")), f.get("port")
        yield debug1(f"Bind to port {port} on {address}.")
        yield info(f"Server listening on {address} port {port}.")

    def accepted(self, f: Any) -> Lines:
        story = self.story
        story.address, story.port = text_of(f.get("address", "")), int(f.get("port", 0))
        ours = f"{text_of(f.get('local_address', ''))} port {f.get('local_port', 0)}"
        yield verbose(f'Connection from {story.peer} on {ours} rdomain ""')

    def speculation(self, f: Any) -> Lines:
        self.story.ahead = True
        ahead = {"the first packet of the exchange": "guess", "the login": "login", "the session": "session"}
        yield debug1(f"Sending ahead: {', '.join(what for what, name in ahead.items() if f.get(name))}")

    def speculation_failed(self, f: Any) -> Lines:
        self.story.ahead = False
        yield debug1(f"What was sent ahead was in vain: {text_of(f.get('text'))}; connecting again")

    # --- identification (RFC 4253 §4.2)

    def preface_line(self, f: Any) -> Lines:
        line = f"banner line {self.prefaces}: {text_of(f.get('text'))}"
        self.prefaces += 1
        yield debug1(f"kex_exchange_identification: {line}")

    def identification_sent(self, f: Any) -> Lines:
        yield monitor(debug1(f"Local version string {text_of(f.get('line'))}"))

    def identification_received(self, f: Any) -> Lines:
        _, _, rest = str(f.get("line", "")).partition("-")
        protocol, _, software = rest.partition("-")
        told = f"protocol version {text_of(protocol)}, remote software version {text_of(software)}"
        yield monitor(debug1(f"Remote {told}"))
        story = self.story
        if story.role == "client" and story.host and story.user:
            yield debug1(f"Authenticating to {story.host}:{story.port} as '{story.user}'")

    # --- key exchange (RFC 4253 §7)

    def kex_started(self, f: Any) -> Lines:
        self.first = bool(f.get("first", True))
        self.seen = set()
        if not self.first and f.get("by") == "us":
            yield debug3("ssh_packet_check_rekey: rekex triggered")

    def kexinit_sent(self, m: t.KexInit) -> Lines:
        self.ours = m
        yield PACKET
        yield debug1("SSH2_MSG_KEXINIT sent")
        yield from self.proposals()

    def kexinit_received(self, m: t.KexInit) -> Lines:
        self.theirs = m
        yield PACKET
        yield debug1("SSH2_MSG_KEXINIT received")
        yield from self.proposals()

    def proposals(self) -> Lines:
        if self.ours is None or self.theirs is None:
            return
        us, peer = self.story.role, "server" if self.story.role == "client" else "client"
        for title, kexinit in ((f"local {us}", self.ours), (f"peer {peer}", self.theirs)):
            yield debug2(f"{title} KEXINIT proposal")
            for name, field in PROPOSAL:
                yield debug2(f"{name}: {','.join(getattr(kexinit, field))}")
            yield debug2(f"first_kex_follows {int(kexinit.first_kex_packet_follows)} ")
            yield debug2(f"reserved {kexinit.reserved} ")
        self.ours = self.theirs = None

    def negotiated(self, f: Any) -> Lines:
        client = self.story.role == "client"
        self.ext_info = self.first and bool(f.get("ext_info"))
        if f.get("strict") and self.first:
            yield debug3("kex_choose_conf: will use strict KEX ordering")
        yield debug1(f"kex: algorithm: {f.get('kex')}")
        yield debug1(f"kex: host key algorithm: {f.get('host_key')}")
        self.cipher = {client: str(f.get("cipher_c2s", "")), not client: str(f.get("cipher_s2c", ""))}
        ways = (("s2c", "server->client"), ("c2s", "client->server"))
        for way, arrow in ways if client else reversed(ways):
            told = f"cipher: {f.get(f'cipher_{way}')} MAC: {f.get(f'mac_{way}')}"
            yield debug1(f"kex: {arrow} {told} compression: {f.get(f'compression_{way}')}")
        self.story.delayed_compression = "zlib@openssh.com" in (
            f.get("compression_c2s"), f.get("compression_s2c"),
        )  # fmt: skip

    def kex_waiting(self, f: Any) -> Lines:
        if f.get("message"):
            yield debug1(f"expecting {kex_name(str(f['message']))}")

    def method_sent(self, m: Any) -> Lines:
        match m:
            case k.KexDhGexRequest():
                yield PACKET
                yield debug1(f"SSH2_MSG_KEX_DH_GEX_REQUEST({m.min}<{m.n}<{m.max}) sent")
            case k.KexDhGexGroup():
                yield debug1("SSH2_MSG_KEX_DH_GEX_GROUP sent")
                yield PACKET
            case k.KexDhGexInit():
                yield PACKET
                yield debug1("SSH2_MSG_KEX_DH_GEX_INIT sent")
            case _:
                yield PACKET

    def method_received(self, m: Any) -> Lines:
        yield PACKET
        if not isinstance(m, UnknownMessage):
            yield debug1(f"{kex_name(m.NAME)} received")

    def host_key(self, f: Any) -> Lines:
        fingerprint = text_of(f.get("fingerprint", ""))
        again, self.key = self.key[1] == fingerprint, (label(str(f.get("type", ""))), fingerprint)
        if "-cert-" not in str(f.get("type")):
            yield debug1(f"Server host key: {text_of(f.get('type'))} {fingerprint}")
        if again and not self.first:
            yield debug2(f"verify_host_key: server host key {self.key[0]} {fingerprint} matches cached key")

    def host_certificate(self, f: Any) -> Lines:
        by = words(f.get("authority_type"), f.get("authority"))
        yield debug1(f"Server host certificate: {words(f.get('type'), f.get('fingerprint'))},"
                     f' serial {f.get("serial")} ID "{text_of(f.get("key_id"))}" CA {by}'
                     f" valid {text_of(f.get('valid'))}")  # fmt: skip
        for name in f.get("principals", ()):
            yield debug2(f"Server host certificate hostname: {text_of(name)}")

    def host_key_verdict(self, f: Any) -> Lines:
        how = f.get("how")
        if how == "localhost":
            yield debug1("Forcing accepting of host key for loopback/localhost.")
        if how not in ("known", "by-host", "authority"):
            return
        host = text_of(f.get("host") or self.story.host_and_port)
        if how == "by-host":
            yield debug1("checking without port identifier")
            host = host.removeprefix("[").partition("]")[0]
        what, found = ("certificate", "CA key") if how == "authority" else ("key", "key")
        yield debug1(f"Host '{host}' is known and matches the {self.key[0]} host {what}.")
        if f.get("file"):
            yield debug1(f"Found {found} in {text_of(f['file'])}:{f.get('line')}")
        if how == "by-host":
            yield debug1("found matching key w/out port")

    def sshfp(self, f: Any) -> Lines:
        if f.get("problem"):
            yield debug1(text_of(f["problem"]))
            return
        how = "secure" if f.get("secure") else "insecure"
        yield debug1(f"found {f.get('found')} {how} fingerprints in DNS")
        match = "matching" if f.get("matching") else "mismatching"
        yield debug1(f"{match} host key fingerprint found in DNS")

    def keys_installed(self, f: Any) -> Lines:
        sent, seq = bool(f.get("sent")), f.get("seq")
        blocks = int(f.get("bytes") or 0) // (8 if self.cipher[sent].startswith("chacha20") else 16)
        self.seen.add(sent)
        if sent:
            if f.get("seq_reset"):
                yield debug1(f"ssh_packet_send2_wrapped: resetting send seqnr {seq}")
            yield debug2("ssh_set_newkeys: mode 1")
            yield debug1(f"rekey out after {blocks} blocks")
            yield debug1("SSH2_MSG_NEWKEYS sent")
            if not (self.story.role == "server" and self.ext_info):
                yield from self.newkeys_due()
        else:
            if f.get("seq_reset"):
                yield debug1(f"ssh_packet_read_poll2: resetting read seqnr {seq}")
            yield debug1("SSH2_MSG_NEWKEYS received")
            yield debug2("ssh_set_newkeys: mode 0")
            yield debug1(f"rekey in after {blocks} blocks")

    def newkeys_due(self) -> Lines:
        if False not in self.seen:
            yield debug1("expecting SSH2_MSG_NEWKEYS")

    def kex_done(self, f: Any) -> Lines:
        if self.story.role == "server" and f.get("first"):
            yield debug1("KEX done")

    # --- what follows it

    def ext_info_sent(self, m: t.ExtInfo) -> Lines:
        yield debug1("Sending SSH2_MSG_EXT_INFO")
        yield PACKET
        if self.story.role == "server" and self.ext_info:
            yield from self.newkeys_due()

    def ext_info_received(self, m: t.ExtInfo) -> Lines:
        yield PACKET
        yield debug1("SSH2_MSG_EXT_INFO received")
        known = ("server-sig-algs", "publickey-hostbound@openssh.com", "ping@openssh.com")
        for extension in m.extensions:
            if extension.name == "publickey-hostbound@openssh.com":
                self.story.hostbound = extension.value == b"0"
            if extension.name in known:
                told = f"{extension.name}=<{visible(extension.value)}>"
            else:
                told = f"{visible(extension.name)} (unrecognised)"
            yield debug1(f"kex_input_ext_info: {told}")

    def service_accepted(self, m: t.ServiceAccept) -> Lines:
        yield PACKET
        yield debug2(f"service_accept: {m.service_name}")
        yield debug1("SSH2_MSG_SERVICE_ACCEPT received")

    def host_keys_changed(self, f: Any) -> Lines:
        for key in f.get("added", ()):
            yield verbose(f"Learned new hostkey: {text_of(key)}")
        for key in f.get("removed", ()):
            yield verbose(f"Deprecating obsolete hostkey: {text_of(key)}")

    # --- the end (RFC 4253 §11)

    def disconnect_received(self, m: t.Disconnect) -> Lines:
        yield PACKET
        text = f"Received disconnect from {self.story.peer}:{m.reason_code}: {visible(m.description)}"
        if self.story.ahead:
            yield debug1(text)
            return
        if m.reason_code != t.DisconnectReason.BY_APPLICATION:
            self.story.errors.append(text)
        yield info(text)
        yield info(f"Disconnected from {self.story.somebody}")

    def disconnect_sent(self, m: t.Disconnect) -> Lines:
        if m.reason_code != t.DisconnectReason.BY_APPLICATION:
            if self.story.role == "server":
                yield info(f"Disconnecting {self.story.somebody}: {visible(m.description)}")
            yield debug2(f"sshpkt_disconnect: sending SSH2_MSG_DISCONNECT: {visible(m.description)}")
        yield PACKET

    def unimplemented(self, m: t.Unimplemented) -> Lines:
        yield PACKET
        yield debug1(f"Received SSH2_MSG_UNIMPLEMENTED for {m.sequence_number}")

    def error(self, f: Any) -> Lines:
        kind, text = str(f.get("type", "")), text_of(f.get("text", ""))
        if kind == "Disconnected" or not text:
            return
        for line in self.error_lines(kind, text):
            self.story.errors.append(line)
            yield info(line)
        if f.get("hint") and self.story.role == "client":
            yield info(text_of(f["hint"]))

    def error_lines(self, kind: str, text: str) -> list[str]:
        story = self.story
        match kind:
            case "NegotiationFailed":
                return [f"Unable to negotiate with {story.peer}: {text}"]
            case "HostKeyRefused" if story.role == "client":
                return [text, "Host key verification failed."]
            case "AuthenticationFailed" if story.role == "client":
                return [f"{story.user}@{story.host}: {text}" if story.user else text]
            case "ConnectionLost" if story.role == "client" and story.finished:
                return []
            case "ConnectionLost" if story.role == "client" and story.authenticated:
                return [f"Connection to {story.host or story.address} closed by remote host."]
            case "ConnectionLost":
                return [f"Connection closed by {story.peer if story.authenticated else story.somebody}"]
        return [text if story.role == "client" else f"{story.somebody}: {text}"]

    def note(self, f: Any) -> Lines:
        line = LEVELS.get(str(f.get("level", "")), info)(text_of(f.get("text", "")))
        # What a server notes is of accounts and keys, at which sshd looks in its monitor.
        yield monitor(line) if self.story.role == "server" else line

    def sink_dropped(self, f: Any) -> Lines:
        yield info(f"{text_of(f.get('sink'))} raised {text_of(f.get('error'))} and hears no more")
