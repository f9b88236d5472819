"""Whom our client believes and how it logs in at real servers: host keys, user keys, passwords, prompts."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from glasshell.aio.login import Asking
from glasshell.aio.trust import NewHostKey
from glasshell.errors import AuthenticationFailed, Disconnected, HostKeyRefused
from glasshell.events import Attempt, PromptsShown
from glasshell.policy import Policy
from glasshell.wire import Secret
from tests.interop.conftest import SERVERS, Start
from tests.interop.kit import connect, talk
from tests.interop.peers import Keys, OpenSSHServer, PythonServer, Server, Target, fingerprint, make_key

Servers = Callable[[str], Server]

WORD = "Sésame, ouvre-toi"
SAFE = [name for name in SERVERS if name != "tinysshd"]


def allowing(name: str) -> Policy:
    return Policy.client(allow_terrapin=name == "tinysshd", login_grace=0.0)


# -- host keys -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SERVERS)
def test_a_changed_host_key_is_refused(name: str, server: Servers, keys: Keys, tmp_path: Path) -> None:
    target, file = server(name).target, tmp_path / "known_hosts"
    file.write_text(f"# mine\n[{target.host}]:{target.port} {keys.stranger().public}\n")

    async def check() -> None:
        for strict in ("yes", "ask", "accept-new"):
            with pytest.raises(HostKeyRefused) as caught:
                await connect(target, keys, known_hosts=file, strict=strict, policy=allowing(name))
            text = str(caught.value)
            assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in text
            assert f"{file}:2" in text
            assert fingerprint(keys.stranger().public) in text
            assert any(fingerprint(shown) in text for shown in target.host_keys)
            assert f"ssh-keygen -f '{file}' -R '[{target.host}]:{target.port}'" in caught.value.hint

    before = file.read_bytes()
    talk(check())
    assert file.read_bytes() == before


def test_the_remedy_in_the_hint_works(server: Servers, keys: Keys, tmp_path: Path) -> None:
    target, file = server("openssh-9.2").target, tmp_path / "known_hosts"
    file.write_text(f"[{target.host}]:{target.port} {keys.stranger().public}\n")

    async def check() -> str:
        with pytest.raises(HostKeyRefused) as caught:
            await connect(target, keys, known_hosts=file)
        return str(caught.value.hint)

    async def check_again() -> None:
        async with connect(target, keys, known_hosts=file, strict="accept-new") as connection:
            assert (await connection.run("echo ok")).stdout == "ok\n"

    hint = talk(check())
    remedy = hint[hint.index("ssh-keygen") :]
    subprocess.run(["sh", "-c", remedy], check=True, capture_output=True, timeout=30)
    talk(check_again())


def test_a_changed_host_key_let_pass_gives_no_password_and_no_forwarding(
    start: Start, keys: Keys, tmp_path: Path
) -> None:
    server = start(PythonServer("paramiko", keys, password="word"))
    target, file = server.target, tmp_path / "known_hosts"
    file.write_text(f"[{target.host}]:{target.port} {keys.stranger().public}\n")

    async def check() -> None:
        with pytest.raises(AuthenticationFailed) as caught:
            await connect(target, keys, known_hosts=file, strict="no", keys=[], password="word")
        assert [attempt.method for attempt in caught.value.attempts] == ["none"]
        async with connect(target, keys, known_hosts=file, strict="no") as connection:
            with pytest.raises(HostKeyRefused):
                await connection.open_tcp("127.0.0.1", target.port)

    talk(check())


@pytest.mark.parametrize("name", SAFE)
def test_an_unknown_host_is_refused_when_strict(
    name: str, server: Servers, keys: Keys, tmp_path: Path
) -> None:
    target, file = server(name).target, tmp_path / "known_hosts"

    async def check() -> None:
        for strict in ("yes", "ask"):  # and nobody to ask
            with pytest.raises(HostKeyRefused, match="host key is known for") as caught:
                await connect(target, keys, known_hosts=file, strict=strict)
            assert any(fingerprint(shown) in str(caught.value) for shown in target.host_keys)

    talk(check())
    assert not file.exists()


@pytest.mark.parametrize("name", ["openssh-9.2", "dropbear", "tinysshd-newest", "asyncssh", "paramiko"])
def test_the_key_that_is_added_is_the_one_ssh_keygen_finds(
    name: str, server: Servers, keys: Keys, tmp_path: Path
) -> None:
    target, file = server(name).target, tmp_path / "known_hosts"
    asked: list[NewHostKey] = []

    async def yes(new: NewHostKey) -> bool:
        asked.append(new)
        return True

    async def check() -> None:
        for strict in ("ask", "yes"):
            async with connect(target, keys, known_hosts=file, strict=strict, ask_host_key=yes) as connection:
                assert (await connection.run("echo ok")).stdout == "ok\n"

    talk(check())
    assert len(asked) == 1
    where = f"[{target.host}]:{target.port}"
    line = ["ssh-keygen", "-F", where, "-f", str(file)]
    found = subprocess.run(line, check=True, capture_output=True, text=True, timeout=30).stdout
    assert any(f"{where} {shown}" in found for shown in target.host_keys)


def test_a_hashed_known_hosts_of_ssh_keygen(server: Servers, keys: Keys, tmp_path: Path) -> None:
    target, file = server("openssh-10.6").target, tmp_path / "known_hosts"
    file.write_text(target.known_hosts())
    subprocess.run(["ssh-keygen", "-H", "-f", str(file)], check=True, capture_output=True, timeout=30)
    assert target.host not in file.read_text()

    async def check() -> None:
        async with connect(target, keys, known_hosts=file) as connection:
            assert (await connection.run("echo ok")).stdout == "ok\n"

    talk(check())


# -- keys ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SERVERS)
def test_a_wrong_key_is_refused_and_every_attempt_told(name: str, server: Servers, keys: Keys) -> None:
    stranger = keys.stranger()

    async def check() -> None:
        with pytest.raises(AuthenticationFailed) as caught:
            await connect(server(name).target, keys, keys=[stranger.private], policy=allowing(name))
        first, second = caught.value.attempts
        assert first.method == "none"
        assert "publickey" in first.methods
        assert (second.method, second.source) == ("publickey", str(stranger.private))
        assert fingerprint(stranger.public) in second.identity
        assert second.answer in ("refused", "not acceptable")
        assert "publickey" in caught.value.methods
        assert caught.value.records

    talk(check())


@pytest.mark.parametrize("name", ["openssh-9.2", "openssh-10.6", "dropbear-newest", "asyncssh", "paramiko"])
def test_the_right_key_after_wrong_ones(name: str, server: Servers, keys: Keys, tmp_path: Path) -> None:
    missing = tmp_path / "id_missing"
    tried = [missing, keys.stranger().private, keys.stranger("rsa").private, keys.user().private]

    async def check() -> None:
        async with connect(server(name).target, keys, keys=tried) as connection:
            assert (await connection.run("echo ok")).stdout == "ok\n"

    talk(check())


@pytest.mark.parametrize("name", ["openssh-9.2", "openssh-10.6", "dropbear", "dropbear-newest"])
def test_an_unknown_user_is_refused(name: str, server: Servers, keys: Keys) -> None:
    async def check() -> None:
        with pytest.raises(AuthenticationFailed):
            await connect(server(name).target, keys, user="nobody-of-that-name")

    talk(check())


def test_too_many_wrong_keys_are_told_as_the_server_tells_it(start: Start, keys: Keys) -> None:
    """9.2; 10.6 does not count the keys that are asked about."""
    server = start(OpenSSHServer("9.2", keys, extra_config="MaxAuthTries 2"))
    tried = [keys.stranger(kind).private for kind in ("ed25519", "ecdsa", "rsa")]

    async def check() -> None:
        with pytest.raises(Disconnected, match="Too many authentication failures") as caught:
            await connect(server.target, keys, keys=tried)
        assert caught.value.reason == 2
        assert caught.value.records

    talk(check())


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_a_key_under_a_passphrase(kind: str, start: Start, keys: Keys, tmp_path: Path) -> None:
    secret = make_key(tmp_path, kind, name="id", passphrase=WORD)
    server = start(OpenSSHServer("9.2", keys, extra_config=f"AuthorizedKeysFile {tmp_path}/id.pub"))

    async def check() -> None:
        async with connect(server.target, keys, keys=[secret.private], passphrase=WORD) as connection:
            assert (await connection.run("echo ok")).stdout == "ok\n"
        with pytest.raises(AuthenticationFailed) as caught:
            await connect(server.target, keys, keys=[secret.private], passphrase="wrong")
        told = [attempt.answer for attempt in caught.value.attempts]
        assert "skipped: the passphrase does not open the private key" in told

    talk(check())


@pytest.fixture
def agent(keys: Keys, tmp_path: Path) -> Iterator[str]:
    """An ssh-agent of OpenSSH with a key of each kind; its socket."""
    path = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()  # it says where it listens once it does
    environment = {**os.environ, "SSH_AUTH_SOCK": str(path)}
    files = [str(keys.user(kind).private) for kind in ("ed25519", "ecdsa", "rsa")]
    subprocess.run(["ssh-add", "-q", *files], check=True, env=environment, timeout=30)
    yield str(path)
    process.terminate()
    process.wait(timeout=10)
    process.stdout.close()


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
@pytest.mark.parametrize("name", ["openssh-9.2", "openssh-10.6", "paramiko"])
def test_a_key_in_the_agent(
    name: str, kind: str, server: Servers, keys: Keys, agent: str, tmp_path: Path
) -> None:
    """Named by its public half, while the private one is in the agent only."""
    public = tmp_path / "id"
    public.with_suffix(".pub").write_text(keys.user(kind).public + "\n")

    async def check() -> None:
        target = server(name).target
        async with connect(target, keys, keys=[public], agent=agent, agent_only=True) as connection:
            assert (await connection.run("echo ok")).stdout == "ok\n"

    talk(check())


# -- passwords and prompts -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def word_servers(keys: Keys) -> Iterator[dict[str, Target]]:
    """asyncssh and paramiko, that take WORD."""
    own = [PythonServer(name, keys, password=WORD) for name in ("asyncssh", "paramiko")]
    with own[0] as first, own[1] as second:
        yield {server.name: server.target for server in (first, second)}


PYTHON = ("asyncssh", "paramiko")


@pytest.mark.parametrize("name", PYTHON)
def test_a_password(name: str, word_servers: dict[str, Target], keys: Keys) -> None:
    async def check() -> None:
        target = word_servers[name]
        async with connect(target, keys, keys=[], password=WORD) as connection:
            assert (await connection.run("echo ok")).stdout == "ok\n"
        with pytest.raises(AuthenticationFailed) as caught:
            await connect(target, keys, keys=[], password="wrong")
        assert [attempt.method for attempt in caught.value.attempts][:2] == ["none", "password"]
        assert "wrong" not in repr(caught.value.attempts) + repr(caught.value.records)

    talk(check())


@pytest.mark.parametrize("name", PYTHON)
def test_a_password_is_asked_for_three_times(name: str, word_servers: dict[str, Target], keys: Keys) -> None:
    given = iter(["one", "two", WORD])
    asked: list[str] = []

    async def ask(text: str) -> Secret:
        asked.append(text)
        return Secret(next(given))

    async def check() -> None:
        target = word_servers[name]
        asking = Asking(password=ask)
        async with connect(target, keys, keys=[], asking=asking, order=["password"]) as connection:
            assert (await connection.run("echo ok")).stdout == "ok\n"
        assert asked == [f"{target.user}@{target.host}'s password: "] * 3

    talk(check())


@pytest.mark.parametrize("name", PYTHON)
def test_prompts(name: str, word_servers: dict[str, Target], keys: Keys) -> None:
    """keyboard-interactive: wrong, then right (RFC 4256)."""
    target = word_servers[name]
    shown: list[PromptsShown] = []

    async def answer(question: PromptsShown) -> Sequence[Secret]:
        shown.append(question)
        return [Secret(target.user), Secret(WORD if len(shown) > 1 else "wrong")]

    async def check() -> None:
        asking = Asking(prompts=answer)
        order = ["keyboard-interactive"]
        async with connect(target, keys, keys=[], asking=asking, order=order) as connection:
            assert (await connection.run("echo ok")).stdout == "ok\n"
        assert [(p.text, p.echo) for p in shown[1].prompts] == [("Name: ", True), ("Word: ", False)]
        assert (shown[0].name, shown[0].instruction) == ("Two questions", "Answer both.")

    talk(check())


def test_a_key_and_then_a_password_at_paramiko(word_servers: dict[str, Target], keys: Keys) -> None:
    async def check() -> None:
        target = word_servers["paramiko"]
        async with connect(target, keys, user="both", password=WORD) as connection:
            assert (await connection.run("echo ok")).stdout == "ok\n"
        with pytest.raises(AuthenticationFailed) as caught:
            await connect(target, keys, user="both")
        assert_partial(caught.value.attempts)

    talk(check())


def test_a_key_and_then_a_password_at_openssh(start: Start, keys: Keys) -> None:
    """The account glass of the newest peers' folder; its password is its name."""
    config = "AuthenticationMethods publickey,password\nPasswordAuthentication yes"
    server = start(OpenSSHServer("10.6", keys, extra_config=config))

    async def check() -> None:
        target = server.target
        async with connect(target, keys, user="glass", password="glass") as connection:
            assert (await connection.run("id -un")).stdout == "glass\n"
        with pytest.raises(AuthenticationFailed) as caught:
            await connect(target, keys, user="glass")
        assert_partial(caught.value.attempts)
        with pytest.raises(AuthenticationFailed) as caught:
            await connect(target, keys, user="glass", password="wrong")
        assert caught.value.attempts[-1].method == "password"

    talk(check())


def assert_partial(attempts: Sequence[Attempt]) -> None:
    """The key was taken, and the password is still wanted."""
    taken = [attempt for attempt in attempts if attempt.method == "publickey"]
    assert [attempt.answer for attempt in taken] == ["partial"]
    assert taken[0].methods == ("password",)


@pytest.mark.parametrize("version", ["9.2", "10.6"])
def test_the_banner_is_shown_before_the_login(version: str, start: Start, keys: Keys, tmp_path: Path) -> None:
    text = "Bienvenue — authorised use only\n"
    banners: list[str] = []

    async def check(target: Target) -> None:
        async with connect(target, keys, on_banner=banners.append) as connection:
            assert connection.banner == text

    class WithBanner(OpenSSHServer):
        def _config(self, port: int) -> str:
            return f"Banner {self._file('banner', text)}\n{super()._config(port)}"

    talk(check(start(WithBanner(version, keys)).target))
    assert "".join(banners) == text
