"""`ssh -G` and `sshd -T` of OpenSSH 10.6 beside ours, on hundreds of made-up configurations, line by line.

What differs on purpose is in one table, each with its reason; a difference that is not there fails, and so
does an entry that no configuration needs any more.
"""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from glasshell.cli import ssh, sshd_show
from glasshell.config import sshd_config
from glasshell.config.parse import Line, read_file
from glasshell.config.show import show_client, show_server
from glasshell.config.ssh_config import Facts, read
from glasshell.crypto.registry import Kind, defaults, names
from glasshell.errors import SSHError
from glasshell.policy import Policy
from glasshell.system.files import find_files
from glasshell.system.interfaces import local_addresses
from tests.interop import configurations
from tests.interop.peers import Place, require_peer

CLIENTS, SERVERS = 300, 200
ENVIRONMENT = {"PEER": "part"}

ALGORITHMS = {
    "ciphers": Kind.CIPHER, "macs": Kind.MAC, "kexalgorithms": Kind.KEX, "hostkeyalgorithms": Kind.HOST_KEY,
    "pubkeyacceptedalgorithms": Kind.HOST_KEY, "hostbasedacceptedalgorithms": Kind.HOST_KEY,
    "casignaturealgorithms": Kind.HOST_KEY,
}  # fmt: skip
Fits = Callable[[Sequence[str], Sequence[str]], bool]


def _missing(ours: Sequence[str], theirs: Sequence[str]) -> bool:
    return bool(ours) and not theirs


def _nothing(ours: Sequence[str], theirs: Sequence[str]) -> bool:
    return not ours and list(theirs) == ["none"]


def _are(our: str, their: str) -> Fits:
    return lambda ours, theirs: (list(ours), list(theirs)) == ([our], [their])


def _any(ours: Sequence[str], theirs: Sequence[str]) -> bool:
    return len(ours) == len(theirs) == 1


DIFFERENCES: Mapping[str, tuple[Fits, str]] = {
    "client gssapiauthentication": (_missing, "Debian builds this ssh without GSSAPI"),
    "client gssapidelegatecredentials": (_missing, "Debian builds this ssh without GSSAPI"),
    "client forwardx11trusted": (_are("no", "yes"), "Debian's default; ours is OpenSSH's"),
    "client serveraliveinterval": (
        lambda ours, theirs: list(ours) == ["15"] and theirs[0] in ("0", "300"),
        "a dead peer is noticed: our default asks for signs of life; Debian's, in batch mode alone",
    ),
    "client compression": (_are("yes", "UNKNOWN"), "OpenSSH has no word for what its -C sets"),
    "client dynamicforward": (
        lambda ours, theirs: [each for each in theirs if each in ours] == list(ours),
        "OpenSSH shows forwards to sockets of the file system twice, once as these",
    ),
    "client requiredrsasize": (_are("2048", "1024"), "our default is of this decade"),
    "client syslogfacility": (_any, "OpenSSH takes it from others' blocks, too"),
    "server fingerprinthash": (_any, "OpenSSH takes the last one"),
    "server rekeylimit": (
        lambda ours, theirs: ours[0].split()[0] == theirs[0].split()[0] and ours[0].endswith(" 0"),
        "OpenSSH takes the size from the first line and the time from the first that has one",
    ),
    "server versionaddendum": (
        lambda ours, theirs: theirs[0].startswith(f"{ours[0]} #"),
        "OpenSSH means to cut the comment off, and does not",
    ),
    "server authorizedkeysfile": (_nothing, "OpenSSH shows none where a Match block says it, else nothing"),
    "server revokedkeys": (_nothing, "OpenSSH shows none where a Match block says it, else nothing"),
    "server gssapiauthentication": (_missing, "Debian builds this sshd without GSSAPI"),
    "server gssapicleanupcredentials": (_missing, "Debian builds this sshd without GSSAPI"),
    "server gssapidelegatecredentials": (_missing, "Debian builds this sshd without GSSAPI"),
    "server gssapistrictacceptorcheck": (_missing, "Debian builds this sshd without GSSAPI"),
    "server clientaliveinterval": (_are("15", "0"), "our default notices a dead peer"),
    "server requiredrsasize": (_are("2048", "1024"), "our default is of this decade"),
    "server compression": (_are("no", "yes"), "our default: lengths of what is compressed tell about it"),
}
"""Role and keyword -> what the two values may be, and why."""


REFUSALS: Mapping[str, str] = {
    "is to be had": "a list of which nothing is built here; OpenSSH would offer it",
    "Match LocalPort' in configuration but 'lport' not": "a login without a port: not to that one, for us",
}
"""What one side says of a configuration that the other takes, and why."""


@dataclass
class Case:
    """One configuration, with what OpenSSH said of it."""

    number: int
    made: configurations.Made
    folder: str
    status: int
    lines: list[str]
    told: str


def run_all(place: Place, role: str, made: Sequence[configurations.Made], root: Path) -> list[Case]:
    """Has OpenSSH show every configuration, in one chroot."""
    inside = place.inside(root)
    script = [f"cd {inside}", "export HOME=/root PEER=part SHELL=/bin/sh"]
    for number, each in enumerate(made):
        folder = root / f"{role}{number}"
        folder.mkdir()
        for name, text in each.files.items():
            (folder / name).write_bytes(text.encode())
        where = f"{inside}/{role}{number}"
        if role == "client":
            words = " ".join(f"'{word}'" for word in each.arguments)
            run = f"ssh -G -F {where}/main {words}"
        else:
            shutil.copy(root / "hk", folder / "hk")
            (folder / "hk").chmod(0o600)
            login = f"-C '{each.login}'" if each.login else ""
            run = f"/usr/sbin/sshd {'-T' if login else '-G'} -f {where}/main {login}"
        script.append(f"{run} >{where}/out 2>{where}/err </dev/null; echo $? >{where}/status")
    (root / "all.sh").write_text("\n".join(script))
    subprocess.run(place.command("sh", f"{inside}/all.sh"), check=True, timeout=120)
    return [_case(root / f"{role}{number}", place, number, each) for number, each in enumerate(made)]


def _case(folder: Path, place: Place, number: int, made: configurations.Made) -> Case:
    return Case(
        number, made, place.inside(folder), int((folder / "status").read_text()),
        (folder / "out").read_text().splitlines(), (folder / "err").read_text(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def cases() -> Iterator[tuple[Place, list[Case], list[Case]]]:
    place = require_peer("openssh-10.6")
    root = place.scratch()
    try:
        key = place.command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{place.inside(root)}/hk")
        subprocess.run(key, check=True)
        clients = [configurations.client(n, f"{place.inside(root)}/client{n}") for n in range(CLIENTS)]
        servers = [configurations.server(n, f"{place.inside(root)}/server{n}") for n in range(SERVERS)]
        yield place, run_all(place, "client", clients, root), run_all(place, "server", servers, root)
    finally:
        shutil.rmtree(root)


# ---- ours


def our_facts(place: Place) -> Facts:
    """Root's, in the peers' place."""

    def find(pattern: str) -> list[str]:
        return [place.inside(Path(path)) for path in find_files(f"{place.root}{pattern}")]

    def execute(command: str) -> bool:
        return subprocess.run(["/bin/sh", "-c", command], check=False).returncode == 0

    return Facts(
        home="/root", user="root", local_host=socket.gethostname(), environment=ENVIRONMENT,
        read=lambda path: Path(f"{place.root}{path}").read_bytes(), find=find, execute=execute,
        addresses=local_addresses,
    )  # fmt: skip


def our_client(place: Place, case: Case) -> list[str]:
    said = ssh.parse(["-F", f"{case.folder}/main", *case.made.arguments])
    reading = read(
        said.host, our_facts(place), command_line=said.lines, file=said.config, command=said.command or "",
        obey=False,
    )  # fmt: skip
    options = reading.options()
    ssh._check(said, options)
    return list(show_client(options))


def our_server(place: Place, case: Case) -> list[str]:
    facts = our_facts(place)
    lines: list[Line] = read_file(f"{case.folder}/main", facts.read, facts.find, base="/etc/ssh")
    config = sshd_config.load(lines, obey=False)
    asked = sshd_show.login(case.made.login) if case.made.login else None
    if asked is not None:
        asked = asked._replace(groups=("root",) if asked.user == "root" else ())  # the others are not there
    values = config.values_at(asked)
    return list(show_server(values, config.policy, config.options, sshd_show.addresses(config.options)))


# ---- the comparison


def grouped(lines: Sequence[str]) -> dict[str, list[str]]:
    """Keyword in lower case -> its values."""
    found: dict[str, list[str]] = {}
    for line in lines:
        keyword, _, value = line.partition(" ")
        found.setdefault(keyword.lower(), []).append(value)
    return found


def same_algorithms(role: str, keyword: str, ours: str, theirs: str) -> bool:
    """Whether two lists are the same but for what one side has not built, or does not offer by itself.

    Of names that both have, and that both or neither would offer, both lists have the same ones; and where
    nothing of the defaults is in them, in the same order.
    """
    kind = ALGORITHMS[keyword]
    mine, other = ours.split(","), [name for name in theirs.split(",") if name in names(kind)]
    if mine == other:
        return True
    own = set(defaults(kind, "server" if role == "server" else "client"))
    if keyword == "casignaturealgorithms":
        own = set(Policy.client().ca_signature_algorithms)
    same = [name for name in names(kind) if (name in own) == (name in THEIR_DEFAULTS[role, keyword])]
    return all((name in mine) == (name in other) for name in same)


THEIR_DEFAULTS: dict[tuple[str, str], set[str]] = {}


def differences(role: str, ours: Sequence[str], theirs: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each difference: its entry in the table or "", and what it is."""
    mine, other = grouped(ours), grouped(theirs)
    for keyword in {**other, **mine}:
        got, wanted = mine.get(keyword, []), other.get(keyword, [])
        if got == wanted or (keyword in ALGORITHMS and same_algorithms(role, keyword, got[0], wanted[0])):
            continue
        fits, _ = DIFFERENCES.get(f"{role} {keyword}", (lambda a, b: False, ""))
        entry = f"{role} {keyword}" if fits(got, wanted) else ""
        yield entry, f"{keyword}: ours {got}, OpenSSH's {wanted}"
    both = [keyword for keyword in mine if keyword in other]
    if both != [keyword for keyword in other if keyword in mine]:
        yield "", "another order"


USED: set[str] = set()


def compare(
    place: Place, role: str, cases: Sequence[Case], show: Callable[[Place, Case], list[str]]
) -> list[str]:
    """What is wrong, in words."""
    wrong = []
    for case in cases:
        try:
            ours, error = show(place, case), ""
        except SSHError as caught:
            ours, error = [], str(caught)
        where = f"{role} {case.number}"
        if bool(error) != bool(case.status):
            known = next((said for said in REFUSALS if said in (error or case.told)), "")
            if known:
                USED.add(known)
                continue
            told = f"OpenSSH ended with {case.status} ({case.told.strip()}), we said {error!r}"
            wrong.append(f"{where}: {told}")
        elif not error:
            for entry, text in differences(role, ours, case.lines):
                if entry:
                    USED.add(entry)
                else:
                    wrong.append(f"{where}: {text}")
    return wrong


def learn_defaults(role: str, cases: Sequence[Case]) -> None:
    """What OpenSSH offers by itself: what it says where no file speaks of algorithms."""
    for case in cases:
        if not case.status and not re.search("alg|cipher|mac|keytypes", str(case.made.files), re.IGNORECASE):
            for keyword, values in grouped(case.lines).items():
                if keyword in ALGORITHMS:
                    THEIR_DEFAULTS[role, keyword] = set(values[0].split(","))


def test_every_configuration_is_shown_the_same(cases: tuple[Place, list[Case], list[Case]]) -> None:
    place, clients, servers = cases
    learn_defaults("client", clients)
    learn_defaults("server", servers)
    wrong = [*compare(place, "client", clients, our_client), *compare(place, "server", servers, our_server)]
    assert not wrong, f"{len(wrong)} differences\n" + "\n".join(wrong[:60])
    assert sorted({*DIFFERENCES, *REFUSALS} - USED) == [], "entries that no configuration needs"
    read_by_both = sum(not case.status for case in [*clients, *servers])
    assert read_by_both >= 300
