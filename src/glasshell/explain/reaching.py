"""Why the server was not reached: the name, TCP, and who answers in place of an SSH server."""

from __future__ import annotations

import re
from typing import Final

from .rules import Facts, Phase, Rule, When
from .story import Story

__all__ = ["CONNECT", "IDENTIFY", "RESOLVE"]

# ---- the name


def _says(*words: str) -> re.Pattern[str]:
    return re.compile("|".join(words), re.IGNORECASE)


_NO_NAME: Final = _says("not known", "No address associated", "nodename nor servname", "idna", "label")
_NO_DNS: Final = _says("Temporary failure", "try again", "Non-recoverable")
_NO_FAMILY: Final = _says("Address family", "ai_family")


def _resolve_error(pattern: re.Pattern[str]) -> When:
    def when(story: Story) -> Facts | None:
        _, colon, why = story.end.text.partition("Could not resolve hostname")
        why = why.partition(": ")[2]
        return {"why": why or "no reason was given"} if colon and pattern.search(why) else None

    return when


RESOLVE: Final = Phase(
    name="name",
    said=lambda story: ((), ()),
    rules=(
        Rule(
            name="dns-unreachable",
            when=_resolve_error(_NO_DNS),
            what="No name server could be asked for {host}: {why}.",
            causes=(
                "this machine has no network, or its name servers do not answer",
                "the name is one of a private network whose VPN is down",
            ),
            user=(
                "getent hosts {host}; cat /etc/resolv.conf",
                "connect by address, if you know it: HostName ADDRESS in ~/.ssh/config",
            ),
        ),
        Rule(
            name="no-address-of-family",
            when=_resolve_error(_NO_FAMILY),
            what="{host} has no address of the kind that was asked for (AddressFamily, -4, -6).",
            user=("leave -4, -6 and AddressFamily away, or see what there is: getent ahosts {host}",),
        ),
        Rule(
            name="name-unknown",
            when=_resolve_error(re.compile("")),
            what="The name {host} does not resolve: {why}.",
            causes=(
                "the name is misspelt, or no longer exists",
                "it is an alias of an ssh_config that is not read here: no Host block has a HostName for it",
                "it is a name of a private network that this machine is not in (VPN, /etc/hosts)",
            ),
            user=("getent hosts {host}", "grep -n 'Host' ~/.ssh/config /etc/ssh/ssh_config"),
        ),
    ),
)

# ---- TCP


def _tcp(*words: str) -> When:
    """All addresses failed, and all alike."""
    pattern = _says(*words)

    def when(story: Story) -> Facts | None:
        failures = story.way.failures
        if failures and all(pattern.search(why) for _, why in failures):
            return {"addresses": ", ".join(dict.fromkeys(address for address, _ in failures))}
        return None

    return when


def _mixed(story: Story) -> Facts | None:
    failures = story.way.failures
    if not failures:
        return None
    told = dict.fromkeys(f"{address}: {why}" for address, why in failures)
    return {"told": "; ".join(told), "count": str(len(told))}


def _stuck(story: Story) -> Facts | None:
    if story.end.type != "DeadlineExceeded" or story.way.address:
        return None
    return {"addresses": story.way.trying or ", ".join(story.way.addresses)}


_DROPPED_CAUSES: Final = (
    "a firewall in between drops the packets without a word, or your address is not among those it lets in",
    "the machine is off, or the address is no longer its own",
    "the server has banned this address for a while (fail2ban and its like)",
)
_DROPPED_USER: Final = (
    "ping {addresses}; mtr -T -P {port} {addresses}: where do answers end?",
    "try from another network, or through the VPN that the server wants",
)
_DROPPED_ADMIN: Final = (
    "see whether packets arrive: tcpdump -ni any tcp port {port}",
    "look at the rules: nft list ruleset; iptables -nvL; fail2ban-client status sshd; the provider's too",
)

CONNECT: Final = Phase(
    name="tcp",
    said=lambda story: ((), tuple(f"{address}: {why}" for address, why in story.way.failures)),
    rules=(
        Rule(
            name="tcp-refused",
            when=_tcp("Connection refused"),
            what="Nothing listens on port {port} of {addresses}: the machine is there, and refuses.",
            causes=(
                "no SSH server runs there",
                "it listens on another port",
                "it listens on other addresses only (ListenAddress), or on one of IPv4 and IPv6 only",
                "a firewall refuses in its place",
            ),
            user=("ask for the right port, and give it with -p, or as Port in ~/.ssh/config",),
            admin=("systemctl status ssh; ss -ltnp 'sport = :{port}'", "sshd -T | grep -iE '^(port|listen)'"),
        ),
        Rule(
            name="tcp-timeout",
            when=_tcp("timed out"),
            what="{addresses} does not answer on port {port}: what is sent there vanishes.",
            causes=_DROPPED_CAUSES,
            user=_DROPPED_USER,
            admin=_DROPPED_ADMIN,
        ),
        Rule(
            name="tcp-host-unreachable",
            when=_tcp("No route to host", "Host is down", "Host is unreachable"),
            what="{addresses} cannot be reached: the last router, or this machine, says nobody is there.",
            causes=(
                "the machine is off, or has another address",
                "a firewall says so in its place",
            ),
            user=("ip route get {addresses}; ip neigh; ping {addresses}",),
            admin=("is the machine up, and the address still its own?",),
        ),
        Rule(
            name="tcp-network-unreachable",
            when=_tcp("Network is unreachable"),
            what="This machine has no route to {addresses}.",
            causes=(
                "this machine has no network, or a VPN is down",
                "the address is IPv6, and this machine has none",
            ),
            user=("ip route get {addresses}", "try the other family: -4 or -6"),
        ),
        Rule(
            name="tcp-forbidden",
            when=_tcp("Permission denied", "not permitted"),
            what="This machine itself forbids connecting to {addresses} port {port}.",
            causes=("a rule of the local firewall, or of a sandbox, refuses what goes out",),
            user=("nft list ruleset; iptables -nvL OUTPUT",),
        ),
        Rule(
            name="tcp-bind",
            when=_tcp("Cannot assign requested address"),
            what="The local address to connect from is not one of this machine's, or not of the right kind.",
            causes=("BindAddress or -b names another machine's address",),
            user=("ip address; then correct BindAddress",),
        ),
        Rule(
            name="tcp-reset",
            when=_tcp("reset by peer"),
            what="{addresses} resets connections to port {port}.",
            causes=("a firewall or a load balancer answers in the server's place",),
            admin=_DROPPED_ADMIN,
        ),
        Rule(
            name="tcp-no-answer",
            when=_stuck,
            what="{addresses} has not answered on port {port} in time: what is sent there vanishes.",
            causes=_DROPPED_CAUSES,
            user=_DROPPED_USER,
            admin=_DROPPED_ADMIN,
        ),
        Rule(
            name="tcp-failed",
            when=_mixed,
            what="None of the {count} addresses of {host} can be connected to: {told}.",
            causes=("each address fails for a reason of its own: an IPv6 address without a route is common",),
            user=("try one family at a time: -4, -6", "getent ahosts {host}"),
            admin=("ss -ltnp 'sport = :{port}': does it listen on every address that the name has?",),
        ),
    ),
)

# ---- who answers

PROTOCOLS: Final[tuple[tuple[str, str], ...]] = (
    (r"^HTTP/\d|<html|<!DOCTYPE html", "HTTP (a web server)"),
    (r"^\\02[4-7]\\003", "TLS"),
    (r"^220[ -].*(SMTP|ESMTP|Postfix|Exim|mail)", "SMTP (a mail server)"),
    (r"^220[ -]", "FTP, or a mail server"),
    (r"^\+OK", "POP3 (a mail server)"),
    (r"^\* OK", "IMAP (a mail server)"),
    (r"^RFB \d", "VNC (a screen)"),
    (r"^-(ERR|NOAUTH|DENIED|MISCONF)", "Redis (a database)"),
    (r"mysql|MariaDB|caching_sha2", "MySQL (a database)"),
    (r"^\\377\\37[3-6]", "Telnet"),
    (r"^@RSYNCD:", "rsync"),
)
"""What the first words of other protocols look like, made visible."""


def _words(story: Story) -> str:
    """The first of what was said before any identification."""
    if story.opening.preface:
        return story.opening.preface[0]
    if story.end.unfinished:
        return story.end.unfinished
    return ""


def _other(story: Story) -> Facts | None:
    whole = " ".join((*story.opening.preface[:5], story.end.unfinished)).strip()
    for pattern, name in PROTOCOLS:
        if re.search(pattern, whole, re.IGNORECASE):
            return {"said": _words(story)[:80], "protocol": name}
    return None


def _preface(pattern: str) -> When:
    return lambda story: any(re.search(pattern, line) for line in story.opening.preface)


def _no_ssh(story: Story) -> Facts | None:
    said = _words(story)
    return {"said": said[:120]} if said else None


def _client_words(story: Story) -> Facts | None:
    """What a client said in place of an identification, as far as a server or a capture told it."""
    _, found, said = story.end.text.partition("the client did not begin with an SSH identification string")
    return {"said": said.partition(": ")[2][:80] or "nothing"} if found else None


def _seconds(story: Story) -> str:
    return f"{max(0.0, story.end.time - story.way.at):.0f}"


def _endless(story: Story) -> Facts | None:
    """Lines that are those of no protocol, and go on until patience ends."""
    lines = story.opening.preface
    if story.end.type != "DeadlineExceeded" or len(lines) < 2 or _other(story):
        return None
    return {"said": lines[0][:80], "count": str(len(lines)), "seconds": _seconds(story)}


def _silent(story: Story) -> Facts | None:
    return {"seconds": _seconds(story)} if story.end.type == "DeadlineExceeded" else None


def _reset(story: Story) -> bool:
    words = f"{story.end.socket} {story.end.text}".lower()
    return "reset" in words or "rst" in story.end.ways


IDENTIFY: Final = Phase(
    name="identification",
    said=lambda story: (
        (story.opening.client,) * bool(story.opening.client),
        tuple(filter(None, (*story.opening.preface[:5], story.end.unfinished, story.opening.server))),
    ),
    rules=(
        Rule(
            name="client-no-ssh",
            when=_client_words,
            what='The client does not speak SSH: it said "{said}".',
            causes=("a program has the wrong port", "somebody looks what is behind the port (a scanner)"),
            user=("give the program the right port: SSH is what answers on {port}",),
        ),
        Rule(
            name="ssh-1-only",
            when=lambda story: "Protocol major versions differ" in story.end.text,
            what="The server speaks an old protocol only: {error}.",
            causes=("it is a device or a server of the 1990s; SSH-1 can be read and changed by attackers",),
            user=("do not send it a password over a network you do not trust",),
            admin=("upgrade it, or put it behind a machine that speaks SSH 2.0",),
        ),
        Rule(
            name="max-startups",
            when=_preface("MaxStartups"),
            what="The server turned this connection away: too many others have not logged in (MaxStartups).",
            causes=(
                "somebody is trying passwords on it, and fills the queue",
                "many connections are opened at once, by a script or a deployment tool",
            ),
            user=("try again in a moment", "start fewer connections at once"),
            admin=(
                "sshd -T | grep -i maxstartups; raise it, or lower LoginGraceTime",
                "journalctl -u ssh | grep -i 'MaxStartups\\|drop connection'",
            ),
        ),
        Rule(
            name="penalised",
            when=_preface("Not allowed at this time"),
            what="The server turns this address away for a while: earlier logins from it failed"
            " (PerSourcePenalties, OpenSSH 9.8 and later).",
            causes=(
                "a program here, or behind the same address, keeps failing to log in",
                "connections from here are opened and closed without a login (monitoring)",
            ),
            user=("wait some minutes, then find what keeps failing",),
            admin=(
                "journalctl -u ssh | grep -i penalt",
                "PerSourcePenaltyExemptList {client_address} in sshd_config, if it is a friend",
            ),
        ),
        Rule(
            name="tarpit",
            when=_endless,
            what="What answers on port {port} of {host} keeps sending lines, and no identification of SSH:"
            " {count} in {seconds} s.",
            causes=(
                ("it is a tarpit, which holds scanners up (endlessh); the real server is on another port",
                 'it said "{said}"'),
                "it sends a long banner, slowly",
            ),
            user=("ask for the right port, and give it with -p",),
        ),
        Rule(
            name="other-protocol",
            when=_other,
            what="Port {port} of {host} speaks {protocol}, not SSH.",
            causes=(("the port is wrong", 'it said "{said}"'), "a proxy or a captive portal answers for it"),
            user=("give the right port: -p; 22 is SSH's own", "see who it is: nc {host} {port}"),
            admin=("ss -ltnp: which port has sshd?",),
        ),
        Rule(
            name="no-ssh",
            when=_no_ssh,
            what='What answers on port {port} of {host} is no SSH server: it said "{said}".',
            causes=(
                "the port is wrong",
                "something before the server refuses, and says so in these words",
            ),
            user=("give the right port: -p", "see who it is: nc {host} {port}"),
        ),
        Rule(
            name="bad-identification",
            when=lambda story: story.end.type in ("MalformedMessage", "LimitExceeded", "ProtocolViolation"),
            what="What the server begins with is no identification of SSH (RFC 4253 4.2): {error}.",
            causes=("the port is wrong", "something in between changes what is sent"),
            user=("see who it is: nc {host} {port}",),
        ),
        Rule(
            name="silence",
            when=_silent,
            what="{host} port {port} takes the connection and then says nothing for {seconds} s.",
            causes=(
                "the server is overloaded or stuck: the kernel accepts, sshd does not come to it",
                "the port belongs to something that waits for the client to begin: TLS, HTTP",
                "a firewall or proxy accepts in the server's place, and cannot reach it",
                "sshd looks up a name that no DNS answers (UseDNS)",
            ),
            user=("nc {host} {port}: an SSH server says SSH-2.0-... at once",),
            admin=("uptime; ss -ltn 'sport = :{port}': is Recv-Q full?", "journalctl -u ssh -e"),
        ),
        Rule(
            name="reset-before-identification",
            when=_reset,
            what="The connection to {host} port {port} was reset before the server said anything.",
            causes=(
                "a firewall or intrusion prevention cuts connections that it takes for SSH, or from here",
                "the server, or the container behind a published port, has just died",
                "too many connections wait to log in (MaxStartups)",
            ),
            admin=("journalctl -u ssh -e", "nft list ruleset"),
        ),
        Rule(
            name="closed-before-identification",
            when=lambda story: story.end.eof or bool(story.end.ways),
            what="The server took the connection and closed it before it said anything.",
            causes=(
                "too many connections wait to log in: sshd drops some at random (MaxStartups)",
                "the address is not let in: hosts.deny, a tunnel's or a proxy's rule, PerSourcePenalties",
                "what listens is a forwarder (container, load balancer, tunnel) with nobody behind it",
                "sshd cannot start its child: no memory, no /run/sshd, a bad configuration after an upgrade",
            ),
            user=("try again: a full queue passes", "try from another address"),
            admin=(
                "journalctl -u ssh -e: sshd says why",
                "sshd -t; grep sshd /etc/hosts.deny; sshd -T | grep -iE 'maxstartups|penalt'",
            ),
        ),
    ),
)
