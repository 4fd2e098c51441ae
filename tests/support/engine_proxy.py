"""A socket in front of the real engine that can stop answering or go away."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from maillab.engine import client


class EngineProxy:
    """Forwards every connection to the engine, byte by byte, until stopped."""

    def __init__(self, path: Path, engine: str) -> None:
        self.address = f"unix://{path}"
        self._engine = engine
        self._speaks = threading.Event()
        self._speaks.set()
        self._gone = False
        self._path = path
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen(128)
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._begin(self._accept)

    def fall_silent(self) -> None:
        """Accept connections and forward no more data, on old connections either."""
        self._speaks.clear()

    def speak_again(self) -> None:
        """Forward the data held back."""
        self._speaks.set()

    def go_away(self) -> None:
        """Cut every connection and refuse new ones."""
        self._gone = True
        self._path.unlink(missing_ok=True)
        self._speaks.set()
        for end in (self._listening, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """Stop the proxy."""
        self.go_away()
        for thread in self._threads:
            thread.join()
        for end in (self._listening, *self._ends):
            end.close()

    def _begin(self, work: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self._listening.accept()
                engine = socket.socket(socket.AF_UNIX)
                self._ends += [caller, engine]
                engine.connect(self._engine)
                if self._gone:
                    return
                self._begin(self._pass_on, caller, engine)
                self._begin(self._pass_on, engine, caller)

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._speaks.wait()
                if self._gone:
                    return
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def in_front_of_the_engine() -> Iterator[EngineProxy]:
    """Run a proxy for the duration of a block; skip unless the engine has a Unix socket."""
    engine = client.address()
    if not engine.startswith("unix://"):
        pytest.skip("the engine is not at a Unix socket")
    # A short path: the kernel limits a socket's name.
    with tempfile.TemporaryDirectory(prefix="ml-") as folder:
        proxy = EngineProxy(Path(folder) / "docker.sock", engine.removeprefix("unix://"))
        try:
            yield proxy
        finally:
            proxy.stop()
