"""RFC 4253 §6.3, §6.4: what turns a packet into wire bytes and back, one object per direction.

A sealer or an opener is made for one set of keys and replaced whole at SSH_MSG_NEWKEYS. There is one
pair per way of joining cipher and MAC, and they differ in what happens to `packet_length`:

    family                         packet_length     the tag covers
    Null                           clear             nothing, there is none
    Gcm        RFC 5647            clear             packet_length and ciphertext
    ChaCha     PROTOCOL.chacha20…  own keystream     both ciphertexts
    CtrEtm     PROTOCOL §1.5       clear             sequence number, packet_length and ciphertext
    Ctr        RFC 4253 §6.4       encrypted         sequence number and the packet in clear

This is the hot path: one call of the primitive and one copy per packet; no view of the caller's buffer
outlives a call, since a bytearray with a view on it cannot be resized.
"""

from __future__ import annotations

import struct
from hmac import compare_digest
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.poly1305 import Poly1305

from ..errors import IntegrityError, LimitExceeded, UsageError
from ..wire import Secret

Buffer = bytes | bytearray
"""A packet to seal."""
Read = bytes | bytearray | memoryview
"""Where a packet to open lies."""

_U32: Final = struct.Struct(">I")
_NONCE: Final = struct.Struct(">4sQ")
_HASHES: Final[dict[str, type[hashes.HashAlgorithm]]] = {
    "sha1": hashes.SHA1, "sha256": hashes.SHA256, "sha512": hashes.SHA512,
}  # fmt: skip
_COUNTER_END: Final = 1 << 64
_POLY_BLOCK: Final = bytes(64)


class Sealer(Protocol):
    """Seals the packets of one direction.

    `block_size` is what the encrypted part of a packet is padded to a multiple of (RFC 4253 §6);
    `aad_length` is 4 where packet_length is left out of that count, else 0; `tag_size` is the number
    of bytes appended to the packet.
    """

    block_size: int
    aad_length: int
    tag_size: int

    def seal_into(self, seq: int, packet: Buffer, out: memoryview) -> None:
        """Fills `out`, which is `tag_size` bytes longer, with the wire form of `packet`.

        `packet` is the whole of RFC 4253 §6 in clear: uint32 packet_length, padding_length, payload
        and padding; `seq` is its sequence number. Raises UsageError where the keys are used up.
        """
        ...


class Opener(Protocol):
    """Opens the packets of one direction; the sizes are those of `Sealer`.

    `head_size` is how many bytes must have arrived before `packet_length` can be asked.
    """

    block_size: int
    aad_length: int
    tag_size: int
    head_size: int

    def packet_length(self, seq: int, buffer: Read, offset: int) -> int:
        """The packet_length of the packet at `offset`, as the peer wrote it: not checked in any way.

        Needs `head_size` bytes from `offset`. Asking again for the same packet gives the same answer.
        """
        ...

    def open(self, seq: int, buffer: Read, offset: int, packet_length: int) -> bytes:
        """Verifies and opens the packet at `offset`: padding_length, payload and padding in clear.

        Needs 4 + `packet_length` + `tag_size` bytes from `offset`, and `packet_length` asked before.
        Raises IntegrityError, the same whatever was altered; LimitExceeded where the keys are used up.
        """
        ...


def _altered() -> IntegrityError:
    # One message for every cause: a difference is an oracle (RFC 4251 §9.3.2).
    return IntegrityError("a packet of the peer does not verify", hint="it was altered on the way")


class Mac:
    """HMAC over the sequence number and a packet (RFC 6668); `etm` says whether it is the ciphertext's.

    The key is absorbed once: a copy of the prepared state costs half of a fresh HMAC.
    """

    __slots__ = ("_keyed", "etm", "size")

    def __init__(self, hash_name: str, key: Secret, *, etm: bool) -> None:
        algorithm = _HASHES[hash_name]()
        self._keyed = hmac.HMAC(key.reveal(), algorithm)
        self.size = algorithm.digest_size
        self.etm = etm

    def tag(self, seq: int, head: Buffer | memoryview, rest: Buffer | memoryview) -> bytes:
        """The tag of a packet that comes in two parts."""
        mac = self._keyed.copy()
        mac.update(_U32.pack(seq))
        mac.update(head)
        mac.update(rest)
        return mac.finalize()


class Null:
    """No cipher and no MAC: both directions before the first SSH_MSG_NEWKEYS."""

    __slots__ = ()
    block_size = 8
    aad_length = 0
    tag_size = 0
    head_size = 4

    def seal_into(self, seq: int, packet: Buffer, out: memoryview) -> None:
        """Copies `packet` as it is."""
        out[:] = packet

    def packet_length(self, seq: int, buffer: Read, offset: int) -> int:
        """See `Opener.packet_length`."""
        return int(_U32.unpack_from(buffer, offset)[0])

    def open(self, seq: int, buffer: Read, offset: int, packet_length: int) -> bytes:
        """See `Opener.open`; never fails."""
        with memoryview(buffer) as view:
            return bytes(view[offset + 4 : offset + 4 + packet_length])


class _Gcm:
    """RFC 5647 §7.1: the nonce is four fixed bytes and a counter of the packets, both from the IV."""

    __slots__ = ("_aead", "_counter", "_fixed")
    block_size = 16
    aad_length = 4
    tag_size = 16
    head_size = 4

    def __init__(self, key: Secret, iv: Secret) -> None:
        self._aead = AESGCM(key.reveal())
        self._fixed = iv.reveal()[:4]
        self._counter = int.from_bytes(iv.reveal()[4:12], "big")


class GcmSealer(_Gcm):
    """Seals with AES-GCM; packet_length is the associated data."""

    __slots__ = ()

    def seal_into(self, seq: int, packet: Buffer, out: memoryview) -> None:
        """See `Sealer.seal_into`."""
        counter = self._counter
        if counter >= _COUNTER_END:
            raise UsageError("the AES-GCM counter is used up before a rekey", clause="RFC 5647 7.1")
        self._counter = counter + 1
        head = packet[:4]
        out[:4] = head
        self._aead.encrypt_into(_NONCE.pack(self._fixed, counter), memoryview(packet)[4:], head, out[4:])


class GcmOpener(_Gcm):
    """Opens AES-GCM."""

    __slots__ = ()

    def leap(self, packets: int) -> None:
        """Passes over packets that nobody has: for a reader of captures; a connection never does."""
        self._counter += packets

    def packet_length(self, seq: int, buffer: Read, offset: int) -> int:
        """See `Opener.packet_length`."""
        return int(_U32.unpack_from(buffer, offset)[0])

    def open(self, seq: int, buffer: Read, offset: int, packet_length: int) -> bytes:
        """See `Opener.open`."""
        counter = self._counter
        if counter >= _COUNTER_END:
            raise LimitExceeded("the AES-GCM counter is used up before a rekey", clause="RFC 5647 7.1")
        self._counter = counter + 1
        body = offset + 4
        with memoryview(buffer) as view:
            try:
                return self._aead.decrypt(
                    _NONCE.pack(self._fixed, counter),
                    view[body : body + packet_length + 16],
                    view[offset:body],
                )
            except InvalidTag:
                raise _altered() from None


class _ChaCha:
    """OpenSSH PROTOCOL.chacha20poly1305: two ChaCha20 keys, the nonce is the sequence number.

    The first half of the key (K_2) is the payload's, the second (K_1) is packet_length's. The Poly1305
    key is the first half of K_2's block 0, and the payload starts at block 1: asking for all 64 bytes
    of block 0 leaves the context there, and saves setting the nonce twice.
    """

    __slots__ = ("_length", "_payload")
    block_size = 8
    aad_length = 4
    tag_size = 16
    head_size = 4

    def __init__(self, key: Secret, iv: Secret) -> None:
        raw = key.reveal()
        self._payload: CipherContext = _chacha20(raw[:32])
        self._length: CipherContext = _chacha20(raw[32:64])


def _chacha20(key: bytes) -> CipherContext:
    # A stream cipher is its own inverse, so both directions encrypt.
    return Cipher(algorithms.ChaCha20(key, bytes(16)), None).encryptor()


class ChaChaSealer(_ChaCha):
    """Seals with chacha20-poly1305@openssh.com."""

    __slots__ = ()

    def seal_into(self, seq: int, packet: Buffer, out: memoryview) -> None:
        """See `Sealer.seal_into`."""
        nonce = seq.to_bytes(16, "big")
        self._length.reset_nonce(nonce)
        self._payload.reset_nonce(nonce)
        poly = Poly1305(self._payload.update(_POLY_BLOCK)[:32])
        head = self._length.update(packet[:4])
        size = len(packet)
        body = out[4:size]
        self._payload.update_into(memoryview(packet)[4:], body)
        out[:4] = head
        poly.update(out[:size])
        out[size:] = poly.finalize()


class ChaChaOpener(_ChaCha):
    """Opens chacha20-poly1305@openssh.com."""

    __slots__ = ()

    def packet_length(self, seq: int, buffer: Read, offset: int) -> int:
        """See `Opener.packet_length`."""
        self._length.reset_nonce(seq.to_bytes(16, "big"))
        return int.from_bytes(self._length.update(buffer[offset : offset + 4]), "big")

    def open(self, seq: int, buffer: Read, offset: int, packet_length: int) -> bytes:
        """See `Opener.open`; the tag is verified before anything but packet_length is decrypted."""
        self._payload.reset_nonce(seq.to_bytes(16, "big"))
        key = self._payload.update(_POLY_BLOCK)[:32]
        end = offset + 4 + packet_length
        with memoryview(buffer) as view:
            if not compare_digest(Poly1305.generate_tag(key, view[offset:end]), view[end : end + 16]):
                raise _altered()
            return self._payload.update(view[offset + 4 : end])


class _Ctr:
    """RFC 4344 §4: AES as a key stream that runs on from packet to packet."""

    __slots__ = ("_mac", "_stream", "tag_size")
    block_size = 16

    def __init__(self, key: Secret, iv: Secret, mac: Mac) -> None:
        # Counter mode decrypts by encrypting, so both directions encrypt.
        self._stream = Cipher(algorithms.AES(key.reveal()), modes.CTR(iv.reveal())).encryptor()
        self._mac = mac
        self.tag_size = mac.size


    def _refuse(self) -> None:
        """The tag is wrong. A live connection ends here; who reads a capture takes note and goes on."""
        raise _altered()


class CtrEtmSealer(_Ctr):
    """Seals with AES-CTR, then a MAC of the ciphertext (OpenSSH PROTOCOL §1.5)."""

    __slots__ = ()
    aad_length = 4

    def seal_into(self, seq: int, packet: Buffer, out: memoryview) -> None:
        """See `Sealer.seal_into`."""
        head = packet[:4]
        body = self._stream.update(memoryview(packet)[4:])
        size = len(packet)
        out[:4] = head
        out[4:size] = body
        out[size:] = self._mac.tag(seq, head, body)


class CtrEtmOpener(_Ctr):
    """Opens AES-CTR with a MAC of the ciphertext, which is verified first."""

    __slots__ = ()
    aad_length = 4
    head_size = 4

    def packet_length(self, seq: int, buffer: Read, offset: int) -> int:
        """See `Opener.packet_length`."""
        return int(_U32.unpack_from(buffer, offset)[0])

    def open(self, seq: int, buffer: Read, offset: int, packet_length: int) -> bytes:
        """See `Opener.open`."""
        body = offset + 4
        end = body + packet_length
        with memoryview(buffer) as view:
            tag = self._mac.tag(seq, view[offset:body], view[body:end])
            if not compare_digest(tag, view[end : end + self.tag_size]):
                self._refuse()
            return self._stream.update(view[body:end])


class CtrSealer(_Ctr):
    """Seals with AES-CTR and a MAC of the packet in clear (RFC 4253 §6.4)."""

    __slots__ = ()
    aad_length = 0

    def seal_into(self, seq: int, packet: Buffer, out: memoryview) -> None:
        """See `Sealer.seal_into`."""
        size = len(packet)
        out[:size] = self._stream.update(packet)
        out[size:] = self._mac.tag(seq, packet, b"")


class CtrOpener(_Ctr):
    """Opens AES-CTR with a MAC of the packet in clear: the first block is decrypted to learn the length."""

    __slots__ = ("_first",)
    aad_length = 0
    head_size = 16

    def __init__(self, key: Secret, iv: Secret, mac: Mac) -> None:
        super().__init__(key, iv, mac)
        self._first = b""

    def packet_length(self, seq: int, buffer: Read, offset: int) -> int:
        """See `Opener.packet_length`."""
        # The key stream moves on with every block, so the block is kept until `open`.
        if not self._first:
            self._first = self._stream.update(buffer[offset : offset + self.block_size])
        return int.from_bytes(self._first[:4], "big")

    def open(self, seq: int, buffer: Read, offset: int, packet_length: int) -> bytes:
        """See `Opener.open`."""
        first, self._first = self._first, b""
        end = offset + 4 + packet_length
        with memoryview(buffer) as view:
            rest = self._stream.update(view[offset + self.block_size : end])
            if not compare_digest(self._mac.tag(seq, first, rest), view[end : end + self.tag_size]):
                self._refuse()
        return first[4:] + rest


class _CbcSealing(_Ctr):
    """RFC 4253 §6.3: AES in CBC mode, whose last block is the next packet's vector. For old devices alone:
    who can change packets on their way learns bits of the plaintext (CVE-2008-5161)."""

    __slots__ = ()

    def __init__(self, key: Secret, iv: Secret, mac: Mac) -> None:
        super().__init__(key, iv, mac)
        self._stream = Cipher(algorithms.AES(key.reveal()), modes.CBC(iv.reveal())).encryptor()


class _CbcOpening(_Ctr):
    """The other direction."""

    __slots__ = ()

    def __init__(self, key: Secret, iv: Secret, mac: Mac) -> None:
        super().__init__(key, iv, mac)
        self._stream = Cipher(algorithms.AES(key.reveal()), modes.CBC(iv.reveal())).decryptor()


class CbcSealer(_CbcSealing, CtrSealer):
    """Seals with AES-CBC and a MAC of the packet in clear."""

    __slots__ = ()


class CbcEtmSealer(_CbcSealing, CtrEtmSealer):
    """Seals with AES-CBC, then a MAC of the ciphertext."""

    __slots__ = ()


class CbcOpener(CtrOpener):
    """Opens AES-CBC with a MAC of the packet in clear."""

    __slots__ = ()

    def __init__(self, key: Secret, iv: Secret, mac: Mac) -> None:
        super().__init__(key, iv, mac)
        self._stream = Cipher(algorithms.AES(key.reveal()), modes.CBC(iv.reveal())).decryptor()


class CbcEtmOpener(_CbcOpening, CtrEtmOpener):
    """Opens AES-CBC with a MAC of the ciphertext."""

    __slots__ = ()


def aes_cbc_sealer(key: Secret, iv: Secret, mac: Mac | None) -> Sealer:
    """Seals with AES-CBC and `mac`, in the MAC's own order. Raises UsageError without a MAC."""
    mac = _required(mac)
    return CbcEtmSealer(key, iv, mac) if mac.etm else CbcSealer(key, iv, mac)


def aes_cbc_opener(key: Secret, iv: Secret, mac: Mac | None) -> Opener:
    """Opens AES-CBC with `mac`, in the MAC's own order. Raises UsageError without a MAC."""
    mac = _required(mac)
    return CbcEtmOpener(key, iv, mac) if mac.etm else CbcOpener(key, iv, mac)


def aes_gcm_sealer(key: Secret, iv: Secret, mac: Mac | None) -> Sealer:
    """Seals with AES-GCM; there is no MAC beside it."""
    return GcmSealer(key, iv)


def aes_gcm_opener(key: Secret, iv: Secret, mac: Mac | None) -> Opener:
    """Opens AES-GCM."""
    return GcmOpener(key, iv)


def chacha20_poly1305_sealer(key: Secret, iv: Secret, mac: Mac | None) -> Sealer:
    """Seals with chacha20-poly1305@openssh.com; there is no MAC beside it."""
    return ChaChaSealer(key, iv)


def chacha20_poly1305_opener(key: Secret, iv: Secret, mac: Mac | None) -> Opener:
    """Opens chacha20-poly1305@openssh.com."""
    return ChaChaOpener(key, iv)


def aes_ctr_sealer(key: Secret, iv: Secret, mac: Mac | None) -> Sealer:
    """Seals with AES-CTR and `mac`, in the MAC's own order. Raises UsageError without a MAC."""
    mac = _required(mac)
    return CtrEtmSealer(key, iv, mac) if mac.etm else CtrSealer(key, iv, mac)


def aes_ctr_opener(key: Secret, iv: Secret, mac: Mac | None) -> Opener:
    """Opens AES-CTR with `mac`, in the MAC's own order. Raises UsageError without a MAC."""
    mac = _required(mac)
    return CtrEtmOpener(key, iv, mac) if mac.etm else CtrOpener(key, iv, mac)


def _required(mac: Mac | None) -> Mac:
    if mac is None:
        raise UsageError("counter mode without a MAC protects nothing", clause="RFC 4344 4")
    return mac
