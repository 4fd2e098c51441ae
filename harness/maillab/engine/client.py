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
from docker.errors import APIError, DockerException

from maillab.errors import EngineTooOld, HostGone, NoDisk, NoEngine, NoRights

# 20.10; older engines were never tried.
API_VERSION_MIN = (1, 41)

HOW_TO_GET_ONE = (
    "install Docker Engine (https://docs.docker.com/engine/install/), or Debian's docker.io, "
    "start it, or set DOCKER_HOST to one that runs"
)


def connect() -> docker.DockerClient:
    """A client of the engine that DOCKER_HOST or the usual sockets name.

    Raises NoEngine, NoRights or EngineTooOld.
    """
    return _connect(os.getpid())


@functools.cache
def _connect(_pid: int) -> docker.DockerClient:
    socket = _socket()
    try:
        client = docker.DockerClient.from_env(
            environment={**os.environ, "DOCKER_HOST": socket}, max_pool_size=64, timeout=120
        )
    except (DockerException, ValueError) as error:
        if _errno(error) == errno.EACCES:
            raise NoRights(
                f"the Docker engine at {socket} does not let this user in: add the user to the "
                "group 'docker' and log in again, or run as root"
            ) from error
        raise NoEngine(f"no Docker engine answers at {socket}: {HOW_TO_GET_ONE}") from error
    version = tuple(int(part) for part in client.api.api_version.split("."))
    if version < API_VERSION_MIN:
        raise EngineTooOld(
            f"the Docker engine at {socket} speaks API {client.api.api_version}; "
            "maillab needs 1.41 (Docker 20.10): upgrade the engine"
        )
    return client


def _socket() -> str:
    if os.environ.get("DOCKER_HOST"):
        return os.environ["DOCKER_HOST"]
    usual = [
        Path("/var/run/docker.sock"),
        Path(os.environ.get("XDG_RUNTIME_DIR", "/run/user/0")) / "docker.sock",
        Path.home() / ".docker/run/docker.sock",
    ]
    return f"unix://{next((path for path in usual if path.exists()), usual[0])}"


def _errno(error: BaseException | None) -> int | None:
    """The operating system's reason below what the libraries wrapped around it."""
    while error is not None:
        inner: object = error
        while isinstance(inner, BaseException):
            if isinstance(inner, OSError) and inner.errno:
                return inner.errno
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
    except (requests.exceptions.RequestException, DockerException, OSError) as error:
        raise HostGone(
            f"{what}: the Docker engine went away ({type(error).__name__}); "
            "start it again, then run 'maillab sweep'"
        ) from error
