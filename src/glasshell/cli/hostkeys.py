"""The host keys of `glasshell sshd`: the machine's own, or those made once for an ordinary user."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from ..crypto.signatures import PrivateKey, PublicKey
from ..errors import ConfigError, KeyFormatError
from ..keys.openssh import dump_private_key, load_private_key
from ..keys.public import AnyKey, dump_public_key, load_key
from ..system.files import read_regular

__all__ = ["SYSTEM_KEYS", "load_certificates", "load_host_keys", "state_folder", "users_host_keys"]

SYSTEM_KEYS: Final = tuple(f"/etc/ssh/ssh_host_{kind}_key" for kind in ("rsa", "ecdsa", "ed25519"))
"""Where sshd_config(5), HostKey, says they are."""

_MADE: Final = (("ssh-ed25519", "ed25519", None), ("ssh-rsa", "rsa", 3072))


def state_folder() -> Path:
    """Where this user's programs keep what they made: the XDG state folder."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "glasshell"


def load_host_keys(paths: Sequence[str], warn: Callable[[str], None]) -> list[PrivateKey]:
    """The keys that can be used; `warn` hears why another cannot."""
    keys = []
    for path in paths:
        try:
            keys.append(_load(path))
        except OSError as error:
            warn(f"Unable to load host key {path}: {error.strerror or error}")
        except KeyFormatError as error:
            warn(f"Unable to load host key {path}: {error}")
    return keys


def load_certificates(
    paths: Sequence[str], keys: Sequence[PrivateKey], warn: Callable[[str], None]
) -> list[AnyKey]:
    """The certificates of host `keys` (HostCertificate); `warn` hears why another cannot be used."""
    public = [key.public for key in keys]
    found: list[AnyKey] = []
    for path in paths:
        try:
            key, _ = load_key(read_regular(path))
        except OSError as error:
            warn(f'Could not load host certificate "{path}": {error.strerror or error}')
        except KeyFormatError as error:
            warn(f'Could not load host certificate "{path}": {error}')
        else:
            if isinstance(key, PublicKey):
                warn(f"Certificate file is not a certificate: {path}")
            elif key.kind != "host":
                warn(f"Certificate file is not a host certificate: {path}")
            elif key.plain not in public:
                warn(f"No matching private key for certificate: {path}")
            else:
                found.append(key)
    return found


def _load(path: str) -> PrivateKey:
    status = Path(path).stat()
    if status.st_uid == os.getuid() and status.st_mode & 0o077:
        raise KeyFormatError(f"permissions 0{status.st_mode & 0o777:o} are too open: others could read it")
    return load_private_key(read_regular(path))


def users_host_keys() -> list[str]:
    """The files of this user's own host keys; what is missing is made now. Raises ConfigError."""
    folder = state_folder()
    paths = []
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for key_type, name, bits in _MADE:
            path = folder / f"ssh_host_{name}_key"
            if not path.exists():
                _make(path, PrivateKey.generate(key_type, bits, comment="glasshell"))
            paths.append(str(path))
    except OSError as error:
        raise ConfigError(f"host keys cannot be kept in {folder}: {error.strerror or error}") from None
    return paths


def _make(path: Path, key: PrivateKey) -> None:
    """Writes a key under another name first: nobody ever reads half a key, and of two makers one wins."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(dump_private_key(key))
    try:
        with suppress(FileExistsError):
            os.link(draft, path)
            public = dump_public_key(key.public, key.comment)
            path.with_name(f"{path.name}.pub").write_text(f"{public}\n", "utf-8")
    finally:
        draft.unlink()
