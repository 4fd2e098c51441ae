"""The one Channel into a container: a standing ``docker exec`` that answers requests.

The other end is ``images/agent/channel.py``. A request costs about a
millisecond, where a ``docker exec`` of its own costs fifty.
"""

from __future__ import annotations

import itertools
import json
import socket
import struct
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

from maillab.engine.client import connect, engine_errors
from maillab.errors import HostGone, LabError

# How much longer than the operation's own bound an answer may be under way.
# Read by libfaketime: commands of these names see the real time.
_TIMELESS = "FAKETIME_SKIP_CMDS"
_GRACE_S = 30.0
_STDERR = 2
LATER = "--"


class Channel:
    """Requests to one container; opened when first used, opened anew when it died.

    ``modules`` are those the other side carries; it loads what follows LATER when needed.
    """

    def __init__(self, container: str, name: str, modules: tuple[str, ...] = ()) -> None:
        self.container = container
        self._name = name
        self._modules = modules
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._stream: _Stream | None = None
        self._opened = False

    def call(
        self, op: str, *, timeout_s: float = 30.0, bounded: bool = False, **arguments: Any
    ) -> dict[str, Any]:
        """Have the container carry out one operation and return its answer.

        A ``bounded`` operation is told of the bound and keeps it itself.
        Raises HostGone when container or engine went away, LabError with the
        other side's words when the operation failed.
        """
        if bounded:
            arguments["timeout_s"] = timeout_s
        return self.begin(op, **arguments).result(timeout_s)

    def begin(self, op: str, **arguments: Any) -> Answer:
        """Send a request without waiting for its answer."""
        number = next(self._numbers)
        request = json.dumps({"id": number, "op": op, **arguments}).encode() + b"\n"
        return Answer(self._name, op, self.open().send(number, request))

    def open(self) -> _Stream:
        """Open the channel, unless it is."""
        with self._lock:
            if self._stream is None or self._stream.dead:
                modules = self._modules
                if self._opened:
                    # The one that died may have left something in any of them to be healed.
                    modules = tuple(name for name in modules if name != LATER)
                self._stream = _Stream(self.container, self._name, modules)
                self._opened = True
            return self._stream

    @property
    def used(self) -> bool:
        """Whether anything was ever asked of the other side."""
        return self._stream is not None

    def close(self) -> None:
        """End the other side; safe to call twice."""
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
            answer = self._future.result(timeout_s + _GRACE_S)
        except FutureTimeoutError:
            raise HostGone(
                f"{self._name}: no answer to {self._op!r} within {timeout_s + _GRACE_S:.0f} s; "
                "is the engine overloaded or the container paused?"
            ) from None
        if "error" in answer:
            raise LabError(f"{self._name}: {self._op}: {answer['error']}")
        return dict(answer["ok"])


class _Stream:
    """One ``docker exec`` and the thread that reads from it."""

    def __init__(self, container: str, name: str, modules: tuple[str, ...]) -> None:
        self._name = name
        self._answers: dict[int, Future[dict[str, Any]]] = {}
        self._stderr = b""
        self._sending = threading.Lock()
        self.dead = False
        api = connect().api
        with engine_errors(f"opening a channel into {name}"):
            command = ["python3", "/opt/maillab/channel.py", *modules]
            # The program itself stays in our time, whenever it is started (machine.warp).
            started = api.exec_create(
                container, command, stdin=True, environment={_TIMELESS: "python3"}
            )
            wrapped: Any = api.exec_start(started["Id"], socket=True)
        # The SDK wraps the socket for reading; both ways need what is below it.
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
            # With TLS the answer to the request that opened it holds the socket, too.
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
            # Closed by us, or lost: whoever waits for an answer is told below.
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
        words = self._stderr.decode(errors="replace").strip().splitlines()
        for number in list(self._answers):
            future = self._answers.pop(number, None)
            if future is not None and not future.done():
                future.set_exception(
                    HostGone(
                        f"{self._name}: the container or the engine went away"
                        + (f" ({words[-1]})" if words else "")
                    )
                )
