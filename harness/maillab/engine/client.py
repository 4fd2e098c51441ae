"""The Docker engine: its address, its client, and its errors."""

from __future__ import annotations

import contextlib
import errno
import functools
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import docker
import requests
from docker.context import ContextAPI
from docker.errors import APIError, DockerException

from maillab.errors import (
    EngineGone,
    EngineSilent,
    EngineTooOld,
    HostGone,
    NoDisk,
    NoEngine,
    NoRights,
)

# 20.10; older engines were never tried.
API_VERSION_MIN = (1, 41)
# A working engine answers any request sooner, even on a busy machine.
_ANSWER_WITHIN_S = 120
# After this long without an answer we ask whether the engine answers anything at all.
_LOOK_AFTER_S = 4.0
_LOOK_WITHIN_S = 4
_SILENT_MAX_S = 60.0

HOW_TO_GET_ONE = (
    "install Docker Engine (https://docs.docker.com/engine/install/), or Debian's docker.io, "
    "start it, or set DOCKER_HOST to one that runs"
)
_SSH = (
    "maillab does not support ssh:// itself; forward the engine's socket, "
    "'ssh -nNT -L /tmp/engine.sock:/var/run/docker.sock HOST &', "
    "and set DOCKER_HOST=unix:///tmp/engine.sock"
)


_Answer = TypeVar("_Answer")


class _Vigil:
    """A check whether the engine answers at all, made while a request takes long.

    A request may take its time. An engine that does not even answer a ping is silent:
    report that at once, and give up after a while.
    """

    def __init__(self) -> None:
        self.say: Callable[[str], None] = _to_stderr
        self._lock = threading.Lock()
        self._looked = 0.0
        self._silent_since: float | None = None

    @property
    def is_silent(self) -> bool:
        """Return True if the engine did not answer the last ping."""
        return self._silent_since is not None

    def look(self, since: float) -> None:
        """Ping the engine; raise NoEngine if it has been silent for too long.

        ``since`` is when the caller began to wait.
        """
        with self._lock:
            # Of several callers that wait, one asks for all.
            if self._looked <= max(since, time.monotonic() - _LOOK_AFTER_S):
                self._ask(since)
                self._looked = time.monotonic()
            silent_s = 0.0 if self._silent_since is None else self._looked - self._silent_since
        if silent_s > _SILENT_MAX_S:
            raise EngineSilent(
                f"the Docker engine at {address()} has not answered for {silent_s:.0f} s; "
                "restart it, then run 'maillab sweep'"
            )

    def _ask(self, since: float) -> None:
        if answers():
            if self._silent_since is not None:
                self.say(f"the Docker engine at {address()} answers again")
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = since
            self.say(
                f"the Docker engine at {address()} does not answer; "
                f"waiting for it up to {_SILENT_MAX_S:.0f} s"
            )


def _to_stderr(text: str) -> None:
    print(f"maillab: {text}", file=sys.stderr, flush=True)


VIGIL = _Vigil()


def answers() -> bool:
    """Return True if the engine answers a ping within seconds, on a new connection."""
    try:
        with contextlib.closing(_client(address(), "1.41", within_s=_LOOK_WITHIN_S)) as asking:
            return bool(asking.ping())
    except (DockerException, requests.exceptions.RequestException, ValueError, NoEngine):
        return False


def attend(future: Future[_Answer], within_s: float | None = None) -> _Answer:
    """Wait for an answer that depends on the engine; raise NoEngine if the engine is silent.

    Raise TimeoutError if the answer takes longer than ``within_s``.
    """
    began = time.monotonic()
    deadline = math.inf if within_s is None else began + within_s
    if VIGIL.is_silent and not future.done():
        VIGIL.look(began)
    while True:
        try:
            return future.result(min(_LOOK_AFTER_S, max(0.0, deadline - time.monotonic())))
        except TimeoutError:
            if future.done():
                return future.result()
            if time.monotonic() >= deadline:
                raise
        VIGIL.look(began)


def patiently(job: Callable[[], _Answer], within_s: float | None = None) -> _Answer:
    """Run a job that needs the engine; raise NoEngine if the engine falls silent.

    Raise TimeoutError if the job takes longer than ``within_s``. In both cases the job
    goes on in its own thread until its own time limit.
    """
    future: Future[_Answer] = Future()

    def run() -> None:
        try:
            future.set_result(job())
        except BaseException as error:  # noqa: BLE001  # raised again where it is waited for
            future.set_exception(error)

    threading.Thread(target=run, daemon=True, name="request to the engine").start()
    return attend(future, within_s)


class _Api(docker.APIClient):
    """The SDK's client, with requests that end if the engine stops answering."""

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        """Send a request and wait for the answer's head."""
        return patiently(functools.partial(super().send, request, **options))


class _Client(docker.DockerClient):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.api = _Api(*arguments, **options)


def connect() -> docker.DockerClient:
    """Return a client of the engine at ``address``.

    Raise NoEngine, NoRights or EngineTooOld.
    """
    return _connect(os.getpid())


@functools.cache
def _connect(_pid: int) -> docker.DockerClient:
    socket = address()
    if socket.startswith("ssh:"):
        raise NoEngine(f"the engine is at {socket}, but {_SSH}")
    try:
        with contextlib.closing(_client(socket, "1.41", _Client)) as asking:
            speaks = asking.api.version(api_version=False)["ApiVersion"]
        client = _client(socket, speaks, _Client)
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


def _client(
    socket: str,
    version: str,
    kind: type[docker.DockerClient] = docker.DockerClient,
    within_s: int = _ANSWER_WITHIN_S,
) -> docker.DockerClient:
    client: docker.DockerClient = kind.from_env(
        environment={**os.environ, "DOCKER_HOST": socket},
        version=version,
        max_pool_size=64,
        timeout=within_s,
    )
    # Otherwise REQUESTS_CA_BUNDLE would replace the authority that DOCKER_CERT_PATH names.
    client.api.trust_env = False
    return client


def address() -> str:
    """Return the engine's address: DOCKER_HOST, Docker's context, or the first usual socket.

    Raise NoEngine for a context that is not there or cannot be read.
    """
    if os.environ.get("DOCKER_HOST"):
        return os.environ["DOCKER_HOST"]
    advice = "see 'docker context ls', or set DOCKER_HOST"
    try:
        context = ContextAPI.get_context(os.environ.get("DOCKER_CONTEXT"))
    except Exception as error:  # the SDK has no class of its own for it
        raise NoEngine(f"Docker's current context cannot be read ({error}): {advice}") from error
    if context is None:
        raise NoEngine(f"Docker's current context does not exist: {advice}")
    if context.Name != "default":
        return str(context.Host)
    usual = [
        Path("/var/run/docker.sock"),
        Path(os.environ.get("XDG_RUNTIME_DIR", "/run/user/0")) / "docker.sock",
    ]
    # RuntimeError: a user without an account, and without HOME.
    with contextlib.suppress(RuntimeError):
        usual.append(Path.home() / ".docker/run/docker.sock")
    return f"unix://{next(filter(_exists, usual), usual[0])}"


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        # This user may not enter the folder.
        return False


def _cause(error: BaseException | None) -> OSError | None:
    """Return the operating system's error below the errors that libraries wrapped around it."""
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
    """Turn the libraries' exceptions into ours; ``what`` names the attempted action."""
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
        raise EngineGone(
            f"{what}: the Docker engine went away ({type(error).__name__}); "
            "start it again, then run 'maillab sweep'"
        ) from error
