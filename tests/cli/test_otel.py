"""`--otel`: spans and metrics of real connections, received by a collector over OTLP."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.cli.kit import Commands, Login
from tests.interop.conftest import client
from tests.interop.glass import GlassServer
from tests.interop.peers import Keys, OpenSSHClient
from tests.views.collector import Collector, values

__all__ = ["client"]

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


def environment(collector: Collector, **more: str) -> dict[str, str]:
    patient = {"OTEL_EXPORTER_OTLP_TIMEOUT": "20"}  # the machine may be busy
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.endpoint, "PYTHONWARNINGS": "default", **patient, **more}


def test_a_login_at_openssh(login: Login, collector: Collector) -> None:
    done = login.run("exit 3", flags=["--otel"], environment=environment(collector, TRACEPARENT=PARENT))
    assert (done.returncode, done.stderr) == (3, b"")
    root = collector.wait_for("SSH connect")
    assert collector.names == {
        "SSH connect", "SSH dial", "SSH kex", "SSH auth none", "SSH auth publickey", "SSH channel session",
    }  # fmt: skip
    assert (root.trace_id.hex(), root.parent_span_id.hex()) == (TRACE, SPAN)
    assert root.kind == root.SPAN_KIND_CLIENT
    told = values(root.attributes)
    assert told["network.protocol.name"] == "ssh"
    assert told["network.protocol.version"] == "2.0"
    assert told["server.address"] == told["network.peer.address"] == login.target.host
    assert told["server.port"] == told["network.peer.port"] == login.target.port
    assert told["network.type"] == "ipv4"
    assert not {"user.name", "ssh.session.command"} & set(told)
    for about, span in collector.spans:
        assert about["service.name"] == "glasshell"
        assert root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
        assert span.end_time_unix_nano <= root.end_time_unix_nano
        assert span is root or span.parent_span_id == root.span_id
    (channel,) = collector.named("SSH channel session")
    assert values(channel.attributes)["ssh.exit.status"] == 3
    counted = {
        (each["ssh.auth.method"], each["ssh.result"]): point.as_int
        for point in collector.metrics["ssh.auth.attempts"].sum.data_points
        if (each := values(point.attributes))
    }
    assert counted == {("none", "refused"): 1, ("publickey", "accepted"): 1}


def test_a_trace_goes_from_our_client_through_our_server(commands_login: Login, collector: Collector) -> None:
    done = commands_login.run("env", flags=["--otel"], environment=environment(collector))
    root = collector.wait_for("SSH connect")
    assert done.returncode == 0
    # The last bit says sampled, the one before it that the trace's id is random (W3C Trace Context 2).
    wanted = rf"^TRACEPARENT=00-{root.trace_id.hex()}-{root.span_id.hex()}-0[13]$"
    assert re.search(wanted, done.stdout.decode(), re.MULTILINE)


@pytest.fixture
def commands_login(commands: Commands, keys: Keys) -> Iterator[Login]:
    with GlassServer(keys, "AcceptEnv TRACEPARENT") as server:
        yield Login(commands, server.target, keys.user().copy_to(commands.home))


def test_a_servers_session_is_a_child_of_the_clients_trace(keys: Keys, collector: Collector) -> None:
    variables = [f"{name}={value}" for name, value in environment(collector).items()]
    with _Told(keys, variables) as server, OpenSSHClient("9.2") as ssh:
        sent = ("-o", f"SetEnv=TRACEPARENT={PARENT}")
        done = ssh.run(server.target, "echo $TRACEPARENT; echo err >&2", *sent, identity=keys.user())
        assert (done.stdout.decode().strip(), done.stderr) == (PARENT, b"err\n")
        refused = ssh.run(server.target, "true", identity=keys.stranger())
        assert refused.returncode == 255
        channel = collector.wait_for("SSH channel session")
        log = server.log
    assert "Traceback" not in log
    root = collector.wait_for("SSH connect")
    assert (channel.trace_id.hex(), channel.parent_span_id.hex()) == (TRACE, SPAN)
    assert channel.kind == channel.SPAN_KIND_SERVER
    roots = collector.named("SSH connect")
    assert channel.links[0].span_id in {each.span_id for each in roots}
    assert root.trace_id.hex() != TRACE
    assert {values(each.attributes)["ssh.auth.result"] for each in collector.named("SSH auth publickey")} == {
        "accepted", "refused",
    }  # fmt: skip


class _Told(GlassServer):
    """A server with more in its environment."""

    def __init__(self, keys: Keys, variables: list[str]) -> None:
        super().__init__(keys, "AcceptEnv TRACEPARENT", "--otel")
        self._variables = variables

    def _line(self, port: int) -> list[str]:
        first, second, *rest = super()._line(port)
        return [first, second, "OTEL_BSP_SCHEDULE_DELAY=50", *self._variables, *rest]


def test_a_collector_that_is_away(login: Login) -> None:
    done = login.run(
        "echo hi", flags=["--otel"],
        environment={"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, b"hi\n")
    assert b"Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(b"glasshell: --otel: ")


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        (
            "OTEL_TRACES_EXPORTER",
            "zipkin",
            "OTEL_TRACES_EXPORTER names 'zipkin'; there are otlp, console, none",
        ),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "OTLP by http/json is not there"),
        ("GLASSHELL_OTEL_CAPTURE", "user,passwords", "names passwords; there are command, user"),
    ],
)
def test_what_there_is_not(name: str, value: str, complaint: str, login: Login) -> None:
    done = login.run("echo hi", flags=["--otel"], environment={name: value})
    assert (done.returncode, done.stdout) == (255, b"")
    assert complaint in done.stderr.decode()


@pytest.mark.parametrize(
    ("package", "words", "extra"),
    [
        ("opentelemetry", ["ssh", "--otel", "host.invalid"], "glasshell[otel]"),
        ("opentelemetry", ["sshd", "-D", "-e", "-f", "none", "--otel"], "glasshell[otel]"),
        (
            "prometheus_client",
            ["sshd", "-D", "-e", "-f", "none", "--prometheus", "0"],
            "glasshell[prometheus]",
        ),
    ],
)
def test_a_package_that_is_not_installed(
    package: str, words: list[str], extra: str, commands: Commands
) -> None:
    (commands.home / f"{package}.py").write_text("raise ImportError('not here')\n")
    commands.environment["PYTHONPATH"] = f"{commands.home}:{commands.environment['PYTHONPATH']}"
    done = commands.run(*words)
    assert done.returncode == 255
    assert f"pip install '{extra}'" in done.stderr.decode()
    assert b"Traceback" not in done.stderr
