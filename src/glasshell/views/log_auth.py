"""OpenSSH's lines about authentication (RFC 4252, RFC 4256)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..messages import auth as a
from .lines import (
    PACKET,
    Handler,
    Line,
    Lines,
    Story,
    debug1,
    debug2,
    debug3,
    info,
    monitor,
    text_of,
    verbose,
    words,
)
from .log_transport import label


class AuthLines:
    """The lines of the authentication layer, of either role."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.method = ""
        self.list = ""
        self.started = ""
        self.probed = False
        self.key_type = ""

    def messages(self) -> Mapping[tuple[bool, int], Handler]:
        """Handlers by (sent, number)."""
        return {
            (True, 50): self.request_sent,
            (False, 51): self.failure_received,
            (True, 51): self.failure_sent,
            (False, 52): self.success_received,
            (True, 52): lambda m: (PACKET, *self.compression()),
            (False, 53): lambda m: (PACKET, debug3("input_userauth_banner: entering")),
            (False, 60): self.reply_received,
            (True, 60): self.reply_sent,
        }

    def states(self) -> Mapping[str, Handler]:
        """Handlers by the name of the state."""
        return {
            "auth_candidate": lambda f: (debug1(f"Will attempt key: {self.key(f)}"),),
            "auth_next": self.next_method,
            "auth_exhausted": self.exhausted,
            "auth_offer": self.offer,
            "auth_key_accepted": lambda f: (debug1(f"Server accepts key: {self.key(f)}"),),
            "auth_signing": self.signing,
            "auth_skipped": self.skipped,
            "auth_request": self.request_judged,
            "authorized_keys": self.authorized_keys,
            "authorized_key": self.authorized_key,
            "auth_verdict": self.verdict,
            "authenticated": self.authenticated,
        }

    # --- the client

    @staticmethod
    def key(f: Any) -> str:
        """A key as OpenSSH lists it: where from, type, fingerprint, and how it was come by."""
        kind = label(str(f.get("key_type", "")))
        return words(f.get("source", ""), kind, f.get("fingerprint", ""), f.get("origin", ""))

    def start_over(self, preferred: str) -> Lines:
        """How OpenSSH turns from one method to another: anew where the server's list is another one."""
        if self.started == self.list:
            yield debug2("we did not send a packet, disable method")
            return
        self.started = self.list
        yield debug3(f"start over, passed a different list {self.list}")
        yield debug3(f"preferred {preferred}")

    def next_method(self, f: Any) -> Lines:
        self.method, remaining = str(f.get("method", "")), text_of(f.get("remaining", ()))
        yield from self.start_over(",".join(filter(None, (self.method, remaining))))
        yield debug3(f"authmethod_lookup {self.method}")
        yield debug3(f"remaining preferred: {remaining}")
        yield debug3(f"authmethod_is_enabled {self.method}")
        yield debug1(f"Next authentication method: {self.method}")

    def exhausted(self, f: Any) -> Lines:
        yield from self.start_over("")
        yield debug1("No more authentication methods to try.")

    def offer(self, f: Any) -> Lines:
        self.key_type, self.probed = label(str(f.get("key_type", ""))), False
        yield debug1(f"Offering public key: {self.key(f)}")

    def signing(self, f: Any) -> Lines:
        fingerprint = text_of(f.get("fingerprint", ""))
        method = a.HOSTBOUND if self.story.hostbound else "publickey"
        yield debug3(f"sign_and_send_pubkey: using {method} with {self.key_type} {fingerprint}")
        yield debug3(f"sign_and_send_pubkey: signing using {f.get('algorithm')} {fingerprint}")

    def skipped(self, f: Any) -> Lines:
        reason = text_of(f.get("reason", ""))
        if reason == "no mutual signature algorithm":
            yield debug1("send_pubkey_test: no mutual signature algorithm")
        else:
            yield debug1(f"Skipping {text_of(f.get('what', ''))}: {reason}")

    def request_sent(self, m: a.UserauthRequest) -> Lines:
        self.story.user = self.story.user or text_of(m.user_name)
        method = a.method_context(m.method_name)
        if method == "keyboard-interactive":
            yield debug2("userauth_kbdint")
        yield PACKET
        # A signature after PK_OK goes out from the handler of that answer, which does not wait.
        if method != "none" and not (method == "publickey" and self.probed):
            yield debug2(f"we sent a {method} packet, wait for reply")

    def failure_received(self, m: a.UserauthFailure) -> Lines:
        self.list = ",".join(m.methods)
        yield PACKET
        if m.partial_success:
            yield verbose(f'Authenticated using "{self.method}" with partial success.')
        yield debug1(f"Authentications that can continue: {self.list}")

    def success_received(self, m: a.UserauthSuccess) -> Lines:
        yield PACKET
        yield from self.compression()

    def reply_received(self, m: Any) -> Lines:
        self.probed = isinstance(m, a.UserauthPkOk)
        yield PACKET
        if isinstance(m, a.UserauthInfoRequest):
            yield debug2("input_userauth_info_req: entering")
            yield debug2(f"input_userauth_info_req: num_prompts {len(m.prompts)}")

    def compression(self) -> Lines:
        if self.story.delayed_compression:
            yield debug1("Enabling compression at level 6.")

    def authenticated(self, f: Any) -> Lines:
        story = self.story
        story.authenticated, story.user = True, text_of(f.get("user", story.user))
        if story.role == "server":
            yield debug1("Entering interactive session for SSH2.")
            return
        way = "via proxy" if story.proxied else f"[{story.address}]:{story.port}"
        where = f"{story.host or story.address} ({way})"
        yield verbose(f'Authenticated to {where} using "{f.get("method")}".')

    # --- the server

    def request_judged(self, f: Any) -> Lines:
        story = self.story
        story.user, method = text_of(f.get("user", "")), text_of(f.get("method", ""))
        self.method = a.method_context(method)
        told = f"userauth-request for user {story.user} service {text_of(f.get('service'))} method {method}"
        yield debug1(told)
        yield debug1(f"attempt {f.get('attempt')} failures {f.get('failures')}")
        yield debug2(f"input_userauth_request: try method {method}")

    def authorized_keys(self, f: Any) -> Lines:
        yield monitor(debug1(f"trying public key file {text_of(f.get('path'))}"))

    def authorized_key(self, f: Any) -> Lines:
        where = f"{text_of(f.get('path'))}:{f.get('line')}"
        key = words(label(str(f.get("key_type", ""))), f.get("fingerprint", ""))
        yield monitor(debug1(f"{where}: matching key found: {key}"))
        if f.get("options"):
            yield monitor(debug1(f"{where}: key options: {text_of(f['options'])}"))
        yield monitor(verbose(f"Accepted key {key} found at {where}"))

    def failure_sent(self, m: a.UserauthFailure) -> Lines:
        methods = ",".join(m.methods)
        partial = int(m.partial_success)
        yield debug3(f'userauth_finish: failure partial={partial} next methods="{methods}"')
        yield PACKET

    def reply_sent(self, m: Any) -> Lines:
        yield PACKET
        if isinstance(m, a.UserauthPkOk | a.UserauthInfoRequest):
            yield verbose(f"Postponed {self.method} for {self.who()} ssh2")

    def who(self) -> str:
        """`[invalid user ]NAME from ADDRESS port PORT`."""
        unknown = "" if self.story.valid else "invalid user "
        return f"{unknown}{self.story.user} from {self.story.peer}"

    def verdict(self, f: Any) -> Lines:
        story, method = self.story, a.method_context(str(f.get("method", "")))
        story.user = text_of(f.get("user", story.user))
        accepted, partial = bool(f.get("accepted")), bool(f.get("partial"))
        if story.valid and f.get("valid") is False:
            story.valid = False
            yield monitor(info(f"Invalid user {story.user} from {story.peer}"))
        if method == "none" and not accepted:
            return
        word = "Partial" if partial else "Accepted" if accepted else "Failed"
        kind = label(str(f.get("key_type") or ""))
        key = words(kind, f.get("fingerprint") or "", f.get("certificate") or "")
        by = f"/{f['submethod']}" if f.get("submethod") else ""
        text = f"{word} {method}{by} for {self.who()} ssh2" + (f": {key}" if key else "")
        # As auth_log does: what may be many lines a login, refused keys, is said with -v only.
        loud = (accepted and not partial) or method == "password" or not story.valid
        yield monitor(Line(0 if loud else 1, text))
