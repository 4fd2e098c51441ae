"""Starts clamd(8) on a port that listens already, as systemd would (sd_listen_fds(3)).

clamd takes a moment to read its signatures; who connects meanwhile waits for it
instead of being refused.
"""

import os
import socket

PORT = 3310
# The first descriptor that sd_listen_fds(3) hands over.
FIRST = 3

if __name__ == "__main__":
    server = socket.create_server(("", PORT))
    os.dup2(server.fileno(), FIRST)
    os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
    argv = ["clamd", "--foreground", "--config-file", "/opt/maillab/clamd.conf"]
    os.execvp(argv[0], argv)  # noqa: S606  # no shell is wanted
