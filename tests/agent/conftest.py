"""Keys, and the program that knows how they are written: as for the tests of their formats."""

from __future__ import annotations

from tests.keys.conftest import Keygen, private_key, ssh_keygen, sshkey_data

__all__ = ["Keygen", "private_key", "ssh_keygen", "sshkey_data"]
