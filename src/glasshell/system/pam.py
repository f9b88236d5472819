"""libpam by ctypes: the calls that sshd makes of it (pam(3), of Linux-PAM), and what they say.

Every call may block for as long as its modules like: `pamchild` makes them in a process of its own.
A binding of our own, because what is needed is a handle that lives as long as a login, with its session, its
environment and its rounds of prompts; the packages for PAM check one password and end.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from ..errors import ConfigError

__all__ = ["ECHO_OFF", "ECHO_ON", "ERROR", "INFO", "Converse", "Handle", "Said", "code_name"]

# The styles of messages (pam_conv(3)).
ECHO_OFF: Final = 1
ECHO_ON: Final = 2
ERROR: Final = 3
INFO: Final = 4

MAX_MESSAGES: Final = 32
"""Messages of one call (PAM_MAX_NUM_MSG)."""
MAX_TEXT: Final = 64 * 1024
"""Bytes taken of one message; a message of the day may be longer than PAM_MAX_MSG_SIZE."""
MAX_RESPONSE: Final = 1024
"""Bytes of one answer. PAM_MAX_RESP_SIZE is 512, which modules hold against longer ones themselves."""
MAX_VARIABLES: Final = 256
"""Variables taken of a handle's environment."""

SUCCESS: Final = 0
CODES: Final = (
    "PAM_SUCCESS", "PAM_OPEN_ERR", "PAM_SYMBOL_ERR", "PAM_SERVICE_ERR", "PAM_SYSTEM_ERR", "PAM_BUF_ERR",
    "PAM_PERM_DENIED", "PAM_AUTH_ERR", "PAM_CRED_INSUFFICIENT", "PAM_AUTHINFO_UNAVAIL", "PAM_USER_UNKNOWN",
    "PAM_MAXTRIES", "PAM_NEW_AUTHTOK_REQD", "PAM_ACCT_EXPIRED", "PAM_SESSION_ERR", "PAM_CRED_UNAVAIL",
    "PAM_CRED_EXPIRED", "PAM_CRED_ERR", "PAM_NO_MODULE_DATA", "PAM_CONV_ERR", "PAM_AUTHTOK_ERR",
    "PAM_AUTHTOK_RECOVERY_ERR", "PAM_AUTHTOK_LOCK_BUSY", "PAM_AUTHTOK_DISABLE_AGING", "PAM_TRY_AGAIN",
    "PAM_IGNORE", "PAM_ABORT", "PAM_AUTHTOK_EXPIRED", "PAM_MODULE_UNKNOWN", "PAM_BAD_ITEM", "PAM_CONV_AGAIN",
    "PAM_INCOMPLETE",
)  # fmt: skip
"""The values that calls return, by number (<security/_pam_types.h>)."""
NEW_AUTHTOK_REQD: Final = CODES.index("PAM_NEW_AUTHTOK_REQD")
_SYSTEM_ERR: Final = CODES.index("PAM_SYSTEM_ERR")
_BUF_ERR: Final = CODES.index("PAM_BUF_ERR")
_CONV_ERR: Final = CODES.index("PAM_CONV_ERR")

DISALLOW_NULL_AUTHTOK: Final = 0x0001
ESTABLISH_CRED: Final = 0x0002
DELETE_CRED: Final = 0x0004
CHANGE_EXPIRED_AUTHTOK: Final = 0x0020

ITEMS: Final = {"service": 1, "user": 2, "tty": 3, "rhost": 4, "conv": 5, "ruser": 8}


class Said:
    """One message of a module: its style and its text."""

    __slots__ = ("style", "text")

    def __init__(self, style: int, text: str) -> None:
        self.style = style
        self.text = text

    @property
    def asks(self) -> bool:
        """Whether it wants an answer."""
        return self.style in (ECHO_OFF, ECHO_ON)


Converse: TypeAlias = Callable[[Sequence[Said]], Sequence[bytes | bytearray] | None]
"""One call of the conversation function: an answer to each message that asks, or None to give up."""


class _Message(ctypes.Structure):
    _fields_ = (("style", ctypes.c_int), ("text", ctypes.c_char_p))


class _Response(ctypes.Structure):
    _fields_ = (("answer", ctypes.c_void_p), ("code", ctypes.c_int))


_FUNCTION: Final = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.POINTER(_Message)),
    ctypes.POINTER(ctypes.POINTER(_Response)), ctypes.c_void_p,
)  # fmt: skip


class _Conversation(ctypes.Structure):
    _fields_ = (("function", _FUNCTION), ("data", ctypes.c_void_p))


def code_name(code: int) -> str:
    """The name of what a call returned."""
    return CODES[code] if 0 <= code < len(CODES) else f"error {code}"


def _libraries() -> tuple[Any, Any]:
    """libpam and the C library. Raises ConfigError where there is none."""
    if not sys.platform.startswith("linux"):
        raise ConfigError("PAM is used on Linux only")
    try:
        pam = ctypes.CDLL("libpam.so.0")
    except OSError:
        raise ConfigError(
            "there is no PAM on this system", hint="install libpam (Debian: libpam0g)"
        ) from None
    c = ctypes.CDLL(None)
    c.calloc.restype = c.malloc.restype = ctypes.c_void_p
    c.calloc.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
    c.malloc.argtypes = [ctypes.c_size_t]
    c.free.argtypes = [ctypes.c_void_p]
    pam.pam_strerror.restype = pam.pam_getenv.restype = ctypes.c_char_p
    pam.pam_strerror.argtypes = [ctypes.c_void_p, ctypes.c_int]
    pam.pam_getenvlist.restype = ctypes.POINTER(ctypes.c_void_p)
    pam.pam_getenvlist.argtypes = [ctypes.c_void_p]
    pam.pam_set_item.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p]
    pam.pam_get_item.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_char_p)]
    pam.pam_putenv.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    for name in ("authenticate", "acct_mgmt", "setcred", "open_session", "close_session", "chauthtok", "end"):
        getattr(pam, f"pam_{name}").argtypes = [ctypes.c_void_p, ctypes.c_int]
    return pam, c


class Handle:
    """One login's PAM handle: pam_start(3) to pam_end(3). Calls return the code of PAM, 0 for success.

    `converse` is called for each round of the modules; it may block. Raises ConfigError without a libpam, or
    where the service cannot be had. Not for more than one thread.
    """

    def __init__(self, service: str, user: str, converse: Converse, folder: str = "") -> None:
        """`folder` holds the service's file instead of /etc/pam.d (pam_start_confdir)."""
        self._pam, self._c = _libraries()
        self._converse = converse
        self._conversation = _Conversation(_FUNCTION(self._called), None)
        self._handle = ctypes.c_void_p()
        self._last = SUCCESS
        common = (_raw(service), _raw(user), ctypes.byref(self._conversation))
        if folder:
            code = self._pam.pam_start_confdir(*common, _raw(folder), ctypes.byref(self._handle))
        else:
            code = self._pam.pam_start(*common, ctypes.byref(self._handle))
        if code != SUCCESS:
            raise ConfigError(f"PAM does not start the service {service}: {code_name(code)}")

    # The calls of pam(3)

    def authenticate(self, *, empty_passwords: bool = False) -> int:
        """pam_authenticate(3): who is it?"""
        return self._call("authenticate", 0 if empty_passwords else DISALLOW_NULL_AUTHTOK)

    def account(self, *, empty_passwords: bool = False) -> int:
        """pam_acct_mgmt(3): may the user log in now? NEW_AUTHTOK_REQD: after a change of the password."""
        return self._call("acct_mgmt", 0 if empty_passwords else DISALLOW_NULL_AUTHTOK)

    def change_expired(self) -> int:
        """pam_chauthtok(3), for what has expired only."""
        return self._call("chauthtok", CHANGE_EXPIRED_AUTHTOK)

    def establish(self) -> int:
        """pam_setcred(3): gives this process the user's credentials, before its session opens."""
        return self._call("setcred", ESTABLISH_CRED)

    def delete(self) -> int:
        """pam_setcred(3): takes the user's credentials away."""
        return self._call("setcred", DELETE_CRED)

    def open_session(self) -> int:
        """pam_open_session(3)."""
        return self._call("open_session", 0)

    def close_session(self) -> int:
        """pam_close_session(3)."""
        return self._call("close_session", 0)

    def end(self) -> None:
        """pam_end(3); nothing may be called after it."""
        if self._handle:
            self._pam.pam_end(self._handle, self._last)
            self._handle = ctypes.c_void_p()

    def _call(self, name: str, flags: int) -> int:
        self._last = getattr(self._pam, f"pam_{name}")(self._handle, flags)
        return self._last

    # What a handle knows

    def set(self, item: str, value: str) -> int:
        """Sets `tty`, `rhost` or `ruser` (pam_set_item(3))."""
        code: int = self._pam.pam_set_item(self._handle, ITEMS[item], _raw(value))
        return code

    @property
    def user(self) -> str:
        """The user as the modules have it now, who may have changed it."""
        found = ctypes.c_char_p()
        self._pam.pam_get_item(self._handle, ITEMS["user"], ctypes.byref(found))
        return (found.value or b"").decode("utf-8", "surrogateescape")

    def put_environment(self, name: str, value: str) -> None:
        """A variable that modules can read (pam_putenv(3))."""
        self._pam.pam_putenv(self._handle, _raw(f"{name}={value}"))

    def environment(self) -> Mapping[str, str]:
        """The variables that modules want the session to have (pam_getenvlist(3))."""
        array = self._pam.pam_getenvlist(self._handle)
        found: dict[str, str] = {}
        place = 0
        while array and array[place]:
            raw = ctypes.string_at(array[place])
            name, equals, value = raw.decode("utf-8", "surrogateescape").partition("=")
            if equals and len(found) < MAX_VARIABLES:
                found[name] = value
            self._c.free(array[place])
            place += 1
        if array:
            self._c.free(ctypes.cast(array, ctypes.c_void_p))
        return found

    def explain(self, code: int) -> str:
        """PAM's own words for what a call returned."""
        return str((self._pam.pam_strerror(self._handle, code) or b"").decode("utf-8", "replace"))

    # The conversation

    def _called(self, count: int, messages: Any, responses: Any, _data: Any) -> int:
        """What modules call. An exception must not go through C: it is a conversation that failed."""
        try:
            if not 0 < count <= MAX_MESSAGES:
                return _CONV_ERR
            return self._round([_said(messages[each].contents) for each in range(count)], responses)
        except Exception:
            return _SYSTEM_ERR

    def _round(self, said: Sequence[Said], responses: Any) -> int:
        answers = self._converse(said)
        asking = [place for place, each in enumerate(said) if each.asks]
        if answers is None or len(answers) != len(asking):
            return _CONV_ERR
        if any(len(answer) > MAX_RESPONSE or 0 in answer for answer in answers):
            return _CONV_ERR  # a NUL would end the answer for everything behind this
        block = self._c.calloc(len(said), ctypes.sizeof(_Response))
        if not block:
            return _BUF_ERR
        table = ctypes.cast(block, ctypes.POINTER(_Response))
        for place, answer in zip(asking, answers, strict=True):
            table[place].answer = self._copy(answer)
            if not table[place].answer:
                self._release(table, len(said))
                return _BUF_ERR
        responses[0] = table  # libpam's to free, with each answer
        return SUCCESS

    def _copy(self, answer: bytes | bytearray) -> int | None:
        """An answer in memory of malloc's, which whoever gets it overwrites and frees."""
        size = len(answer)
        place: int | None = self._c.malloc(size + 1)
        if place:
            source = (ctypes.c_char * size).from_buffer(answer) if isinstance(answer, bytearray) else answer
            ctypes.memmove(place, source, size)
            ctypes.memset(place + size, 0, 1)
        return place

    def _release(self, table: Any, count: int) -> None:
        for place in range(count):
            if table[place].answer:
                ctypes.memset(table[place].answer, 0, len(ctypes.string_at(table[place].answer)))
                self._c.free(table[place].answer)
        self._c.free(ctypes.cast(table, ctypes.c_void_p))


def _said(message: _Message) -> Said:
    return Said(message.style, (message.text or b"")[:MAX_TEXT].decode("utf-8", "replace"))


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
