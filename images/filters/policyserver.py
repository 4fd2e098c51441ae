"""Runs policyd-spf for each connection of Postfix, as spawn(8) does on the host itself."""

from __future__ import annotations

import os
import pwd
import socketserver
import subprocess

ADDRESS = ("127.0.0.1", 10031)
USER = "policyd-spf"
COMMAND = ["policyd-spf"]


class Connection(socketserver.BaseRequestHandler):
    """One connection of smtpd(8)."""

    def handle(self) -> None:
        """Let a policyd-spf answer until Postfix closes the connection."""
        subprocess.run(COMMAND, stdin=self.request, stdout=self.request, check=False)


class Server(socketserver.ThreadingTCPServer):
    """The port that Postfix asks."""

    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    with Server(ADDRESS, Connection) as server:
        entry = pwd.getpwnam(USER)
        os.initgroups(USER, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
        server.serve_forever()
