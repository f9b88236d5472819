"""What stands for something else in a value: %-tokens, ${VARIABLES} and ~ (ssh_config(5), TOKENS)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..errors import ConfigError
from ..wire import visible

__all__ = ["connection_hash", "environment", "expand", "percent", "tilde"]

MAX_EXPANDED = 64 * 1024
"""Longest text that may come out, in characters."""


def percent(text: str, tokens: Mapping[str, str]) -> str:
    """`text` with its %-tokens replaced, once. Raises ConfigError for one that is not in `tokens`."""

    def token(match: re.Match[str]) -> str:
        letter = match[1]
        if letter == "%":
            return "%"
        if letter not in tokens:
            known = " ".join(f"%{name}" for name in ("%", *tokens))
            told = f'"%{visible(letter)}" in "{visible(text)}" is no token'
            raise ConfigError(told, hint=f"known: {known}")
        return tokens[letter]

    return _bounded(re.sub("%(.?)", token, text, flags=re.DOTALL)) if "%" in text else text


def environment(text: str, variables: Mapping[str, str]) -> str:
    """`text` with its ${VARIABLES} replaced. Raises ConfigError for one that is not set."""

    def variable(match: re.Match[str]) -> str:
        value = variables.get(match[1])
        if value is None:
            raise ConfigError(f"the environment variable {visible(match[1])} is not set")
        return value

    if "${" not in text:
        return text
    if re.search(r"\$\{(?![^}]+\})", text):
        raise ConfigError(f'"{visible(text)}" has a ${{ without a name and a }}')
    return _bounded(re.sub(r"\$\{([^}]*)\}", variable, text))


def expand(text: str, tokens: Mapping[str, str], variables: Mapping[str, str]) -> str:
    """Both, in one pass: what a variable holds is not looked at for tokens, nor a token's for variables."""

    def piece(match: re.Match[str]) -> str:
        found = match[0]
        return percent(found, tokens) if found.startswith("%") else environment(found, variables)

    if "${" in text:
        environment(text, variables)  # says what is wrong with the whole
    return _bounded(re.sub(r"%.?|\$\{[^}]*\}", piece, text, flags=re.DOTALL))


def tilde(text: str, home: str) -> str:
    """A leading ~ as the user's home; that of others is not known here."""
    return home + text[1:] if text == "~" or text.startswith("~/") else text


def connection_hash(local: str, host: str, port: str, user: str, jump: str) -> str:
    """%C: what names a connection in few characters."""
    from hashlib import sha1

    joined = "".join((local, host, port, user, jump)).encode("utf-8", "surrogateescape")
    return sha1(joined, usedforsecurity=False).hexdigest()


def _bounded(text: str) -> str:
    if len(text) > MAX_EXPANDED:
        raise ConfigError(f"a value of {len(text)} characters; {MAX_EXPANDED} are allowed")
    return text
