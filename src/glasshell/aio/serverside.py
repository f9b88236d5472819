"""What a client cannot see: why sshd on this machine would let a user in, or would not.

For `glasshell doctor --server`: OpenSSH's own `sshd -T` says what holds for the login, and the account, the
files and the key are looked at as sshd looks at them. Nothing is changed, nobody logs in.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from ..config.options import ServerOptions, UserList
from ..crypto.signatures import PublicKey
from ..errors import ConfigError, UsageError
from ..explain.rules import Explanation
from ..explain.steps import Step
from ..system.accounts import Account, account_objection, find_account, group_names, is_root
from ..system.files import authorized_paths, read_authorized
from ..wire import visible
from .identity import read_identity

__all__ = ["Question", "examine"]

DAY: Final = 86400
SECONDS: Final = 30.0
"""How long sshd may take to say what its configuration comes to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Who wants to log in, from where, with which key files, at an sshd with which configuration."""

    user: str
    address: str = "127.0.0.1"
    keys: tuple[str, ...] = ()
    config: str = ""
    """The file of sshd -f; empty: its usual one."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that keeps the user out: its name, what it is, what to do."""

    rule: str
    what: str
    remedies: tuple[str, ...] = ()


def examine(question: Question, tell: Callable[[Step], None]) -> Explanation | None:
    """Looks at everything, tells each step; the explanation of what keeps the user out, or None.

    Raises UsageError for whoever is not root, ConfigError where there is no sshd.
    """
    if not is_root():
        again = f"sudo glasshell doctor --server {question.user}"
        raise UsageError("only root can look where sshd looks", hint=again)
    problems: list[Problem] = []
    for step, problem in _walk(question):
        tell(step)
        if problem is not None:
            problems.append(problem)
    if not problems:
        return None
    first, *others = problems
    return Explanation(
        rule=first.rule, phase="server", what=first.what,
        server=tuple(f"besides: {each.what}" for each in others),
        admin=tuple(dict.fromkeys(remedy for each in problems for remedy in each.remedies)),
    )  # fmt: skip


Found: TypeAlias = tuple[Step, Problem | None]


def _good(phase: str, text: str, *, note: bool = False) -> Found:
    return Step(phase=phase, ok=None if note else True, text=visible(text)), None


def _bad(phase: str, text: str, rule: str, what: str, *remedies: str) -> Found:
    problem = Problem(f"server-{rule}", visible(what), tuple(map(visible, remedies)))
    return Step(phase=phase, ok=False, text=visible(text)), problem


def _walk(question: Question) -> Iterator[Found]:
    settings, trouble = _effective(question)
    if trouble:
        check = f"sshd -t{f' -f {question.config}' if question.config else ''}"
        yield _bad("sshd", trouble, "config", f"sshd does not take its configuration: {trouble}", check)
        return
    yield _good("sshd", f"for {question.user} from {question.address}: {_summary(settings)}")
    name = question.user
    account = find_account(name)
    if account is None:
        yield _bad("account", f"there is no account {name}", "no-account",
                   f"There is no account {name} on this machine.",
                   "getent passwd: is the name right?", f"adduser {name}")  # fmt: skip
        return
    options = _options(settings)
    yield _account(account, options)
    yield _lists(account, options, question.address)
    yield from _rest(account, options, question)


def _rest(account: Account, options: ServerOptions, question: Question) -> Iterator[Found]:
    root, name = options.root_login, account.name
    if account.uid == 0 and (refusal := options.root_objection("publickey", False)):
        yield _bad("root", f"PermitRootLogin {root}: {refusal}", "root",
                   f"Root may not log in with a key: PermitRootLogin is {root}.",
                   "log in as another user, or PermitRootLogin prohibit-password")  # fmt: skip
    if account.uid and Path("/etc/nologin").exists():
        yield _bad("nologin", "/etc/nologin is there", "nologin",
                   "Nobody but root is let in: /etc/nologin is there.",
                   "rm /etc/nologin, once the work is done")  # fmt: skip
    if options.pubkey:
        yield from _files(account, options, question)
    else:
        yield _bad("keys", "PubkeyAuthentication is no", "no-keys",
                   f"sshd takes no keys of {name}: PubkeyAuthentication is no.",
                   "PubkeyAuthentication yes")  # fmt: skip


# ---- what sshd itself says


def _effective(question: Question) -> tuple[Mapping[str, list[str]], str]:
    """The settings by `sshd -T`, keyword -> values; or what it says where it takes none."""
    program = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        raise ConfigError("there is no sshd on this machine")
    line = [program, "-T", *(["-f", question.config] if question.config else []), "-C",
            f"user={question.user},host={question.address},addr={question.address}"]  # fmt: skip
    try:
        done = subprocess.run(
            line, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return {}, f"sshd -T: {error}"
    if done.returncode:
        said = done.stderr.strip().splitlines()
        return {}, said[0] if said else f"sshd -T ended with {done.returncode}"
    settings: dict[str, list[str]] = {}
    for each in done.stdout.splitlines():
        keyword, _, value = each.partition(" ")
        settings.setdefault(keyword.lower(), []).append(value)
    return settings, ""


def _summary(settings: Mapping[str, list[str]]) -> str:
    shown = ("permitrootlogin", "pubkeyauthentication", "strictmodes", "authorizedkeysfile", "allowusers",
             "denyusers", "allowgroups", "denygroups", "authenticationmethods", "forcecommand")  # fmt: skip
    said = [name for name in shown if settings.get(name) not in (None, ["none"])]
    told = [f"{name} {' '.join(settings[name])}" for name in said]
    return ", ".join(each for each in told if not each.endswith(" any"))


def _options(settings: Mapping[str, list[str]]) -> ServerOptions:
    """What of it decides about a login by key."""

    def one(name: str, default: str) -> str:
        return (settings.get(name) or [default])[0].strip()

    def words(name: str) -> tuple[str, ...]:
        return tuple(word for value in settings.get(name, ()) for word in value.split())

    root = one("permitrootlogin", "prohibit-password").replace("without-password", "prohibit-password")
    return ServerOptions(
        authorized_keys=words("authorizedkeysfile"), strict_modes=one("strictmodes", "yes") == "yes",
        pubkey=one("pubkeyauthentication", "yes") == "yes", root_login=root,
        allow_users=UserList(words("allowusers")), deny_users=UserList(words("denyusers")),
        allow_groups=words("allowgroups"), deny_groups=words("denygroups"),
        use_pam=one("usepam", "no") == "yes",
    )  # fmt: skip


# ---- the account


def _account(account: Account, options: ServerOptions) -> Found:
    objection = account_objection(account, today=int(time.time()) // DAY, check_lock=not options.use_pam)
    name = account.name
    if not objection:
        return _good("account", f"uid {account.uid}, home {account.home}, shell {account.shell}")
    if "shell" in objection:
        remedy = f"usermod -s /bin/bash {name}"
    elif "expired" in objection:
        remedy = f"chage -E -1 {name}"
    else:
        remedy = f"usermod -p '*' {name}  (no password, and not locked)"
    return _bad("account", objection, "account", f"sshd lets nobody in as {name}: {objection}.", remedy)


def _lists(account: Account, options: ServerOptions, address: str) -> Found:
    objection = options.user_objection(account.name, group_names(account), address)
    if not objection:
        return _good("lists", "AllowUsers, DenyUsers, AllowGroups, DenyGroups let the user in")
    return _bad("lists", objection, "lists", f"{account.name} from {address} is not let in: {objection}.",
                "change AllowUsers, DenyUsers, AllowGroups, DenyGroups in sshd_config")  # fmt: skip


# ---- the files and the key


def _files(account: Account, options: ServerOptions, question: Question) -> Iterator[Found]:
    """Each file of keys, as sshd reads it; and whether the keys that were asked about are in one."""
    keys = _keys(question.keys)
    paths = authorized_paths(options.authorized_keys, account)
    missing: list[str] = []
    reasons: list[str] = []
    settled = not keys
    for path in paths:
        file = read_authorized(path, account, strict=options.strict_modes)
        if file.missing:
            missing.append(path)
            continue
        if file.objection:
            settled = True  # what is in a file that is not read is no news
            yield _objected(account, path, file.objection)
            continue
        yield _good("keys", f"{path}: {len(file.keys.entries)} keys", note=not file.keys.entries)
        for line in file.keys.refused:
            yield _good("keys", f"{line.source}:{line.line} counts for nothing: {line.reason}", note=True)
        for key in keys:
            decision = file.keys.decide(
                key, user=account.name, address=question.address, hostname=None, now=time.time()
            )
            reasons += decision.reasons
            if decision.entry is not None:
                settled = True
                yield _good("keys", f"{key.fingerprint()} is in {decision.entry.where}")
    if len(missing) == len(paths):
        yield _nothing(account, missing)
    elif not settled:
        yield _no_key(account, keys, reasons)


def _keys(paths: Sequence[str]) -> list[PublicKey]:
    found = []
    for path in paths:
        identity = read_identity(path, explicit=True)
        if identity.key is None:
            why = identity.problem or "its public half is needed: the .pub file"
            raise UsageError(f"{visible(path)}: {why}")
        found.append(identity.key.plain)
    return found


def _objected(account: Account, path: str, objection: str) -> Found:
    place = objection.rpartition(" ")[2] if "bad ownership" in objection else path
    return _bad("keys", objection, "files", f"sshd does not read {path}: {objection}.",
                f"ls -ld {place}", f"chown {account.name}: {place}; chmod go-w {place}")  # fmt: skip


def _nothing(account: Account, missing: Sequence[str]) -> Found:
    named = ", ".join(missing) or "AuthorizedKeysFile is none"
    return _bad("keys", f"there is no file of keys: {named}", "no-file",
                f"{account.name} has no file of keys: {named}.",
                "put the public key there, a line each; mode 600, its folder 700")  # fmt: skip


def _no_key(account: Account, keys: Sequence[PublicKey], reasons: Sequence[str]) -> Found:
    if reasons:
        text = "; ".join(reasons)
        return _bad("keys", text, "key-options", f"The key's own line keeps it out: {text}.",
                    "change from= or expiry-time= in that line")  # fmt: skip
    text = f"{', '.join(key.fingerprint() for key in keys)} is in no file of {account.name}"
    return _bad("keys", text, "key", f"The key is not there: {text}.",
                "add the line of the .pub file to authorized_keys")  # fmt: skip
