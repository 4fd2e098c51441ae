"""The engine is found where Docker's own tools find it; without one, the error has advice."""

from __future__ import annotations

import functools
import gc
import hashlib
import http.server
import json
import os
import socket
import socketserver
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import docker
import pytest

from maillab.engine import client, compose
from maillab.errors import EngineTooOld, NoEngine, NoRights


@pytest.fixture(autouse=True)
def _nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test find its own engine, and leave that of other tests alone."""
    monkeypatch.setattr(client, "_connect", functools.cache(client._connect.__wrapped__))
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)


LEFT_OPEN = "ignore:unclosed:ResourceWarning"


@pytest.fixture
def _sdk_leaves_sockets() -> Iterator[None]:
    """Close the socket that the SDK leaves after a failed connection, now and not later."""
    yield
    gc.collect()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield a folder with a short name, since the length of a socket's path has a limit."""
    with tempfile.TemporaryDirectory(prefix="ml-") as name:
        yield Path(name)


@pytest.fixture
def engine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Let DOCKER_HOST name an engine of an API version."""
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
    """The engine is asked once: a second call returns the same client."""
    engine("1.41")

    found = client.connect()

    assert client.connect() is found
    found.close()


@pytest.mark.parametrize("version", ["1.40", "1.24"])
def test_an_engine_that_is_too_old_is_an_error(engine: Callable[[str], None], version: str) -> None:
    """The error has its version, the required version, and advice."""
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
    [
        "unix:///no/such/docker.sock",
        "tcp://127.0.0.1:1",
        "nonsense://x",
        "what",
        "tcp://",
        "http://[::1",
        "tcp://127.0.0.1:99999",
        "tcp://127.0.0.1:x",
        "unix:///\udcff",
        f"unix:///{'x' * 200}",
        "fd://",
        "npipe:////./pipe/docker_engine",
    ],
)
def test_without_an_engine_the_error_has_advice(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the places that were searched."""
    monkeypatch.setenv("DOCKER_HOST", host)

    with pytest.raises(NoEngine) as error:
        client.connect()

    assert not isinstance(error.value, NoRights | EngineTooOld)
    assert host in str(error.value)
    assert "install Docker Engine" in str(error.value)
    assert ("Connection refused" in str(error.value)) == (host == "tcp://127.0.0.1:1")
    assert "DOCKER_HOST" in str(error.value)


@pytest.mark.filterwarnings(LEFT_OPEN)
@pytest.mark.usefixtures("_sdk_leaves_sockets")
def test_another_server_is_no_engine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For example a server that closes the connection."""
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
def test_an_engine_that_refuses_access_is_distinguished(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason is below the errors that the libraries wrapped around it."""

    class Refusing(socket.socket):
        def connect(self, address: Any) -> None:
            raise PermissionError(13, "Permission denied", address)

    monkeypatch.setattr("docker.transport.unixconn.socket.socket", Refusing)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/docker.sock")

    with pytest.raises(NoRights) as error:
        client.connect()

    assert str(folder) in str(error.value)
    assert "group 'docker'" in str(error.value)


def test_without_docker_host_the_usual_places_are_searched(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's engine comes first, then the user's own; an empty DOCKER_HOST is none."""
    system, own, home = folder / "system", folder / "own", folder / "home"

    class Places:
        """Replaces ``Path``; the system's own socket is a file of this test."""

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


@pytest.mark.parametrize("error", [RuntimeError("no home"), None])
def test_a_user_without_a_home_still_has_the_systems_engine(
    error: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example in a container that runs under any user id; some folders may be unreadable."""

    def home() -> Path:
        if error:
            raise error
        return Path("/home/me")

    def exists(path: Path) -> bool:
        if path.is_relative_to("/var/run") or path.is_relative_to("/home"):
            return False
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "home", staticmethod(home))
    monkeypatch.setattr(Path, "exists", exists)
    default = SimpleNamespace(Name="default")
    monkeypatch.setattr("docker.context.ContextAPI.get_context", lambda _: default)

    assert client.address() == "unix:///var/run/docker.sock"


@pytest.fixture
def contexts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Add a context to Docker's own configuration."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    # The SDK looks for contexts in this folder.
    (tmp_path / "config.json").write_text('{"currentContext": "desktop"}')

    def make(name: str, host: str) -> None:
        # In the form of Docker's command line; the SDK's own form would rewrite the address.
        meta = tmp_path / "contexts/meta" / hashlib.sha256(name.encode()).hexdigest()
        meta.mkdir(parents=True)
        endpoints = {"docker": {"Host": host, "SkipTLSVerify": False}}
        context = {"Name": name, "Metadata": {}, "Endpoints": endpoints}
        (meta / "meta.json").write_text(json.dumps(context))

    return make


def test_the_context_that_docker_uses_is_ours_too(
    contexts: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As set by 'docker context use' or DOCKER_CONTEXT; DOCKER_HOST has precedence."""
    contexts("desktop", "unix:///desktop.sock")
    contexts("away", "tcp://engine.example:2376")

    assert client.address() == "unix:///desktop.sock"
    monkeypatch.setenv("DOCKER_CONTEXT", "away")
    assert client.address() == "tcp://engine.example:2376"
    monkeypatch.setenv("DOCKER_HOST", "unix:///named.sock")
    assert client.address() == "unix:///named.sock"


def test_a_missing_context_is_an_error(
    contexts: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other engine is used instead."""
    contexts("desktop", "unix:///desktop.sock")
    monkeypatch.setenv("DOCKER_CONTEXT", "gone")

    with pytest.raises(NoEngine, match="docker context ls"):
        client.connect()


def test_an_unreadable_context_is_an_error(
    contexts: Callable[[str, str], None], tmp_path: Path
) -> None:
    """The error is one line."""
    contexts("desktop", "unix:///desktop.sock")
    (meta,) = tmp_path.glob("contexts/meta/*/meta.json")
    meta.write_text("{")

    with pytest.raises(NoEngine, match=r"cannot be read .*docker context ls"):
        client.connect()


def test_compose_uses_the_same_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """For every kind of Compose."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///named.sock")

    command = compose.compose_command.__wrapped__()

    assert command[command.index("--host") + 1] == "unix:///named.sock"


def test_an_engine_by_ssh_is_refused_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forwarded socket works."""
    monkeypatch.setenv("DOCKER_HOST", "ssh://user@engine.example")

    with pytest.raises(NoEngine, match=r"ssh -nNT -L .*DOCKER_HOST=unix:///tmp/engine\.sock"):
        client.connect()


def test_certificates_in_the_environment_are_not_for_the_engine(
    engine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """REQUESTS_CA_BUNDLE would replace the engine's own authority."""
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
    """The engine that is asked is the one that an error would name."""
    engine("1.41")
    monkeypatch.setenv("DOCKER_HOST", "")
    monkeypatch.setattr(client, "address", lambda: f"unix://{folder}/docker.sock")

    found = client.connect()

    assert found.version()["Version"] == "1"
    found.close()


def test_an_engine_that_never_starts_a_lab_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run does not hang for ever."""
    never = tmp_path / "compose"
    os.mkfifo(tmp_path / "never written")
    never.write_text(f"#!/bin/sh\nread word <'{tmp_path}/never written'\n")
    never.chmod(0o755)
    monkeypatch.setattr(compose, "compose_command", lambda: (str(never),))
    monkeypatch.setattr(compose, "_UP_WITHIN_S", 0.1)

    with pytest.raises(NoEngine, match=r"maillab_x did not start within .* hangs; restart it"):
        compose.LabCompose("maillab_x", tmp_path / "site.yaml").start()


def test_the_real_engine_is_found() -> None:
    """If there is one: the tests of labs need it."""
    found = client.connect()

    assert isinstance(found, docker.DockerClient)
    assert found.ping()
    found.close()
