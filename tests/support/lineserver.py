"""A server on this machine's loopback that reads and writes lines, for tests of clients."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from io import BufferedRWPair
from threading import Thread

HERE = "127.0.0.1"
BOUND_S = 20.0


class Session:
    """A session with a client; the lines that it reads are added to ``heard``."""

    def __init__(self, stream: BufferedRWPair, heard: list[str]) -> None:
        self._stream = stream
        self._heard = heard

    def read(self) -> str:
        """Return the next line without its end; "" once the client has closed."""
        line = self._stream.readline().decode(errors="replace").strip()
        if line:
            self._heard.append(line)
        return line

    def write(self, text: str) -> None:
        """Write a line, or several."""
        self._stream.write(text.encode("latin-1") + b"\r\n")
        self._stream.flush()


@contextlib.contextmanager
def line_server(talk: Callable[[Session], None]) -> Iterator[tuple[int, list[str]]]:
    """Yield the port of a server, and the lines that it has read; ``talk`` is its one session."""
    heard: list[str] = []
    with socket.create_server((HERE, 0)) as listener:
        listener.settimeout(BOUND_S)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rwb") as stream:
                talk(Session(stream, heard))

        server = Thread(target=serve)
        server.start()
        yield listener.getsockname()[1], heard
        server.join(BOUND_S)
