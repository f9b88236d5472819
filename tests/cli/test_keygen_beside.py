"""`glasshell keygen` beside ssh-keygen of 9.2 and 10.6: the same command lines, the same answers."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.beside import Beside, Said, beside
from tests.interop.peers import NEWEST

PASSPHRASE = "mekmitasdigoat"  # of OpenSSH's own test keys


@pytest.fixture(params=["9.2", "10.6"])
def pair(request: pytest.FixtureRequest) -> Iterator[Beside]:
    with beside(request.param) as made:
        yield made


@pytest.fixture
def newest() -> Iterator[Beside]:
    with beside("10.6") as made:
        yield made


def agree(pair: Beside, *words: str | Path, stdin: str = "") -> Said:
    """Both say the same."""
    ours, theirs = pair.ours(*words, stdin=stdin), pair.theirs(*words, stdin=stdin)
    assert ours.seen == theirs.seen, (words, ours.err, theirs.err)
    return ours


def lines(said: Said) -> list[str]:
    return said.out.splitlines()


# ---- OpenSSH's own files


def copied(pair: Beside, shared: Path) -> list[str]:
    """OpenSSH's test keys, private, public and with certificates, and its known_hosts, in the folder."""
    tests = shared / "vectors/openssh/unittests"
    folders = ("sshkey/testdata/*", "authopt/testdata/*.cert", "sshsig/testdata/*.pub")
    found = [path for pattern in folders for path in tests.glob(pattern)]
    keys = [path for path in found if not re.search(r"\.fp|\.param", path.name)]
    for path in [*keys, tests / "hostkeys/testdata/known_hosts"]:
        shutil.copy(path, pair.folder / path.name)
        (pair.folder / path.name).chmod(0o600)
    names = sorted(path.name for path in pair.folder.iterdir())
    assert len(names) > 60
    return names


SHORT = re.compile("rsa_(1|n)")
"""RSA keys of 1,024 bits, which are shown, and used for nothing."""


@pytest.mark.parametrize(
    "flags",
    [("-l",), ("-lv",), ("-l", "-E", "md5"), ("-lE", "sha512"), ("-B",), ("-y", "-P", PASSPHRASE), ("-e",),
     ("-e", "-m", "PEM", "-P", PASSPHRASE), ("-e", "-m", "pkcs8", "-P", PASSPHRASE), ("-L",), ("-i",),
     ("-r", "host.example"), ("-gr", "host.example")],
    ids=" ".join,
)  # fmt: skip
def test_openssh_s_own_files(flags: tuple[str, ...], newest: Beside, shared: Path) -> None:
    samples = copied(newest, shared)
    shown = answered = 0
    for name in samples:
        ours, theirs = newest.ours(*flags, "-f", name), newest.theirs(*flags, "-f", name)
        if ours.seen == theirs.seen:
            answered += theirs.status == 0
        elif theirs.status == 255:  # Ed25519 has a form in PEM, which OpenSSH does not write
            assert "-m" in flags
            assert ours.out.startswith("-----BEGIN PUBLIC KEY")
            assert "unsupported key type ED25519" in theirs.err
        else:
            assert SHORT.match(name) or (name == "known_hosts" and "1024" in theirs.out), (name, ours, theirs)
            shown += 1
    assert answered > 10 or flags == ("-i",)  # for which there is none
    # What cannot be read of a short key in PEM is not shown; it has no public half outside its encryption.
    assert shown <= (12 if flags[0] not in ("-l", "-lv", "-lE", "-B") else 3)


def test_files_of_several_keys_and_standard_input(newest: Beside) -> None:
    for kind in ("ed25519", "ecdsa", "rsa"):
        newest.theirs("-q", "-t", kind, "-N", "", "-C", f"an {kind} key", "-f", kind)
    keys = [(newest.folder / f"{kind}.pub").read_text().strip() for kind in ("ed25519", "ecdsa", "rsa")]
    bare = " ".join(keys[0].split()[:2])
    known = [
        f"a.example,b.example {bare}",
        f"@revoked c {bare}",
        f"|1|x= {bare} d\r",
        "bad line",
        f"h {keys[2]} # e",
    ]
    texts = {
        "several": "\n".join(["# a comment", "", *keys, bare, f"  \t{bare}  ", ""]),
        "authorized": f'command="a \\"b c" {keys[0]}\nfrom="x y",no-pty {bare}\n1024 35 12345 old\n{keys[1]}',
        "known_hosts": "\n".join(known),
        "comments": f"{bare} #not\n{bare} a # b\n7 {bare}\nx {bare} #y",
        "junk": "nothing here\nssh-ed25519 AAAA\n",
        "empty": "",
    }
    for name, text in texts.items():
        newest.write(name, text)
        for flags in (("-l",), ("-lv",), ("-lE", "md5"), ("-B",)):
            agree(newest, *flags, "-f", name)
            agree(newest, *flags, "-f", "-", stdin=text)
    agree(newest, "-l", "-f", "missing")


# ---- keys made


@pytest.mark.parametrize(
    "flags",
    [("-t", "ed25519"), ("-t", "ecdsa", "-b", "521"), ("-t", "rsa", "-b", "2048"),
     ("-t", "ecdsa-sha2-nistp384"),
     ("-t", "rsa", "-b", "2048", "-m", "PEM"), ("-t", "ecdsa", "-m", "PKCS8")],
    ids=" ".join,
)  # fmt: skip
@pytest.mark.parametrize("passphrase", ["", "open sesame"])
def test_keys_made_by_either_are_read_by_the_other(
    flags: tuple[str, ...], passphrase: str, pair: Beside
) -> None:
    first = ""
    for make, name in ((pair.ours, "mine"), (pair.theirs, "other")):
        said = make(*flags, "-N", passphrase, "-a", "1", "-C", "märz", "-f", name)
        assert said.status == 0
        assert (pair.folder / name).stat().st_mode & 0o777 == 0o600
        public = (pair.folder / f"{name}.pub").read_text()
        shown = agree(pair, "-y", "-P", passphrase, "-f", name)
        assert public.startswith(shown.out.strip())
        agree(pair, "-l", "-f", name)
        masked = re.sub(r"SHA256:\S+|\|.*\|", "...", said.out).replace(name, "NAME")
        assert masked == (first or masked)
        first = masked


@pytest.mark.parametrize("cipher", ["aes256-ctr", "aes192-cbc", "aes128-gcm@openssh.com",
                                    "aes256-gcm@openssh.com",
                                    "chacha20-poly1305@openssh.com"])  # fmt: skip
def test_passphrases_changed_under_every_cipher(cipher: str, pair: Beside) -> None:
    pair.theirs("-q", "-t", "ed25519", "-N", "first", "-a", "1", "-C", "c d", "-f", "key")
    before = (pair.folder / "key.pub").read_text()
    ours = pair.ours("-p", "-P", "first", "-N", "second", "-a", "2", "-Z", cipher, "-f", "key")
    assert pair.theirs("-y", "-P", "second", "-f", "key").seen == (0, before)
    assert cipher.encode() in unarmored(pair.folder / "key")
    theirs = pair.theirs("-p", "-P", "second", "-N", "third", "-a", "2", "-Z", cipher, "-f", "key")
    assert ours.seen == theirs.seen
    assert pair.ours("-y", "-P", "third", "-f", "key").seen == (0, before)
    assert pair.ours("-p", "-P", "wrong", "-N", "", "-f", "key").status == 255
    assert pair.ours("-p", "-P", "third", "-N", "", "-m", "PEM", "-f", "key").status == 0
    assert pair.theirs("-y", "-f", "key").seen == (0, before)  # Ed25519 has no form of its own in PEM


def unarmored(path: Path) -> bytes:
    import base64

    return base64.b64decode("".join(path.read_text().splitlines()[1:-1]))


@pytest.mark.parametrize("name", ["ed25519_sk1", "ecdsa_sk1", "ed25519_sk1_pw", "ecdsa_sk1_pw"])
def test_the_files_of_security_keys(name: str, pair: Beside, shared: Path) -> None:
    """They are read, listed, and written anew with another passphrase, flags and handle as they were."""
    data = (shared / f"vectors/openssh/unittests/sshkey/testdata/{name}").read_bytes()
    for copy in ("a", "b"):
        pair.write(copy, data)
    agree(pair, "-y", "-P", PASSPHRASE, "-f", "a")
    flags = ("-O", "verify-required") if pair.place is NEWEST else ()  # 9.2 does not change them
    for act, copy in ((pair.ours, "a"), (pair.theirs, "b")):
        assert act("-p", "-P", PASSPHRASE, "-N", "", *flags, "-f", copy).status == 0
    same = [unarmored(pair.folder / copy) for copy in ("a", "b")]
    at = same[0].rindex(b"sk-") - 4
    assert same[0][: at - 8] == same[1][: at - 8]  # then two check numbers, which are random
    assert same[0][at:] == same[1][at:]
    assert pair.ours("-p", "-N", "", "-O", "clear", "-f", "a").status == 255


def test_comments_changed(pair: Beside) -> None:
    for copy in ("a", "b"):
        pair.theirs("-q", "-t", "ed25519", "-N", "pass", "-a", "1", "-C", "old one", "-f", copy)
    for words, stdin in ((("-C", "new one"), ""), ((), "typed\n"), (("-C", "typed"), ""), (("-C", ""), "")):
        ours = pair.ours("-c", "-a", "1", "-P", "pass", *words, "-f", "a", stdin=stdin)
        theirs = pair.theirs("-c", "-a", "1", "-P", "pass", *words, "-f", "b", stdin=stdin)
        assert ours.seen == theirs.seen
        ends = [(pair.folder / f"{copy}.pub").read_text().split()[2:] for copy in ("a", "b")]
        assert ends[0] == ends[1]
        comments = [pair.theirs("-y", "-P", "pass", "-f", copy).out.split()[2:] for copy in ("a", "b")]
        assert comments[0] == comments[1]


def test_host_keys(pair: Beside) -> None:
    for root in ("ours", "theirs"):
        (pair.folder / root / "etc/ssh").mkdir(parents=True)
    ours, theirs = pair.ours("-A", "-f", "ours"), pair.theirs("-A", "-f", "theirs")
    assert ours.status == theirs.status == 0
    known = re.compile(r" (DSA|MLDSA44-ED25519)(?= )")  # too old, and on request only
    assert ours.out.replace("glasshell keygen", "ssh-keygen") == known.sub("", theirs.out)
    made, others = (
        {path.name for path in (pair.folder / f"{who}/etc/ssh").iterdir()} for who in ("ours", "theirs")
    )
    assert made == {name for name in others if "_dsa_" not in name and "mldsa" not in name}
    for name in made:
        agree(pair, "-l", "-f", f"ours/etc/ssh/{name}")
    assert pair.ours("-A", "-f", "ours").seen == (0, "")


# ---- certificates


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """`ca` and `rsa_ca`, and the public key `user.pub` to be certified."""
    with beside("9.2") as pair:
        pair.theirs("-q", "-t", "ed25519", "-N", "", "-C", "the CA", "-f", "ca")
        pair.theirs("-q", "-t", "rsa", "-b", "2048", "-N", "", "-C", "the CA", "-f", "rsa_ca")
        pair.theirs("-q", "-t", "ecdsa", "-N", "", "-C", "a user", "-f", "user")
        yield pair.folder


@pytest.fixture
def authority(pair: Beside, made: Path) -> Beside:
    """A folder with copies of these keys."""
    shutil.copytree(made, pair.folder, dirs_exist_ok=True)
    return pair


@pytest.mark.parametrize(
    "flags",
    [
        ("-n", "alice,bob"),
        ("-n", "alice", "-z", "7", "-V", "20300101:20310203040506Z"),
        ("-h", "-n", "host.example", "-V", "always:forever"),
        ("-n", "a", "-V", "always:20300101"),
        ("-n", "a", "-V", "0x10:forever"),
        (
            "-n",
            "a",
            "-O",
            "clear",
            "-O",
            "permit-pty",
            "-O",
            "force-command=ls -l",
            "-O",
            "source-address=10.0.0.0/8",
        ),
        ("-n", "a", "-O", "no-x11-forwarding", "-O", "verify-required", "-O", "no-touch-required"),
        ("-n", "a", "-O", "extension:x@y=z", "-O", "extension:flag@y", "-O", "critical:c@y=d"),
        ("-h", "-n", "a", "-O", "permit-pty"),
        (),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("ca", ["ca", "rsa_ca"])
def test_certificates_are_the_same(flags: tuple[str, ...], ca: str, authority: Beside) -> None:
    shown = []
    for act in (authority.ours, authority.theirs):
        said = act("-s", ca, "-I", "an id", *flags, "user.pub")
        assert said.status == 0
        told = re.sub(r"^.*?(Signed)", r"\1", said.err.replace("\r", ""), flags=re.DOTALL)
        shown.append((told, agree(authority, "-L", "-f", "user-cert.pub").out))
        assert (authority.folder / "user-cert.pub").read_text().endswith(" a user\n")
        agree(authority, "-l", "-f", "user-cert.pub")
    assert shown[0] == shown[1]


@pytest.mark.parametrize(
    "flags",
    [("-V", "forever"), ("-V", "20310101:20300101"), ("-V", "+1x"), ("-V", "x:forever"), ("-n", "a,,b"),
     ("-O", "nonsense"), ("-O", "force-command="), ("-O", "source-address=10.0.0.0/99"), ("-t", "rsa"),
     ("-O", "force-command=a", "-O", "force-command=b"), ("-z", "x"), ("-z", "18446744073709551616")],
    ids=" ".join,
)  # fmt: skip
def test_certificates_that_are_not_made(flags: tuple[str, ...], authority: Beside) -> None:
    assert agree(authority, "-s", "ca", "-I", "id", "-n", "a", *flags, "user.pub").status == 255
    assert not (authority.folder / "user-cert.pub").exists()


def test_certificates_of_several_files_count_on(authority: Beside) -> None:
    shutil.copy(authority.folder / "user.pub", authority.folder / "other.pub")
    assert (
        authority.ours("-q", "-s", "ca", "-I", "x", "-n", "a", "-z", "+5", "user.pub", "other.pub").status
        == 0
    )
    for name, serial in (("user", 5), ("other", 6)):
        assert f"Serial: {serial}\n" in authority.theirs("-L", "-f", f"{name}-cert.pub").out
    assert agree(authority, "-s", "ca", "-I", "x", "-n", "a", "user-cert.pub").status == 255
    agree(authority, "-L", "-f", "user.pub")
    both = "".join((authority.folder / f"{name}-cert.pub").read_text() for name in ("user", "other"))
    authority.write("both", f"# two\n{both}")
    agree(authority, "-L", "-f", "both")
    agree(authority, "-L", "-f", "-", stdin=both)


# ---- revocation lists

SPEC = """# what is revoked
serial: 3
serial: 5-7 # and more
SERIAL: 0x20-0x30
id: an id
id:spaces in it
key: {user}
sha1: {ca}
sha256: {rsa_ca}
hash: SHA256:LCa0a2j/xo/5m0U8HTBBNBNCLXBkg7+g+YpeiGJm564
"""


@pytest.fixture
def spec(authority: Beside) -> Beside:
    keys = {name: (authority.folder / f"{name}.pub").read_text().strip() for name in ("user", "ca", "rsa_ca")}
    authority.write("spec", SPEC.format(**keys))
    return authority


@pytest.mark.parametrize("scope", [("-s", "ca.pub"), ("-s", "none"), ("-s", "rsa_ca")], ids=" ".join)
def test_revocation_lists_are_the_same(scope: tuple[str, ...], spec: Beside) -> None:
    for name, act in (("a", spec.ours), ("b", spec.theirs)):
        said = act("-k", *scope, "-z", "9", "-C", "a comment", "-f", name, "spec")
        assert said.seen == (0, "Revoking from spec\n")
    spec.ours("-q", "-s", "ca", "-I", "nobody", "-n", "a", "-z", "6", "user.pub")
    questions = ["user.pub", "ca.pub", "rsa_ca.pub", "user-cert.pub"]
    shown = []
    for name in ("a", "b"):
        assert agree(spec, "-Q", "-f", name, *questions).status == 1
        shown.append(re.sub("Generated at .*", "", agree(spec, "-Ql", "-f", name).out))
    assert shown[0] == shown[1]
    spec.write("more", "serial: 1000\n")
    for name, act in (("a", spec.ours), ("b", spec.theirs)):
        assert act("-k", "-u", "-q", *scope, "-f", name, "more").seen == (0, "")
    shown = [re.sub("Generated at .*", "", agree(spec, "-Ql", "-f", name).out) for name in ("a", "b")]
    assert shown[0] == shown[1]
    assert "serial: 1000\n" in shown[0]


@pytest.mark.parametrize(
    "line",
    ["serial: 0", "serial: x", "serial: 5-5", "serial: 9-3", "serial:", "serial: 18446744073709551616",
     "hash: MD5:abc", "hash: SHA256:abc", "key: nonsense", "ssh-ed25519 AAAA", "nonsense"],
)  # fmt: skip
def test_revocation_lists_that_are_not_made(line: str, authority: Beside) -> None:
    authority.write("spec", line + "\n")
    assert agree(authority, "-qk", "-s", "ca.pub", "-f", "krl", "spec").status == 255
    assert not (authority.folder / "krl").exists()
    authority.write("spec", "serial: 1\n")
    assert agree(authority, "-qk", "-f", "krl", "spec").status == 255  # of which authority?
    assert agree(authority, "-k", "-u", "-f", "krl", "spec").status == 255
    assert agree(authority, "-Q", "-f", "spec", "ca.pub").status == 255


# ---- signatures


@pytest.fixture
def signers(authority: Beside) -> Beside:
    for name in ("user", "ca", "rsa_ca"):
        authority.write(f"{name}.data", f"of {name}\n")
        authority.theirs("-Y", "sign", "-q", "-n", "file", "-f", name, f"{name}.data")
    keys = {name: (authority.folder / f"{name}.pub").read_text().strip() for name in ("user", "ca", "rsa_ca")}
    authority.write(
        "allowed",
        f'# who may sign\nuser@x,*@y {keys["user"]}\nca@x namespaces="git,file*" {keys["ca"]}\n'
        f'late@x valid-before="20200101" {keys["ca"]}\nbad@x nonsense {keys["ca"]}\n'
        f'other@x namespaces="git" {keys["ca"]}\nr@x {keys["rsa_ca"]}\ncert@x cert-authority {keys["ca"]}\n',
    )
    return authority


@pytest.mark.parametrize("name", ["user", "ca", "rsa_ca"])
@pytest.mark.parametrize("hash", ["sha256", "sha512"])
def test_signatures_of_either_are_good_to_the_other(name: str, hash: str, signers: Beside) -> None:
    signed = signers.ours(
        "-Y", "sign", "-n", "file", "-O", f"hashalg={hash}", "-f", name, "-", stdin="some data"
    )
    signers.write("sig", signed.out)
    said = agree(signers, "-Y", "check-novalidate", "-n", "file", "-s", "sig", stdin="some data")
    assert said.out.startswith('Good "file" signature with ')
    assert agree(signers, "-Y", "check-novalidate", "-n", "file", "-s", "sig", stdin="other").status == 255
    assert agree(signers, "-Y", "check-novalidate", "-n", "git", "-s", "sig", stdin="some data").status == 255
    data = (signers.folder / f"{name}.data").read_text()
    agree(signers, "-Y", "check-novalidate", "-n", "file", "-s", f"{name}.data.sig", stdin=data)


@pytest.mark.parametrize(
    "principal", ["user@x", "any@y", "ca@x", "late@x", "bad@x", "other@x", "r@x", "nobody"]
)
def test_who_signed(principal: str, signers: Beside) -> None:
    common = ("-f", "allowed", "-n", "file")
    for name in ("user", "ca", "rsa_ca"):
        data = (signers.folder / f"{name}.data").read_text()
        words = ("-Y", "verify", *common, "-I", principal, "-s", f"{name}.data.sig")
        agree(signers, *words, stdin=data)
        agree(signers, *words, "-O", "verify-time=20190101", "-O", "print-pubkey", stdin=data)
        agree(signers, "-q", *words, stdin=data)
        agree(signers, *words, "-r", "ca.pub", stdin=data)
        agree(signers, "-Y", "find-principals", "-f", "allowed", "-s", f"{name}.data.sig")


def test_who_may_sign_of_an_authority(signers: Beside) -> None:
    signers.ours("-q", "-s", "ca", "-I", "x", "-n", "cert@x,more@x", "-V", "20200101:20300101", "user.pub")
    signers.write("allowed2", f"*@x cert-authority {(signers.folder / 'ca.pub').read_text()}")
    assert (
        signers.ours("-Y", "sign", "-n", "file", "-f", "user-cert.pub", "user.data", stdin="y\n").status == 0
    )
    data = (signers.folder / "user.data").read_text()
    for principal, moment in (
        ("cert@x", "20250101"),
        ("else@x", "20250101"),
        ("cert@x", "20310101"),
        ("cert@x", ""),
    ):
        when = ("-O", f"verify-time={moment}") if moment else ()
        words = ("-f", "allowed2", "-s", "user.data.sig", *when)
        agree(signers, "-Y", "verify", *words, "-n", "file", "-I", principal, stdin=data)
        agree(signers, "-Y", "find-principals", *words)


@pytest.mark.parametrize("principal", ["user@x", "any@y", "late@x", "nobody"])
def test_principals_of_the_file(principal: str, newest: Beside) -> None:
    newest.theirs("-q", "-t", "ed25519", "-N", "", "-f", "key")
    key = (newest.folder / "key.pub").read_text()
    newest.write("allowed", f'user@x,*@y {key}late@x valid-before="20200101" {key}*@y {key}')
    agree(newest, "-Y", "match-principals", "-f", "allowed", "-I", principal)


@pytest.mark.parametrize(
    "words",
    [("sign",), ("sign", "-n", "file"), ("verify",), ("verify", "-n", "file"), ("find-principals", "-s", "x"),
     ("check-novalidate", "-s", "x"), ("sign", "-n", "", "-f", "ca")],
    ids=" ".join,
)  # fmt: skip
def test_what_a_signature_needs(words: tuple[str, ...], authority: Beside) -> None:
    assert agree(authority, "-Y", *words).status == 1


# ---- other programs' forms


@pytest.mark.parametrize("kind", [("ed25519",), ("ecdsa", "-b", "384"), ("rsa", "-b", "2048")], ids=" ".join)
def test_forms_of_other_programs(kind: tuple[str, ...], pair: Beside) -> None:
    pair.theirs("-q", "-t", *kind, "-N", "", "-C", "", "-f", "key")
    public = (pair.folder / "key.pub").read_text().strip()
    for form in ("RFC4716", "PKCS8", "PEM"):
        ours = pair.ours("-e", "-m", form, "-f", "key.pub")
        if kind[0] == "ed25519" and form != "RFC4716":
            continue
        assert ours.seen == pair.theirs("-e", "-m", form, "-f", "key.pub").seen
        pair.write("form", ours.out)
        if (kind[0], form) != ("ecdsa", "PEM"):  # which is that of PKCS8, and read as such
            assert agree(pair, "-i", "-m", form, "-f", "form").out.strip() == public


# ---- keys in an agent


@pytest.fixture
def agent(made: Path) -> Iterator[Beside]:
    """An agent of OpenSSH 9.2 that holds `ca`, whose file is gone."""
    with beside("9.2") as pair:
        shutil.copytree(made, pair.folder, dirs_exist_ok=True)
        socket = pair.folder / "agent"
        process = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
        try:
            pair.environment["SSH_AUTH_SOCK"] = str(socket)
            deadline = time.monotonic() + 10
            while not socket.exists() and time.monotonic() < deadline:
                process.poll()
            environment = {**os.environ, "SSH_AUTH_SOCK": str(socket)}
            subprocess.run(["ssh-add", "-q", pair.folder / "ca"], env=environment, check=True)
            (pair.folder / "ca").unlink()
            yield pair
        finally:
            process.terminate()
            process.wait(10)


def test_an_agent_signs(agent: Beside) -> None:
    for act in (agent.ours, agent.theirs):
        assert act("-q", "-Us", "ca.pub", "-I", "id", "-n", "a", "user.pub").status == 0
        assert "using ssh-ed25519" in agree(agent, "-L", "-f", "user-cert.pub").out
        signed = act("-Y", "sign", "-n", "file", "-f", "ca.pub", stdin="data")
        assert signed.status == 0
        agent.write("sig", signed.out)
        assert agree(agent, "-Y", "check-novalidate", "-n", "file", "-s", "sig", stdin="data").status == 0
    agree(agent, "-q", "-Us", "rsa_ca.pub", "-I", "id", "-n", "a", "user.pub")  # which it does not hold
    agree(agent, "-Y", "sign", "-U", "-n", "file", "-f", "rsa_ca.pub", stdin="data")
    agent.environment["SSH_AUTH_SOCK"] = str(agent.folder / "nobody")
    agree(agent, "-Y", "sign", "-U", "-n", "file", "-f", "ca.pub", stdin="data")
