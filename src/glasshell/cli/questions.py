"""What ssh(1) asks a person, in its words; nobody is asked under BatchMode, or without a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..aio.login import Asking
from ..aio.rotation import AskUpdate
from ..aio.trust import AskHostKey, NewHostKey
from ..config.ssh_config import ClientOptions
from ..events import PromptsShown
from ..wire import Secret
from .terminal import ask

__all__ = ["Questions"]


class Questions:
    """The questions of one connection: `host_key` for Trust, `host_keys` for UpdateHostKeys, `asking` for
    Login."""

    def __init__(
        self, options: ClientOptions, warn: Callable[[str], None], state: Callable[..., None]
    ) -> None:
        self._state = state
        self._who = f"{options.user}@{options.hostname.lower()}"
        self.host_key: AskHostKey | None = None
        self.host_keys: AskUpdate | None = None
        self.asking = Asking(warn=warn)
        if not options.batch_mode:
            self.host_key = self._host_key
            self.host_keys = self._host_keys
            self.asking = Asking(
                passphrase=self._passphrase, password=self._password, prompts=self._prompts, warn=warn
            )

    async def _ask(self, what: str, prompt: str, *, echo: bool = False) -> Secret | None:
        """The answer; the records say when it came, so that nobody takes the time for computing."""
        try:
            return await ask(prompt, echo=echo)
        finally:
            self._state("answered", what=what)

    async def _host_key(self, new: NewHostKey) -> bool:
        prompt = f"{new.text}\n{new.question}"
        while (said := await self._ask("host key", prompt, echo=True)) is not None:
            answer = said.text().strip()
            if answer.lower() == "yes" or (answer and answer == new.fingerprint):
                return True
            if answer.lower() in ("no", ""):
                return False
            prompt = "Please type 'yes', 'no' or the fingerprint: " if new.fingerprint else (
                "Please type 'yes' or 'no': "
            )
        return False

    async def _host_keys(self, prompt: str) -> bool:
        for _ in range(3):
            said = await self._ask("host keys", prompt, echo=True)
            answer = said.text().strip().lower() if said is not None else "no"
            if answer in ("yes", "no"):
                return answer == "yes"
            prompt = "Please enter 'yes' or 'no': "
        return False

    async def _passphrase(self, path: str) -> Secret | None:
        return await self._ask("passphrase", f"Enter passphrase for key '{path}': ")

    async def _password(self, prompt: str) -> Secret | None:
        return await self._ask("password", prompt)

    async def _prompts(self, shown: PromptsShown) -> Sequence[Secret] | None:
        for text in (shown.name, shown.instruction):
            if text:
                self.asking.warn(text)
        answers = []
        for prompt in shown.prompts:
            answer = await self._ask("prompt", f"({self._who}) {prompt.text}", echo=prompt.echo)
            if answer is None:
                return None
            answers.append(answer)
        return answers
