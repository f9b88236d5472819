"""Logging in by key: authorized_keys, authorities of certificates, programs that know whose key a key is."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from ..crypto.signatures import PublicKey
from ..errors import ConfigError, KeyFormatError
from ..keys.authorized_keys import (
    AuthorizedKey,
    AuthorizedKeys,
    Options,
    Permissions,
    RefusedLine,
    judge,
    refusing,
)
from ..keys.public import AnyKey
from ..system.accounts import Account
from ..system.files import (
    account_path,
    account_tokens,
    authorized_paths,
    read_account_file,
    read_authorized,
    read_regular,
)
from ..values import slotted
from ..wire import visible
from .ways import Candidate, Outcome, Passed, Way

if TYPE_CHECKING:
    from ..keys.certificate import Certificate
    from ..keys.principals import PrincipalLine
    from .keycommand import Command

__all__ = ["KeySettings", "KeyWay"]

@slotted(frozen=True)
class KeySettings:
    """What sshd_config says about logins by key; an empty text is none."""

    files: tuple[str, ...]
    strict: bool
    authorities: str
    revoked: tuple[str, ...]
    principals_file: str
    keys_command: Command | None
    principals_command: Command | None
    touch_required: bool
    verify_required: bool

    @classmethod
    def of(cls, options: Any) -> KeySettings:
        """Those of a server's options."""

        def text(name: str) -> str:
            value = getattr(options, name, "") or ""
            return "" if value == "none" else value

        def command(tag: str, name: str) -> Command | None:
            line = text(name)
            if not line:
                return None
            from .keycommand import Command

            return Command(tag, line, text(f"{name}_user"))

        wanted = getattr(options, "pubkey_auth_options", ())
        return cls(
            options.authorized_keys, options.strict_modes, text("trusted_user_ca_keys"), options.revoked_keys,
            text("authorized_principals_file"), command("AuthorizedKeysCommand", "authorized_keys_command"),
            command("AuthorizedPrincipalsCommand", "authorized_principals_command"),
            "touch-required" in wanted, "verify-required" in wanted,
        )  # fmt: skip


class KeyWay(Way):
    """publickey (RFC 4252 §7), by a plain key or by a certificate."""

    method: ClassVar[str] = "publickey"
    equal: ClassVar[bool] = False

    async def key(self, who: Candidate, key: AnyKey, *, signed: bool) -> Outcome:
        account = who.account
        if account is None:
            return None
        if any(step.key is not None and step.key.plain == key.plain for step in who.passed):
            self.gate.note("info", f"refusing previously-used {key.label} key")
            return None
        search = _Search(self, who, account, key, KeySettings.of(who.options))
        if search.revoked():
            return None
        found = search.in_files() or await search.by_authority() or await search.by_command()
        if found is None:
            return None
        touch, verify = search.touch(found.options)
        return Passed(
            found.permissions, f"{key.type} {base64.b64encode(key.blob).decode()}", key,
            touch_required=touch, verify_required=verify,
        )  # fmt: skip


@slotted(frozen=True)
class _Found:
    """Where a key, or the authority of a certificate, is allowed, and what it may do."""

    options: Options
    permissions: Permissions


class _Search:
    """One key, looked for wherever the configuration says, in OpenSSH's order."""

    def __init__(
        self, way: KeyWay, who: Candidate, account: Account, key: AnyKey, settings: KeySettings
    ) -> None:
        self._gate = way.gate
        self._note: Callable[[str, str], None] = way.gate.note
        self._who = who
        self._account = account
        self._key = key
        self._certificate: Certificate | None = None if isinstance(key, PublicKey) else key
        self._settings = settings
        self._now = time.time()

    def touch(self, options: Options) -> tuple[bool, bool]:
        """What a security key's signature has to say of whoever holds it: touched, verified.

        Whatever asks for it is heard: PubkeyAuthOptions, the line, the certificate.
        """
        settings, certificate = self._settings, self._certificate
        untouched = not options.touch_required and (certificate is None or not certificate.touch_required)
        verify = options.verify_required or (certificate is not None and certificate.verify_required)
        return settings.touch_required or not untouched, settings.verify_required or verify

    # Revocation

    def revoked(self) -> bool:
        """Whether RevokedKeys has it, or cannot be read: then it has everything."""
        return any(self._revoked_by(path) for path in self._settings.revoked)

    def _revoked_by(self, path: str) -> bool:
        shown = f"{self._key.label} {self._key.fingerprint()}"
        try:
            key: Any = self._key
            if not self._gate.revoked_keys(path).revokes(key):
                return False
        except (OSError, KeyFormatError) as error:
            reason = getattr(error, "strerror", None) or error
            self._note(
                "error", f"Error checking authentication key {shown} in revoked keys file {path}: {reason}"
            )
            return True
        self._note("error", f"Authentication key {shown} revoked by file {path}")
        return True

    # Files of the account

    def in_files(self) -> _Found | None:
        """AuthorizedKeysFile."""
        try:
            paths = authorized_paths(self._settings.files, self._account)
        except ConfigError as error:
            self._note("error", str(error))
            return None
        for path in paths:
            self._gate.state("authorized_keys", path=path)
            file = read_authorized(path, self._account, strict=self._settings.strict)
            if file.objection:
                self._note("debug1" if file.missing else "info", file.objection)
            elif found := self._decide(file.keys):
                return found
        return None

    def _decide(self, keys: AuthorizedKeys) -> _Found | None:
        self._tell_refused(keys.refused, "key options")
        who = self._who
        decision = keys.decide(
            self._key, user=self._account.name, address=who.peer.address, hostname=who.hostname, now=self._now
        )
        for reason in decision.reasons:
            self._note("info", reason)
        if decision.entry is None or decision.permissions is None:
            return None
        self._tell(decision.entry)
        return _Found(decision.entry.options, decision.permissions)

    async def by_command(self) -> _Found | None:
        """AuthorizedKeysCommand."""
        command = self._settings.keys_command
        if command is None:
            return None
        output = await command.run(self._account, self._tokens(), self._note, default=True)
        return self._decide(AuthorizedKeys.parse(output, command.line.split()[0])) if output else None

    # Certificates

    async def by_authority(self) -> _Found | None:
        """TrustedUserCAKeys, and the names that a certificate may have for this account."""
        certificate, path = self._certificate, self._settings.authorities
        if certificate is None or not path or not self._trusted(certificate, path):
            return None
        line: PrincipalLine | None = None
        reason = ""
        if self._settings.principals_file or self._settings.principals_command:
            line = self._principals_file(certificate) or await self._principals_command(certificate)
            reason = "" if line is not None else "Certificate does not contain an authorized principal"
        reason = reason or self._certificate_objection(certificate, line)
        if not reason:
            options = line.options if line is not None else Options(touch_required=False)
            try:
                found = _Found(options, options.permissions.within(certificate))
            except KeyFormatError as error:
                reason = str(error)
        if reason:
            self._note("error", refusing(certificate, reason))
            return None
        self._tell_certificate(certificate, f"via {path}")
        return found

    def _certificate_objection(self, certificate: Certificate, line: PrincipalLine | None) -> str:
        user, address = self._account.name, self._who.peer.address
        named = (line.principal,) if line is not None else None
        reason = judge(certificate, user, named, address, self._now)
        if not reason and line is not None:
            reason = line.options.objection(user, address, self._who.hostname, self._now)
            reason = f"{line.where}: {reason}" if reason else ""
        return reason

    def _trusted(self, certificate: Certificate, path: str) -> bool:
        authority = certificate.authority
        try:
            keys = AuthorizedKeys.parse(read_regular(path), path)
        except OSError as error:
            self._note("error", f"Could not open TrustedUserCAKeys {path}: {error.strerror or error}")
            return False
        if any(entry.key == authority for entry in keys.entries):
            return True
        self._note("debug2", f"CA {authority.label} {authority.fingerprint()} is not listed in {path}")
        return False

    def _principals_file(self, certificate: Certificate) -> PrincipalLine | None:
        if not self._settings.principals_file:
            return None
        try:
            path = account_path(self._settings.principals_file, self._account)
        except ConfigError as error:
            self._note("error", str(error))
            return None
        self._note("debug1", f"trying authorized principals file {path}")
        file = read_account_file(
            path, self._account, strict=self._settings.strict, what="authorized principals"
        )
        if file.objection:
            self._note("debug1" if file.missing else "info", file.objection)
            return None
        return self._principal(file.data, path, certificate)

    async def _principals_command(self, certificate: Certificate) -> PrincipalLine | None:
        command = self._settings.principals_command
        if command is None:
            return None
        tokens = {**self._tokens(), **_authority_tokens(certificate)}
        output = await command.run(self._account, tokens, self._note, default=False)
        return self._principal(output, command.line.split()[0], certificate)

    def _principal(self, data: bytes, source: str, certificate: Certificate) -> PrincipalLine | None:
        from ..keys.principals import AuthorizedPrincipals

        known = AuthorizedPrincipals.parse(data, source)
        self._tell_refused(known.refused, "principals options")
        line = known.find(certificate.principals)
        if line is not None:
            self._note("debug3", f'{line.where}: matched principal "{visible(line.principal)}"')
        return line

    # What is told

    def _tokens(self) -> dict[str, str]:
        """TOKENS of sshd_config(5) that both commands take."""
        peer, key = self._who.peer, self._key
        return {
            **account_tokens(self._account), "t": key.type, "f": key.fingerprint(),
            "k": base64.b64encode(key.blob).decode(), "D": "",
            "C": f"{peer.address} {peer.port} {peer.local_address} {peer.local_port}",
        }  # fmt: skip

    def _tell_refused(self, lines: tuple[RefusedLine, ...], what: str) -> None:
        for line in lines:
            self._note("verbose", f"{line.source}:{line.line}: bad {what}: {line.reason}")

    def _tell(self, entry: AuthorizedKey) -> None:
        self._gate.state(
            "authorized_key", path=entry.source, line=entry.line, key_type=entry.key.type,
            fingerprint=entry.key.fingerprint(), options=_describe(entry),
        )  # fmt: skip
        if self._certificate is not None:
            self._tell_certificate(self._certificate, f"found at {entry.where}")

    def _tell_certificate(self, certificate: Certificate, where: str) -> None:
        authority = certificate.authority
        name = f'ID "{visible(certificate.key_id)}" (serial {certificate.serial})'
        by = f"signed by {authority.label} CA {authority.fingerprint()}"
        self._note("verbose", f"Accepted certificate {name} {by} {where}")


def _authority_tokens(certificate: Certificate) -> dict[str, str]:
    authority = certificate.authority
    return {
        "F": authority.fingerprint(), "T": authority.type, "i": certificate.key_id,
        "K": base64.b64encode(authority.blob).decode(), "s": str(certificate.serial),
    }  # fmt: skip


def _describe(entry: AuthorizedKey) -> str:
    """The rights of a key in the words of OpenSSH's log."""
    allowed = entry.permissions
    words = {
        "agent-forwarding": allowed.agent_forwarding,
        "command": allowed.command is not None,
        "environment": bool(allowed.environment),
        "expires": entry.options.expires is not None,
        "permitopen": allowed.permit_open is not None,
        "permitlisten": allowed.permit_listen is not None,
        "port-forwarding": allowed.port_forwarding,
        "pty": allowed.pty,
        "user-rc": allowed.user_rc,
        "x11-forwarding": allowed.x11_forwarding,
    }
    return " ".join(word for word, there in words.items() if there)
