"""The Docker engine: finding it, and saying plainly what is wrong with it."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Iterator
from pathlib import Path

import docker
import requests
from docker.context import ContextAPI
from docker.errors import APIError, DockerException

from maillab.errors import EngineTooOld, HostGone, NoDisk, NoEngine, NoRights

# 20.10; older engines were never tried.
API_VERSION_MIN = (1, 41)
# One that works answers anything we ask in less, on however busy a machine.
_ANSWER_WITHIN_S = 120

HOW_TO_GET_ONE = (
    "install Docker Engine (https://docs.docker.com/engine/install/), or Debian's docker.io, "
    "start it, or set DOCKER_HOST to one that runs"
)
_SSH = (
    "maillab does not speak ssh:// itself; forward the engine's socket, "
    "'ssh -nNT -L /tmp/engine.sock:/var/run/docker.sock HOST &', "
    "and set DOCKER_HOST=unix:///tmp/engine.sock"
)


def connect() -> docker.DockerClient:
    """A client of the engine at ``address``.

    Raises NoEngine, NoRights or EngineTooOld.
    """
    return _connect(os.getpid())


@functools.cache
def _connect(_pid: int) -> docker.DockerClient:
    socket = address()
    if socket.startswith("ssh:"):
        raise NoEngine(f"the engine is at {socket}, but {_SSH}")
    try:
        with contextlib.closing(_client(socket, "1.41")) as asking:
            speaks = asking.api.version(api_version=False)["ApiVersion"]
        client = _client(socket, speaks)
    except (DockerException, requests.exceptions.RequestException, ValueError) as error:
        cause = _cause(error)
        if cause and cause.errno == errno.EACCES:
            raise NoRights(
                f"the Docker engine at {socket} does not let this user in: add the user to the "
                "group 'docker' and log in again, or run as root"
            ) from error
        why = f" ({cause.strerror})" if cause and cause.strerror else ""
        raise NoEngine(f"no Docker engine answers at {socket}{why}: {HOW_TO_GET_ONE}") from error
    if tuple(int(part) for part in speaks.split(".")) < API_VERSION_MIN:
        raise EngineTooOld(
            f"the Docker engine at {socket} speaks API {speaks}; "
            "maillab needs 1.41 (Docker 20.10): upgrade the engine"
        )
    return client


def _client(socket: str, version: str) -> docker.DockerClient:
    client = docker.DockerClient.from_env(
        environment={**os.environ, "DOCKER_HOST": socket},
        version=version,
        max_pool_size=64,
        timeout=_ANSWER_WITHIN_S,
    )
    # Else REQUESTS_CA_BUNDLE counts, and not the authority that DOCKER_CERT_PATH names.
    client.api.trust_env = False
    return client


def address() -> str:
    """Where the engine is: by DOCKER_HOST, Docker's context, or the first usual socket.

    Raises NoEngine for a context that is not there or cannot be read.
    """
    if os.environ.get("DOCKER_HOST"):
        return os.environ["DOCKER_HOST"]
    advice = "see 'docker context ls', or set DOCKER_HOST"
    try:
        context = ContextAPI.get_context(os.environ.get("DOCKER_CONTEXT"))
    except Exception as error:  # the SDK has no class of its own for it
        raise NoEngine(f"Docker's current context cannot be read ({error}): {advice}") from error
    if context is None:
        raise NoEngine(f"Docker's current context is not there: {advice}")
    if context.Name != "default":
        return str(context.Host)
    usual = [
        Path("/var/run/docker.sock"),
        Path(os.environ.get("XDG_RUNTIME_DIR", "/run/user/0")) / "docker.sock",
        Path.home() / ".docker/run/docker.sock",
    ]
    return f"unix://{next((path for path in usual if path.exists()), usual[0])}"


def _cause(error: BaseException | None) -> OSError | None:
    """The operating system's reason below what the libraries wrapped around it."""
    while error is not None:
        inner: object = error
        while isinstance(inner, BaseException):
            if isinstance(inner, OSError) and inner.errno:
                return inner
            inner = inner.args[-1] if inner.args else None
        error = error.__cause__ or error.__context__
    return None


@contextlib.contextmanager
def engine_errors(what: str) -> Iterator[None]:
    """Turn the libraries' exceptions into ours; ``what`` was being done."""
    try:
        yield
    except APIError as error:
        text = str(error.explanation or error)
        if "no space left" in text.lower():
            raise NoDisk(f"{what}: no space left on the engine's disk; free some") from error
        raise HostGone(f"{what}: the engine refused: {text}") from error
    except requests.exceptions.ReadTimeout as error:
        raise NoEngine(
            f"{what}: the Docker engine has not answered within {_ANSWER_WITHIN_S} s; "
            "restart it, then run 'maillab sweep'"
        ) from error
    except (requests.exceptions.RequestException, DockerException, OSError) as error:
        raise HostGone(
            f"{what}: the Docker engine went away ({type(error).__name__}); "
            "start it again, then run 'maillab sweep'"
        ) from error
