"""The order of credentials, as ssh(1) has it: what is tried, what is passed over, who is asked."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from glasshell.aio.agent import Agent
from glasshell.aio.login import Asking, Login
from glasshell.crypto.signatures import PrivateKey
from glasshell.errors import ConnectionLost, PassphraseError, RequestFailed, SSHError
from glasshell.events import (
    Attempt,
    CredentialNeeded,
    InteractiveMethod,
    KeyMethod,
    NoneMethod,
    PasswordChangeNeeded,
    PasswordMethod,
    PromptsShown,
    PromptText,
    SignatureNeeded,
)
from glasshell.wire import Secret
from tests.aio.kit import STRANGER, USER_KEY, key_file, run

ALL = ("publickey", "keyboard-interactive", "password")


class Asked:
    """A person who answers everything with the next of `answers`."""

    def __init__(self, *answers: str | None) -> None:
        self.answers = list(answers)
        self.questions: list[str] = []
        self.said: list[str] = []

    async def _next(self, question: str) -> Secret | None:
        self.questions.append(question)
        answer = self.answers.pop(0) if self.answers else None
        return None if answer is None else Secret(answer)

    async def _prompts(self, question: PromptsShown) -> Sequence[Secret] | None:
        answers = [await self._next(prompt.text) for prompt in question.prompts]
        return None if None in answers else [a for a in answers if a is not None]

    @property
    def asking(self) -> Asking:
        return Asking(
            passphrase=self._next, password=self._next, prompts=self._prompts, warn=self.said.append
        )


async def credentials(login: Login, methods: tuple[str, ...] = ALL, *, prompted: bool = True) -> list[Any]:
    """Everything that is tried at a server that refuses everything."""
    found: list[Any] = [await login.credential(CredentialNeeded(None, False, ()))]
    while (found[-1]) is not None:
        if isinstance(found[-1], InteractiveMethod) and prompted:
            await login.prompts(PromptsShown("", "", (PromptText("Password: ", False),)))
        attempts = tuple(Attempt("x") for _ in found)
        found.append(await login.credential(CredentialNeeded(methods, False, attempts)))
    return found[:-1]


def kinds(found: Sequence[Any]) -> str:
    """One letter each: n, k, i, p."""
    letters = {NoneMethod: "n", KeyMethod: "k", InteractiveMethod: "i", PasswordMethod: "p"}
    return "".join(letters[type(item)] for item in found)


def test_none_first_then_keys_then_interactive_then_passwords() -> None:
    person = Asked(*["no"] * 10)
    login = Login("ada", "host", keys=[USER_KEY, STRANGER], asking=person.asking)
    found = run(credentials(login))
    assert kinds(found) == "nkkiiippp"
    assert [item.key for item in found[1:3]] == [USER_KEY.public, STRANGER.public]
    assert person.questions == ["Password: "] * 3 + ["ada@host's password: "] * 3
    assert person.said == ["Permission denied, please try again."] * 2


def test_what_the_server_does_not_take_is_not_tried() -> None:
    login = Login("ada", "host", keys=[USER_KEY], asking=Asked("a", "b", "c").asking)
    assert kinds(run(credentials(login, ("password",)))) == "nppp"


def test_interactive_is_given_up_where_no_prompt_comes() -> None:
    login = Login("ada", "host", keys=[], asking=Asked().asking)
    assert kinds(run(credentials(login, ("keyboard-interactive",), prompted=False))) == "ni"


def test_a_given_password_is_used_once_and_answers_one_hidden_prompt() -> None:
    login = Login("ada", "host", keys=[], password=Secret("pw"))

    async def main() -> None:
        assert kinds(await credentials(login)) == "npi"
        hidden = PromptsShown("", "", (PromptText("Password: ", False),))
        assert await login.prompts(hidden) == (Secret("pw"),)
        for prompts in ((PromptText("Name: ", True),), (PromptText("a", False), PromptText("b", False))):
            assert await login.prompts(PromptsShown("", "", prompts)) is None
        assert await login.prompts(PromptsShown("", "", ())) == ()

    run(main())


def test_no_password_goes_to_a_host_whose_key_has_changed() -> None:
    login = Login("ada", "host", keys=[USER_KEY], asking=Asked("a").asking, password=Secret("pw"))
    login.restricted = "the host key has changed"
    assert kinds(run(credentials(login))) == "nk"


def test_after_a_partial_success_everything_is_tried_anew_but_the_key_that_was_taken() -> None:
    login = Login("ada", "host", keys=[USER_KEY, STRANGER])

    async def main() -> list[Any]:
        await login.credential(CredentialNeeded(None, False, ()))
        first = await login.credential(CredentialNeeded(ALL, False, ()))  # refused
        second = await login.credential(CredentialNeeded(ALL, False, ()))  # taken
        third = await login.credential(CredentialNeeded(("publickey",), True, ()))
        return [item.key for item in (first, second, third) if isinstance(item, KeyMethod)]

    assert run(main()) == [USER_KEY.public, STRANGER.public, USER_KEY.public]


def test_a_locked_key_is_opened_when_the_server_wants_it(tmp_path: Path) -> None:
    path = key_file(tmp_path, USER_KEY, passphrase="right")
    person = Asked("wrong", "right")
    login = Login("ada", "host", keys=[path], asking=person.asking)

    async def main() -> bytes | SSHError:
        _, offer = await credentials(login, ("publickey",))
        assert isinstance(offer, KeyMethod)
        assert (offer.probe, offer.source, offer.origin) == (True, str(path), "explicit")
        assert person.questions == [], "nobody is asked for a key that the server may not want"
        return await login.sign(SignatureNeeded(offer.key, "ssh-ed25519", b"data"))

    signature = run(main())
    assert signature is not None
    assert USER_KEY.public.verify("ssh-ed25519", signature, b"data")
    assert person.questions == [str(path)] * 2


def test_a_key_that_stays_locked_is_passed_over(tmp_path: Path) -> None:
    path = key_file(tmp_path, USER_KEY, passphrase="right")
    login = Login("ada", "host", keys=[path], asking=Asked(*["wrong"] * 9).asking)

    async def main() -> bytes | SSHError:
        _, offer = await credentials(login, ("publickey",))
        return await login.sign(SignatureNeeded(offer.key, "ssh-ed25519", b"data"))

    refused = run(main())
    assert isinstance(refused, PassphraseError)
    assert refused.reason == "wrong"


def test_a_locked_key_without_its_public_half_is_opened_at_once_and_not_probed(tmp_path: Path) -> None:
    path = key_file(tmp_path, USER_KEY, passphrase="right", public=False)
    login = Login("ada", "host", keys=[path], passphrase=Secret("right"))
    _, offer = run(credentials(login, ("publickey",)))
    assert (offer.key, offer.probe) == (USER_KEY.public, False)


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    open_to_all = key_file(tmp_path, USER_KEY, "open", public=False)
    open_to_all.chmod(0o644)
    garbage = tmp_path / "garbage"
    garbage.write_text("not a key")
    garbage.chmod(0o600)
    login = Login("ada", "host", keys=[tmp_path / "absent", open_to_all, garbage])
    assert kinds(run(credentials(login, ("publickey",)))) == "n"
    said = [attempt.answer for attempt in login.attempts(())]
    assert said[0] == "skipped: No such file or directory"
    assert "too open" in said[1]
    assert "not a private key" in said[2]


def test_skipped_attempts_stand_where_they_were_skipped(tmp_path: Path) -> None:
    login = Login("ada", "host", keys=[tmp_path / "absent", USER_KEY])
    run(credentials(login, ("publickey",)))
    tried = [Attempt("none"), Attempt("publickey", source="given")]
    assert [attempt.source for attempt in login.attempts(tried)] == ["", str(tmp_path / "absent"), "given"]


def test_a_new_password_is_asked_for_twice() -> None:
    person = Asked("old", "new", "other", "new", "new")
    login = Login("ada", "host", keys=[], asking=person.asking)
    assert run(login.new_password(PasswordChangeNeeded("expired"))) == (Secret("old"), Secret("new"))
    assert person.said == ["expired", "Mismatch; try again, EOF to quit."]


# --- with a real ssh-agent


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    path = tmp_path / "agent"
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.PIPE)
    assert process.stdout
    process.stdout.readline()  # it has said where it listens
    try:
        yield Agent(path)
    finally:
        process.terminate()
        process.communicate()


def add(agent: Agent, *files: Path) -> None:
    environment = {**os.environ, "SSH_AUTH_SOCK": agent.path}
    subprocess.run(["ssh-add", "-q", *map(str, files)], env=environment, check=True)


def test_keys_of_the_agent_come_first_and_those_named_before_the_others(tmp_path: Path, agent: Agent) -> None:
    rsa = PrivateKey.generate("ssh-rsa", 2048)
    named, other, only_file = (
        key_file(tmp_path, rsa, "named"),
        key_file(tmp_path, STRANGER, "other"),
        key_file(tmp_path, USER_KEY, "only_file"),
    )
    add(agent, other, named)

    async def main() -> None:
        login = Login("ada", "host", keys=[only_file, named], agent=agent)
        offers = (await credentials(login, ("publickey",)))[1:]
        assert [(o.key, o.origin) for o in offers] == [
            (rsa.public, "explicit agent"), (STRANGER.public, "agent"), (USER_KEY.public, "explicit"),
        ]  # fmt: skip
        for algorithm in ("rsa-sha2-256", "rsa-sha2-512"):
            signature = await login.sign(SignatureNeeded(rsa.public, algorithm, b"data"))
            assert signature is not None
            assert rsa.public.verify(algorithm, signature, b"data")
        only = Login("ada", "host", keys=[only_file, named], agent=agent, agent_only=True)
        offers = (await credentials(only, ("publickey",)))[1:]
        assert [o.key for o in offers] == [rsa.public, USER_KEY.public]

    run(main())


def test_an_agent_that_is_gone_or_lacks_the_key_is_an_error_of_ours(tmp_path: Path, agent: Agent) -> None:
    async def main() -> None:
        with pytest.raises(RequestFailed):
            await agent.sign(USER_KEY.public.blob, "ssh-ed25519", b"data")
        with pytest.raises(ConnectionLost):
            await Agent(tmp_path / "nobody").identities()
        login = Login("ada", "host", keys=[USER_KEY], agent=Agent(tmp_path / "nobody"))
        assert kinds(await credentials(login, ("publickey",))) == "nk"

    run(main())
