"""sshd_config(5): what each keyword comes to, and what is said of a line that cannot be obeyed."""

from __future__ import annotations

from typing import Any

import pytest

from glasshell.config.options import ServerOptions, UserList
from glasshell.config.parse import parse_line
from glasshell.config.sshd_config import NEVER, ServerConfig, load
from glasshell.errors import ConfigError
from glasshell.keys.authorized_keys import Permissions


def config(text: str) -> ServerConfig:
    lines = (parse_line(line, "f", number) for number, line in enumerate(text.splitlines(), 1))
    return load(line for line in lines if line)


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("Port 22\nPort 2222", "ports", (22, 2222)),
        ("ListenAddress ::1", "listen", (("::1", None),)),
        ("ListenAddress [::1]:77", "listen", (("::1", 77),)),
        ("ListenAddress [::1]", "listen", (("::1", None),)),
        (
            "ListenAddress 127.0.0.1:78\nListenAddress localhost",
            "listen",
            (("127.0.0.1", 78), ("localhost", None)),
        ),
        ("AddressFamily inet6", "family", "inet6"),
        ("HostKey /a\nHostKey /b", "host_keys", ("/a", "/b")),
        ("AuthorizedKeysFile /k/%u .ssh/a%%b", "authorized_keys", ("/k/%u", ".ssh/a%%b")),
        ("PubkeyAuthentication no", "pubkey", False),
        ("StrictModes no", "strict_modes", False),
        ("PermitRootLogin without-password", "root_login", "prohibit-password"),
        ("AllowUsers a b\nAllowUsers c@10.0.0.0/8", "allow_users", UserList(("a", "b", "c@10.0.0.0/8"))),
        ("DenyGroups x\nDenyGroups y z", "deny_groups", ("x", "y", "z")),
        ("MaxStartups 10:30:60", "max_startups", 60),
        ("MaxStartups 5", "max_startups", 5),
        ("Banner none", "banner", ""),
        ("Banner /etc/issue", "banner", "/etc/issue"),
        ("AcceptEnv LANG LC_*\nAcceptEnv FOO", "accept_env", ("LANG", "LC_*", "FOO")),
        ('SetEnv A=1 "B=2 3"\nSetEnv A=9', "set_env", {"A": "1", "B": "2 3"}),
        ("Subsystem sftp  /usr/lib/sftp -l  INFO", "subsystems", {"sftp": "/usr/lib/sftp -l  INFO"}),
        ("GatewayPorts clientspecified", "gateway_ports", "clientspecified"),
        ("LogLevel debug2", "log_level", "DEBUG2"),
        ("PrintMotd no\nPrintMotd yes", "print_motd", False),
        ("ForceCommand  echo 'a  b' # c", "permissions", Permissions(command="echo 'a  b' # c")),
        ("ForceCommand none", "permissions", Permissions()),
        ("PermitTTY no", "permissions", Permissions(pty=False)),
        ("AllowTcpForwarding no", "permissions", Permissions(port_forwarding=False)),
        ("AllowTcpForwarding local", "permissions", Permissions(permit_listen=())),
        ("AllowTcpForwarding remote\nPermitOpen a:1", "permissions", Permissions(permit_open=())),
        (
            "PermitOpen a:1 [::1]:2 b:*",
            "permissions",
            Permissions(permit_open=(("a", 1), ("::1", 2), ("b", None))),
        ),
        ("PermitOpen none", "permissions", Permissions(permit_open=())),
        ("PermitOpen any", "permissions", Permissions()),
        (
            "PermitListen 8080 localhost:*",
            "permissions",
            Permissions(permit_listen=(("*", 8080), ("localhost", None))),
        ),
        (
            "DisableForwarding yes\nPermitOpen any",
            "permissions",
            Permissions(permit_open=(), permit_listen=(), agent_forwarding=False, x11_forwarding=False),
        ),
        ("Subsystem a b\nSubsystem a c", "subsystems", {"a": "b"}),
        ('Subsystem "a b" /x "y z"', "subsystems", {"a b": '/x "y z"'}),
        ("AuthenticationMethods any", "authentication_methods", ()),
        ("PermitUserEnvironment no", "permit_user_environment", False),
        ("UnusedConnectionTimeout none", "unused_connection_timeout", 0),
        ("StreamLocalBindMask 0117", "stream_local_bind_mask", 0o117),
    ],
)
def test_an_option(text: str, name: str, value: Any) -> None:
    found = config(text)
    assert getattr(found.options, name) == value
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("LoginGraceTime 2m", "login_grace", 120),
        ("MaxAuthTries 3", "max_auth_failures", 3),
        ("MaxSessions 0", "max_sessions", 0),
        ("ClientAliveInterval 1m30s", "keepalive_interval", 90),
        ("ClientAliveCountMax 2", "keepalive_count", 2),
        ("ClientAliveCountMax 0", "keepalive_count", NEVER),
        ("Ciphers aes256-ctr,aes128-ctr\nCiphers aes192-ctr", "ciphers", ("aes256-ctr", "aes128-ctr")),
        ("KexAlgorithms curve25519-sha256", "kex", ("curve25519-sha256",)),
        ("MACs hmac-sha2-512", "macs", ("hmac-sha2-512",)),
        ("HostKeyAlgorithms rsa-sha2-256", "host_key_algorithms", ("rsa-sha2-256",)),
        ("PubkeyAcceptedKeyTypes ssh-ed25519", "pubkey_algorithms", ("ssh-ed25519",)),
        ("Compression yes", "compression", ("none", "zlib@openssh.com")),
        ("Compression no", "compression", ("none",)),
        ("RekeyLimit 1M 1h", "rekey_bytes", 1 << 20),
        ("RekeyLimit default 1h", "rekey_seconds", 3600),
        ("RequiredRSASize 3072", "min_rsa_bits", 3072),
        ("VersionAddendum Debian 12", "software", "glasshell_0.1 Debian 12"),
        ("AllowTerrapin yes", "allow_terrapin", True),
    ],
)
def test_a_setting_of_the_policy(text: str, name: str, value: Any) -> None:
    assert getattr(config(text).policy, name) == value


@pytest.mark.parametrize(
    "line",
    [
        "Port 0",
        "Port 65536",
        "Port x",
        "Port 1 2",
        "ListenAddress a:b:1:",
        "ListenAddress a:99999",
        "AddressFamily inet5",
        "PermitRootLogin maybe",
        "StrictModes 1",
        "MaxStartups 10:30",
        "MaxStartups 9:9:1",
        "MaxAuthTries 0",
        "LoginGraceTime soon",
        "Ciphers 3des-cbc",
        "Ciphers -*",
        "PermitOpen x",
        "PermitOpen x:0",
        "PermitListen y:z",
        "SetEnv A",
        "Subsystem sftp",
        "AuthorizedKeysFile %x",
        "AuthorizedKeysFile a%",
        "AllowUsers a@10.0.0.1/8",
        "AllowUsers a@1.2.3.4/40",
        "VersionAddendum ü",
        "RekeyLimit 1",
        "LogLevel loud",
        "Match User",
        "Match User x all User y",
        "Match Address 10.0.0.1/8",
        "Match LocalPort x",
        "Match User x\nPAMServiceName y",
        "Match User x\nPort 2",
        "ChrootDirectory /x",
        "AuthenticationMethods publickey,telepathy",
        "AuthenticationMethods any publickey",
        "PAMServiceName ../x",
        "Compression maybe",
    ],
)
def test_what_cannot_be_obeyed_names_its_line(line: str) -> None:
    with pytest.raises(ConfigError, match=r"^f line \d: "):
        config(line)


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (
            "KeyRegenerationInterval 3\nKeyRegenerationInterval 4",
            "f line 1: Deprecated option KeyRegenerationInterval",
        ),
        ("X11Forwarding yes", "f line 1: X11Forwarding yes is not supported: it stays off"),
        ("KerberosAuthentication yes", "f line 1: KerberosAuthentication yes is not supported: it stays off"),
        ("Ciphers 3des-cbc,aes256-ctr", "f line 1: Ciphers: not to be had here: 3des-cbc"),
    ],
)
def test_what_has_no_effect_is_one_named_warning(text: str, warning: str) -> None:
    (said,) = config(text).warnings
    assert said.startswith(warning)


def test_what_asks_for_nothing_is_silent() -> None:
    text = "X11Forwarding no\nPasswordAuthentication no\nChrootDirectory none\nUsePAM no"
    assert config(text).warnings == ()


# -- decisions


def options(text: str) -> ServerOptions:
    return config(text).options


@pytest.mark.parametrize(
    ("text", "objection"),
    [
        ("", ""),
        ("DenyUsers ada", "listed in DenyUsers"),
        ("DenyUsers a*@192.0.2.0/24", "listed in DenyUsers"),
        ("DenyUsers ada@10.0.0.0/8", ""),
        ("AllowUsers bob", "not listed in AllowUsers"),
        ("AllowUsers bob ada@192.0.2.*", ""),
        ("AllowUsers ada\nDenyUsers ada", "listed in DenyUsers"),
        ("DenyGroups st*", "a group is listed in DenyGroups"),
        ("AllowGroups wheel", "none of user's groups are listed in AllowGroups"),
        ("AllowGroups wheel staff", ""),
        ("AllowUsers ada\nAllowGroups wheel", "none of user's groups are listed in AllowGroups"),
    ],
)
def test_who_may_in(text: str, objection: str) -> None:
    assert options(text).user_objection("ada", ["ada", "staff"], "192.0.2.1") == objection


@pytest.mark.parametrize(
    ("value", "by_key", "by_forced_key", "by_password"),
    [
        ("yes", True, True, True),
        ("prohibit-password", True, True, False),
        ("forced-commands-only", False, True, False),
        ("no", False, False, False),
    ],
)
def test_root(value: str, by_key: bool, by_forced_key: bool, by_password: bool) -> None:
    rule = options(f"PermitRootLogin {value}")
    assert (not rule.root_objection("publickey", False)) is by_key
    assert (not rule.root_objection("publickey", True)) is by_forced_key
    assert (not rule.root_objection("password", False)) is by_password


@pytest.mark.parametrize("name", ["LANG", "LC_ALL", "COLORTERM", "EDITOR"])
def test_variables_that_may_be_set(name: str) -> None:
    assert options("AcceptEnv *").accepts_variable(name)
    assert not options("").accepts_variable(name)


@pytest.mark.parametrize(
    "name",
    [
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "PATH",
        "BASH_ENV",
        "ENV",
        "IFS",
        "PYTHONPATH",
        "SSH_ORIGINAL_COMMAND",
        "SHELL",
        "BASH_FUNC_ls%%",
        "DYLD_INSERT_LIBRARIES",
        "A B",
        "A\nB",
        "",
        "É",
    ],
)
def test_variables_that_nobody_may_set(name: str) -> None:
    assert not options("AcceptEnv *").accepts_variable(name)
