"""`glasshell add`: ssh-add(1), its flags, words and exit codes."""

from __future__ import annotations

import asyncio
import getopt
import os
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ..aio.agent import Agent
from ..config.forms import seconds
from ..errors import ConfigError, ConnectionLost, KeyFormatError, PassphraseError, RequestFailed, SSHError
from ..values import field, slotted
from ..wire import Secret, visible
from .terminal import ask

if TYPE_CHECKING:
    from ..agent.destinations import Route, Stop
    from ..agent.held import Private
    from ..keys.certificate import AnyKey, Certificate

__all__ = ["main"]

USAGE: Final = """\
usage: glasshell add [-CcDdKkLlqvXx] [-E fingerprint_hash] [-H hostkey_file]
                     [-h destination_constraint] [-S provider] [-t life]
                     [file ...]
       glasshell add -s pkcs11 [-Cv] [certificate ...]
       glasshell add -e pkcs11
       glasshell add -T pubkey ...
"""

FLAGS: Final[dict[str, tuple[str, str]]] = {
    "C": ("", "certificates alone, without their keys"),
    "c": ("", "have the agent ask before each use of the key"),
    "D": ("", "take every key back"),
    "d": ("", "take the keys of the files back"),
    "E": ("HASH", "hash of fingerprints: sha256 or md5"),
    "e": ("PKCS11", "take the keys of that library back"),
    "H": ("FILE", "where -h looks host keys up (the files of known_hosts)"),
    "h": ("DESTINATION", "use the key for this alone: [user@]host, or host>[user@]host for the hop between"),
    "K": ("", "the resident keys of a security key"),
    "k": ("", "keys alone, without their certificates"),
    "L": ("", "list the public keys"),
    "l": ("", "list the fingerprints"),
    "q": ("", "say nothing where all went well"),
    "S": ("PROVIDER", "the library that talks to security keys"),
    "s": ("PKCS11", "the keys of that library"),
    "T": ("", "see whether the private keys of these public ones can be used"),
    "t": ("LIFE", "how long the key stays: seconds, or 10m, 1h"),
    "v": ("", "say more"),
    "X": ("", "unlock the agent"),
    "x": ("", "lock the agent with a password"),
}

DEFAULT_FILES: Final = ("id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk")
HOST_FILES: Final = (
    "~/.ssh/known_hosts", "~/.ssh/known_hosts2", "/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2",
)  # fmt: skip

NO_AGENT: Final = 2
"""ssh-add(1): the exit status where there is no agent to talk to; 1 is that of what failed."""

REFUSED: Final = "agent refused operation"

_UNPROTECTED: Final = """\
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
@         WARNING: UNPROTECTED PRIVATE KEY FILE!          @
@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@
Permissions {:04o} for '{}' are too open.
It is required that your private key files are NOT accessible by others.
This private key will be ignored."""


@slotted
class Settings:
    """What the command line says."""

    action: str = ""
    """`l`, `L`, `x`, `X`, `D`, `T`, or nothing: files are added."""
    hash: str = "sha256"
    lifetime: int = 0
    confirm: bool = False
    delete: bool = False
    key_only: bool = False
    certificates_only: bool = False
    quiet: bool = False
    verbose: int = 0
    card: str = ""
    resident: bool = False
    provider: str = field(default="internal")
    destinations: list[str] = field(default_factory=list)
    host_files: list[str] = field(default_factory=list)
    files: Sequence[str] = ()


def main(arguments: Sequence[str]) -> int:
    """Runs `glasshell add`; returns the exit status: 0, 1 for what failed, 2 without an agent."""
    if list(arguments) == ["--help"]:
        print(_help(), end="")
        return 0
    agent = Agent()
    if not agent.path:
        _say("Could not open a connection to your authentication agent.")
        return NO_AGENT
    try:
        said = _parse(arguments)
    except getopt.GetoptError as error:
        _say(f"unknown option -- {error.opt}\n{USAGE.rstrip()}")
        return 1
    except ConfigError as error:
        _say(visible(str(error)))
        return 1 if error.hint else 255
    try:
        return asyncio.run(_Adder(agent, said).run())
    except ConnectionLost as error:
        why = error.__cause__.strerror if isinstance(error.__cause__, OSError) else None
        _say(f"Error connecting to agent: {why or visible(str(error))}")
        return NO_AGENT


def _help() -> str:
    lines = [f"  {f'-{name} {value}':16} {about}\n" for name, (value, about) in FLAGS.items()]
    return "".join([USAGE, "\n", *lines])


def _parse(arguments: Sequence[str]) -> Settings:
    letters = "".join(name + ":" * bool(value) for name, (value, _) in FLAGS.items())
    pairs, rest = getopt.getopt(list(arguments), letters)
    said = Settings(files=rest, provider=os.environ.get("SSH_SK_PROVIDER", "internal"))
    for flag, value in pairs:
        match flag:
            case "-l" | "-L" | "-x" | "-X" | "-D":
                _act(said, flag)
            case "-T":
                said.action = said.action or "T"
            case "-E":
                said.hash = value.lower()
                if said.hash not in ("md5", "sha256"):
                    raise ConfigError(f'Invalid hash algorithm "{value}"')
            case "-t":
                said.lifetime = _lifetime(value)
            case "-c":
                said.confirm = True
            case "-d":
                said.delete = True
            case "-k":
                said.key_only = True
            case "-C":
                said.certificates_only = True
            case "-K":
                said.resident = True
            case "-q":
                said.quiet = True
            case "-v":
                said.verbose += 1
            case "-s" | "-e":
                said.card, said.delete = value, said.delete or flag == "-e"
            case "-S":
                said.provider = value
            case "-h":
                said.destinations.append(value)
            case "-H":
                said.host_files.append(value)
    return said


def _act(said: Settings, flag: str) -> None:
    if said.action not in ("", "T"):
        pair = {said.action, flag[1]}
        for same in ({"l", "L"}, {"x", "X"}):
            if pair <= same:
                raise ConfigError(f"-{said.action} flag already specified")
        if len(pair) > 1:
            raise ConfigError("Invalid combination of actions")
    said.action = flag[1]


def _lifetime(value: str) -> int:
    try:
        return seconds(value)
    except ConfigError:
        raise ConfigError("Invalid lifetime", hint="write seconds, or such as 10m or 1h") from None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _why(error: SSHError) -> str:
    return REFUSED if isinstance(error, RequestFailed) else visible(str(error))


class _Adder:
    """One run of the program. Each action returns whether it was done."""

    def __init__(self, agent: Agent, said: Settings) -> None:
        self._agent = agent
        self._said = said
        self._passphrase: Secret | None = None
        """The last one that was right: keys often have the same."""
        self._routes: tuple[Route, ...] = ()

    async def run(self) -> int:
        """The exit status."""
        said = self._said
        actions: dict[str, Callable[[], Awaitable[bool]]] = {
            "l": lambda: self._list(fingerprints=True), "L": lambda: self._list(fingerprints=False),
            "x": lambda: self._lock(shut=True), "X": lambda: self._lock(shut=False),
            "D": self._delete_all, "T": self._test,
        }  # fmt: skip
        if said.action and said.action != "T":
            return int(not await actions[said.action]())
        try:
            self._routes = tuple(map(self._route, said.destinations))
        except SSHError as error:
            _say(visible(str(error)))
            return 255
        if said.action:
            if not said.files:
                _say("no keys to test")
                return 255
            return int(not await self._test())
        if said.card:
            return int(not await self._card())
        if said.resident:
            _say("Unable to load resident keys: they are read with ssh-keygen -K, and added from the files")
            return 1
        return await self._all_files()

    async def _all_files(self) -> int:
        act = self._delete_file if self._said.delete else self._add_file
        if self._said.files:
            return int(not all([await act(name) for name in self._said.files]))
        done = [await act(name) for name in _default_files()]
        return int(not done or not all(done))

    # --- what is there

    async def _list(self, *, fingerprints: bool) -> bool:
        from ..keys.public import dump_public_key

        try:
            identities = await self._agent.identities()
        except RequestFailed as error:
            _say(f"error fetching identities: {_why(error)}")
            return False
        if not identities:
            print("The agent has no identities.")
            return False
        for identity in identities:
            if identity.key is None:
                continue  # ssh-add passes over what it cannot read, too
            if fingerprints:
                key, comment = identity.key, visible(identity.comment)
                print(f"{key.bits} {key.fingerprint(self._said.hash)} {comment} ({key.label})")
            else:
                print(f"{dump_public_key(identity.key).rstrip()} {visible(identity.comment)}")
        return True

    async def _test(self) -> bool:
        return all([await self._test_key(name) for name in self._said.files])

    async def _test_key(self, name: str) -> bool:
        try:
            key, _ = _load_public(name)
        except SSHError as error:
            _say(f"Couldn't read public key {visible(name)}: {visible(str(error))}")
            return False
        data, algorithm = os.urandom(1024), key.plain.algorithms[0]
        try:
            signature = await self._agent.sign(key.blob, algorithm, data)
        except SSHError as error:
            _say(f"Agent signature failed for {visible(name)}: {_why(error)}")
            return False
        if not key.plain.verify(algorithm, signature, data, touch_required=False):
            _say(f"Signature verification failed for {visible(name)}: incorrect signature")
            return False
        return True

    # --- the lock

    async def _lock(self, *, shut: bool) -> bool:
        from ..agent.messages import Lock, Unlock

        password = await ask("Enter lock password: ", stdin=True) or Secret(b"")
        if shut and (await ask("Again: ", stdin=True) or Secret(b"")) != password:
            _say("Passwords do not match.")
            return False
        un = "" if shut else "un"
        try:
            await self._agent.do(Lock(password) if shut else Unlock(password), f"be {un}locked")
        except SSHError as error:
            _say(f"Failed to {un}lock agent: {_why(error)}")
            return False
        _say(f"Agent {un}locked.")
        return True

    # --- keys go

    async def _delete_all(self) -> bool:
        from ..agent.messages import RemoveAllIdentities

        try:
            await self._agent.do(RemoveAllIdentities(), "remove its keys")
        except SSHError:
            _say("Failed to remove all identities.")
            return False
        self._tell("All identities removed.")
        return True

    async def _delete_file(self, name: str) -> bool:
        if name == "-":
            return await self._delete_listed()
        try:
            key, comment = _load_public(name)
        except SSHError as error:
            print(f"Bad key file {visible(name)}: {visible(str(error))}")
            return False
        done = False
        if not self._said.certificates_only:
            done = await self._delete_one(key, comment, name)
        certificate = None if self._said.key_only else _certificate_beside(name, key)
        if certificate is not None:
            done = await self._delete_one(certificate[0], certificate[1], f"{name}-cert.pub") or done
        return done

    async def _delete_listed(self) -> bool:
        """The public keys on standard input, a line each."""
        from ..keys.public import load_key

        done = False
        for number, line in enumerate(sys.stdin.buffer, 1):
            if not line.strip() or line.lstrip().startswith(b"#"):
                continue
            try:
                key, comment = load_key(line)
            except KeyFormatError:
                _say(f"(stdin):{number}: invalid key")
                continue
            done = await self._delete_one(key, comment, "(stdin)") or done
        return done

    async def _delete_one(self, key: AnyKey, comment: str, name: str) -> bool:
        from ..agent.messages import RemoveIdentity

        try:
            await self._agent.do(RemoveIdentity(key.blob), "remove a key")
        except SSHError as error:
            _say(f'Could not remove identity "{visible(name)}": {_why(error)}')
            return False
        self._tell(f"Identity removed: {visible(name)} {key.label} ({visible(comment)})")
        return True

    # --- keys come

    async def _add_file(self, name: str) -> bool:
        try:
            data = _read(name)
        except OSError as error:
            _say(f"{visible(name)}: {error.strerror}")
            return False
        except KeyFormatError:
            _say(_UNPROTECTED.format(_mode(name), visible(name)))
            return False
        shown = "(stdin)" if name == "-" else visible(name)
        try:
            private = await self._open(data, shown)
        except PassphraseError:
            return False
        except SSHError as error:
            _say(f'Error loading key "{shown}": {visible(str(error))}')
            return False
        comment = getattr(private, "comment", "") or name
        done = True
        if not self._said.certificates_only:
            told = f"Identity added: {shown} ({visible(comment)})"
            done = await self._give(private, comment, None, told, shown)
        found = None if self._said.key_only or name == "-" else _certificate_beside(name, private.public)
        if found is None:
            return done
        told = f"Certificate added: {shown}-cert.pub ({visible(found[0].key_id)})"
        return await self._give(private, comment, found[0], told, f"{shown}-cert.pub") and done

    async def _open(self, data: bytes, shown: str) -> Private:
        """The key in a file; asked for its passphrase until it is right, or nothing is said."""
        from ..keys.openssh import load_private_key

        for known in (None, self._passphrase):
            try:
                return load_private_key(data, known, hardware=True)
            except PassphraseError:
                continue
        each_use = " (will confirm each use)" if self._said.confirm else ""
        prompt = f"Enter passphrase for {shown}{each_use}: "
        while True:
            passphrase = await ask(prompt, stdin=True)
            if not passphrase:
                raise PassphraseError("no passphrase was given", reason="needed")
            try:
                private = load_private_key(data, passphrase, hardware=True)
            except PassphraseError:
                prompt = f"Bad passphrase, try again for {shown}{each_use}: "
                continue
            self._passphrase = passphrase
            return private

    async def _give(
        self, private: Private, comment: str, certificate: Certificate | None, told: str, shown: str
    ) -> bool:
        said = self._said
        try:
            await self._agent.add(
                private, comment, certificate=certificate, lifetime=said.lifetime, confirm=said.confirm,
                routes=self._routes, provider=said.provider,
            )  # fmt: skip
        except SSHError as error:
            what = "identity" if certificate is None else "certificate"
            _say(f'Could not add {what} "{shown}": {_why(error)}')
            return False
        self._tell(told)
        if said.lifetime:
            self._tell(f"Lifetime set to {said.lifetime} seconds")
        if said.confirm:
            self._tell("The user must confirm each use of the key")
        return True

    async def _card(self) -> bool:
        """-s and -e: the agent is asked, which may have a library for it; ours has none."""
        from ..agent import adding
        from ..agent.destinations import encode_routes

        said, pin = self._said, Secret(b"")
        if not said.delete:
            pin = await ask("Enter passphrase for PKCS#11: ", stdin=True) or pin
        constraints = tuple(
            map(
                adding.constraint,
                [adding.Lifetime(said.lifetime)] * bool(said.lifetime)
                + [adding.Confirm()] * said.confirm
                + [encode_routes(self._routes)] * bool(self._routes),
            )
        )
        verb = "remove" if said.delete else "add"
        try:
            if said.delete:
                await self._agent.do(adding.RemoveSmartcardKey(said.card, pin), "remove a token")
            elif constraints:
                await self._agent.do(
                    adding.AddSmartcardKeyConstrained(said.card, pin, constraints), "use a token"
                )
            else:
                await self._agent.do(adding.AddSmartcardKey(said.card, pin), "use a token")
        except SSHError as error:
            _say(f'Could not {verb} card "{visible(said.card)}": {_why(error)}')
            return False
        self._tell(f"Card {'removed' if said.delete else 'added'}: {visible(said.card)}")
        return True

    def _tell(self, text: str) -> None:
        if not self._said.quiet:
            _say(text)

    # --- destinations

    def _route(self, text: str) -> Route:
        """-h: `[user@]host`, or `host>[user@]host` (ssh-add(1)). Raises ConfigError."""
        from ..agent.destinations import Route, Stop

        first, arrow, second = text.partition(">")
        if not arrow:
            return Route(Stop(), self._stop(first, text))
        origin = self._stop(first, text)
        if origin.user:
            raise ConfigError(f"Invalid key constraint {text}: cannot specify user on 'from' host")
        return Route(origin, self._stop(second, text))

    def _stop(self, text: str, whole: str) -> Stop:
        from ..agent.destinations import Stop

        user, at, host = text.partition("@")
        if not at:
            user, host = "", user
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        if not host:
            raise ConfigError(f'Invalid key destination constraint "{whole}": does not specify a host')
        found = tuple(_host_keys(host.lower(), self._said.host_files or HOST_FILES))
        if not found:
            raise ConfigError(f'No host keys found for destination "{host}"')
        return Stop(host, found, user)


def _read(name: str) -> bytes:
    from ..keys.public import MAX_FILE

    if name == "-":
        return sys.stdin.buffer.read(MAX_FILE + 1)
    from ..aio.identity import read_private_file

    return read_private_file(Path(name))


def _mode(name: str) -> int:
    return Path(name).stat().st_mode & 0o777


def _default_files() -> list[str]:
    folder = Path("~/.ssh").expanduser()
    return [str(folder / name) for name in DEFAULT_FILES if (folder / name).exists()]


def _host_keys(name: str, files: Sequence[str]) -> Iterator[tuple[AnyKey, bool]]:
    """The keys that known_hosts has for a host, each with whether it is an authority's."""
    from ..aio.trust import read_known_hosts

    for path in files:
        for entry in read_known_hosts(Path(path).expanduser()).entries:
            if entry.marker != "@revoked" and entry.names(name) and entry.key is not None:
                yield entry.key, entry.marker == "@cert-authority"


def _load_public(name: str) -> tuple[AnyKey, str]:
    """A public key, or the one beside a private key. Raises SSHError."""
    from ..keys.public import MAX_FILE, load_key

    problem: SSHError = KeyFormatError("No such file or directory")
    for path in (Path(name), Path(f"{name}.pub")):
        try:
            with path.open("rb") as file:
                return load_key(file.read(MAX_FILE + 1))
        except OSError as error:
            problem = KeyFormatError(error.strerror or str(error))
        except SSHError as error:
            problem = error
    raise problem


def _certificate_beside(name: str, key: AnyKey) -> tuple[Certificate, str] | None:
    """The certificate that lies beside a key's file; what is wrong with it is told."""
    from ..keys.certificate import Certificate

    path = Path(f"{name}-cert.pub")
    if not path.exists():
        return None
    with suppress(OSError):
        try:
            found, comment = _load_public(str(path))
        except SSHError as error:
            _say(f'Failed to load certificate "{visible(str(path))}": {visible(str(error))}')
            return None
        if isinstance(found, Certificate) and found.key == key.plain:
            return found, comment
        _say(f"Certificate {visible(str(path))} does not match private key {visible(name)}")
    return None
