"""Configurations made up from a seed: files, flags and hosts for ssh, files and logins for sshd.

Every keyword is there with values that OpenSSH takes; a few lines are wrong on purpose. The same seed makes
the same files.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

__all__ = ["Made", "client", "server"]

YES_NO = ("yes", "no")
CIPHERS = ("aes256-ctr", "aes128-ctr", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com", "3des-cbc")
MACS = ("hmac-sha2-256", "hmac-sha2-512-etm@openssh.com", "umac-64@openssh.com", "hmac-sha2-512")
KEX = ("curve25519-sha256", "mlkem768x25519-sha256", "ecdh-sha2-nistp256", "diffie-hellman-group14-sha256")
KEYS = ("ssh-ed25519", "rsa-sha2-512", "ecdsa-sha2-nistp256", "ssh-ed25519-cert-v01@openssh.com",
        "rsa-sha2-256")  # fmt: skip
TIMES = ("0", "30", "10m", "1h30m", "2d", "1w", "90s", "1m30", "1.5")
LEVELS = ("QUIET", "fatal", "error", "INFO", "verbose", "Debug", "DEBUG2", "debug3")

CLIENT: dict[str, tuple[str, ...]] = {
    "AddKeysToAgent": ("yes", "no", "ask", "confirm", "5m", "confirm 1h"),
    "AddressFamily": ("any", "inet", "INET6"),
    "BatchMode": YES_NO,
    "BindAddress": ("192.0.2.7",),
    "BindInterface": ("eth9",),
    "CanonicalDomains": ("none", "Example.org. sub.example.net"),
    "CanonicalizeFallbackLocal": YES_NO,
    "CanonicalizeMaxDots": ("0", "3"),
    "CanonicalizePermittedCNAMEs": ("none", "*", "*.A.example.com:*.b.example.com c:d"),
    "CertificateFile": ("~/.ssh/%r-cert.pub", "/c/%h"),
    "ChannelTimeout": ("none", "session=5m", "session:shell=1h *=30"),
    "CheckHostIP": YES_NO,
    "ClearAllForwardings": ("no",),
    "Compression": YES_NO,
    "ConnectionAttempts": ("1", "7"),
    "ConnectTimeout": (*TIMES, "none"),
    "ControlMaster": ("yes", "no", "ask", "auto", "autoask"),
    "ControlPath": ("none", "~/.ssh/cm-%C", "/run/%r@%h:%p-%L-%i"),
    "ControlPersist": ("yes", "no", "10m", "0"),
    "DynamicForward": ("1080", "127.0.0.1:1081", "[::1]:1082"),
    "EnableEscapeCommandline": YES_NO,
    "EnableSSHKeysign": YES_NO,
    "EscapeChar": ("~", "none", "^b", "%", "^]"),
    "ExitOnForwardFailure": YES_NO,
    "FingerprintHash": ("md5", "sha256", "SHA512"),
    "ForkAfterAuthentication": ("no",),
    "ForwardAgent": YES_NO,
    "ForwardX11": YES_NO,
    "ForwardX11Timeout": ("0", "20m"),
    "ForwardX11Trusted": YES_NO,
    "GatewayPorts": YES_NO,
    "GlobalKnownHostsFile": ("none", "/etc/a /etc/b"),
    "HashKnownHosts": YES_NO,
    "HostbasedAuthentication": YES_NO,
    "HostKeyAlias": ("Alias", "other"),
    "Hostname": ("%h.example.net", "192.0.2.9", "Upper.example.org"),
    "IdentitiesOnly": YES_NO,
    "IdentityAgent": ("none", "SSH_AUTH_SOCK", "~/agent-%u", "/run/${PEER}/s"),
    "IdentityFile": ("~/.ssh/id_%h", "/k/a", "none", '"/k/with space"', "/k/with\\ space"),
    "IPQoS": ("ef", "af21 cs1", "lowdelay throughput", "0x10", "46", "none none"),
    "KbdInteractiveAuthentication": YES_NO,
    "KbdInteractiveDevices": ("pam,bsdauth",),
    "KnownHostsCommand": ("none", "/bin/echo %H %t # not a comment"),
    "LocalCommand": ("echo  %h  'a b'", "none"),
    "LocalForward": ("8080 localhost:80", "127.0.0.1:81 [::1]:82", "[::1]:83 h:84", "*:85 h:86", "/s %d/t",
                     "87 /run/%r"),
    "LogLevel": LEVELS,
    "LogVerbose": ("none", "kex.c:*:1000"),
    "NoHostAuthenticationForLocalhost": YES_NO,
    "NumberOfPasswordPrompts": ("0", "5"),
    "ObscureKeystrokeTiming": ("yes", "no", "interval:80"),
    "PasswordAuthentication": YES_NO,
    "PermitLocalCommand": YES_NO,
    "PermitRemoteOpen": ("any", "none", "h:22 [::1]:* *:80"),
    "Port": ("22", "2222", "65535"),
    "PreferredAuthentications": ("publickey,password", "password"),
    "ProxyCommand": ("none", "nc -X 5  %h %p", 'ssh "gate way" -W %h:%p'),
    "ProxyJump": ("none", "gate", "u@gate:2222", "a,b@c:3,ssh://d:4"),
    "ProxyUseFdpass": ("no",),
    "PubkeyAuthentication": ("yes", "no", "unbound", "host-bound"),
    "RekeyLimit": ("default", "1G", "512M 1h", "64K none", "default 30m"),
    "RemoteCommand": ("uptime  %n %%", "none"),
    "RemoteForward": ("9000 localhost:90", "9001", "[::1]:9002 h:1", "0 h:2"),
    "RequestTTY": ("yes", "no", "force", "auto"),
    "RequiredRSASize": ("2048", "4096"),
    "RevokedHostKeys": ("none", "/k/krl ~/k"),
    "SecurityKeyProvider": ("internal", "/usr/lib/sk.so", "none"),
    "SendEnv": ("LANG LC_*", "A", "-LC_*", "B C"),
    "ServerAliveCountMax": ("0", "5"),
    "ServerAliveInterval": ("0", "45", "2m"),
    "SessionType": ("none", "subsystem", "default"),
    "SetEnv": ("A=1", 'B="two words" C=3', "D=%r E="),
    "StdinNull": YES_NO,
    "StreamLocalBindMask": ("0022", "0111", "0133"),
    "StreamLocalBindUnlink": YES_NO,
    "StrictHostKeyChecking": ("yes", "no", "ask", "off", "accept-new"),
    "SyslogFacility": ("AUTH", "local3", "USER"),
    "Tag": ("one", "two"),
    "TCPKeepAlive": ("yes", "no", "transport", "all"),
    "Tunnel": ("yes", "no", "point-to-point", "ethernet"),
    "TunnelDevice": ("any", "3", "any:4", "5:any"),
    "UpdateHostKeys": ("yes", "no"),
    "User": ("ada", '"ada lovelace"', "u-%n"),
    "UserKnownHostsFile": ("none", "~/.ssh/kh-%n /k/%k", "/kh"),
    "VerifyHostKeyDNS": ("yes", "no", "ask"),
    "VersionAddendum": ("none", "made by %u"),
    "VisualHostKey": YES_NO,
    "WarnWeakCrypto": ("yes", "no", "no-pq-kex"),
    "XAuthLocation": ("/x/xauth",),
    "Ciphers": CIPHERS, "MACs": MACS, "KexAlgorithms": KEX, "HostKeyAlgorithms": KEYS,
    "PubkeyAcceptedAlgorithms": KEYS, "HostbasedAcceptedAlgorithms": KEYS,
    "CASignatureAlgorithms": ("ssh-ed25519", "rsa-sha2-512"),
    "UseRoaming": ("yes",), "Protocol": ("2",), "ChallengeResponseAuthentication": YES_NO,
    "PubkeyAcceptedKeyTypes": KEYS,
}  # fmt: skip

LISTS = ("Ciphers", "MACs", "KexAlgorithms", "HostKeyAlgorithms", "PubkeyAcceptedAlgorithms",
         "CASignatureAlgorithms", "HostbasedAcceptedAlgorithms", "PubkeyAcceptedKeyTypes")  # fmt: skip

HOSTS = ("web1", "WEB2", "db.example.com", "192.0.2.5", "gate.example.net", "127.1.2.3", "::1", "x-y")
PATTERNS = ("*", "web*", "web?", "*.example.com", "!web2 *", "192.0.2.*", "db.example.com x-y", "none-such")
CONDITIONS = (
    "all", "host web*", "host=*.example.com,!db*", "originalhost WEB2,web1", "user ada", "!user root",
    "localuser root", "localuser=!root,*", "tagged one", "tagged two,one", "command uptime*",
    "sessiontype shell", "sessiontype exec,none", "exec true", 'exec "test %n = web1"',
    "!exec false", "host * exec false",
    "localnetwork 127.0.0.0/8", "localnetwork 198.51.100.0/24", "!host 192.0.2.5 !originalhost web1",
    "version none-such*", "final", "canonical", "final host *.net", "!final user root", "canonical all",
)  # fmt: skip

SERVER: dict[str, tuple[str, ...]] = {
    "AcceptEnv": ("LANG LC_*", "FOO"),
    "AllowAgentForwarding": YES_NO,
    "AllowGroups": ("wheel staff", "a*"),
    "AllowStreamLocalForwarding": ("yes", "no", "all", "local", "remote"),
    "AllowTcpForwarding": ("yes", "no", "all", "local", "remote"),
    "AllowUsers": ("ada bob@192.0.2.0/24", "c*"),
    "AuthenticationMethods": ("any", "publickey,password publickey,keyboard-interactive", "publickey"),
    "AuthorizedKeysCommand": ("none", "/bin/cat  /k/%u"),
    "AuthorizedKeysCommandUser": ("nobody",),
    "AuthorizedKeysFile": ("none", ".ssh/a /k/%u", '"with space"'),
    "AuthorizedPrincipalsFile": ("none", "/p/%u"),
    "Banner": ("none", "/etc/issue"),
    "CASignatureAlgorithms": ("ssh-ed25519", "rsa-sha2-512"),
    "ChannelTimeout": ("none", "session=5m agent-connection=1h"),
    "ChrootDirectory": ("none", "/srv/%u"),
    "ClientAliveCountMax": ("0", "4"),
    "ClientAliveInterval": ("0", "1m"),
    "DenyGroups": ("bad",),
    "DenyUsers": ("eve mallory@*",),
    "DisableForwarding": YES_NO,
    "ExposeAuthInfo": YES_NO,
    "ForceCommand": ("none", "echo  'a  b' # c", '"/x y" z'),
    "GatewayPorts": ("yes", "no", "clientspecified"),
    "HostbasedAcceptedAlgorithms": KEYS,
    "HostbasedAuthentication": YES_NO,
    "HostbasedUsesNameFromPacketOnly": YES_NO,
    "IgnoreRhosts": ("yes", "no", "shosts-only"),
    "IPQoS": ("ef", "af21 cs1", "46"),
    "KbdInteractiveAuthentication": YES_NO,
    "LogLevel": LEVELS,
    "LogVerbose": ("kex.c:*:1000",),
    "MaxAuthTries": ("3", "9"),
    "MaxSessions": ("0", "3"),
    "PasswordAuthentication": YES_NO,
    "PermitEmptyPasswords": YES_NO,
    "PermitListen": ("any", "none", "8080 localhost:*"),
    "PermitOpen": ("any", "none", "h:22 [::1]:80 *:443"),
    "PermitRootLogin": ("yes", "no", "prohibit-password", "without-password", "forced-commands-only"),
    "PermitTTY": YES_NO,
    "PermitTunnel": ("yes", "no", "point-to-point", "ethernet"),
    "PermitUserRC": YES_NO,
    "PubkeyAcceptedAlgorithms": KEYS,
    "PubkeyAuthentication": YES_NO,
    "PubkeyAuthOptions": ("none", "touch-required", "verify-required touch-required", "max-pk-ok:3"),
    "RefuseConnection": YES_NO,
    "RekeyLimit": ("default", "1G", "512M 1h"),
    "RequiredRSASize": ("2048", "3072"),
    "RevokedKeys": ("none", "/k/krl"),
    "SetEnv": ("A=1 B=2", 'C="x y"'),
    "StreamLocalBindMask": ("0022", "0111", "0133"),
    "StreamLocalBindUnlink": YES_NO,
    "Subsystem": ("sftp internal-sftp", 'backup /bin/b  -x "y z"', "sftp /bin/sftp-server -l INFO"),
    "TrustedUserCAKeys": ("none", "/k/ca"),
    "UnusedConnectionTimeout": ("none", "5m"),
    "X11DisplayOffset": ("0", "20"),
    "X11Forwarding": YES_NO,
    "X11UseLocalhost": YES_NO,
}  # fmt: skip

SERVER_GLOBAL: dict[str, tuple[str, ...]] = {
    "AddressFamily": ("any", "inet"),
    "Ciphers": CIPHERS, "MACs": MACS, "KexAlgorithms": KEX, "HostKeyAlgorithms": KEYS,
    "Compression": ("yes", "no", "delayed"),
    "FingerprintHash": ("md5", "sha256"),
    "HostKeyAgent": ("none",),
    "IgnoreUserKnownHosts": YES_NO,
    "ListenAddress": ("127.0.0.1", "127.0.0.1:2200", "[::1]:2201", "::1", "192.0.2.3"),
    "LoginGraceTime": ("0", "30", "2m"),
    "MaxStartups": ("5", "10:30:60"),
    "ModuliFile": ("/k/moduli",),
    "PAMServiceName": ("sshd", "other"),
    "PerSourceMaxStartups": ("none", "7"),
    "PerSourceNetBlockSize": ("24", "24:64"),
    "PerSourcePenalties": ("no", "yes", "crash:5m authfail:2.5", "max:1h overflow:deny-all", "min:3"),
    "PerSourcePenaltyExemptList": ("192.0.2.0/24,!192.0.2.7",),
    "PermitUserEnvironment": ("yes", "no", "A,B*"),
    "PidFile": ("none", "/run/x.pid"),
    "Port": ("22", "2022"),
    "PrintLastLog": YES_NO,
    "PrintMotd": YES_NO,
    "SecurityKeyProvider": ("internal", "none", "/x.so"),
    "SshdAuthPath": ("/x/auth",),
    "SshdSessionPath": ("/x/session",),
    "StrictModes": YES_NO,
    "SyslogFacility": ("AUTH", "daemon", "LOCAL7"),
    "TCPKeepAlive": ("yes", "no", "all", "transport"),
    "UseDNS": YES_NO,
    "UsePAM": YES_NO,
    "VersionAddendum": ("none", "one two # three"),
    "XAuthLocation": ("/x/xauth", "none"),
    "DebianBanner": YES_NO,
    "WarnWeakCrypto": ("yes", "no"),
    "UsePrivilegeSeparation": ("yes",), "Protocol": ("2",), "HostDSAKey": ("/k/dsa",),
}  # fmt: skip

LOGINS = (
    "", "user=root", "user=daemon,addr=192.0.2.8", "user=ada,addr=198.51.100.9,host=h.example.org",
    "user=root,addr=::1,laddr=127.0.0.1,lport=2022", "user=bob,invalid-user", "addr=192.0.2.1,lport=22",
)  # fmt: skip
SERVER_CONDITIONS = (
    "all", "User root", "User ada,!root", "User=b*", "Group root", "Group daemon,root", "Group none-such",
    "Address 192.0.2.0/24", "Address 192.0.2.*,!192.0.2.1", "Address ::1,10.0.0.0/8", "Host *.example.org",
    "LocalAddress 127.0.0.0/8", "LocalPort 2022", "User root Address ::1", "invalid-user", "version none*",
    "Address=198.51.100.9 User=ada",
)  # fmt: skip
TWICE = (["FingerprintHash md5", "FingerprintHash sha512"], ["RekeyLimit 1G", "RekeyLimit 2G 1h"])
RAW = ("ForceCommand", "LocalCommand", "RemoteCommand", "ProxyCommand", "KnownHostsCommand", "ProxyJump",
       "AuthorizedKeysCommand", "VersionAddendum", "Subsystem")  # fmt: skip
"""Keywords whose value is all that follows."""
WRONG = ("Frobnicate yes", "Port", "Port nine", 'User "open', "RekeyLimit 8", "Ciphers none-such", "Match",
         "Match User", "LogLevel loud", "MaxStartups 9:9:1", "Include")  # fmt: skip


@dataclass
class Made:
    """One configuration: its files by name, the first of which is read; and what is asked."""

    files: dict[str, str] = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)
    login: str = ""


def _line(rng: random.Random, table: dict[str, tuple[str, ...]]) -> str:
    keyword = rng.choice(sorted(table))
    value = rng.choice(table[keyword])
    if keyword in LISTS:
        some = rng.sample(table[keyword], rng.randint(1, min(3, len(table[keyword]))))
        value = rng.choice(("", "", "+", "-", "^")) + ",".join(some)
    spelled = rng.choice((keyword, keyword, keyword.lower(), keyword.upper()))
    sign = rng.choice((" ", " ", "  ", "\t", "=", " = "))
    comment = rng.choice(("", "", "", "  # said"))
    if keyword in RAW:
        sign, comment = " ", ""
    before, after = rng.choice(("", "  ", "\t")), rng.choice(("", "", " ", "\r"))
    return f"{before}{spelled}{sign}{value}{comment}{after}"


def _lines(rng: random.Random, table: dict[str, tuple[str, ...]], most: int) -> list[str]:
    return [_line(rng, table) for _ in range(rng.randint(0, most))]


def client(seed: int, folder: str) -> Made:
    """A configuration of ssh, its flags and its host."""
    rng = random.Random(f"client {seed}")
    made = Made()
    lines = _lines(rng, CLIENT, 6)
    for _ in range(rng.randint(0, 5)):
        kind = rng.random()
        if kind < 0.45:
            lines.append(f"Host {rng.choice(PATTERNS)}")
        elif kind < 0.85:
            lines.append(f"Match {rng.choice(CONDITIONS)}")
        else:
            name = f"part{len(made.files)}"
            made.files[name] = "\n".join(
                [*_lines(rng, CLIENT, 3), f"Host {rng.choice(PATTERNS)}", *_lines(rng, CLIENT, 3)]
            )
            lines.append(f"Include {folder}/{rng.choice((name, 'part*', '${PEER}*'))}")
        lines += _lines(rng, CLIENT, 5)
    if rng.random() < 0.06:
        lines.insert(rng.randint(0, len(lines)), rng.choice(WRONG))
    made.files = {"main": "\n".join(lines) + "\n", **made.files}
    for flag in rng.sample(range(10), rng.choice((0, 0, 1, 2))):
        made.arguments += [
            ["-4"], ["-p", "2300"], ["-l", "flagged"], ["-L", "7000:h:80"], ["-D", "7001"], ["-C"], ["-N"],
            ["-o", f"Compression={rng.choice(YES_NO)}"], ["-o", "SetEnv Z=1"], ["-P", "two"],
        ][flag]  # fmt: skip
    made.arguments += [rng.choice(("", "", "", "typed@")) + rng.choice(HOSTS)]
    if made.arguments[-1].endswith("::1"):
        made.arguments = [word for word in made.arguments if word != "-4"]
    if rng.random() < 0.15:
        made.arguments += ["uptime", "-p"]
    return made


def server(seed: int, folder: str) -> Made:
    """A configuration of sshd, and who logs in."""
    rng = random.Random(f"server {seed}")
    made = Made(login=rng.choice(LOGINS))
    lines = [f"HostKey {folder}/hk", *_lines(rng, SERVER | SERVER_GLOBAL, 12)]
    if rng.random() < 0.03:
        lines += rng.choice(TWICE)
    for _ in range(rng.randint(0, 4)):
        if rng.random() < 0.2:
            name = f"part{len(made.files)}"
            block = [f"Match {rng.choice(SERVER_CONDITIONS)}", *_lines(rng, SERVER, 3)]
            made.files[name] = "\n".join([*_lines(rng, SERVER, 3), *rng.choice(([], block))])
            lines.append(f"Include {folder}/{rng.choice((name, 'part*'))}")
        else:
            lines.append(f"Match {rng.choice(SERVER_CONDITIONS)}")
        if any(line.startswith("Match") for line in lines):
            lines += _lines(rng, SERVER, 5)
        else:
            lines += _lines(rng, SERVER | SERVER_GLOBAL, 5)
    if rng.random() < 0.06:
        lines.insert(rng.randint(0, len(lines)), rng.choice(WRONG))
    made.files = {"main": "\n".join(lines) + "\n", **made.files}
    return made
