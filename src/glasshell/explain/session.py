"""Why a session did not start once the user was logged in, or what its program said instead."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from ..messages.connection import OpenFailure
from .rules import Facts, Phase, Rule, When
from .story import Story

__all__ = ["SESSION"]


def _facts(story: Story) -> dict[str, str]:
    session, login = story.session, story.login
    options = ", ".join(r for r in login.remarks if "key options" in r)
    return {
        "said": session.said.strip(), "status": "" if session.status is None else str(session.status),
        "signal": session.signal, "command": session.command, "options": options,
        "forced": "yes" if "command" in options else "",
    }  # fmt: skip


def _said(story: Story) -> tuple[Sequence[str], Sequence[str]]:
    session = story.session
    client = [f"asked to run: {session.command}"] if session.command else []
    server = [f"refused: {name}" for name in session.denied]
    if session.refused:
        server.append(f"channel refused: {session.refused[1]}")
    if session.said:
        server.append(f"wrote: {session.said.strip()}")
    if session.status is not None:
        server.append(f"exit status {session.status}")
    server += [f"told: {remark}" for remark in story.login.remarks[:3]]
    return client, server


def _refused(story: Story) -> Facts | None:
    if story.session.refused is None:
        return None
    reason, text = story.session.refused
    known = {each.value for each in OpenFailure}
    name = OpenFailure(reason).name.lower().replace("_", " ") if reason in known else "unknown reason"
    return {**_facts(story), "reason": name, "text": text}


def _denied(*names: str) -> When:
    def when(story: Story) -> Facts | None:
        found = [name for name in story.session.denied if name in names]
        return {**_facts(story), "name": found[0]} if found else None

    return when


def _ended(status: int | None, *words: str) -> When:
    """The program ended with `status` (None: any but 0) and wrote one of `words`."""
    pattern = re.compile("|".join(words) or "", re.IGNORECASE)

    def when(story: Story) -> Facts | None:
        session = story.session
        if session.status is None or session.status == 0 or (status is not None and session.status != status):
            return None
        return _facts(story) if pattern.search(session.said) else None

    return when


def _unlike_true(story: Story) -> Facts | None:
    """`true` says nothing and ends with 0; whatever else comes was made by another program."""
    session = story.session
    if session.command != "true" or session.status is None or not (session.status or session.said.strip()):
        return None
    return _facts(story)


def _late(story: Story) -> Facts | None:
    return {**_facts(story), "what": story.session.late} if story.session.late else None


_SHELL: Final = "getent passwd {user}: its last field is the shell; is it there, and executable?"
_LOG: Final = "journalctl -u ssh -g '{client_address}|{user}' -n 50"

SESSION: Final = Phase(
    name="session",
    said=_said,
    rules=(
        Rule(
            name="session-refused",
            when=_refused,
            what='{user} is logged in, and the server opens no session: {reason}, "{text}".',
            causes=(
                "MaxSessions in sshd_config is 0, or that many sessions are open on this connection",
                ("the key is restricted to forwarding", "{options}"),
                "the server is made for forwarding only (a jump host): use -N, -W or -J",
                "no memory, no process, or no terminal is left",
            ),
            user=("-N, if only a forwarding is wanted",),
            admin=("sshd -T -C user={user} | grep -i maxsessions", _LOG),
        ),
        Rule(
            name="pty-refused",
            when=_denied("pty-req"),
            what="The server gives {user} no terminal.",
            causes=(
                ("the key's line in authorized_keys says no-pty or restrict", "{options}"),
                "PermitTTY is no in sshd_config, for this user or all",
                "the server has no free pseudo-terminal, or /dev/pts is not mounted (containers)",
            ),
            user=("-T, and run a command: without a terminal it may do",),
            admin=("sshd -T -C user={user} | grep -i permittty", "mount | grep devpts; ls -l /dev/ptmx"),
        ),
        Rule(
            name="program-refused",
            when=_denied("exec", "shell", "subsystem"),
            what="The server refused to start the {name} that was asked for.",
            causes=(
                "the server runs no commands for this user, or has no such subsystem",
                "the server is a device with one program of its own",
            ),
            user=("try without a command: ssh {flags}{target}",),
            admin=("sshd -T -C user={user} | grep -iE 'subsystem|forcecommand'", _LOG),
        ),
        Rule(
            name="sftp-only",
            when=_ended(None, "sftp connections only"),
            what="{user} may transfer files there, and run nothing (ForceCommand internal-sftp).",
            user=("sftp {target}",),
            admin=("sshd -T -C user={user} | grep -i forcecommand",),
        ),
        Rule(
            name="account-not-available",
            when=_ended(None, "account is currently not available", "nologin:"),
            what="{user} has no shell to log in with (nologin): the server let the user in, and that was it.",
            causes=(("the account is meant for a service, or was closed", 'it says "{said}"'),),
            user=("log in as another user",),
            admin=("getent passwd {user}; usermod -s /bin/bash {user}",),
        ),
        Rule(
            name="nologin-file",
            when=_ended(254),
            what="The server lets nobody but root in at the moment (/etc/nologin).",
            causes=(
                ("it is being maintained, or is going down", 'it says "{said}"'),
                "it has just booted, and /run/nologin is not removed yet",
            ),
            user=("wait, and try again",),
            admin=("ls -l /etc/nologin /run/nologin; rm it once the work is done",),
        ),
        Rule(
            name="shell-broken",
            when=_ended(None, "exec format error", "bad interpreter", "error while loading shared"),
            what="{user}'s shell, or the command, cannot be executed on the server.",
            causes=(("it is no program for that machine, or lacks its interpreter", 'it says "{said}"'),),
            admin=(_SHELL, "file -L SHELL; ldd SHELL"),
        ),
        Rule(
            name="command-not-executable",
            when=_ended(126),
            what="The shell of {user} found the command, and may not execute it (exit status 126).",
            causes=(("its mode, or a mount with noexec, forbids it", 'it says "{said}"'),),
            admin=("ls -l FILE; findmnt -T FILE",),
        ),
        Rule(
            name="command-not-found",
            when=_ended(127),
            what="The shell of {user} did not find the command (exit status 127).",
            causes=(
                ("PATH is empty or wrong: a startup file or a restricted shell", 'it says "{said}"'),
                "the key's forced command does not exist",
            ),
            admin=(_SHELL, "ls -la ~{user}: look into .bashrc, .profile, .ssh/environment, .ssh/rc"),
        ),
        Rule(
            name="shell-missing",
            when=_ended(1, "No such file or directory"),
            what="{user}'s shell, or the forced command, is not on the server.",
            causes=(("the file is gone, or not inside the ChrootDirectory", 'it says "{said}"'),),
            admin=(_SHELL,),
        ),
        Rule(
            name="forced-command",
            when=_unlike_true,
            what="Not what was asked for ran, but a command that the server prescribes.",
            causes=(
                ("the key's line in authorized_keys has command=", "{options}"),
                "ForceCommand in sshd_config",
                "a startup file of the shell writes or ends the session, also without a terminal",
            ),
            user=("use another key, one without a command: -i FILE -o IdentitiesOnly=yes",),
            admin=("sshd -T -C user={user} | grep -i forcecommand",
                   "grep -n command= ~{user}/.ssh/authorized_keys"),
        ),
        Rule(
            name="program-killed",
            when=lambda story: _facts(story) if story.session.signal else None,
            what="The program was killed by the signal {signal}.",
            causes=("a limit, or the machine's lack of memory (KILL)", "it crashed (SEGV, ABRT)"),
            admin=("dmesg | tail; journalctl -k -e",),
        ),
        Rule(
            name="session-hangs",
            when=_late,
            what="{user} is logged in, and {what} did not come in time.",
            causes=(
                "a startup file waits for something (.bashrc, .profile, .ssh/rc), or a home on NFS is away",
                "a forced command runs on",
                "PAM opens the session slowly (pam_systemd, pam_mail, a directory service)",
            ),
            user=("ssh -v {flags}{target}: where does it stop?",),
            admin=("ps -fu {user}; what does the shell wait for? strace -fp PID", _LOG),
        ),
        Rule(
            name="closed-after-login",
            when=lambda story: _facts(story) if story.end.eof or story.end.by_server else None,
            what="The server let {user} in and closed the connection at once.",
            causes=(
                "ChrootDirectory, or a folder above it, does not belong to root or can be written by others",
                "PAM could not open the session: a limit (maxlogins), a missing home, access.conf",
                "the session's process died",
            ),
            admin=(_LOG, "sshd -T -C user={user} | grep -iE 'chroot|usepam'"),
        ),
        Rule(
            name="session-failed",
            when=lambda story: _facts(story) if story.end.type else None,
            what="{user} is logged in, and the session failed: {error}.",
            admin=(_LOG,),
        ),
    ),
)
