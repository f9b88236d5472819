"""RFC 4253 §7.2: the keys of a connection from what a key exchange produced."""

from __future__ import annotations

import hashlib

from ..wire import Secret


def derive(hash_name: str, k: Secret, h: bytes, letter: bytes, session_id: bytes, size: int) -> Secret:
    """`size` bytes of key: HASH(K || H || letter || session_id), lengthened where one hash is too short.

    `k` is K as encoded in the exchange hash (an mpint or a string, with its length); `h` is the hash of
    this exchange, `session_id` that of the first. `letter` is b"A" to b"F": the IVs, the cipher keys and
    the MAC keys, client to server before server to client.
    """
    prefix = k.reveal() + h
    key = hashlib.new(hash_name, prefix + letter + session_id).digest()
    while len(key) < size:
        key += hashlib.new(hash_name, prefix + key).digest()
    return Secret(key[:size])
