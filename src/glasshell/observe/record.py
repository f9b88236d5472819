"""What is told of a connection: a `MessageRecord` for each packet, a `StateRecord` for all else.

Every log, timeline, capture and metric is a view of this stream, and of nothing else. Times are
seconds since the connection's start on a clock that never goes back; a message's time is that of
the socket call that carried it. Records come in the order in which things were done: a message that
waited for an answer of the application comes after that answer, with the time at which it arrived.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from ..values import slotted
from ..wire import Secret


@slotted
class MessageRecord:
    """One binary packet (RFC 4253 §6), payload in clear, secret fields zeroed.

    `left_out` bytes are missing at the payload's end: where all sinks hear "lengths" only, a channel's data.

    `epoch` counts the NEWKEYS before it in its direction (0: sent in clear). `context` selects the
    meaning of numbers 30-49 and 60-79. Lengths are bytes: `packet_length` and `padding_length` as
    in the packet, `wire_length` with length field and MAC.
    """

    time: float
    sent: bool
    seq: int
    epoch: int
    context: str
    number: int
    payload: bytes
    packet_length: int
    padding_length: int
    wire_length: int
    left_out: int = 0


@slotted
class StateRecord:
    """Something that happened and is no message; `name` is a key of `STATES`, `facts` its fields."""

    time: float
    name: str
    facts: Mapping[str, Any]


@slotted
class SubsystemRecord:
    """One packet of a subsystem's own protocol, out of the data of `channel`; only captures tell it.

    `context` names the protocol in the catalogue ("sftp"), `payload` begins with the packet's `number`.
    """

    time: float
    sent: bool
    channel: int
    context: str
    number: int
    payload: bytes


@slotted
class WireRecord:
    """Bytes of one read or write of the socket, as they are on the wire. For sinks that hear "wire".

    What was read comes behind the records of the messages in it, as far as they were dispatched at once;
    what was written comes behind the records of the messages that it carries. `packets` are the lengths of
    those taken apart or put together since the last such record, `partial` is how many bytes at the end of
    all that was read begin one that is not complete, as far as that is known.
    """

    time: float
    sent: bool
    data: bytes
    packets: tuple[int, ...] = ()
    partial: int = 0


@slotted
class KeyRecord:
    """A secret of a key exchange, told before the first byte that it protects. For sinks that hear "keys".

    `cookie` is that of our own KEXINIT. `label` is the key log's: SHARED_SECRET for K, big endian without
    length and sign byte (for hybrids the string's content); PRIVATE_KEY for our own half, where that alone
    tells a reader K: the scalar of X25519, the exponent of finite-field Diffie-Hellman, big endian.
    """

    time: float
    cookie: bytes
    label: str
    secret: Secret


Record: TypeAlias = MessageRecord | StateRecord
Heard: TypeAlias = Record | WireRecord | KeyRecord
"""All that a sink may ask to hear; see `hub.Hub`."""

STATES: Final[dict[str, tuple[str, str]]] = {
    # TCP and the way to it
    "started": (
        "the connection's stream begins; `id` is its own, by which every view calls it",
        "role wall_time software version id",
    ),
    "config_file": ("a configuration file is read", "path"),
    "config_applied": ("a Host block of a configuration file applies", "path line pattern"),
    "identity_file": ("a private key file is considered", "path type"),
    "resolving": ("a host name is looked up", "host port"),
    "resolved": ("the addresses of a host name", "host addresses"),
    "connecting": ("TCP connect begins", "host address port user"),
    "jump": (
        "the host is reached by another: `via` is USER@HOST:PORT of a server that connects to it, through the"
        " connection to that one, or a command (ProxyCommand)",
        "via",
    ),
    "connected": ("TCP connect is done", "address port local_address local_port"),
    "speculation": (
        "the client sends ahead what the server will want: `guess` is the key exchange and the host key"
        " algorithm it leads with, `login` and `session` whether those go before an answer",
        "guess login session",
    ),
    "speculation_failed": (
        "what was sent ahead did no good, and nothing was run: this connection is over, and the client"
        " connects again, in turns",
        "text sent_bytes received_bytes",
    ),
    "connect_failed": ("TCP connect failed", "host address port error"),
    "accepted": ("TCP connection accepted", "address port local_address local_port"),
    "host_key_loaded": ("the server has a host key", "index type fingerprint"),
    "listening": ("the server listens", "address port"),
    # RFC 4253
    "preface_line": ("a line before the server's identification (RFC 4253 4.2)", "text"),
    "preface_rest": ("what a peer had said of an unfinished line when it closed without an identification",
                     "text"),
    "identification_sent": ("our identification string", "line length"),
    "identification_received": ("the peer's identification string", "line protocol software length"),
    "kex_started": ("a key exchange begins", "first by reason"),
    "negotiated": (
        "the algorithms of the connection, and why each was chosen",
        "kex host_key cipher_c2s cipher_s2c mac_c2s mac_s2c compression_c2s compression_s2c"
        " strict ext_info guess why hash",
    ),
    "kex_waiting": ("the next message of the key exchange is awaited", "message"),
    "host_key": ("the server's host key, its signature of the exchange hash verified",
                 "type algorithm fingerprint bits"),
    "host_certificate": ("the certificate of that host key; `valid` in words",
                         "type fingerprint serial key_id authority_type authority valid principals"),
    "host_key_verdict": (
        "whether the host key is trusted; `how`: known, by-host (known under another port), authority (by its"
        " certificate), dns, localhost, added, unknown, declined, changed, address (its address has another"
        " key), revoked, failed; `known` is the fingerprint of the key that was expected, `others` are other"
        " names of the key shown, `objection` is why its certificate does not hold",
        "accepted how host file line known others objection",
    ),
    "sshfp": ("what DNS says of the host key (RFC 4255); `secure`: validated, by a resolver that is trusted",
              "host found matching secure problem"),
    "known_hosts_command": ("KnownHostsCommand has said which keys are known", "reason keys bad"),
    "host_keys_changed": (
        "the server has proved that it has other host keys than known_hosts: type and fingerprint of each",
        "added removed",
    ),
    "known_hosts_bad_line": ("a line of known_hosts that cannot be read", "file line reason"),
    "keys_installed": (
        "one direction uses new keys; `seq` is the sequence number that strict kex resets, `bytes` how"
        " many the keys are good for",
        "sent epoch seq_reset seq bytes",
    ),
    "kex_done": ("the key exchange is over", "first"),
    "extension": ("one extension of EXT_INFO (RFC 8308)", "name value"),
    # RFC 4252
    "auth_candidate": ("a key that the client has at hand", "key_type fingerprint source origin"),
    "agent": ("the agent was asked for its keys; `problem` is empty where it answered with some",
              "path keys problem"),
    "auth_methods": ("methods that can continue", "methods partial"),
    "auth_next": ("the client turns to a method", "method remaining"),
    "auth_offer": ("the client offers a key", "key_type fingerprint source origin"),
    "auth_key_accepted": ("the server would take a key", "key_type fingerprint source origin"),
    "auth_signing": ("the client signs with a key", "algorithm fingerprint"),
    "auth_skipped": ("the client passes an identity or a method over", "what reason"),
    "auth_exhausted": ("no method is left", ""),
    "auth_request": ("the server judges a request", "user service method attempt failures"),
    "authorized_keys": ("the server looks for a key in a file", "path"),
    "authorized_key": ("the line that allows the key", "path line key_type fingerprint options"),
    "auth_verdict": (
        "the server's verdict; `valid` is false where there is no such user, `certificate`: who issued it",
        "user method submethod accepted partial key_type fingerprint certificate valid",
    ),
    "authenticated": ("authentication succeeded", "user method"),
    # RFC 4254
    "session_started": ("the server starts a program or subsystem", "channel kind command user tty"),
    "session_ended": ("a server's session ended", "channel user status signal"),
    "channel_opening": ("a channel is being opened", "channel type by"),
    "channel_open": ("a channel is open", "channel peer type window max_packet peer_window peer_max_packet"),
    "window_grown": (
        "the receive window of a channel may have held the peer up and is larger from here on;"
        " `round_trip` is the shortest seen, in seconds",
        "channel window round_trip",
    ),
    "channel_refused": ("a channel was refused", "channel type reason description"),
    "channel_closed": ("a channel is closed both ways", "channel type sent received"),
    "late": ("an answer did not come in the time that was given for it", "what seconds"),
    "answered": ("a person has answered a question, or was asked in vain", "what"),
    "interactive": ("the client hands the terminal over", "pty"),
    "exit_status": ("the remote program ended", "channel status signal"),
    "forward": ("a forwarding is set up or refused", "kind listen target ok"),
    "forward_request": (
        "the server has judged a request to connect or to listen; `reason`: why nothing came of it",
        "kind channel host port allowed reason",
    ),
    "variable": ("the server has judged a variable of the environment", "channel name value accepted"),
    # Ends and odds
    "note": ("a line for the log only", "level text"),
    "sink_dropped": ("a sink raised and hears no more", "sink error"),
    "error": ("the error that ended the connection or a call", "type text hint clause"),
    "disconnect": ("SSH_MSG_DISCONNECT", "sent reason description"),
    "eof": ("the peer closed its side of the socket, or that failed with `error`", "error"),
    "compressed": (
        "what zlib made of the connection, told before `closed`: (plain, compressed) bytes each way",
        "deflated inflated",
    ),
    "closed": ("the connection is over", "sent_bytes received_bytes"),
    # What only a capture tells
    "tcp_handshake": (
        "seconds from SYN to SYN ACK, and from there to ACK, where the capture was made; the sum is one round"
        " trip",
        "syn_ack ack",
    ),
    "hassh": (
        "the fingerprint of one side's KEXINIT, and the text it is the MD5 of", "hash algorithms"
    ),
    "terrapin": (
        "whether what was agreed on is open to CVE-2023-48795, and by which algorithms", "exposed by strict"
    ),
    "gap": ("bytes of one direction are not in the capture", "bytes"),
    "encrypted": (
        "bytes that cannot be read; `packets` begin in them, the first with `packet_length` (None and 0 where"
        " that is encrypted too)",
        "sent bytes packet_length packets",
    ),
    "not_decrypted": ("why what follows, or one packet, cannot be read", "why epoch"),
    "inferred": (
        "what the lengths of encrypted packets give away; `what`: authenticated, authentication_failed,"
        " no_login",
        "what attempts evidence",
    ),
    "traffic": (
        "what an encrypted connection was used for, by sizes and times; `kind`: interactive, bulk, other",
        "kind evidence keystrokes echoes sent_bytes received_bytes",
    ),
    "ended": ("nothing more comes in one direction; `how`: fin, rst, end, reused, forgotten", "how"),
}  # fmt: skip
"""Every state a record may name: what it says, and its facts."""
