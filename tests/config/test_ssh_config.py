"""ssh_config(5) against OpenSSH's own `ssh -G`, and what differs from it on purpose."""

from __future__ import annotations

import contextlib
import fnmatch
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.config.parse import parse_option
from glasshell.config.ssh_config import ClientOptions, Facts, Forward, load, option, parse_forward
from glasshell.errors import ConfigError
from tests.needs import absent


def facts(files: dict[str, str] | None = None, **environment: str) -> Facts:
    stored = {path: text.encode() for path, text in (files or {}).items()}

    def read(path: str) -> bytes:
        if path not in stored:
            raise FileNotFoundError(2, "No such file or directory", path)
        return stored[path]

    def find(pattern: str) -> Sequence[str]:
        return sorted(path for path in stored if fnmatch.fnmatchcase(path, pattern))

    return Facts(
        home="/home/ada", user="ada", uid=1000, local_host="box.example.org", environment=environment,
        read=read, find=find,
    )  # fmt: skip


def config(text: str, host: str = "example.org", *options: str, **environment: str) -> ClientOptions:
    where = facts({"/home/ada/.ssh/config": text}, **environment)
    return load(host, where, command_line=[parse_option(each) for each in options])


def test_nothing_said_is_openssh_with_our_algorithms() -> None:
    found = load("Example.ORG", facts())
    assert (found.host, found.hostname, found.port, found.user) == ("Example.ORG", "example.org", 22, "ada")
    assert found.sources == {}
    assert found.policy().kex[0] == "mlkem768x25519-sha256"


def test_the_first_value_counts_and_the_command_line_is_first() -> None:
    found = config("Port 1\nPort 2\nUser grace\nHost *\nPort 3", "h", "User=linus")
    assert (found.port, found.user) == (1, "linus")
    assert found.sources["port"] == "/home/ada/.ssh/config line 1"
    assert found.sources["user"] == "command line"


def test_files_in_their_order_and_what_was_applied_is_told() -> None:
    files = {
        "/home/ada/.ssh/config": "Host web* !web9\n  Port 2201\nHost *\n  User x\n",
        "/etc/ssh/ssh_config": "Include /etc/ssh/ssh_config.d/*.conf\nPort 9\n",
        "/etc/ssh/ssh_config.d/10.conf": "HashKnownHosts yes\n",
    }
    found = load("web1", facts(files))
    assert (found.port, found.user, found.hash_known_hosts) == (2201, "x", True)
    assert [(name, *about.values()) for name, about in found.told] == [
        ("config_file", "/home/ada/.ssh/config"),
        ("config_applied", "/home/ada/.ssh/config", 1, "web*"),
        ("config_applied", "/home/ada/.ssh/config", 3, "*"),
        ("config_file", "/etc/ssh/ssh_config"),
        ("config_file", "/etc/ssh/ssh_config.d/10.conf"),
    ]
    assert load("web9", facts(files)).port == 9


def test_an_include_in_a_block_of_another_host_has_nothing_for_us() -> None:
    files = {
        "/home/ada/.ssh/config": "Host other\n  Include more\nHost *\n  Port 7\n",
        "/home/ada/.ssh/more": "Host *\n  Port 5\n",
    }
    assert load("mine", facts(files)).port == 7
    assert load("other", facts(files)).port == 5


def test_a_host_within_an_include_ends_with_its_file() -> None:
    files = {
        "/home/ada/.ssh/config": "Include more\nUser outside\n",
        "/home/ada/.ssh/more": "Host nobody\n  User inside\n",
    }
    assert load("mine", facts(files)).user == "outside"


def test_tokens_home_and_variables() -> None:
    text = (
        "HostName %h.lan\nUser r2\nIdentityFile ~/k/%r@%h:%p-%n\nIdentityFile %d/%u/%i-%L\n"
        "UserKnownHostsFile ${HOSTS}/%k\nIdentityAgent ${SOCK}\nRemoteCommand echo %h 100%%\n"
    )
    found = config(text, "web", HOSTS="/kh", SOCK="/run/agent")
    assert found.hostname == "web.lan"
    assert found.identity_files == ("/home/ada/k/r2@web.lan:22-web", "/home/ada/ada/1000-box")
    assert found.user_known_hosts == ("/kh/web",)
    assert found.identity_agent == "/run/agent"
    assert found.remote_command == "echo web.lan 100%"


def test_many_valued_keywords_add_up_and_others_do_not() -> None:
    text = "IdentityFile a\nIdentityFile b\nSendEnv LANG LC_*\nSendEnv -LC_*\nSetEnv A=1 B=2 A=3\nSetEnv C=4"
    found = config(text)
    assert found.identity_files == ("a", "b")
    assert found.send_env == ("LANG",)
    assert dict(found.set_env) == {"A": "1", "B": "2"}


def test_what_has_no_effect_is_one_warning_and_an_unknown_keyword_an_error() -> None:
    found = config(
        "Host *\n  ForwardX11 yes\n  ForwardX11 no\n  RSAAuthentication yes\nHost other\n  Tunnel yes"
    )
    assert found.warnings == (
        "/home/ada/.ssh/config line 2: ForwardX11 is not supported: it has no effect",
        '/home/ada/.ssh/config line 4: Unsupported option "rsaauthentication"',
    )
    assert config("ForwardX11 no\nTunnel no\nCheckHostIP no").warnings == ()
    with pytest.raises(ConfigError) as caught:
        config("Host other\n  Frobnicate yes\n\nPort x\n")
    assert str(caught.value) == "/home/ada/.ssh/config: line 2: Bad configuration option: Frobnicate"
    assert caught.value.line == "Frobnicate yes"
    assert caught.value.more == (
        '/home/ada/.ssh/config line 4: Port: "x" is not a number',
        "/home/ada/.ssh/config: terminating, 2 bad configuration options",
    )
    assert config("IgnoreUnknown Frob*,Use*\nHost *\n  Frobnicate yes").warnings == ()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Port 65536", "Port: 65536 is not within 1 to 65535"),
        ("Port two", 'Port: "two" is not a number'),
        ("StrictHostKeyChecking maybe", 'StrictHostKeyChecking: "maybe" is none of yes'),
        ("Ciphers rot13", 'Ciphers: no cipher of "rot13" is to be had'),
        ("KexAlgorithms -*", 'KexAlgorithms: no key exchange method of "-*" is to be had'),
        ("Compression perhaps", "Compression: "),
        ("LocalForward 1 b", 'LocalForward: "1:b" is no forwarding'),
        ("LocalForward 0 h:1", "LocalForward: 0 is not within 1 to 65535"),
        ("SetEnv A", "SetEnv: "),
        ("EscapeChar ab", "EscapeChar: "),
        ("LogLevel LOUD", "LogLevel: "),
        ("RekeyLimit 1 2 3", "RekeyLimit: "),
        ("HostName %x", 'line 1: "%x" in "%x" is no token'),
        ("IdentityFile ${NOPE}/k", "line 1: the environment variable NOPE is not set"),
        ('Host "a', "Host: a quote that is not closed"),
        ("User", 'no argument after keyword "User"'),
    ],
)
def test_what_cannot_be_understood_names_file_line_and_keyword(line: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(line)
    assert said in str(caught.value)
    assert str(caught.value).startswith("/home/ada/.ssh/config line 1: ")


def test_a_block_of_another_host_may_name_what_we_do_not_know() -> None:
    assert config("Host old\n  KexAlgorithms +diffie-hellman-group1-sha1\n").policy().kex


def test_algorithms_that_are_not_built_are_told_to_whoever_typed_them() -> None:
    found = config("Ciphers aes128-ctr,rot13", "h", "MACs=hmac-sha2-256,umac-64@openssh.com")
    assert found.policy().ciphers == ("aes128-ctr",)
    assert found.warnings == ("command line: MACs: not built, and left out: umac-64@openssh.com",)
    text = "/home/ada/.ssh/config line 1: Ciphers: not built, and left out: rot13"
    assert ("note", {"level": "debug1", "text": text}) in found.told


def test_a_file_that_was_named_must_be_there() -> None:
    with pytest.raises(ConfigError, match="Can't open user config file /nowhere: No such file"):
        load("h", facts(), file="/nowhere")
    assert load("h", facts({"/home/ada/.ssh/config": "Port 1"}), file="none").port == 22


@pytest.mark.parametrize(
    ("text", "remote", "forward"),
    [
        ("8080:localhost:80", False, Forward(None, 8080, "localhost", 80)),
        ("*:8080:h:80", False, Forward("", 8080, "h", 80)),
        (":8080:h:80", False, Forward("", 8080, "h", 80)),
        ("[::1]:8080:[fe80::1%eth0]:80", False, Forward("::1", 8080, "fe80::1%eth0", 80)),
        ("0:h:80", True, Forward(None, 0, "h", 80)),
    ],
)
def test_forwardings(text: str, remote: bool, forward: Forward) -> None:
    assert parse_forward(text, remote=remote) == forward


@given(st.text(alphabet="[]:*1234h ", max_size=30), st.booleans())
def test_a_forwarding_is_read_or_a_config_error(text: str, remote: bool) -> None:
    with contextlib.suppress(ConfigError):
        parse_forward(text, remote=remote)


@given(st.text(max_size=200))
def test_every_text_is_read_or_a_config_error(text: str) -> None:
    with contextlib.suppress(ConfigError):
        config(text)


def test_the_policy_has_what_was_said_and_nothing_else() -> None:
    policy = config(
        "Ciphers ^aes128-ctr\nMACs +hmac-sha2-256\nKexAlgorithms -curve*\nRekeyLimit 1M 1h\nCompression yes\n"
        "ServerAliveInterval 1m\nServerAliveCountMax 2\nAllowTerrapin yes\n"
    ).policy()
    assert policy.ciphers[0] == "aes128-ctr"
    assert policy.macs[-1] == "hmac-sha2-256"
    assert "ecdh-sha2-nistp256" in policy.kex
    assert not any(name.startswith("curve") for name in policy.kex)
    assert (policy.rekey_bytes, policy.rekey_seconds) == (1 << 20, 3600)
    assert policy.compression == ("zlib@openssh.com", "none")
    assert (policy.keepalive_interval, policy.keepalive_count, policy.allow_terrapin) == (60, 2, True)


def test_batch_mode_asks_for_nothing() -> None:
    assert config("BatchMode yes").methods == ("publickey",)
    text = "PreferredAuthentications password,publickey,gssapi-with-mic\nPubkeyAuthentication no"
    assert config(text).methods == ("password",)


# ---- the same file, read by OpenSSH

SHARED = """
Host plain nobody
  HostName %h.example.net
  Port = 2022
  User "ada lovelace"
Host *.example.com !bad.example.com
  ConnectTimeout 1m30
  ServerAliveInterval=15
  EscapeChar ^B
  RequestTTY force
  SetEnv A=1 "B=two words"
  BatchMode yes
Host bad.example.com
  StrictHostKeyChecking off
  IdentityFile /tmp/%r/%n
  RekeyLimit 1G 2h
  LocalForward 127.0.0.1:8080 [::1]:80
  RemoteForward 9000 localhost:90
Host *
  NumberOfPasswordPrompts 1
  LogLevel verbose
  AddressFamily inet6
  GatewayPorts yes
  SessionType none
"""


def seen_by_openssh(path: Path, host: str) -> dict[str, list[str]]:
    ssh = shutil.which("ssh")
    if ssh is None:
        absent("ssh (OpenSSH) is not installed")
    shown = subprocess.run([ssh, "-G", "-F", str(path), host], capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = {}
    for line in shown.stdout.splitlines():
        keyword, _, value = line.partition(" ")
        found.setdefault(keyword, []).append(value)
    return found


@pytest.mark.parametrize("host", ["plain", "x.example.com", "bad.example.com", "else"])
def test_openssh_reads_the_same(tmp_path: Path, host: str) -> None:
    path = tmp_path / "config"
    path.write_text(SHARED)
    theirs = seen_by_openssh(path, host)
    where = Facts(
        home=str(Path.home()), user=theirs["user"][0] if host != "plain" else "x",
        read=lambda name: Path(name).read_bytes(),
    )  # fmt: skip
    ours = load(host, where, file=str(path))
    assert [ours.hostname, str(ours.port), ours.user] == [theirs[k][0] for k in ("hostname", "port", "user")]
    yes = {True: "yes", False: "no"}
    strict = {"no": "false", "yes": "true", "ask": "ask", "accept-new": "accept-new"}
    volume, time = ours.rekey_limit
    assert {
        "connecttimeout": [str(ours.connect_timeout or "none")],
        "serveraliveinterval": [str(ours.server_alive_interval or 0)],
        "requesttty": [{"yes": "true", "no": "false"}.get(ours.request_tty, ours.request_tty)],
        "batchmode": [yes[ours.batch_mode]],
        "stricthostkeychecking": [strict[ours.strict_host_key_checking]],
        "rekeylimit": [f"{volume or 0} {time or 0}"],
        "numberofpasswordprompts": [str(ours.number_of_password_prompts)],
        "loglevel": [ours.log_level],
        "addressfamily": [ours.address_family],
        "gatewayports": [yes[ours.gateway_ports]],
        "sessiontype": [ours.session_type],
    }.items() <= theirs.items()
    assert [f"{n}={v}" for n, v in ours.set_env] == theirs.get("setenv", [])
    forwards = [f"[{f.bind}]:{f.port} [{f.host}]:{f.host_port}" for f in ours.local_forwards]
    assert forwards == theirs.get("localforward", [])


def test_flags_are_lines_too() -> None:
    found = load("h", facts(), command_line=[option("Port", "1"), option("LocalForward", "1:h:2")])
    assert found.port == 1
    assert found.local_forwards == (Forward(None, 1, "h", 2),)


def test_a_version_addendum_goes_over_the_wire() -> None:
    assert config("VersionAddendum made by %u # x").policy().software == "glasshell_0.1 made by ada"
    assert config("VersionAddendum none").policy().software == "glasshell_0.1"
    with pytest.raises(ConfigError, match="printable ASCII of at most 128"):
        config("VersionAddendum ${LONG}", LONG="x" * 200)


# ---- named profiles


@pytest.mark.parametrize(
    "block",
    ["", "Host *\n", "Host *.*\n", "Host old *\n", "Match all\n", "Match user ada\n", "Match host *\n",
     "Match !host old\n"],
)  # fmt: skip
def test_the_legacy_profile_is_never_for_all(block: str) -> None:
    with pytest.raises(ConfigError, match=r"config line \d: Profile legacy is for hosts that are named"):
        config(f"{block}Profile legacy\n")


@pytest.mark.parametrize(
    "block", ["Host old*", "Host example.org !x", "Match host *.org,10.*", "Match originalhost ex*"]
)
def test_the_legacy_profile_of_a_host_is_loud(block: str) -> None:
    found = config(f"{block}\n  Profile legacy\n", "example.org")
    other = config(f"{block}\n  Profile legacy\n", "elsewhere.net")
    assert other.policy() == config("").policy()
    if block == "Host old*":
        assert found.warnings == ()
        return
    assert found.warnings[0].startswith("/home/ada/.ssh/config line 2: Profile legacy: example.org may use ")
    policy = found.policy()
    usual = config("").policy()
    for name in ("kex", "ciphers", "macs", "host_key_algorithms", "pubkey_algorithms"):
        mine, before = getattr(policy, name), getattr(usual, name)
        assert mine[: len(before)] == before, "what is old comes last"
    assert {"diffie-hellman-group14-sha1", "aes128-cbc", "hmac-sha1", "ssh-rsa"} <= {
        *policy.kex, *policy.ciphers, *policy.macs, *policy.pubkey_algorithms,
    }  # fmt: skip


def test_no_list_can_name_what_the_profile_adds() -> None:
    text = "Ciphers +aes128-cbc\nMACs +hmac-sha1\nKexAlgorithms +diffie-hellman-group14-sha1\n"
    text += "HostKeyAlgorithms +ssh-rsa\n"
    assert config(text).policy() == config("").policy()
    with pytest.raises(ConfigError, match="is to be had"):
        config("Ciphers aes128-cbc,aes256-cbc")
