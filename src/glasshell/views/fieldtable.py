"""Wireshark's names for what records and frames hold: one table, name -> where the values are.

A row says which declared field of the catalogue a name means ("KexInit.cookie"), what is taken of it and how
Wireshark writes it. Names and ways of writing are those of Wireshark 4.6 (`tshark -G fields`); what the
catalogue cannot give (padding, MACs, reassembly, expert notes) is not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ..messages.connection import Mode
from .filter import Kind

__all__ = ["ALIASES", "FIELDS", "FieldRow", "Source"]


@dataclass(frozen=True, slots=True)
class Source:
    """Values in a message: of the declared `field`, where one of `within` stands above it (or nothing must).

    `take`: "value"; "raw", the content of the string; "all", all its bytes with the length; "length" of the
    string; "count" of the structures; "head" and "tail" of two keys put together; "mode", the terminal mode
    of that number.
    `when`: (field, value) that must stand beside it; `unless`: values of the same field that must not.
    """

    field: str
    take: str = "value"
    within: tuple[str, ...] = ()
    when: tuple[str, str] | None = None
    unless: tuple[str, frozenset[str]] | None = None
    mode: int = 0


@dataclass(frozen=True, slots=True)
class FieldRow:
    """One name: what its values are, how numbers are written, where in messages they are.

    `base`: "hex" with eight digits, or "char"; `packet`: it is told of frames and packets, not of fields.
    """

    name: str
    kind: Kind
    base: str = ""
    sources: tuple[Source, ...] = ()


HOST: Final = (
    "KexDhReply.host_key", "KexDhGexReply.host_key", "KexEcdhReply.host_key", "KexHybridReply.host_key",
    "HostKeyBlob.key", "HostboundRequest.host_key",
)  # fmt: skip
USER: Final = ("PublickeyRequest.public_key", "HostboundRequest.public_key", "UserauthPkOk.public_key")
HOST_SIGNATURE: Final = tuple(name.replace("host_key", "signature") for name in HOST[:4])
USER_SIGNATURE: Final = ("PublickeyRequest.signature", "HostboundRequest.signature")

CHANNEL: Final = tuple(
    f"{name}.recipient_channel"
    for name in (
        "ChannelOpenConfirmation", "ChannelOpenFailure", "ChannelWindowAdjust", "ChannelData",
        "ChannelExtendedData", "ChannelEof", "ChannelClose", "ChannelRequest", "ChannelSuccess",
        "ChannelFailure",
    )
)  # fmt: skip


def _rows() -> Iterator[FieldRow]:
    yield from _frames()
    yield from _packets()
    yield from _transport()
    yield from _kex()
    yield from _keys()
    yield from _auth()
    yield from _connection()
    yield from _terminal()
    yield from _sftp()


def _row(
    name: str, kind: Kind, *fields: str, base: str = "", take: str = "value", **more: object
) -> FieldRow:
    within = more.get("within", ())
    assert isinstance(within, tuple)
    return FieldRow(name, kind, base, tuple(Source(field, take, within) for field in fields))


def _string(
    name: str, *fields: str, kind: Kind = Kind.TEXT, length: str = "", within: tuple[str, ...] = ()
) -> Iterator[FieldRow]:
    """A string, and the name of its length: `name`_length unless another is given, none for "-"."""
    yield _row(name, kind, *fields, take="raw", within=within)
    if length != "-":
        yield _row(length or f"{name}_length", Kind.INT, *fields, take="length", within=within)


def _frames() -> Iterator[FieldRow]:
    for name in ("frame", "tcp", "ip", "ipv6", "ssh", "sftp"):
        yield FieldRow(name, Kind.PROTOCOL)
    yield FieldRow("frame.time_epoch", Kind.TIME)
    for name in (
        "frame.number", "frame.len", "tcp.stream", "tcp.srcport", "tcp.dstport", "tcp.port", "tcp.len",
        "tcp.seq", "tcp.ack", "tcp.seq_raw", "tcp.ack_raw",
    ):  # fmt: skip
        yield FieldRow(name, Kind.INT)
    yield FieldRow("tcp.flags", Kind.INT, "hex4")
    for name in ("syn", "ack", "fin", "reset", "push"):
        yield FieldRow(f"tcp.flags.{name}", Kind.BOOL)
    yield FieldRow("tcp.payload", Kind.BYTES)
    for name in ("ip.src", "ip.dst", "ip.addr", "ipv6.src", "ipv6.dst", "ipv6.addr"):
        yield FieldRow(name, Kind.ADDRESS)


def _packets() -> Iterator[FieldRow]:
    yield FieldRow("ssh.direction", Kind.BOOL)
    yield FieldRow("ssh.protocol", Kind.TEXT)
    for name in (
        "ssh.message_code",
        "ssh.packet_length",
        "ssh.padding_length",
        "ssh.seq_num",
        "ssh.mac.status",
    ):
        yield FieldRow(name, Kind.INT)
    for name in ("ssh.payload", "ssh.packet_length_encrypted"):
        yield FieldRow(name, Kind.BYTES)
    for side in ("hassh", "hasshserver"):
        yield FieldRow(f"ssh.kex.{side}", Kind.TEXT)
        yield FieldRow(f"ssh.kex.{side}_algorithms", Kind.TEXT)
    yield FieldRow("sftp.packet_length", Kind.INT)
    yield FieldRow("sftp.packet_type", Kind.INT)


def _transport() -> Iterator[FieldRow]:
    yield _row("ssh.disconnect_reason", Kind.INT, "Disconnect.reason_code", base="hex")
    yield from _string("ssh.disconnect_description", "Disconnect.description")
    yield from _string("ssh.ignore_data", "Ignore.data", kind=Kind.BYTES)
    yield _row("ssh.debug_always_display", Kind.BOOL, "Debug.always_display")
    yield from _string("ssh.debug_name", "Debug.message")
    yield from _string("ssh.service_name", "ServiceRequest.service_name", "ServiceAccept.service_name")
    yield from _string("ssh.lang_tag", "Disconnect.language", "Debug.language", "UserauthBanner.language")
    yield _row("ssh.extension.count", Kind.INT, "ExtInfo.extensions", take="count")
    yield from _string("ssh.extension.name", "Extension.name", within=("ExtInfo.extensions",))
    yield from _string(
        "ssh.extension.value", "Extension.value", kind=Kind.BYTES, within=("ExtInfo.extensions",)
    )
    for name, extension in (
        ("server_sig_algs.algorithms", "server-sig-algs"), ("no_flow_control.value", "no-flow-control"),
        ("elevation.value", "elevation"),
        ("prop_publickey_algorithms.algorithms", "publickey-algorithms@roumenpetrov.info"),
    ):  # fmt: skip
        source = Source("Extension.value", "raw", ("ExtInfo.extensions",), ("name", extension))
        yield FieldRow(f"ssh.extension.{name}", Kind.TEXT, "", (source,))
    yield from _string("ssh.ping_data", "Ping.data", kind=Kind.BYTES)
    yield from _string("ssh.pong_data", "Pong.data", kind=Kind.BYTES)


def _kex() -> Iterator[FieldRow]:
    yield _row("ssh.cookie", Kind.BYTES, "KexInit.cookie")
    for field in (
        "kex_algorithms", "server_host_key_algorithms", "encryption_algorithms_client_to_server",
        "encryption_algorithms_server_to_client", "mac_algorithms_client_to_server",
        "mac_algorithms_server_to_client", "compression_algorithms_client_to_server",
        "compression_algorithms_server_to_client", "languages_client_to_server", "languages_server_to_client",
    ):  # fmt: skip
        yield from _string(f"ssh.{field}", f"KexInit.{field}")
    yield _row("ssh.first_kex_packet_follows", Kind.INT, "KexInit.first_kex_packet_follows")
    yield _row("ssh.kex.reserved", Kind.BYTES, "KexInit.reserved", take="all")
    yield _row("ssh.dh.e", Kind.BYTES, "KexDhInit.e", "KexDhGexInit.e", take="raw")
    yield _row("ssh.dh.f", Kind.BYTES, "KexDhReply.f", "KexDhGexReply.f", take="raw")
    yield _row("ssh.dh_gex.min", Kind.INT, "KexDhGexRequest.min")
    yield _row("ssh.dh_gex.nbits", Kind.INT, "KexDhGexRequest.n", "KexDhGexRequestOld.n")
    yield _row("ssh.dh_gex.max", Kind.INT, "KexDhGexRequest.max")
    yield _row("ssh.dh_gex.p", Kind.BYTES, "KexDhGexGroup.p", take="raw")
    yield _row("ssh.dh_gex.g", Kind.BYTES, "KexDhGexGroup.g", take="raw")
    for side, kem, cls in (("c", "client", "Init"), ("s", "server", "Reply")):
        public = (Source(f"KexEcdh{cls}.q_{side}", "raw"), Source(f"KexHybrid{cls}.q_{side}", "tail"))
        yield FieldRow(f"ssh.ecdh.q_{side}", Kind.BYTES, "", public)
        yield _row(f"ssh.ecdh.q_{side}_length", Kind.INT, f"KexEcdh{cls}.q_{side}", take="length")
        yield _row(f"ssh.kex.pq_kem_{kem}", Kind.BYTES, f"KexHybrid{cls}.q_{side}", take="head")
        yield _row(f"ssh.kex_hybrid_blob_{kem}", Kind.BYTES, f"KexHybrid{cls}.q_{side}", take="raw")
        yield _row(f"ssh.kex_hybrid_blob_{kem}_len", Kind.INT, f"KexHybrid{cls}.q_{side}", take="length")


def _keys() -> Iterator[FieldRow]:
    yield _row("ssh.host_key.length", Kind.INT, *HOST, take="length")
    yield from _string("ssh.host_key.type", "PublicKeyBlob.type", within=HOST)
    yield _row("ssh.pk_blob_length", Kind.INT, *USER, take="length")
    yield from _string("ssh.pk_blob_name", "PublicKeyBlob.type", within=USER)
    for blob, rsa, within in (("ssh.host_key", "rsa", HOST), ("ssh.pk_blob", "ssh-rsa", USER)):
        for part in ("e", "n"):
            yield _row(f"{blob}.{rsa}.{part}", Kind.BYTES, f"RsaKey.{part}", take="raw", within=within)
        for part in ("p", "q", "g", "y"):
            yield _row(f"{blob}.dsa.{part}", Kind.BYTES, f"DssKey.{part}", take="raw", within=within)
        yield from _string(f"{blob}.ecdsa.id", "EcdsaKey.curve", "SkEcdsaKey.curve", within=within)
        yield from _string(f"{blob}.ecdsa.q", "EcdsaKey.q", "SkEcdsaKey.q", kind=Kind.BYTES, within=within)
        yield from _string(
            f"{blob}.eddsa.key", "Ed25519Key.key", "SkEd25519Key.key", kind=Kind.BYTES, within=within
        )
    yield _row("ssh.host_sig.length", Kind.INT, *HOST_SIGNATURE, take="length")
    yield from _string("ssh.host_sig.type", "SignatureBlob.algorithm", within=HOST_SIGNATURE)
    for name, algorithm in (("rsa", "ssh-rsa"), ("dsa", "ssh-dss")):
        source = Source("SignatureBlob.body", "raw", HOST_SIGNATURE, when=("algorithm", algorithm))
        yield FieldRow(f"ssh.host_sig.{name}", Kind.BYTES, "", (source,))
    data = Source(
        "SignatureBlob.body", "all", HOST_SIGNATURE, unless=("algorithm", frozenset({"ssh-rsa", "ssh-dss"}))
    )
    yield FieldRow("ssh.host_sig.data", Kind.BYTES, "", (data,))
    yield _row("ssh.pk_sig_blob_length", Kind.INT, *USER_SIGNATURE, take="length")
    yield from _string("ssh.pk_sig_blob_name", "SignatureBlob.algorithm", within=USER_SIGNATURE)
    inner = ("RsaSignature", "DssSignature", "Ed25519Signature", "EcdsaSignature", "SkEd25519Signature",
             "SkEcdsaSignature")  # fmt: skip
    yield from _string(
        "ssh.sig.ssh-rsa.s", *(f"{name}.signature" for name in inner), kind=Kind.BYTES,
        length="ssh.sig.ssh-rsa.length", within=USER_SIGNATURE,
    )  # fmt: skip


def _auth() -> Iterator[FieldRow]:
    yield from _string("ssh.userauth_user_name", "UserauthRequest.user_name")
    yield from _string("ssh.userauth_service_name", "UserauthRequest.service_name")
    yield from _string("ssh.userauth_method_name", "UserauthRequest.method_name")
    yield _row(
        "ssh.userauth.have_signature",
        Kind.BOOL,
        "PublickeyRequest.has_signature",
        "HostboundRequest.has_signature",
    )
    yield from _string(
        "ssh.userauth_pka_name",
        "PublickeyRequest.algorithm",
        "HostboundRequest.algorithm",
        "UserauthPkOk.algorithm",
    )
    yield _row("ssh.userauth.change_password", Kind.BOOL, "PasswordRequest.change")
    yield from _string("ssh.userauth_password", "PasswordRequest.password")
    yield from _string("ssh.userauth_new_password", "PasswordRequest.new_password")
    yield from _string("ssh.auth_failure_cont_list", "UserauthFailure.methods")
    yield _row("ssh.userauth.partial_success", Kind.BOOL, "UserauthFailure.partial_success")


def _connection() -> Iterator[FieldRow]:
    yield from _string("ssh.global_request_name", "GlobalRequest.request_name")
    yield _row("ssh.global_request_want_reply", Kind.INT, "GlobalRequest.want_reply")
    yield from _string("ssh.connection_type_name", "ChannelOpen.channel_type")
    sides = ("ChannelOpen", "ChannelOpenConfirmation")
    yield _row("ssh.connection_sender_channel", Kind.INT, *(f"{side}.sender_channel" for side in sides))
    yield _row("ssh.connection_recipient_channel", Kind.INT, *CHANNEL)
    yield _row(
        "ssh.connection_initial_window_size", Kind.INT, *(f"{side}.initial_window_size" for side in sides)
    )
    yield _row(
        "ssh.userauth_maximum_packet_size", Kind.INT, *(f"{side}.maximum_packet_size" for side in sides)
    )
    yield _row("ssh.channel_window_adjust", Kind.INT, "ChannelWindowAdjust.bytes_to_add")
    yield _row(
        "ssh.channel_data_length", Kind.INT, "ChannelData.data", "ChannelExtendedData.data", take="length"
    )
    yield _row("ssh.channel_data_type_code", Kind.INT, "ChannelExtendedData.data_type_code")
    yield from _string("ssh.channel_request_name", "ChannelRequest.request_type")
    yield _row("ssh.channel_request_want_reply", Kind.INT, "ChannelRequest.want_reply")
    yield from _string("ssh.subsystem_name", "Subsystem.name")
    yield from _string("ssh.exec_command", "Exec.command", length="-")
    yield from _string("ssh.env_name", "Env.name", length="-")
    yield from _string("ssh.env_value", "Env.value", length="-")
    yield _row("ssh.exit_status", Kind.INT, "ExitStatus.status", base="hex")


def _terminal() -> Iterator[FieldRow]:
    yield from _string("ssh.pty_term", "PtyReq.term", length="-")
    for name, field in (
        ("width_char", "columns"), ("height_row", "rows"), ("width_pixel", "width"),
        ("height_pixel", "height"),
    ):  # fmt: skip
        yield _row(f"ssh.pty_term_{name}", Kind.INT, f"PtyReq.{field}")
    yield _row("ssh.pty_term_modes_length", Kind.INT, "PtyReq.modes", take="length")
    for mode in Mode:
        kind = Kind.BOOL if Mode.IGNPAR <= mode <= Mode.PARODD else Kind.INT
        base = "char" if Mode.VINTR <= mode <= Mode.VDISCARD else ""
        source = Source("PtyReq.modes", "mode", mode=mode.value)
        if mode:
            name = mode.name.removeprefix("TTY_OP_").lower()
            yield FieldRow(f"ssh.pty_term_mode.{name}", kind, base, (source,))


PATHS: Final = (
    "Open.path", "Lstat.path", "Setstat.path", "Opendir.path", "Remove.path", "Mkdir.path", "Rmdir.path",
    "Realpath.path", "Stat.path", "Rename.old_path", "Rename.new_path", "Readlink.path",
    "Symlink.target_path", "Symlink.link_path",
)  # fmt: skip
HANDLES: Final = tuple(
    f"{name}.handle" for name in ("Close", "Read", "Write", "Fstat", "Fsetstat", "Readdir", "Handle")
)
REQUESTS: Final = (
    "Open", "Close", "Read", "Write", "Lstat", "Fstat", "Setstat", "Fsetstat", "Opendir", "Readdir", "Remove",
    "Mkdir", "Rmdir", "Realpath", "Stat", "Rename", "Readlink", "Symlink", "StatusReply", "Handle", "Data",
    "Names", "AttrsReply",
)  # fmt: skip


def _sftp() -> Iterator[FieldRow]:
    yield _row("sftp.version", Kind.INT, "Init.version", "Version.version")
    yield _row("sftp.id", Kind.INT, *(f"{name}.id" for name in REQUESTS))
    yield from _string("sftp.path", *PATHS, length="sftp.path_len")
    yield _row("sftp.pflags", Kind.INT, "Open.pflags", base="hex")
    yield from _string("sftp.handle", *HANDLES, kind=Kind.BYTES, length="sftp.handle_len")
    yield _row("sftp.offset", Kind.INT, "Read.offset", "Write.offset")
    yield _row("sftp.length", Kind.INT, "Read.length")
    yield from _string("sftp.data", "Write.data", "Data.data", kind=Kind.BYTES, length="sftp.data_len")
    yield _row("sftp.status", Kind.INT, "StatusReply.code")
    yield from _string("sftp.error_message", "StatusReply.message", length="sftp.error_message_len")
    yield from _string("sftp.lang_tag", "StatusReply.language")
    yield _row("sftp.name_count", Kind.INT, "Names.names", take="count")
    yield from _string("sftp.name_fn", "NameEntry.filename", length="sftp.name_fn_len")
    yield from _string("sftp.name_ln", "NameEntry.longname", length="sftp.name_ln_len")
    for name in ("flags", "size", "uid", "gid", "permissions"):
        yield _row(f"sftp.attrs.{name}", Kind.INT, f"Attrs.{name}")
    for name in ("atime", "mtime"):
        yield _row(f"sftp.attrs.{name}", Kind.INT, f"Attrs.{name}", base="date")
    yield _row("sftp.attrs.extended_count", Kind.INT, "Attrs.extended", take="count")


FIELDS: Final[dict[str, FieldRow]] = {row.name: row for row in _rows()}
"""Every field by its name."""

ALIASES: Final = {
    "ssh.kex.algorithms": "ssh.kex_algorithms",
    "ssh.blob.ssh-rsa.e": "ssh.pk_blob.ssh-rsa.e",
    "ssh.blob.ssh-rsa.n": "ssh.pk_blob.ssh-rsa.n",
}
"""Other names that are understood: of Wireshark before 4.4, and of people's memory."""
