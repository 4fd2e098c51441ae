"""The engine is found where Docker's own tools find it; without one, there is advice."""

from __future__ import annotations

import functools
import gc
import hashlib
import http.server
import json
import socket
import socketserver
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from maillab.engine import client, compose
from maillab.errors import EngineTooOld, NoEngine, NoRights


@pytest.fixture(autouse=True)
def _nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test finds its own engine, and leaves the one of other tests alone."""
    monkeypatch.setattr(client, "_connect", functools.cache(client._connect.__wrapped__))
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)


LEFT_OPEN = "ignore:unclosed:ResourceWarning"


@pytest.fixture
def _sdk_leaves_sockets() -> Iterator[None]:
    """The SDK does not close a socket that could not connect; see to it now, not later."""
    yield
    gc.collect()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name, since that of a socket has a limit."""
    with tempfile.TemporaryDirectory(prefix="ml-") as name:
        yield Path(name)


@pytest.fixture
def engine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Have DOCKER_HOST name an engine of an API version."""
    stops = []

    def start(version: str) -> None:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps({"ApiVersion": version, "Version": "1"}).encode()
                self.send_response(200 if self.path.endswith("/version") else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = socketserver.ThreadingUnixStreamServer(str(folder / "docker.sock"), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        stops.extend([server.shutdown, thread.join, server.server_close])
        monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/docker.sock")

    yield start
    for stop in stops:
        stop()


def test_an_engine_that_is_new_enough_is_used(engine: Callable[[str], None]) -> None:
    """Asked once: a second call gives the same client."""
    engine("1.41")

    found = client.connect()

    assert client.connect() is found
    found.close()


@pytest.mark.parametrize("version", ["1.40", "1.24"])
def test_an_engine_that_is_too_old_is_told_so(engine: Callable[[str], None], version: str) -> None:
    """With its version, the one that is needed, and what to do."""
    engine(version)

    with pytest.raises(EngineTooOld) as error:
        client.connect()

    assert version in str(error.value)
    assert "1.41" in str(error.value)
    assert "upgrade the engine" in str(error.value)


@pytest.mark.filterwarnings(LEFT_OPEN)
@pytest.mark.usefixtures("_sdk_leaves_sockets")
@pytest.mark.parametrize(
    "host",
    ["unix:///no/such/docker.sock", "tcp://127.0.0.1:1", "nonsense://x", "what"],
)
def test_where_no_engine_answers_one_is_told_how_to_get_one(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where it was looked for."""
    monkeypatch.setenv("DOCKER_HOST", host)

    with pytest.raises(NoEngine) as error:
        client.connect()

    assert not isinstance(error.value, NoRights | EngineTooOld)
    assert host in str(error.value)
    assert "install Docker Engine" in str(error.value)
    assert ("Connection refused" in str(error.value)) == host.startswith("tcp:")
    assert "DOCKER_HOST" in str(error.value)


@pytest.mark.filterwarnings(LEFT_OPEN)
@pytest.mark.usefixtures("_sdk_leaves_sockets")
def test_something_else_that_answers_there_is_no_engine(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a server that hangs up."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/docker.sock")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "docker.sock"))
        listening.listen()

        def hang_up() -> None:
            caller, _ = listening.accept()
            caller.close()

        hanging_up = threading.Thread(target=hang_up)
        hanging_up.start()

        with pytest.raises(NoEngine, match="no Docker engine answers"):
            client.connect()

        hanging_up.join()


@pytest.mark.filterwarnings(LEFT_OPEN)
@pytest.mark.usefixtures("_sdk_leaves_sockets")
def test_an_engine_that_lets_nobody_in_is_told_from_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason is found below what the libraries wrapped around it."""

    class Refusing(socket.socket):
        def connect(self, address: Any) -> None:
            raise PermissionError(13, "Permission denied", address)

    monkeypatch.setattr("docker.transport.unixconn.socket.socket", Refusing)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/docker.sock")

    with pytest.raises(NoRights) as error:
        client.connect()

    assert str(folder) in str(error.value)
    assert "group 'docker'" in str(error.value)


def test_without_docker_host_the_usual_places_are_looked_at(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's engine first, then the user's own; an empty DOCKER_HOST is none."""
    system, own, home = folder / "system", folder / "own", folder / "home"

    class Places:
        """Stands in for ``Path``; the system's own socket is a file of this test's."""

        home = staticmethod(lambda: home)

        def __new__(cls, path: str) -> Path:  # type: ignore[misc]  # that is the point
            return system if path == "/var/run/docker.sock" else Path(path)

    monkeypatch.setattr("maillab.engine.client.Path", Places)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(own))
    monkeypatch.setenv("DOCKER_HOST", "")

    assert client.address() == f"unix://{system}"
    (home / ".docker/run").mkdir(parents=True)
    (home / ".docker/run/docker.sock").touch()
    assert client.address() == f"unix://{home}/.docker/run/docker.sock"
    own.mkdir()
    (own / "docker.sock").touch()
    assert client.address() == f"unix://{own}/docker.sock"
    system.touch()
    assert client.address() == f"unix://{system}"


@pytest.fixture
def contexts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Have Docker's own configuration know a context."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    # Its folder is where the SDK looks for contexts.
    (tmp_path / "config.json").write_text('{"currentContext": "desktop"}')

    def make(name: str, host: str) -> None:
        # As the command line writes it; the SDK's own would rewrite the address.
        meta = tmp_path / "contexts/meta" / hashlib.sha256(name.encode()).hexdigest()
        meta.mkdir(parents=True)
        endpoints = {"docker": {"Host": host, "SkipTLSVerify": False}}
        told = {"Name": name, "Metadata": {}, "Endpoints": endpoints}
        (meta / "meta.json").write_text(json.dumps(told))

    return make


def test_the_context_that_docker_uses_is_ours_too(
    contexts: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As 'docker context use' or DOCKER_CONTEXT set it; DOCKER_HOST goes first."""
    contexts("desktop", "unix:///desktop.sock")
    contexts("away", "tcp://engine.example:2376")

    assert client.address() == "unix:///desktop.sock"
    monkeypatch.setenv("DOCKER_CONTEXT", "away")
    assert client.address() == "tcp://engine.example:2376"
    monkeypatch.setenv("DOCKER_HOST", "unix:///named.sock")
    assert client.address() == "unix:///named.sock"


def test_a_context_that_is_not_there_is_told(
    contexts: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rather than another engine used."""
    contexts("desktop", "unix:///desktop.sock")
    monkeypatch.setenv("DOCKER_CONTEXT", "gone")

    with pytest.raises(NoEngine, match="docker context ls"):
        client.connect()


def test_a_context_that_cannot_be_read_is_told(
    contexts: Callable[[str, str], None], tmp_path: Path
) -> None:
    """In a line."""
    contexts("desktop", "unix:///desktop.sock")
    (meta,) = tmp_path.glob("contexts/meta/*/meta.json")
    meta.write_text("{")

    with pytest.raises(NoEngine, match=r"cannot be read .*docker context ls"):
        client.connect()


def test_compose_is_told_of_the_same_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever Compose it is."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///named.sock")

    command = compose.compose_command.__wrapped__()

    assert command[command.index("--host") + 1] == "unix:///named.sock"


def test_an_engine_by_ssh_is_told_the_way_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forwarded socket."""
    monkeypatch.setenv("DOCKER_HOST", "ssh://user@engine.example")

    with pytest.raises(NoEngine, match=r"ssh -nNT -L .*DOCKER_HOST=unix:///tmp/engine\.sock"):
        client.connect()


def test_what_the_environment_says_of_certificates_is_not_for_the_engine(
    engine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQUESTS_CA_BUNDLE would take the place of the engine's own authority."""
    engine("1.41")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/of/this/machine.pem")

    found = client.connect()

    found.api.verify = "/engine/ca.pem"
    settings = found.api.merge_environment_settings("https://x", {}, None, None, None)
    assert settings["verify"] is found.api.verify
    found.close()


def test_an_empty_docker_host_does_not_hide_the_place_that_was_found(
    engine: Callable[[str], None], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine asked is the one that the message would name."""
    engine("1.41")
    monkeypatch.setenv("DOCKER_HOST", "")
    monkeypatch.setattr(client, "address", lambda: f"unix://{folder}/docker.sock")

    found = client.connect()

    assert found.version()["Version"] == "1"
    found.close()


def test_an_engine_that_never_brings_a_lab_up_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In place of a run that hangs for good."""
    never = tmp_path / "compose"
    never.write_text("#!/bin/sh\nexec sleep 600\n")
    never.chmod(0o755)
    monkeypatch.setattr(compose, "compose_command", lambda: (str(never),))
    monkeypatch.setattr(compose, "_UP_WITHIN_S", 0.1)

    with pytest.raises(NoEngine, match=r"maillab_x was not up .* hangs; restart it"):
        compose._start("maillab_x", tmp_path / "site.yaml", {})


def test_the_real_engine_is_found() -> None:
    """Where there is one: the tests of labs need it."""
    found = client.connect()

    assert isinstance(found, docker.DockerClient)
    assert found.ping()
    found.close()
