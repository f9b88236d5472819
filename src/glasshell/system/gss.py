"""Kerberos through GSS-API (RFC 2743, RFC 4121): the system's own library, called by way of ctypes.

Nothing is installed for it: who has tickets has the library. Each call may speak to a KDC and wait for it,
so that nobody calls from an event loop's thread. MIT's library is meant (`libgssapi_krb5`); Heimdal's has the
same calls but for the storing of delegated tickets.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import socket
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_uint32, c_void_p
from functools import cache
from typing import Any, Final

from ..errors import AuthenticationFailed, ConfigError
from ..values import slotted

__all__ = ["KERBEROS", "Acceptor", "GssStep", "Initiator"]

KERBEROS: Final = bytes.fromhex("06092a864886f712010202")
"""The mechanism's object identifier in DER, as it travels (RFC 4121 §1, RFC 4462 §3.2)."""

_HOST_SERVICE: Final = bytes.fromhex("2a864886f71201020104")
"""GSS_C_NT_HOSTBASED_SERVICE: a name like host@server.example (RFC 2743 §4.1)."""

_DELEGATE, _MUTUAL, _INTEGRITY = 1, 2, 32
_INITIATE, _ACCEPT = 1, 2
_BY_LIBRARY, _BY_MECHANISM = 1, 2
_CONTINUE: Final = 1
_ERRORS: Final = 0xFFFF0000
"""The bits of a major status that say that a call has failed (RFC 2744 §3.9.1)."""

LIBRARIES: Final = ("libgssapi_krb5.so.2", "libgssapi.so.3")


class _Buffer(ctypes.Structure):
    _fields_ = (("length", c_size_t), ("value", c_void_p))


class _Oid(ctypes.Structure):
    _fields_ = (("length", c_uint32), ("elements", c_void_p))


class _OidSet(ctypes.Structure):
    _fields_ = (("count", c_size_t), ("elements", POINTER(_Oid)))


class _Pair(ctypes.Structure):
    _fields_ = (("key", c_char_p), ("value", c_char_p))


class _Pairs(ctypes.Structure):
    _fields_ = (("count", c_uint32), ("elements", POINTER(_Pair)))


@cache
def _library() -> Any:
    """Raises ConfigError where the system has none."""
    found = ctypes.util.find_library("gssapi_krb5")
    for name in (*LIBRARIES, *([found] if found else [])):
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        for call, arguments in _CALLS.items():
            if hasattr(library, call):  # all but what only MIT has are in every library
                getattr(library, call).argtypes = arguments
                getattr(library, call).restype = c_uint32
        return library
    raise ConfigError("GSS-API needs the Kerberos library", hint="Debian: apt install libgssapi-krb5-2")


_OUT: Final = POINTER(c_void_p)
_NUMBER: Final = POINTER(c_uint32)
_CALLS: Final[dict[str, list[Any]]] = {
    "gss_import_name": [_NUMBER, POINTER(_Buffer), POINTER(_Oid), _OUT],
    "gss_display_name": [_NUMBER, c_void_p, POINTER(_Buffer), _OUT],
    "gss_release_name": [_NUMBER, _OUT],
    "gss_release_buffer": [_NUMBER, POINTER(_Buffer)],
    "gss_release_cred": [_NUMBER, _OUT],
    "gss_delete_sec_context": [_NUMBER, _OUT, POINTER(_Buffer)],
    "gss_display_status": [_NUMBER, c_uint32, c_int, POINTER(_Oid), _NUMBER, POINTER(_Buffer)],
    "gss_acquire_cred": [_NUMBER, c_void_p, c_uint32, POINTER(_OidSet), c_int, _OUT, _OUT, _NUMBER],
    "gss_inquire_context": [_NUMBER, c_void_p, _OUT, _OUT, _NUMBER, _OUT, _NUMBER, POINTER(c_int),
                            POINTER(c_int)],
    "gss_init_sec_context": [_NUMBER, c_void_p, _OUT, c_void_p, POINTER(_Oid), c_uint32, c_uint32, c_void_p,
                             POINTER(_Buffer), _OUT, POINTER(_Buffer), _NUMBER, _NUMBER],
    "gss_accept_sec_context": [_NUMBER, _OUT, c_void_p, POINTER(_Buffer), c_void_p, _OUT, _OUT,
                               POINTER(_Buffer), _NUMBER, _NUMBER, _OUT],
    "gss_get_mic": [_NUMBER, c_void_p, c_int, POINTER(_Buffer), POINTER(_Buffer)],
    "gss_verify_mic": [_NUMBER, c_void_p, POINTER(_Buffer), POINTER(_Buffer), _NUMBER],
    "gss_userok": [c_void_p, c_char_p],
    "gss_store_cred_into": [_NUMBER, c_void_p, c_int, POINTER(_Oid), c_uint32, c_uint32, POINTER(_Pairs),
                            _OUT, POINTER(c_int)],
}  # fmt: skip


@slotted(frozen=True)
class GssStep:
    """What a mechanism answers: a token for the peer, empty: none; whether the context is complete."""

    token: bytes
    done: bool = False
    error: str = ""
    """Why it has failed; the token then tells the peer's mechanism."""


class _Context:
    """A context with one peer, and the calls that both sides make. `close` gives back what it holds."""

    def __init__(self) -> None:
        self._library = _library()
        self._context = c_void_p()
        self._oid, self._kept = _oid(KERBEROS[2:])
        self._flags = c_uint32()

    def close(self) -> None:
        """Lets go of the context."""
        self._release("gss_delete_sec_context", self._context, None)

    def __del__(self) -> None:
        self.close()

    def _release(self, call: str, handle: c_void_p, *more: Any) -> None:
        if handle.value:
            minor = c_uint32()
            getattr(self._library, call)(byref(minor), byref(handle), *more)
            handle.value = None

    def _taken(self, buffer: _Buffer) -> bytes:
        """The content of a buffer that the library has filled, which is given back."""
        content = ctypes.string_at(buffer.value, buffer.length) if buffer.value else b""
        minor = c_uint32()
        self._library.gss_release_buffer(byref(minor), byref(buffer))
        return content

    def _import(self, host: str) -> c_void_p:
        name, minor = c_void_p(), c_uint32()
        given, kept = _buffer(f"host@{host}".encode())
        oid, kept_oid = _oid(_HOST_SERVICE)
        major = self._library.gss_import_name(byref(minor), byref(given), byref(oid), byref(name))
        del kept, kept_oid
        self._check(major, minor)
        return name

    def _shown(self, name: c_void_p) -> str:
        minor, text = c_uint32(), _Buffer()
        if self._library.gss_display_name(byref(minor), name, byref(text), None) & _ERRORS:
            return ""
        return self._taken(text).decode("utf-8", "replace")

    def _why(self, major: int, minor: int) -> str:
        """The mechanism's reason, or the library's where that has none."""
        for status, kind in ((minor, _BY_MECHANISM), (major, _BY_LIBRARY)):
            ignored, more, text = c_uint32(), c_uint32(), _Buffer()
            done = self._library.gss_display_status(
                byref(ignored), status, kind, byref(self._oid), byref(more), byref(text)
            )
            said = "" if done & _ERRORS else self._taken(text).decode("utf-8", "replace")
            if said and status:
                return said
        return f"GSS-API status {major:#x}, {minor}"

    def _check(self, major: int, minor: c_uint32) -> None:
        if major & _ERRORS:
            raise AuthenticationFailed(self._why(major, minor.value))


class Initiator(_Context):
    """A client's side: who has tickets, towards the service `host` of `server`."""

    def __init__(self, server: str, *, delegate: bool = False) -> None:
        """With `delegate` the server gets tickets to act with as this user. Raises ConfigError where there is
        no library, AuthenticationFailed."""
        super().__init__()
        self._target = c_void_p()
        self._wanted = _MUTUAL | _INTEGRITY | (_DELEGATE if delegate else 0)
        self._target = self._import(server)

    def step(self, token: bytes) -> GssStep:
        """What is said to the server's `token`, empty at first. Raises AuthenticationFailed."""
        minor, answer = c_uint32(), _Buffer()
        given, kept = _buffer(token)
        major = self._library.gss_init_sec_context(
            byref(minor), None, byref(self._context), self._target, byref(self._oid), self._wanted, 0, None,
            byref(given) if token else None, None, byref(answer), byref(self._flags), None,
        )  # fmt: skip
        del kept
        said = self._taken(answer)
        self._check(major, minor)
        done = not major & _CONTINUE
        if done and not self._flags.value & _INTEGRITY:
            raise AuthenticationFailed("the mechanism has no integrity protection")
        return GssStep(said, done)

    @property
    def name(self) -> str:
        """Who we are, once the context is there; empty: not known."""
        minor, name = c_uint32(), c_void_p()
        major = self._library.gss_inquire_context(
            byref(minor), self._context, byref(name), None, None, None, None, None, None
        )
        shown = "" if major & _ERRORS else self._shown(name)
        self._release("gss_release_name", name)
        return shown

    def seal(self, data: bytes) -> bytes:
        """The MIC over `data`. Raises AuthenticationFailed."""
        minor, mic = c_uint32(), _Buffer()
        given, kept = _buffer(data)
        major = self._library.gss_get_mic(byref(minor), self._context, 0, byref(given), byref(mic))
        del kept
        sealed = self._taken(mic)
        self._check(major, minor)
        return sealed

    def close(self) -> None:
        """Lets go of everything."""
        super().close()
        self._release("gss_release_name", self._target)


class Acceptor(_Context):
    """A server's side, by the keys of the system's keytab (KRB5_KTNAME)."""

    def __init__(self, *, strict: bool = True) -> None:
        """`strict`: only tickets for host/ and this machine's name count, and not for any key of the keytab.

        Raises ConfigError where there is no library, AuthenticationFailed where there is no key.
        """
        super().__init__()
        self._client = c_void_p()
        self._delegated = c_void_p()
        self._credential = c_void_p()
        if strict:
            self._acquire(socket.gethostname())

    def _acquire(self, host: str) -> None:
        name, minor = self._import(host), c_uint32()
        wanted = _OidSet(1, ctypes.pointer(self._oid))
        major = self._library.gss_acquire_cred(
            byref(minor), name, 0, byref(wanted), _ACCEPT, byref(self._credential), None, None
        )
        self._release("gss_release_name", name)
        self._check(major, minor)

    def step(self, token: bytes) -> GssStep:
        """What is said to the client's `token`; raises nothing for what a client may send."""
        if not self._context.value and not _is_kerberos(token):
            return GssStep(b"", error="the client's first token is not Kerberos'")
        minor, answer = c_uint32(), _Buffer()
        given, kept = _buffer(token)
        # What an earlier step gave would be lost where it is overwritten.
        self._release("gss_release_name", self._client)
        self._release("gss_release_cred", self._delegated)
        major = self._library.gss_accept_sec_context(
            byref(minor), byref(self._context), self._credential, byref(given), None, byref(self._client),
            None, byref(answer), byref(self._flags), None, byref(self._delegated),
        )  # fmt: skip
        del kept
        said = self._taken(answer)
        if major & _ERRORS:
            return GssStep(said, error=self._why(major, minor.value))
        done = not major & _CONTINUE
        needed = _MUTUAL | _INTEGRITY
        if done and self._flags.value & needed != needed:
            return GssStep(b"", error="the client asked for no mutual authentication, or for no integrity")
        return GssStep(said, done)

    @property
    def client(self) -> str:
        """Who the client is: a Kerberos principal."""
        return self._shown(self._client) if self._client.value else ""

    def sealed(self, data: bytes, mic: bytes) -> bool:
        """Whether `mic` is the client's seal of `data`."""
        minor = c_uint32()
        given, kept = _buffer(data)
        seal, kept_seal = _buffer(mic)
        major = self._library.gss_verify_mic(
            byref(minor), self._context, byref(given), byref(seal), None
        )
        del kept, kept_seal
        return not major

    def may_be(self, user: str) -> bool:
        """Whether the client may come in as the local `user`: krb5_kuserok(3), ~/.k5login included."""
        name = user.encode("utf-8", "surrogateescape")
        return bool(self._client.value and b"\0" not in name and self._library.gss_userok(self._client, name))

    @property
    def has_delegated(self) -> bool:
        """Whether the client has sent tickets to act with."""
        return bool(self._delegated.value)

    def store(self, path: str) -> None:
        """Writes the delegated tickets into the file `path`, which nobody but this process may read.

        Raises AuthenticationFailed, and ConfigError where the library cannot.
        """
        if not hasattr(self._library, "gss_store_cred_into"):
            raise ConfigError("this Kerberos library cannot store delegated tickets")
        minor = c_uint32()
        pair = _Pair(b"ccache", f"FILE:{path}".encode())
        place = _Pairs(1, ctypes.pointer(pair))
        major = self._library.gss_store_cred_into(
            byref(minor), self._delegated, _INITIATE, byref(self._oid), 1, 1, byref(place), None, None
        )
        self._check(major, minor)

    def close(self) -> None:
        """Lets go of everything, delegated tickets included."""
        super().close()
        self._release("gss_release_name", self._client)
        self._release("gss_release_cred", self._delegated)
        self._release("gss_release_cred", self._credential)


def _is_kerberos(token: bytes) -> bool:
    """Whether a first token is framed as the mechanism's own (RFC 2743 §3.1): the library would try others,
    which nobody has agreed on."""
    long = token[1:2] > b"\x80"
    at = 2 + (token[1] & 0x7F if long else 0)
    return token[:1] == b"\x60" and token[at : at + len(KERBEROS)] == KERBEROS


def _buffer(content: bytes) -> tuple[_Buffer, Any]:
    """A buffer for the library to read, and what must be kept as long."""
    kept = ctypes.create_string_buffer(content, len(content) or 1)
    return _Buffer(len(content), ctypes.cast(kept, c_void_p)), kept


def _oid(content: bytes) -> tuple[_Oid, Any]:
    kept = ctypes.create_string_buffer(content, len(content))
    return _Oid(len(content), ctypes.cast(kept, c_void_p)), kept
