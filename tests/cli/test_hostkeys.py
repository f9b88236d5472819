"""HostCertificate: which files a server takes, and what it says of the others."""

from __future__ import annotations

from pathlib import Path

from glasshell.cli.hostkeys import load_certificates
from glasshell.crypto.signatures import PrivateKey
from glasshell.keys.certificate import sign_certificate
from glasshell.keys.public import dump_public_key

HOST, OTHER, CA = (PrivateKey.generate("ssh-ed25519") for _ in range(3))


def test_certificates_of_host_keys(tmp_path: Path) -> None:
    made = sign_certificate(HOST.public, CA, kind="host", key_id="", principals=["h"])
    other = sign_certificate(OTHER.public, CA, kind="host", key_id="", principals=["h"])
    files = {
        "good": dump_public_key(made),
        "plain": dump_public_key(HOST.public),
        "user": dump_public_key(sign_certificate(HOST.public, CA, kind="user", key_id="", principals=["u"])),
        "other": dump_public_key(other),
        "cut": dump_public_key(made)[:100],
    }
    paths = [str(tmp_path / name) for name in (*files, "missing")]
    for path, text in zip(paths, files.values(), strict=False):
        Path(path).write_text(text)
    said: list[str] = []
    assert load_certificates(paths, [HOST], said.append) == [made]
    told = [line.replace(f"{tmp_path}/", "") for line in said]
    assert told[:3] == [
        "Certificate file is not a certificate: plain",
        "Certificate file is not a host certificate: user",
        "No matching private key for certificate: other",
    ]
    assert [line.partition(":")[0] for line in told[3:]] == [
        'Could not load host certificate "cut"', 'Could not load host certificate "missing"',
    ]  # fmt: skip
