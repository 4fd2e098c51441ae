"""Starts clamd(8) on a port that already listens, as systemd would (sd_listen_fds(3)).

clamd(8) takes a moment to read its signatures. Clients that connect meanwhile wait for it
and are not refused.
"""

import os
import socket
from pathlib import Path

PORT = 3310
# Reports that the container's start is complete, see baseline.py.
BOOTED = Path("/run/maillab/booted")
# The first descriptor that sd_listen_fds(3) passes.
FIRST = 3

if __name__ == "__main__":
    BOOTED.parent.mkdir(parents=True, exist_ok=True)
    BOOTED.touch()
    server = socket.create_server(("", PORT))
    os.dup2(server.fileno(), FIRST)
    os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
    argv = ["clamd", "--foreground", "--config-file", "/opt/maillab/clamd.conf"]
    os.execvp(argv[0], argv)  # noqa: S606  # no shell is wanted
