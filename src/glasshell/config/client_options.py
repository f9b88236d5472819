"""What `ssh` is told about one host: every keyword of ssh_config(5) of OpenSSH 10.6 as a typed field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from ..values import field, slotted

if TYPE_CHECKING:
    from ..policy import Policy

__all__ = ["AddKeys", "ClientOptions", "Forward", "Jump", "Told"]

Told: TypeAlias = tuple[str, Mapping[str, Any]]
"""A state for the stream of records: its name and its facts."""


class Forward(NamedTuple):
    """`[bind:]port:host:hostport` of -L, -R and -D.

    `bind`: None where nothing was said, "" for all addresses. `host`: empty where the other side is asked
    for each connection (SOCKS). `path` and `host_path` are sockets of the file system that stand in the place
    of a port; empty: there is none.
    """

    bind: str | None
    port: int
    host: str
    host_port: int
    path: str = ""
    host_path: str = ""


class Jump(NamedTuple):
    """One hop of ProxyJump. `port`: None where the hop's own configuration says."""

    user: str | None
    host: str
    port: int | None


class AddKeys(NamedTuple):
    """AddKeysToAgent: no, yes, ask or confirm, and for how many seconds; 0: as long as the agent lives."""

    how: Literal["no", "yes", "ask", "confirm"]
    lifetime: int = 0


@slotted(frozen=True, kw_only=True)
class ClientOptions:
    """Everything `ssh` is told about one host. None: nothing was said, the default of who uses it holds.

    Times are seconds. `sources` says for each field that was set where that was: `file line N`, or
    `command line`. `told` is what happened while reading, for the stream of records; `warnings` what has no
    effect here; `written` holds values as they were written where -G shows them so.
    """

    host: str
    """As it was typed."""
    hostname: str
    """What is connected to."""
    port: int = 22
    user: str
    tag: str | None = None

    # Reaching it
    address_family: Literal["any", "inet", "inet6"] = "any"
    bind_address: str | None = None
    bind_interface: str | None = None
    connect_timeout: int | None = None
    connection_attempts: int = 1
    tcp_keepalive: bool = True
    ip_qos: tuple[str, str] = ("ef", "cs0")
    proxy_command: str | None = None
    """For the shell, with its tokens."""
    proxy_jump: tuple[Jump, ...] = ()
    """In the order of the way."""
    proxy_use_fdpass: bool = False
    canonicalize_hostname: Literal["no", "yes", "always"] = "no"
    canonical_domains: tuple[str, ...] = ()
    canonicalize_fallback_local: bool = True
    canonicalize_max_dots: int = 1
    canonicalize_permitted_cnames: tuple[tuple[str, str], ...] = ()
    control_master: Literal["no", "yes", "ask", "auto", "autoask"] = "no"
    control_path: str | None = None
    control_persist: int | None = None
    """None: it ends with the first session; 0: it stays for ever."""
    version_addendum: str | None = None

    # Who the host is
    user_known_hosts: tuple[str, ...] = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
    global_known_hosts: tuple[str, ...] = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
    known_hosts_command: str | None = None
    """With its tokens, which depend on the key that is looked for."""
    revoked_host_keys: tuple[str, ...] = ()
    strict_host_key_checking: Literal["yes", "ask", "accept-new", "no"] = "ask"
    check_host_ip: bool = False
    hash_known_hosts: bool = False
    host_key_alias: str = ""
    update_host_keys: Literal["yes", "ask", "no"] | None = None
    """None: yes, unless UserKnownHostsFile was set."""
    verify_host_key_dns: Literal["no", "yes", "ask"] = "no"
    no_host_authentication_for_localhost: bool = False
    visual_host_key: bool = False
    fingerprint_hash: str = "SHA256"

    # Who the user is
    identity_files: tuple[str, ...] | None = None
    certificate_file: tuple[str, ...] = ()
    identities_only: bool = False
    identity_agent: str | None = None
    """A path; empty: no agent; None: $SSH_AUTH_SOCK."""
    add_keys_to_agent: AddKeys = AddKeys("no")
    forward_agent: bool | str = False
    """A string is the socket of the agent to forward."""
    pkcs11_provider: str | None = None
    security_key_provider: str | None = "internal"
    batch_mode: bool = False
    preferred_authentications: tuple[str, ...] = (
        "gssapi-with-mic", "hostbased", "publickey", "keyboard-interactive", "password",
    )  # fmt: skip
    password_authentication: bool = True
    pubkey_authentication: bool = True
    pubkey_host_bound: bool = True
    """PubkeyAuthentication unbound: signatures do not name the host."""
    kbd_interactive_authentication: bool = True
    kbd_interactive_devices: str | None = None
    number_of_password_prompts: int = 3
    gssapi_authentication: bool = False
    gssapi_delegate_credentials: bool = False
    hostbased_authentication: bool = False
    hostbased_accepted_algorithms: tuple[str, ...] | None = None
    enable_ssh_keysign: bool = False

    # How they speak
    ciphers: tuple[str, ...] | None = None
    macs: tuple[str, ...] | None = None
    kex: tuple[str, ...] | None = None
    host_key_algorithms: tuple[str, ...] | None = None
    pubkey_algorithms: tuple[str, ...] | None = None
    ca_signature_algorithms: tuple[str, ...] | None = None
    required_rsa_size: int | None = None
    compression: bool = False
    rekey_limit: tuple[int | None, int | None] = (None, None)
    server_alive_interval: int | None = None
    server_alive_count_max: int | None = None
    warn_weak_crypto: bool = True
    profile: Literal["modern", "compatible", "legacy"] | None = None
    """A named choice of algorithms; a keyword of our own."""
    allow_terrapin: bool = False
    """A keyword of our own, as are the next two."""
    refuse_trivial_auth: bool = False
    speculation: bool = True
    """Whether what the server is known to ask for is sent before its time."""

    # What runs there
    request_tty: Literal["auto", "no", "yes", "force"] = "auto"
    session_type: Literal["default", "none", "subsystem"] = "default"
    remote_command: str | None = None
    local_command: str | None = None
    """With its tokens, one of which is known after the login."""
    permit_local_command: bool = False
    set_env: tuple[tuple[str, str], ...] = ()
    send_env: tuple[str, ...] = ()
    stdin_null: bool = False
    fork: bool = False
    escape_char: str | None = "~"
    """None: there is none."""
    enable_escape_commandline: bool = False
    obscure_keystroke_timing: int = 20
    """Milliseconds; 0: keys are sent when they are pressed."""
    channel_timeout: tuple[str, ...] = ()
    log_level: str = "INFO"
    log_verbose: tuple[str, ...] = ()
    syslog_facility: str = "USER"

    # Forwardings
    local_forwards: tuple[Forward, ...] = ()
    remote_forwards: tuple[Forward, ...] = ()
    dynamic_forward: tuple[Forward, ...] = ()
    permit_remote_open: tuple[str, ...] = ()
    gateway_ports: bool = False
    exit_on_forward_failure: bool = False
    clear_all_forwardings: bool = False
    stream_local_bind_mask: int = 0o177
    stream_local_bind_unlink: bool = False
    forward_x11: bool = False
    forward_x11_trusted: bool = False
    forward_x11_timeout: int = 1200
    xauth_location: str = "/usr/bin/xauth"
    tunnel: Literal["no", "point-to-point", "ethernet"] = "no"
    tunnel_device: tuple[int | None, int | None] = (None, None)
    """None: any."""

    ignore_unknown: str | None = None
    tokens: Mapping[str, str] = field(default_factory=dict)
    """What the %-tokens stand for, for values that are expanded later."""
    sources: Mapping[str, str] = field(default_factory=dict)
    told: tuple[Told, ...] = ()
    warnings: tuple[str, ...] = ()
    written: Mapping[str, Any] = field(default_factory=dict)

    @property
    def methods(self) -> tuple[str, ...]:
        """The ways to log in that may be tried, in order."""
        allowed = {
            "gssapi-with-mic": self.gssapi_authentication,
            "hostbased": self.hostbased_authentication,
            "publickey": self.pubkey_authentication,
            "keyboard-interactive": self.kbd_interactive_authentication and not self.batch_mode,
            "password": self.password_authentication and not self.batch_mode,
        }
        return tuple(name for name in self.preferred_authentications if allowed.get(name, False))

    def policy(self) -> Policy:
        """The settings of the connection; what was not said stays as `Policy.client()` has it."""
        volume, time = self.rekey_limit
        said: dict[str, Any] = {
            "kex": self.kex,
            "host_key_algorithms": self.host_key_algorithms,
            "ciphers": self.ciphers,
            "macs": self.macs,
            "pubkey_algorithms": self.pubkey_algorithms,
            "ca_signature_algorithms": self.ca_signature_algorithms,
            "rekey_bytes": volume,
            "rekey_seconds": time,
            "keepalive_interval": self.server_alive_interval,
            "keepalive_count": self.server_alive_count_max,
            "hostbased_algorithms": self.hostbased_accepted_algorithms,
            "min_rsa_bits": None if self.required_rsa_size is None else max(self.required_rsa_size, 1024),
            "compression": ("zlib@openssh.com", "none") if self.compression else None,
        }
        changes = {name: value for name, value in said.items() if value is not None}
        # A person may take longer for a password than any grace; the server has its own.
        from ..policy import Policy

        policy = Policy.client(
            allow_terrapin=self.allow_terrapin, refuse_trivial=self.refuse_trivial_auth, login_grace=0
        )
        if self.version_addendum:
            policy = policy.but(software=f"{policy.software} {self.version_addendum}")
        return (policy.profiled(self.profile) if self.profile else policy).but(**changes)


def hops(jumps: Sequence[Jump]) -> str:
    """ProxyJump as -G prints it: addresses in brackets, the port where one was given."""
    shown = []
    for user, host, port in jumps:
        numeric = ":" in host or not host.strip("1234567890.")
        shown.append((f"{user}@" if user else "") + (f"[{host}]" if numeric else host)
                     + (f":{port}" if port else ""))  # fmt: skip
    return ",".join(shown)
