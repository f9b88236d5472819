"""Whether a host key is trusted: known_hosts files, StrictHostKeyChecking, and the person who is asked."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

from ..crypto.signatures import PublicKey, key_type_of, plain_algorithm
from ..errors import ConfigError, HostKeyRefused, SSHError, UsageError
from ..keys.known_hosts import (
    Entry,
    Kind,
    KnownHosts,
    Verdict,
    format_entry,
    host_name,
    judge,
    lookup_name,
)
from ..keys.patterns import parse_address
from ..keys.public import AnyKey
from ..system.replacing import append_line
from ..values import slotted
from . import hostwords as say
from .hostchecks import USUAL, HostChecks
from .hostwords import NewHostKey

__all__ = [
    "AskHostKey", "HostChecks", "KnownHostsLike", "NewHostKey", "Strict", "Trust", "read_known_hosts",
]  # fmt: skip

Strict: TypeAlias = Literal["yes", "ask", "accept-new", "no"]
"""StrictHostKeyChecking of ssh_config(5)."""

PathLike: TypeAlias = str | os.PathLike[str]
KnownHostsLike: TypeAlias = PathLike | Sequence[PathLike] | KnownHosts | PublicKey | None
"""Files (the first is written to), what was read of some, the one key that is right, or None: nothing
is known."""

DEFAULT_FILES: Final = (
    "~/.ssh/known_hosts", "~/.ssh/known_hosts2", "/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2",
)  # fmt: skip

MAX_TOLD: Final = 5
"""Most lines of known_hosts that a record names."""

AskHostKey: TypeAlias = Callable[[NewHostKey], Awaitable[bool]]
State: TypeAlias = Callable[..., None]


NOTHING: Final = KnownHosts()


@slotted
class Found:
    """What the files say. `objection`: why a certificate does not hold; `by_host`: known on another port."""

    verdict: Verdict
    objection: str = ""
    by_host: bool = False
    in_dns: bool | None = None
    at_address: Verdict | None = None
    """What is known of the host's address; None where nobody asks, or there is none."""


class Trust:
    """Judges the key of one host as StrictHostKeyChecking says.

    "yes": only what is known. "ask": `ask` decides about a host that is new; without it the host is
    refused. "accept-new": a host that is new is added. "no": new hosts are added, and a changed key is
    let pass with `restricted` saying why no password and no forwarding may be given to such a host. A key
    that is not the known one, of another type too, is a changed key; a revoked key is always refused.

    A certificate is taken where a line names its authority and it holds for the host; one that does not is
    passed over, and the key in it judged as if it had come alone. A host on another port than 22 may also be
    known by its name alone. Whatever goes wrong while it is looked at refuses the key (CVE-2025-26465).
    """

    __slots__ = (
        "_commanded", "address", "algorithms", "aliased", "ask", "checks", "file", "found", "hashed", "host",
        "known", "name", "pinned", "port", "real", "restricted", "strict", "vouched", "warn",
    )  # fmt: skip

    def __init__(
        self, host: str, port: int = 22, *, known_hosts: KnownHostsLike = DEFAULT_FILES,
        strict: Strict = "ask", alias: str = "", hashed: bool = False, ask: AskHostKey | None = None,
        warn: Callable[[str], None] | None = None, checks: HostChecks = USUAL,
    ) -> None:  # fmt: skip
        """Reads the files. `alias` is the name to look up instead of the host's (HostKeyAlias).

        `hashed`: names are hidden in what is added (HashKnownHosts). `warn` hears what OpenSSH says on
        standard error. Raises UsageError for a host name that known_hosts cannot hold, ConfigError for a
        file that cannot be read.
        """
        if strict not in ("yes", "ask", "accept-new", "no"):
            raise UsageError(f'"{strict}" is no StrictHostKeyChecking: yes, ask, accept-new, no')
        # An alias stands for the host whatever the port is (ssh_config(5), HostKeyAlias).
        self.real, self.aliased = host, bool(alias)
        self.host, self.port = (alias, 22) if alias else (host, port)
        self.name = host_name(self.host, self.port)
        self.strict = strict
        self.hashed = hashed
        self.ask = ask
        self.warn = warn or (lambda text: None)
        self.checks = checks
        self.restricted = ""
        self.vouched = False
        """Whether a person has taken the host's key just now."""
        self.found: Entry | None = None
        """The line by which the host's own key was known, under its own name."""
        self.algorithms: Sequence[str] = ()
        """HostKeyAlgorithms, where they are known: they may allow nothing but certificates."""
        self.address = ""
        """The host's address, where it has to have the same keys (CheckHostIP)."""
        self.file: Path | None = None
        self.pinned: PublicKey | None = None
        self.known = self._read(known_hosts)
        self._commanded = NOTHING

    async def prepare(self, state: State = lambda name, **facts: None) -> None:
        """What has to be known before the connection: runs KnownHostsCommand for `order`, if there is one.

        Raises HostKeyRefused where it fails, ConfigError where something that is needed is not installed.
        """
        if self.checks.dns != "no":
            from .sshfp import require_library

            require_library()
        self._commanded = await self._command("ORDER", self.name, None, state)

    # What is known already

    @property
    def _known(self) -> KnownHosts:
        """What the files and the command say."""
        return self.known + self._commanded if self._commanded is not NOTHING else self.known

    def order(self, algorithms: Sequence[str]) -> tuple[str, ...]:
        """`algorithms`, those first that the host's known keys sign with, or with certificates where the
        host's authority is known: else a host known by one key would show another, and look changed."""
        known, places = self._known, self._places()
        types = {kind for place in places for kind in known.known_key_types(*place)}
        if self.pinned:
            types = {self.pinned.type}
        certified = not self.pinned and any(known.has_authority(*place) for place in places)

        def rank(name: str) -> int:
            if certified and plain_algorithm(name) != name:
                return 0
            return 1 if _plain_type(name) in types else 2

        return tuple(sorted(algorithms, key=rank))

    def leads(self, algorithm: str, min_rsa_bits: int) -> bool:
        """Whether a key is known, and would be taken, that signs with `algorithm`: to ask for it first."""
        known, plain = self._known, plain_algorithm(algorithm)
        if plain != algorithm and not self.pinned and known.has_authority(self.host, self.port):
            return True
        held = [self.pinned] if self.pinned else [
            entry.key for entry in known.lookup(self.host, self.port)
            if not entry.marker and entry.key_type == key_type_of(plain)
        ]  # fmt: skip
        return any(
            key is not None and plain in key.algorithms and self.knows(key)
            and (key.type != "ssh-rsa" or key.bits >= min_rsa_bits)
            for key in held
        )  # fmt: skip

    def trusted_by(self, files: Sequence[Path]) -> bool:
        """Whether the host's own key, not its certificate, was known by one of `files`, or taken by a
        person."""
        return self.vouched or (self.found is not None and Path(self.found.source) in files)

    def knows(self, key: AnyKey) -> bool:
        """Whether `key` is the host's, by what is known already: nobody is asked, and nothing is written."""
        return self._find(key).verdict.kind is Kind.KNOWN

    # The verdict

    async def judge(self, key: AnyKey, address: str, state: State) -> bool | HostKeyRefused:
        """The verdict on `key`; `state` hears it as the record `host_key_verdict`.

        Raises what `ask` raises, and nothing else that is no SSHError: what cannot be judged is refused.
        """
        asked: list[BaseException] = []
        entry: Entry | None = None
        verdict: Verdict | None = None
        objection = ""
        try:
            found = await self._look(key, address, state)
            if isinstance(found, Found):
                how, answer, entry = await self._decide(found, address, asked)
                verdict, objection = found.verdict, found.objection
            else:
                how, answer = found
        except SSHError:
            raise
        except Exception as error:
            if error in asked:
                raise
            # CVE-2025-26465: an error is no answer, and no answer is no trust.
            how = "failed"
            what = getattr(error, "strerror", "") or str(error) or type(error).__name__
            answer = HostKeyRefused(f"Host key verification failed: {what}")
            answer.__cause__ = error
        told = self._told(state, key, verdict, entry)
        state("host_key_verdict", accepted=answer is True, how=how, **told, objection=objection)
        return answer

    def _told(
        self, state: State, key: AnyKey, verdict: Verdict | None, entry: Entry | None
    ) -> dict[str, object]:
        """What the record says of the lines."""
        if verdict is not None and verdict.kind is Kind.UNKNOWN:  # the host's own line may be among them
            for bad in self.known.bad_lines[:MAX_TOLD]:
                state("known_hosts_bad_line", file=bad.source, line=bad.line, reason=bad.reason)
        changed = verdict is not None and verdict.kind is Kind.CHANGED
        others = [each for each in self.known.other_names(key.plain) if each is not entry]
        return {
            "host": self.name, "file": entry.source if entry else "", "line": entry.line if entry else 0,
            "known": entry.fingerprint if entry and changed else "",
            "others": ", ".join(
                f"{e.where} {'(hashed)' if e.hashed else e.hosts}" for e in others[:MAX_TOLD]
            ),
        }  # fmt: skip

    async def _look(
        self, key: AnyKey, address: str, state: State
    ) -> Found | tuple[str, bool | HostKeyRefused]:
        """Everything that can be looked up; a verdict where that is enough."""
        checks = self.checks
        if checks.any_localhost and not self.aliased and is_loopback(address):
            return "localhost", True
        for path in checks.revoked:
            told = f"{key.label} {key.fingerprint(checks.fingerprint_hash)}"
            try:
                why = _revoked_by(path, key)
            except (OSError, SSHError) as error:  # such a file revokes every key (ssh_config(5))
                why = getattr(error, "strerror", "") or str(error)
                refused = HostKeyRefused(f"Error checking host key {told} in revoked keys file {path}: {why}")
                refused.__cause__ = error
                return "failed", refused
            if why:
                return "revoked", HostKeyRefused(f"Host key {told} revoked by file {path}: {why}")
        in_dns = None
        if checks.dns != "no":
            in_dns, secure = await self._ask_dns(key.plain, state)
            if in_dns and secure and checks.dns == "yes":
                return "dns", True
        self._commanded = await self._command("HOSTNAME", self.name, key, state)
        found = self._find(key)
        fallen = found.verdict.key is not key and found.verdict.kind is not Kind.REVOKED
        if fallen and self.algorithms and not set(key.plain.algorithms) & set(self.algorithms):
            # A certificate that does not hold must not open the door to keys that were ruled out.
            told = f"host key {key.plain.type} not permitted by HostkeyAlgorithms"
            return "unknown", HostKeyRefused(told + (found.objection and f": {found.objection}"))
        found.in_dns = in_dns
        if self._minds(address):
            self.address = address
            name = lookup_name(address, self.port)
            known = self.known + await self._command("ADDRESS", name, key, state)
            found.at_address = judge(known.lookup(address, self.port), address, key.plain)
        return found

    def _minds(self, address: str) -> bool:
        """Whether the address has to be known as well (CheckHostIP)."""
        if not self.checks.address or self.pinned is not None or not address or is_loopback(address):
            return False
        return lookup_name(address, self.port) != self.name

    def _find(self, key: AnyKey) -> Found:
        """What known_hosts says. A certificate that does not hold leaves the verdict on the key in it."""
        if self.pinned is not None:
            return Found(self._check_pinned(self.pinned, key.plain))
        looked = [self._known.lookup(*place) for place in self._places()]
        shown: list[AnyKey] = [key] if key is key.plain else [key, key.plain]
        verdicts = [[judge(entries, self.host, each) for entries in looked] for each in shown]
        objection = ""
        for verdict in (each for row in verdicts for each in row):
            if verdict.kind is Kind.REVOKED:
                return Found(verdict)
        for row in verdicts:
            for verdict, by_host in zip(row, (False, True), strict=False):
                if verdict.kind is Kind.KNOWN:
                    objection = objection or self._objection(verdict.key)
                    if verdict.key is key.plain or not objection:
                        return Found(verdict, objection, by_host)
                elif verdict.kind is Kind.CHANGED and not by_host:
                    return Found(verdict, objection)
        return Found(verdicts[-1][0], objection)

    def _places(self) -> list[tuple[str, int]]:
        """Under which names the host may stand: on another port than 22, that without it as well."""
        return [(self.host, self.port)] + [(self.host, 22)] * (self.port != 22)

    def _objection(self, key: AnyKey) -> str:
        if isinstance(key, PublicKey):
            return ""
        allowed = self.checks.authority_algorithms
        return key.objection("host", self.host.lower(), time.time(), algorithms=allowed)

    def _check_pinned(self, pinned: PublicKey, key: PublicKey) -> Verdict:
        if pinned == key:
            return Verdict(Kind.KNOWN, self.host, key, None, ())
        line = format_entry(self.host, self.port, pinned)
        return KnownHosts.parse(line, "the program").check(self.host, self.port, key)

    # How it is decided

    async def _decide(
        self, found: Found, address: str, asked: list[BaseException]
    ) -> tuple[str, bool | HostKeyRefused, Entry | None]:
        verdict = found.verdict
        entry, key = verdict.entry, verdict.key
        if found.objection:
            self.warn(found.objection)
        if verdict.kind is Kind.REVOKED and entry is not None:
            return "revoked", self._revoked(key, entry), entry
        if not isinstance(key, PublicKey):
            return "authority", True, entry
        if verdict.kind is Kind.CHANGED and entry is not None:
            return "changed", self._changed(key, entry, found.at_address, address), entry
        if verdict.kind is Kind.KNOWN:
            how: str = "by-host" if found.by_host else "known"
            self.found = None if found.by_host else entry
            self._show(key)
        else:
            how, answer = await self._new(found, key, address, asked)
            if answer is not True:
                return how, answer, None
        return await self._settle(how, key, entry, found.at_address, address, asked)

    async def _new(
        self, found: Found, key: PublicKey, address: str, asked: list[BaseException]
    ) -> tuple[str, bool | HostKeyRefused]:
        """The host is new."""
        if self.strict == "yes":
            return "unknown", self._unknown(key, found.objection)
        if self.strict == "ask":
            if self.ask is None:
                return "unknown", self._unknown(key, found.objection or "nobody can be asked here")
            new = NewHostKey(
                self.name, address, key, tuple(self.known.other_names(key)), found.in_dns,
                self._picture(key) if self.checks.picture else "",
                fingerprint_hash=self.checks.fingerprint_hash,
            )  # fmt: skip
            if not await self._asked(new, asked):
                return "declined", HostKeyRefused(f"the host key of {self.name} was not accepted")
            self.vouched = True
        at_address = found.at_address
        self._add(key, address if at_address and at_address.kind is Kind.UNKNOWN else "")
        return "added", True

    async def _settle(
        self, how: str, key: PublicKey, entry: Entry | None, at_address: Verdict | None, address: str,
        asked: list[BaseException],
    ) -> tuple[str, bool | HostKeyRefused, Entry | None]:  # fmt: skip
        """What CheckHostIP says of a host whose key is the right one."""
        if at_address is None:
            return how, True, entry
        name = lookup_name(address, self.port)
        if at_address.kind is Kind.UNKNOWN and how in ("known", "by-host"):
            self._add_address(key, address, name, entry)
        elif at_address.kind in (Kind.CHANGED, Kind.REVOKED) and at_address.entry is not None:
            text = f"Warning: the {key.label} host key for '{self.name}' differs from the key for the"
            text += f" IP address '{name}'\nOffending key for IP in {at_address.entry.where}"
            text += f"\nMatching host key in {entry.where}" if entry and how == "known" else ""
            if self.strict == "ask" and self.ask is not None:
                if not await self._asked(NewHostKey(self.name, address, key, differs=text), asked):
                    return "declined", HostKeyRefused(f"the address of {self.name} was not accepted"), entry
            else:
                self.warn(text)
                if self.strict != "no":
                    self.warn("Exiting, you have requested strict checking.")
                    return "address", HostKeyRefused(text.removeprefix("Warning: ")), entry
        return how, True, entry

    async def _asked(self, new: NewHostKey, asked: list[BaseException]) -> bool:
        assert self.ask is not None
        try:
            return await self.ask(new)
        except Exception as error:
            asked.append(error)
            raise

    def _unknown(self, key: PublicKey, why: str) -> HostKeyRefused:
        return HostKeyRefused(
            f"No {key.label} host key is known for {self.name} and you have requested strict checking"
            f" (it shows {key.fingerprint()})" + (f": {why}" if why else ""),
            hint="compare the fingerprint with the server's, then let it be added: strict 'accept-new'",
        )

    def _changed(
        self, key: PublicKey, entry: Entry, at_address: Verdict | None, address: str
    ) -> bool | HostKeyRefused:
        if at_address is not None and _differs(at_address, entry):
            same = at_address.kind is Kind.KNOWN
            name = lookup_name(address, self.port)
            self.warn(say.spoofed(key.label, self.name, name, at_address.entry, same=same))
        remedy = "" if self.pinned else f"ssh-keygen -f {say.quoted(entry.source)} -R '{self.name}'"
        hint = "somebody may be in the middle"
        hint += f"; if the server was given a new key, remove the old one: {remedy}" if remedy else ""
        text = say.changed(key, self.checks.fingerprint_hash)
        self.warn(text + say.offending(entry, str(self.file or ""), remedy))
        if self.strict == "no" and self.pinned is None:
            self.restricted = "the host key has changed"
            for line in say.UNSAFE:
                self.warn(line)
            return True
        return HostKeyRefused(
            f"REMOTE HOST IDENTIFICATION HAS CHANGED! Host key for {self.name} has changed and you have"
            f" requested strict checking: it shows {key.label} {key.fingerprint()},"
            f" {entry.where} has {entry.label} {entry.fingerprint}",
            hint=hint,
        )

    def _revoked(self, key: AnyKey, entry: Entry) -> HostKeyRefused:
        self.warn(say.revoked(key.label, self.name))
        return HostKeyRefused(f"{key.label} host key for {self.name} was revoked, by {entry.where}")

    # What is looked up elsewhere

    async def _ask_dns(self, key: PublicKey, state: State) -> tuple[bool, bool]:
        """Whether DNS has the key, and whether that was validated."""
        from ..keys.sshfp import matches
        from .sshfp import look_up

        answer = await look_up(self.real)
        matching = matches(key, answer.records)
        state(
            "sshfp", host=self.real, found=len(answer.records), matching=matching, secure=answer.secure,
            problem=answer.problem,
        )  # fmt: skip
        if answer.records and not matching:
            self.warn(say.dns_changed(key, self.checks.fingerprint_hash))
        return matching, answer.secure

    async def _command(
        self, reason: Literal["ORDER", "HOSTNAME", "ADDRESS"], name: str, key: AnyKey | None, state: State
    ) -> KnownHosts:
        if not self.checks.command or self.pinned is not None:
            return NOTHING
        import base64

        from .hostcommand import known_by_command

        mine = {"H": name, "I": reason, "t": "NONE", "f": "NONE", "K": "NONE"}
        if key is not None:
            mine |= {
                "t": key.type, "f": key.fingerprint(self.checks.fingerprint_hash),
                "K": base64.b64encode(key.blob).decode(),
            }  # fmt: skip
        found = await known_by_command(self.checks.command, reason, {**self.checks.tokens, **mine})
        state("known_hosts_command", reason=reason, keys=len(found.entries), bad=len(found.bad_lines))
        return found

    # The files

    def _read(self, known_hosts: KnownHostsLike) -> KnownHosts:
        if known_hosts is None:
            return KnownHosts()
        if isinstance(known_hosts, KnownHosts):
            return known_hosts
        if isinstance(known_hosts, PublicKey):
            self.pinned = known_hosts
            return KnownHosts()
        paths = [known_hosts] if isinstance(known_hosts, (str, os.PathLike)) else known_hosts
        files = [Path(path).expanduser() for path in paths]
        self.file = files[0] if files else None
        return sum((read_known_hosts(file) for file in files), KnownHosts())

    def _add(self, key: PublicKey, address: str) -> None:
        """`address` is added as well, where there is one."""
        both = f"{self.name},{lookup_name(address, self.port)}" if address else self.name
        if self.hashed:
            done = self._append(self.host, key) and (not address or self._append(address, key))
        else:
            done = self._append(self.host, key, address)
        if done:
            self.warn(say.added(both, key.label))

    def _add_address(self, key: PublicKey, address: str, name: str, entry: Entry | None) -> None:
        if self.file is None or (entry is not None and entry.source.startswith("KnownHostsCommand-")):
            self.warn(f"{key.label} host key for IP address '{name}' not in list of known hosts.")
        elif self._append(address, key):
            self.warn(
                f"Warning: Permanently added the {key.label} host key for IP address '{name}' to the list of"
                " known hosts."
            )

    def _append(self, host: str, key: PublicKey, address: str = "") -> bool:
        if self.file is None:
            return True
        line = format_entry(
            host, self.port, key, hashed=self.hashed, salt=os.urandom(20), address=address
        )
        try:
            append_line(self.file, line)
        except OSError as error:
            self.warn(f"Failed to add the host to the list of known hosts ({self.file}): {error}")
            return False
        return True

    def _show(self, key: PublicKey) -> None:
        if self.checks.picture:
            told = key.fingerprint(self.checks.fingerprint_hash)
            self.warn(f"Host key fingerprint is: {told}\n{self._picture(key)}")

    def _picture(self, key: PublicKey) -> str:
        from ..keys.fingerprint import randomart

        return randomart(key, self.checks.fingerprint_hash)


def _plain_type(algorithm: str) -> str:
    return key_type_of(plain_algorithm(algorithm)) or ""


def _differs(at_address: Verdict, entry: Entry) -> bool:
    """Whether the address is not known by the very line's key that the host is known by."""
    other = at_address.entry
    return at_address.kind is not Kind.CHANGED or other is None or other.blob != entry.blob


def is_loopback(address: str) -> bool:
    """Whether `address` is this machine's own."""
    found = parse_address(address)
    return found is not None and found.is_loopback


def _revoked_by(path: str, key: AnyKey) -> str:
    """Why a file of RevokedHostKeys refuses `key`; empty where it does not."""
    from ..keys.revoked import Revoked

    revoked = Revoked.load(Path(path).expanduser().read_bytes(), path)
    return revoked.revokes(key)


def read_known_hosts(path: Path) -> KnownHosts:
    """The lines of a file, none where there is no such file. Raises ConfigError."""
    try:
        return KnownHosts.parse(path.read_bytes(), str(path))
    except (FileNotFoundError, NotADirectoryError):
        return KnownHosts()
    except OSError as error:
        # To go on as if nothing were known could turn a changed key into a new one.
        raise ConfigError(f"cannot read known_hosts {path}: {error.strerror}") from error
