"""The syslog socket of a host whose server logs to syslog(3) only: PID 1 reads it."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Iterator

from syslogline import as_logged

SOCKET = Path("/dev/log")
LINE_BYTES_MAX = 65536


def listen() -> socket.socket:
    """Create the socket; every program of the host may write to it."""
    SOCKET.unlink(missing_ok=True)
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    log.bind(str(SOCKET))
    SOCKET.chmod(0o666)
    return log


def lines(log: socket.socket) -> Iterator[bytes]:
    """Yield each line that arrives, as it is logged, without end."""
    host = socket.gethostname().partition(".")[0]
    while True:
        yield as_logged(log.recv(LINE_BYTES_MAX), host)
