"""The one Channel into a container: a standing ``docker exec`` that answers requests.

The other end is ``images/inside/channel.py``. A request costs about a
millisecond, where a ``docker exec`` of its own costs fifty.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import struct
import threading
from concurrent.futures import Future
from typing import Any

from maillab.engine import operations
from maillab.engine.client import answers, attend, connect, engine_errors
from maillab.engine.starts import Starts
from maillab.errors import EngineGone, HostGone, LabError, MaillabError

# Read by libfaketime: commands of these names see the real time.
_TIMELESS = "FAKETIME_SKIP_CMDS"
# How much longer than the operation's own time limit an answer may take.
_GRACE_S = 30.0
_STDERR = 2
LATER = "--"
PROGRAM = ("python3", "/opt/maillab/channel.py")


class Channel:
    """A channel into one container; it opens on first use, and again after it has died.

    ``modules`` are the programs at the other end; those after LATER load on demand.
    ``starts`` are those of the lab: the channel makes them before it passes on any request
    that is not a setting.
    """

    def __init__(
        self,
        container: str,
        name: str,
        modules: tuple[str, ...] = (),
        starts: Starts | None = None,
    ) -> None:
        self._container = container
        self.name = name
        self.modules = modules
        self.starts = starts or Starts()
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._stream: _Stream | None = None
        self._opened = False

    @property
    def container(self) -> str:
        """The container's id, for what the engine does with it; makes the starts that are due."""
        self.starts.make()
        return self._container

    def call(
        self, op: str, *, timeout_s: float = 30.0, bounded: bool = False, **arguments: Any
    ) -> dict[str, Any]:
        """Run one operation in the container and return its answer.

        A ``bounded`` operation gets the time limit as an argument and keeps it itself.
        Raise HostGone if the container or the engine went away, and LabError with the
        program's words if the operation failed.
        """
        if bounded:
            arguments["timeout_s"] = timeout_s
        return self.begin(op, **arguments).result(timeout_s)

    def begin(self, op: str, **arguments: Any) -> Answer:
        """Start the waiting servers if the request is not a setting, then send it.

        Do not wait for the answer. Raise LabError if a server does not start.
        """
        if self.starts.pending and not operations.is_setting(self._programs, op):
            self.starts.make()
        number = next(self._numbers)
        request = json.dumps({"id": number, "op": op, **arguments}).encode() + b"\n"
        return Answer(self.name, op, self.open().send(number, request))

    def restart_later(self, verb: str) -> None:
        """Restart the server before the next request that is not a setting."""
        self.starts.need([self], "restart", verb)

    @property
    def _programs(self) -> list[str]:
        return [name for name in self.modules if name != LATER]

    def open(self) -> _Stream:
        """Open the channel unless it is open."""
        with self._lock:
            if self._stream is None or self._stream.dead:
                if self._stream is not None:
                    self._stream.close()
                modules = self.modules
                if self._opened:
                    # Load all: the channel that died may have left a fault in any program.
                    modules = tuple(self._programs)
                self._stream = _Stream(self._connect(modules), self.name)
                self._opened = True
            return self._stream

    def _connect(self, modules: tuple[str, ...]) -> Any:
        """Start the program in the container, and return the socket of its streams."""
        api = connect().api
        with engine_errors(f"opening a channel into {self.name}"):
            # The program itself keeps real time, whenever it is started (machine.warp).
            started = api.exec_create(
                self._container,
                [*PROGRAM, *modules],
                stdin=True,
                environment={_TIMELESS: "python3"},
            )
            return api.exec_start(started["Id"], socket=True)

    def open_early(self) -> None:
        """Open the channel before its first use; that use reports any error."""
        with contextlib.suppress(MaillabError):
            self.open()

    @property
    def used(self) -> bool:
        """Return True if the channel was ever opened."""
        return self._stream is not None

    def close(self) -> None:
        """Close the channel, which ends the program in the container; safe to call twice."""
        with self._lock:
            if self._stream is not None:
                self._stream.close()
                self._stream = None


class Answer:
    """An answer that is still to come."""

    def __init__(self, name: str, op: str, future: Future[dict[str, Any]]) -> None:
        self._name = name
        self._op = op
        self._future = future

    def result(self, timeout_s: float = 30.0) -> dict[str, Any]:
        """Wait for the answer; raises as ``Channel.call`` does."""
        try:
            answer = attend(self._future, timeout_s + _GRACE_S)
        except TimeoutError:
            raise HostGone(
                f"{self._name}: no answer to {self._op!r} within {timeout_s + _GRACE_S:.0f} s; "
                "is the engine overloaded or the container paused?"
            ) from None
        if "error" in answer:
            raise LabError(f"{self._name}: {self._op}: {answer['error']}")
        return dict(answer["ok"])


class _Stream:
    """The streams of one program and the thread that reads from them."""

    def __init__(self, wrapped: Any, name: str) -> None:
        self._name = name
        self._answers: dict[int, Future[dict[str, Any]]] = {}
        self._stderr = b""
        self._sending = threading.Lock()
        self.dead = False
        # The SDK wraps the socket for reading only; we also need to write.
        self._wrapped = wrapped
        self._response: Any = wrapped._response  # noqa: SLF001  # kept there by the SDK alone
        self._socket: socket.socket = getattr(wrapped, "_sock", wrapped)
        self._socket.settimeout(None)
        threading.Thread(target=self._read, daemon=True, name=f"channel {name}").start()

    def send(self, number: int, request: bytes) -> Future[dict[str, Any]]:
        future: Future[dict[str, Any]] = Future()
        self._answers[number] = future
        try:
            with self._sending:
                self._socket.sendall(request)
        except OSError:
            self._fail()
        return future

    def close(self) -> None:
        self.dead = True
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return
        finally:
            # With TLS the HTTP response also holds the socket.
            self._response.close()
            self._wrapped.close()
            self._socket.close()

    def _read(self) -> None:
        pending: list[bytes] = []
        try:
            while header := self._exactly(8):
                kind, length = struct.unpack(">BxxxL", header)
                payload = self._exactly(length)
                if kind == _STDERR:
                    self._stderr = (self._stderr + payload)[-2000:]
                    continue
                *ends, rest = payload.split(b"\n")
                for end in ends:
                    self._take(b"".join([*pending, end]))
                    pending = []
                pending.append(rest)
        except OSError:
            # Closed by us, or lost: _fail() reports it to pending answers.
            pass
        finally:
            self._fail()

    def _take(self, line: bytes) -> None:
        answer = json.loads(line)
        future = self._answers.pop(answer["id"], None)
        if future is not None:
            future.set_result(answer)

    def _exactly(self, count: int) -> bytes:
        chunks = []
        while count:
            chunk = self._socket.recv(min(count, 1 << 20))
            if not chunk:
                return b""
            chunks.append(chunk)
            count -= len(chunk)
        return b"".join(chunks)

    def _fail(self) -> None:
        self.dead = True
        if not self._answers:
            return
        words = self._stderr.decode(errors="replace").strip().splitlines()
        error = HostGone(
            f"{self._name}: the container went away" + (f" ({words[-1]})" if words else "")
        )
        if not answers():
            error = EngineGone(
                f"{self._name}: the Docker engine went away; "
                "start it again, then run 'maillab sweep'"
            )
        for number in list(self._answers):
            future = self._answers.pop(number, None)
            if future is not None and not future.done():
                future.set_exception(error)
