"""What a capture tells without keys, held against tshark, Suricata and OpenSSH."""

from __future__ import annotations

import lzma
from pathlib import Path

from .reading import captures, read, table

__all__ = ["captures"]


def test_hassh_is_tshark_s_on_every_capture(captures: Path) -> None:
    compared = 0
    for capture in sorted(captures.glob("*.pcap*")):
        if capture.suffix not in (".pcap", ".pcapng"):
            continue
        truth: set[tuple[str, str, str]] = set()
        for row in table(Path(f"{capture}.tshark46.fields.tsv.xz")):
            for column in ("ssh.kex.hassh", "ssh.kex.hasshserver"):
                if row[column]:
                    truth.add((row["tcp.stream"], column, row[column]))
        told = read(capture)
        got = {
            (str(seen.stream), "ssh.kex.hassh" if seen.client else "ssh.kex.hasshserver", facts["hash"])
            for seen, facts in zip(told.states("hassh"), told.facts("hassh"), strict=True)
        }
        assert truth <= got, capture.name
        compared += len(truth)
    assert compared > 50


def test_fingerprints_are_openssh_s_and_zeek_s(captures: Path) -> None:
    capture = captures / "generated__g01-gcm128-exec.pcap"
    log = lzma.decompress(Path(f"{capture}.openssh-debug.log.xz").read_bytes()).decode()
    (facts,) = read(capture).facts("host_key")
    assert f"private host key #0: {facts['type']} {facts['fingerprint']}" in log
    # Zeek's baseline of dh_group18_kex.zeek, which is cut after 32 characters.
    (facts,) = read(captures / "zeek__ssh_kex_dh_group18.pcap").facts("host_key")
    assert facts["fingerprint"].startswith("SHA256:yTfbC6C3+jxaVEUMovED7msp40/BWqET")
    assert (facts["type"], facts["bits"]) == ("ssh-ed25519", 256)


def test_terrapin(captures: Path) -> None:
    """The attack's own trace was made with it; strict key exchange was made against it."""
    for facts in read(captures / "RUB-NDS__ext_downgrade_chacha20-poly1305.pcapng").facts("terrapin"):
        assert facts["exposed"]
        assert facts["by"] == ("chacha20-poly1305@openssh.com",)
    (facts,) = read(captures / "generated__g03-chacha-strict-sftp.pcap").facts("terrapin")
    assert (facts["exposed"], facts["strict"]) == (False, True)


def test_hassh_is_suricata_s(captures: Path) -> None:
    """The values that suricata-verify expects of this capture (tests/ssh-hassh/test.yaml)."""
    got = read(captures / "OISF__ssh-hassh.pcap")
    told = zip(got.states("hassh"), got.facts("hassh"), strict=True)
    assert {seen.client: facts["hash"] for seen, facts in told} == {
        True: "2dd6531c7e89d3c925db9214711be76a",
        False: "6832f1ce43d4397c2c0a3e2f8c94334e",
    }
