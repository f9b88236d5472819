"""Match and canonicalization: ssh_config(5) and sshd_config(5), condition by condition."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasshell.config import client_keywords, server_keywords, show, unbuilt
from glasshell.config.match import CLIENT, SERVER, Asked, Login, ask_client, ask_server, conditions
from glasshell.config.parse import parse_line, parse_option
from glasshell.config.ssh_config import ClientOptions, Facts, load
from glasshell.config.sshd_config import ServerConfig
from glasshell.config.sshd_config import load as load_server
from glasshell.errors import ConfigError

RUN: list[str] = []


def execute(command: str) -> bool:
    RUN.append(command)
    return command.startswith("yes")


ASKED = Asked(
    host="web1.example.org", original="web1", user="root", local_user="ada", tag="", command="uptime -p",
    session="exec", final=False, execute=execute, addresses=lambda: ["192.0.2.5", "::1"],
)  # fmt: skip


def holds(text: str, **changes: object) -> bool:
    line = parse_line(f"Match {text}", "f", 1)
    assert line is not None
    return ask_client(conditions(line, CLIENT), ASKED._replace(**changes)).holds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", True),
        ("!all", False),
        ("host web1.*", True),
        ("host WEB1.*", True),
        ("host=*.example.org,!web1*", False),
        ("!host *.net", True),
        ("originalhost web1", True),
        ("originalhost web1.*", False),
        ("user root,ada", True),
        ("user !root,*", False),
        ("localuser ada", True),
        ("user root localuser grace", False),
        ('tagged ""', True),
        ("tagged x", False),
        ("command upt*", True),
        ('command ""', False),
        ("sessiontype exec", True),
        ("!sessiontype shell", True),
        ("localnetwork 192.0.2.0/24", True),
        ("localnetwork 10.0.0.0/8,::1/128", True),
        ("localnetwork 10.0.0.0/8", False),
        ("final", False),
        ("!final", True),
        ("canonical all", False),
        ("version glasshell*", True),
        ("exec yes", True),
        ("!exec yes", False),
        ('host "web1.*" exec "no, thanks"', False),
        ("tomorrow x", False),
        ("!tomorrow x", False),
        ("!tomorrow=x", False),
    ],
)
def test_a_condition_of_the_client(text: str, expected: bool) -> None:
    assert holds(text) is expected


def test_conditions_of_the_second_pass_and_of_tags() -> None:
    assert holds("final", final=True)
    assert holds("canonical all", final=True)
    assert holds("tagged a*,b", tag="b")
    assert not holds("tagged !b,*", tag="b")


def test_a_command_runs_only_when_it_decides() -> None:
    RUN.clear()
    holds("host none exec yes1")
    holds("exec no2 exec yes3")
    assert RUN == ["no2"]


@pytest.mark.parametrize(
    "text",
    ["host", 'host ""', "host x user y all", "all host x", "exec", "localnetwork x", "localnetwork ::/200"],
)
def test_a_condition_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ConfigError):
        holds(text)


# ---- two passes


def loaded(text: str, host: str, *options: str, names: dict[str, str] | None = None) -> ClientOptions:
    stored = {"/f": text.encode()}

    def read(path: str) -> bytes:
        return stored[path]

    known = names or {}
    where = Facts(home="/h", user="ada", read=read, resolve=known.get)
    return load(host, where, file="/f", command_line=[parse_option(each) for each in options])


CANONICAL = """
CanonicalizeHostname yes
CanonicalDomains lan.example.net example.org
CanonicalizePermittedCNAMEs *.example.org:*.cdn.example
Host *.example.org
  User org
Match canonical host *.cdn.example
  Port 2000
Match !canonical
  IdentityFile /first
"""


def test_a_name_found_among_the_domains() -> None:
    found = loaded(CANONICAL, "web", names={"web.example.org.": ""})
    assert (found.hostname, found.user, found.port) == ("web.example.org", "org", 22)
    assert found.identity_files == ("/first",)


def test_an_alias_is_followed_where_that_is_permitted() -> None:
    found = loaded(CANONICAL, "web", names={"web.example.org.": "a.cdn.example."})
    assert (found.hostname, found.port) == ("a.cdn.example", 2000)
    other = loaded(CANONICAL, "web", names={"web.example.org.": "a.elsewhere.example."})
    assert other.hostname == "web.example.org"


def test_names_with_dots_and_dots_at_the_end() -> None:
    names = {"a.b.c.": "", "a.b.c.example.org.": ""}
    assert loaded(CANONICAL, "a.b.c", names=names).hostname == "a.b.c"
    assert loaded(CANONICAL, "a.b.c.", names=names).hostname == "a.b.c"


def test_a_name_that_is_nowhere() -> None:
    assert loaded(CANONICAL, "web").hostname == "web"
    with pytest.raises(ConfigError, match='Could not resolve host "web"'):
        loaded(f"CanonicalizeFallbackLocal no\n{CANONICAL}", "web")


def test_a_proxy_looks_names_up_itself() -> None:
    names = {"web.example.org.": ""}
    assert loaded(CANONICAL, "web", "ProxyJump=gate", names=names).hostname == "web"
    text = CANONICAL.replace("CanonicalizeHostname yes", "CanonicalizeHostname always")
    assert loaded(text, "web", "ProxyJump=gate", names=names).hostname == "web.example.org"


def test_final_alone_brings_a_second_pass() -> None:
    text = "Match final user late\n  Port 9\nHost *\n  User late\n"
    assert loaded(text, "web").port == 9


# ---- sshd_config


def server(text: str) -> ServerConfig:
    lines = (parse_line(each, "f", number) for number, each in enumerate(text.splitlines(), 1))
    return load_server(line for line in lines if line)


LOGIN = Login(
    user="ada", address="192.0.2.7", host="c.example.org", local_address="10.0.0.1", local_port=22,
    groups=("ada", "staff"),
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", True),
        ("User ada", True),
        ("User a*,!ada", False),
        ("user=ada", True),
        ("Group wheel,staff", True),
        ("Group !staff,*", False),
        ("Host *.example.org", True),
        ("Address 192.0.2.0/24", True),
        ("Address 192.0.2.*,!192.0.2.7", False),
        ("Address 10.0.0.0/8", False),
        ("LocalAddress 10.0.0.1", True),
        ("LocalPort 22", True),
        ("LocalPort 2222", False),
        ("RDomain x", False),
        ("invalid-user", False),
        ("User ada Address 10.0.0.0/8", False),
        ("version glasshell*", True),
        ("Tomorrow x", False),
    ],
)
def test_a_condition_of_the_server(text: str, expected: bool) -> None:
    line = parse_line(f"Match {text}", "f", 1)
    assert line is not None
    assert ask_server(conditions(line, SERVER), LOGIN).holds is expected
    found = server(f"PermitTTY yes\nMatch {text}\n  PermitTTY no\n").at(LOGIN)[1]
    assert found.permissions.pty is not expected


def test_what_is_not_known_of_a_login_does_not_match() -> None:
    text = "Match User *\nPermitTTY no\nMatch Address *\nPermitTTY no\nMatch invalid-user\nPermitOpen none\n"
    config = server(text)
    assert config.at(Login())[1] == config.options
    assert config.at(Login(invalid_user=True))[1].permissions.permit_open == ()


def test_the_first_block_that_applies_wins_and_stands_before_everybodys() -> None:
    config = server(
        "AllowTcpForwarding yes\nAllowUsers all\nMatch User ada\n AllowTcpForwarding no\n AllowUsers a\n"
        "Match Group staff\n AllowTcpForwarding local\n AllowUsers b\n Subsystem s /new\n"
    )
    found = config.at(LOGIN)[1]
    assert found.allow_tcp_forwarding == "no"
    assert found.allow_users.patterns == ("a", "b")
    assert found.subsystems == {"s": "/new"}
    assert config.subsystems == ("s",)
    assert config.options.subsystems == {}


def test_logins_of_one_kind_share_their_options() -> None:
    config = server("Match User ada\n PermitTTY no\n")
    assert config.at(LOGIN)[1] is config.at(LOGIN._replace(address="::1"))[1]
    assert config.at(LOGIN._replace(user="bob"))[1] is not config.at(LOGIN)[1]


# ---- the tables


def test_every_keyword_is_shown() -> None:
    assert {*show._CLIENT_ORDER} == set(client_keywords.KEYWORDS) - {"refuseconnection"}
    shown = {keyword.lower() for keyword in show._SERVER_ORDER} | {"port", "addressfamily", "listenaddress"}
    unseen = {"rdomain", *(k for k in server_keywords.KEYWORDS if k.startswith("kerberos"))}
    assert shown == set(server_keywords.KEYWORDS) - unseen


def test_what_is_not_built_is_a_keyword() -> None:
    assert set(unbuilt.CLIENT) <= set(client_keywords.KEYWORDS)
    assert {*unbuilt.SERVER, *unbuilt.MATCHED} <= set(server_keywords.KEYWORDS)
    assert all(server_keywords.KEYWORDS[keyword].matched for keyword in unbuilt.MATCHED)


def _aliases(table: dict[str, str], known: Sequence[str]) -> bool:
    return all(target in known and name not in known for name, target in table.items())


def test_other_names_lead_to_keywords() -> None:
    assert _aliases(client_keywords.ALIASES, list(client_keywords.KEYWORDS))
    assert _aliases(server_keywords.ALIASES, list(server_keywords.KEYWORDS))


def test_whom_a_block_refuses_is_not_let_in() -> None:
    config = server("AllowUsers ada\nMatch Address 192.0.2.0/24\n RefuseConnection yes\n")
    away = config.at(LOGIN._replace(address="198.51.100.1"))[1]
    assert away.user_objection("ada", ["ada"], "198.51.100.1") == ""
    assert config.at(LOGIN)[1].user_objection("ada", ["ada"], "192.0.2.7") == "RefuseConnection is set"


# ---- jumps


@pytest.mark.parametrize(
    ("text", "jumps"),
    [
        ("gate", [(None, "gate", None)]),
        ("u@gate:2222", [("u", "gate", 2222)]),
        ("a,b@c:3,ssh://d:4", [(None, "a", None), ("b", "c", 3), (None, "d", 4)]),
        ("ssh://u@[::1]:22", [("u", "::1", 22)]),
        ("[fe80::1]", [(None, "fe80::1", None)]),
    ],
)
def test_hops(text: str, jumps: list[tuple[str | None, str, int | None]]) -> None:
    assert [tuple(each) for each in client_keywords.parse_jumps(text)] == jumps


@given(st.text(alphabet="ab@:[],/.-0123 ssh", max_size=40), st.booleans())
def test_hops_are_read_or_a_config_error(text: str, strict: bool) -> None:
    with contextlib.suppress(ConfigError):
        for _, host, _ in client_keywords.parse_jumps(text, strict=strict):
            assert host
            assert not (strict and host.startswith("-"))
