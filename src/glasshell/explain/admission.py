"""Why the server did not let the user in.

A server tells a client nothing but "no". What a refusal leaves open, and where the server's log decides it,
is said as such; what the pattern of the answers gives away is said as evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from .rules import Facts, Phase, Rule
from .story import ASKED, Story, Try

__all__ = ["LOGIN"]

GRACE: Final = 20.0
"""Seconds in a login after which a silent end is likely the server's own deadline (LoginGraceTime)."""

def _keys(story: Story) -> list[Try]:
    """The keys that were really put to the server."""
    return [each for each in story.login.tries if each.method == "publickey" and each.identity]


def _skipped(story: Story) -> list[Try]:
    """What was at hand and could not be used."""
    return [each for each in story.login.tries if each.answer.startswith("skipped") and not each.absent]


def _told(tries: Sequence[Try]) -> str:
    return "; ".join(f"{each.source or each.identity}: {each.answer.removeprefix('skipped: ')}"
                     for each in tries[:4])  # fmt: skip


def _facts(story: Story) -> dict[str, str]:
    """What every rule of a login may use."""
    login, keys = story.login, _keys(story)
    methods = login.methods or ()
    agent = login.agent
    return {
        "methods": ", ".join(methods), "takes_keys": "yes" if "publickey" in methods else "",
        "asked": "yes" if any(each.method in ASKED for each in login.tries) else "",
        "takes_words": "yes" if set(methods) & set(ASKED) else "",
        "count": str(len(keys)), "keys": ", ".join(dict.fromkeys(k.source or k.identity for k in keys))[:200],
        "skipped": _told(_skipped(story)),
        "absent": ", ".join(each.source for each in login.tries if each.absent)[:200],
        "root": "yes" if login.user == "root" else "",
        "banner": login.banner, "accepts": login.algorithms,
        "agent": str(agent.get("problem") or ""),
        "agent_lost": str(agent.get("problem") or "") if agent.get("path") else "",
        "fingerprints": ", ".join(k.identity for k in keys[:3]),
        "certificates": "; ".join(k.certificate for k in keys if k.certificate)[:400],
        "stale": "; ".join(dict.fromkeys(k.objection for k in keys if k.objection))[:200],
        "rsa": "yes" if any(k.algorithm.startswith(("rsa-", "ssh-rsa")) for k in keys) else "",
        "first": keys[0].source.removesuffix(" (agent)") if keys else "",
        "remarks": "; ".join(login.remarks[:3]),
    }  # fmt: skip


def _said(story: Story) -> tuple[Sequence[str], Sequence[str]]:
    client = [str(each) for each in story.login.tries if each.method != "none" and not each.absent]
    methods = story.login.methods
    server = [f"takes: {', '.join(methods)}"] if methods else []
    if story.login.banner:
        server.append(f"banner: {story.login.banner}")
    if story.end.by_server:
        server.append(f"disconnected: {story.end.by_server[1]}")
    return client, server


def _too_many(story: Story) -> Facts | None:
    told = story.end.by_server
    if told is None or not ("oo many" in told[1] or (story.login.failures >= 2 and told[0] == 14)):
        return None
    return {**_facts(story), "text": told[1], "tried": str(story.login.failures)}


def _expired(story: Story) -> Facts | None:
    expired = any("password has expired" in each.answer for each in story.login.tries)
    return _facts(story) if expired else None


def _locked(story: Story) -> Facts | None:
    """A key that the server would take, and that could not sign."""
    for each in story.login.tries:
        if each.asked and each.answer.startswith("skipped"):
            source = each.source.removesuffix(" (agent)")
            why = each.answer.removeprefix("skipped: ")
            shut = "encrypted" in why or "passphrase" in why.lower()
            return {**_facts(story), "key": source or each.identity, "why": why,
                    "shut": "yes" if shut else ""}  # fmt: skip
    return None


def _after_signature(story: Story) -> Facts | None:
    """A key that the server said it would take, and whose signature it then refused."""
    for each in story.login.tries:
        if each.asked and each.answer == "refused":
            tiny = "yes" if "tinyssh" in story.opening.server.lower() else ""
            return {**_facts(story), "key": each.source or each.identity, "tiny": tiny}
    return None


def _no_algorithm(story: Story) -> Facts | None:
    for each in story.login.tries:
        if "no mutual signature algorithm" in each.answer and not any(k.answer for k in _keys(story)):
            return {**_facts(story), "key": each.source}
    return None


def _no_method(story: Story) -> Facts | None:
    methods = set(story.login.methods or ())
    tried = {each.method for each in story.login.tries if each.method != "none"}
    if not methods or tried & methods or "publickey" in methods or story.login.partial:
        return None
    tickets = [each.answer for each in _skipped(story) if each.source.startswith("tickets")]
    return {
        **_facts(story), "asks": "yes" if methods & set(ASKED) else "",
        "ticket": tickets[0].removeprefix("skipped: ") if tickets else "",
        "gssapi": "yes" if "gssapi-with-mic" in methods and not tickets else "",
        "foreign": ", ".join(methods - set(ASKED) - {"publickey", "gssapi-with-mic", "hostbased"}),
    }  # fmt: skip


def _partial(story: Story) -> Facts | None:
    done = [each for each in story.login.tries if each.answer == "partial"]
    if not done:
        return None
    return {**_facts(story), "done": done[-1].method, "more": ", ".join(story.login.methods or ())}


def _unusable(story: Story) -> Facts | None:
    """Keys were named, and none could even be read."""
    bad = [each for each in _skipped(story) if each.source != "agent" and not each.asked]
    if _keys(story) or not bad or "publickey" not in (story.login.methods or ()):
        return None
    why = bad[0].answer
    return {
        **_facts(story), "key": bad[0].source, "why": why.removeprefix("skipped: "),
        "open": "yes" if "too open" in why else "",
        "shut": "yes" if "encrypted" in why or "passphrase" in why.lower() else "",
        "denied": "yes" if "Permission denied" in why else "",
    }  # fmt: skip


def _no_key(story: Story) -> Facts | None:
    methods = story.login.methods or ()
    asked = [each for each in story.login.tries if each.method in ASKED]
    return _facts(story) if "publickey" in methods and not _keys(story) and not asked else None


def _words_refused(story: Story) -> Facts | None:
    tried = [each for each in story.login.tries if each.method in ASKED and each.answer == "refused"]
    return {**_facts(story), "times": str(len(tried))} if tried else None


def _unanswered(story: Story) -> Facts | None:
    """The server asked for words, and got none."""
    for each in story.login.tries:
        if each.method in ASKED and each.answer.startswith("skipped"):
            return {**_facts(story), "method": each.method}
    return None


def _keys_refused(story: Story) -> Facts | None:
    return _facts(story) if _keys(story) else None


def _silent_end(story: Story) -> Facts | None:
    if not (story.end.eof or story.end.by_server):
        return None
    seconds = story.end.time - story.way.at
    told = story.end.by_server
    return {
        **_facts(story), "seconds": f"{seconds:.0f}", "late": "yes" if seconds >= GRACE else "",
        "soon": "" if seconds >= GRACE else "yes", "text": told[1] if told else "",
        "after": story.login.tries[-1].method if story.login.tries else "",
    }  # fmt: skip


def _grace(story: Story) -> Facts | None:
    told = story.end.by_server
    late = told is not None and "imeout" in told[1]
    facts = _silent_end(story)
    return facts if facts and (late or facts["late"]) else None


def _inferred(story: Story) -> Facts | None:
    """A capture without keys, of which the lengths say that the login failed."""
    told = story.login.inferred
    if told.get("what") != "authentication_failed":
        return None
    return {**_facts(story), "attempts": str(told.get("attempts") or "some"),
            "evidence": str(told.get("evidence") or "")}  # fmt: skip


_LOG: Final = (
    "journalctl -u ssh -g '{client_address}|{user}' -n 50: sshd says there what it does not tell the client",
    "LogLevel VERBOSE in sshd_config, or a second server that tells all: /usr/sbin/sshd -ddd -p 2222",
)
_EFFECTIVE: Final = (
    "what holds for this login: sshd -T -C user={user},addr={client_address},host={client_address}"
    " | grep -iE '^(allow|deny|permitroot|pubkey|authorizedkeys|authentication|strictmodes)'"
)
_PERMISSIONS: Final = (
    "chown -R {user}: ~{user}/.ssh; chmod go-w ~{user}; chmod 700 ~{user}/.ssh; chmod 600 ~{user}/.ssh/*"
)

LOGIN: Final = Phase(
    name="login",
    said=_said,
    rules=(
        Rule(
            name="login-inferred",
            when=_inferred,
            what="The login failed (attempts: {attempts}), as far as the lengths of what is encrypted tell.",
            causes=(("a wrong password or key, or somebody who tries passwords", "{evidence}"),),
            user=("the capture with its keys tells more: a key log of either side",),
            admin=_LOG,
        ),
        Rule(
            name="too-many-failures",
            when=_too_many,
            what='The server gave up: "{text}", after {tried} refusals; each key that is offered counts'
            " (MaxAuthTries).",
            causes=(
                ("more keys are offered than the server is patient for, before the right one",
                 "{count} keys: {keys}"),
                "[asked]the password was wrong several times",
            ),
            user=(
                "offer only the right key: -i FILE -o IdentitiesOnly=yes",
                "see what the agent holds: ssh-add -l; empty it: ssh-add -D",
            ),
            admin=("MaxAuthTries in sshd_config is 6 unless it was lowered: sshd -T | grep -i maxauthtries",),
        ),
        Rule(
            name="login-timeout",
            when=_grace,
            what="The login was not done within the time that the server gives for it (LoginGraceTime):"
            " it ended the connection after {seconds} s.",
            causes=(
                "the password or passphrase was not typed in time",
                "something on the server is slow: a directory service, DNS, a second factor",
            ),
            user=("connect again, and be faster; unlock the key first with ssh-add",),
            admin=("sshd -T | grep -i logingracetime", *_LOG),
        ),
        Rule(
            name="password-expired",
            when=_expired,
            what="The password of {user} has expired, and the server wants a new one before anything else.",
            user=("ssh {flags}{target} from a terminal, where it can be asked for",),
            admin=("chage -l {user}",),
        ),
        Rule(
            name="key-locked",
            when=_locked,
            what="The server would take the key {key}, but the key could not sign: {why}.",
            causes=(
                "[shut]it is under a passphrase, and nobody could be asked for it (BatchMode, no terminal)",
                "[!shut]the private half is not what its .pub says, or its holder (agent, token) refused",
            ),
            user=("[shut]unlock it once: ssh-add {key}", "[shut]or let it be asked for: without BatchMode"),
        ),
        Rule(
            name="more-methods-needed",
            when=_partial,
            what="One step of the login succeeded ({done}), and the server wants another: {more}"
            " (AuthenticationMethods).",
            causes=("the second factor could not be asked for, or was refused",),
            user=("ssh {flags}{target} from a terminal, without BatchMode",),
            admin=("sshd -T -C user={user} | grep -i authenticationmethods",),
        ),
        Rule(
            name="refused-after-signature",
            when=_after_signature,
            what="The server said that it would take the key {key}, and refused the login of {user} all the"
            " same.",
            causes=(
                ("[tiny]the key is not in authorized_keys: this server looks only after the signature",
                 "it is {server_line}"),
                ("[root]root may not log in this way: PermitRootLogin is no, or forced-commands-only",
                 "the key was accepted, the login of root was not"),
                ("[!root]the account may not be used now: expired, locked, or refused by PAM or access.conf",
                 "the key was accepted, the account was not"),
                "the server requires a touch or PIN of a security key, and the signature has none",
                "the signature was made by another key than the .pub file beside it says",
            ),
            user=("log in as another user, and become {user} there",),
            admin=("sshd -T | grep -i permitrootlogin",
                   "chage -l {user}; passwd -S {user}; faillock --user {user}", *_LOG),
        ),
        Rule(
            name="login-disconnected",
            when=lambda story: _silent_end(story) if story.end.by_server else None,
            what='The server ended the connection in the middle of the login: "{text}".',
            causes=("it says so itself",),
            admin=_LOG,
        ),
        Rule(
            name="login-closed",
            when=_silent_end,
            what="The server closed the connection in the middle of the login, without a word.",
            causes=(
                "it took longer than the server's patience (LoginGraceTime): it ended after {seconds} s",
                "the server's process for this login died: its log tells",
                "the user or the address is not let in, and the server says so by hanging up",
                "a firewall or a proxy cut the connection",
            ),
            admin=_LOG,
        ),
        Rule(
            name="no-signature-algorithm",
            when=_no_algorithm,
            what="The server takes no signature that the key {key} can make.",
            causes=(
                ("PubkeyAcceptedAlgorithms on the server leaves it out", "it takes {accepts}"),
                "the server knows RSA with SHA-1 only (ssh-rsa), which is not made here",
            ),
            user=("use a key of another kind: ssh-keygen -t ed25519",),
            admin=("sshd -T | grep -i pubkeyaccepted",),
        ),
        Rule(
            name="no-method-in-common",
            when=_no_method,
            what="The server takes {methods} for {user}, and none of that was tried.",
            causes=(
                "[asks]a password is wanted, and nobody could be asked for it (BatchMode, no terminal)",
                ("[ticket]there is no Kerberos ticket for this server", "{ticket}"),
                "[gssapi]GSSAPIAuthentication is no here, so that no ticket was tried",
                "[foreign]{foreign} is not built into this program",
                "the method is switched off here: PreferredAuthentications, PasswordAuthentication",
                "the server takes no keys: PubkeyAuthentication is no",
            ),
            user=(
                "[asks]ssh {flags}{target} from a terminal, without BatchMode",
                "[ticket]klist shows the tickets there are, kinit gets new ones",
                "[gssapi]-o GSSAPIAuthentication=yes",
            ),
            admin=(_EFFECTIVE,),
        ),
        Rule(
            name="key-unusable",
            when=_unusable,
            what="The server takes keys, but {key} cannot be used: {why}.",
            causes=(
                "[open]other users of this machine could read the private key: such a key is not used",
                "[shut]the key is under a passphrase, and nobody could be asked for it",
                "[denied]the file belongs to another user",
                ("there is no other key at hand", "{agent}"),
            ),
            user=(
                "[open]chmod 600 {key}", "[shut]ssh-add {key}", "[denied]ls -l {key}",
                "[!open][!shut]ssh-keygen -y -f {key}: is it a private key?",
            ),
        ),
        Rule(
            name="password-refused",
            when=_words_refused,
            what="The server refused the password of {user}, {times} times.",
            causes=(
                "the password, or the user name, is wrong",
                ("[root]root may not log in with a password (PermitRootLogin prohibit-password)",
                 "the user is root"),
                "the account is locked or expired, or not in AllowUsers or AllowGroups",
                "a lock after too many failures (faillock) is still on",
            ),
            user=("check the user name: ssh -l NAME {host}",),
            admin=(*_LOG, "passwd -S {user}; faillock --user {user}", _EFFECTIVE),
        ),
        Rule(
            name="no-key",
            when=_no_key,
            what="The server takes {methods} for {user}, and there was no key to try.",
            causes=(
                ("the agent could not be asked", "{agent}"),
                ("what was at hand could not be used", "{skipped}"),
                ("there is no key where it was looked for: ~/.ssh, -i, IdentityFile", "not there: {absent}"),
                "IdentitiesOnly is set, and what it names is not in the agent",
                "[takes_words]a password would do, and nobody could be asked for it",
            ),
            user=("ssh-add -l; ls ~/.ssh",
                  "make one: ssh-keygen -t ed25519; then ssh-copy-id {flags}{target}"),
        ),
        Rule(
            name="keys-refused",
            when=_keys_refused,
            what="The server took none of the keys that were offered for {user} ({count}: {keys}).",
            causes=(
                ("[stale]a certificate does not hold, wherever it is shown: {stale}", "{certificates}"),
                ("[certificates]the server does not trust the certificate's authority (TrustedUserCAKeys), or"
                 " has revoked it, or {user} is not among its names and no AuthorizedPrincipals says"
                 " whose they are", "{certificates}"),
                "the key is not in the authorized_keys of {user} on the server",
                "the user name is wrong, or has no account there",
                "[root]root may not log in at all (AllowUsers, dropbear -w); PermitRootLogin no would show"
                " only after a key was found",
                "~{user}, .ssh or authorized_keys can be written by others, and is not read (StrictModes):"
                " sshd's log then says \"bad ownership or modes\"",
                "the user is not let in: AllowUsers, DenyUsers, AllowGroups, DenyGroups; the account's shell"
                " does not exist; the account is locked",
                "the key's line has from=, expiry-time= or a mistake, and does not hold here",
                "sshd reads another file: AuthorizedKeysFile, AuthorizedKeysCommand",
                "[rsa]sshd does not take signatures by RSA (PubkeyAcceptedAlgorithms, RequiredRSASize)",
                ("[skipped]the right key is one that could not be tried", "{skipped}"),
                ("[agent_lost]the right key is in an agent that could not be asked", "{agent_lost}"),
            ),
            user=(
                "is one of these in the file? {fingerprints}",
                "[takes_words]put it there: ssh-copy-id {flags}{target}",
                "check the user name: it is {user}; -l NAME, or User in ~/.ssh/config",
            ),
            admin=(
                *_LOG,
                "ssh-keygen -lf ~{user}/.ssh/authorized_keys; ls -ld ~{user} ~{user}/.ssh ~{user}/.ssh/*",
                _PERMISSIONS,
                _EFFECTIVE,
            ),
        ),
        Rule(
            name="nobody-answered",
            when=_unanswered,
            what="The server asked {user} by {method}, and nobody answered.",
            causes=("nobody could be asked: BatchMode is set, or there is no terminal",
                    "whoever was asked gave up"),
            user=("ssh {flags}{target} from a terminal, without BatchMode",),
        ),
        Rule(
            name="login-failed",
            when=lambda story: _facts(story) if story.end.type else None,
            what="The login did not come to an end: {error}.",
            admin=_LOG,
        ),
    ),
)
