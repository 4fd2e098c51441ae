"""PID 1 of a host with Sendmail: waits for its agent, starts Sendmail, prints its log.

Sendmail logs to syslog(3) only. What arrives there becomes the container's log,
a line each, in the form in which Postfix writes its own.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import List

SOCKET = Path("/dev/log")
RESOLVER = Path("/etc/resolv.conf")
# As Debian starts it, but for "-q10m": the queue is looked through when a scenario
# says so or the clock has moved, and at no other time.
DAEMON: List[str] = ["/usr/sbin/sendmail-mta", "-L", "sm-mta", "-bd"]
_LINE_BYTES_MAX = 65536


def logged(datagram: bytes, host: str) -> bytes:
    """One line for the log: without the priority, with the host's name (RFC 3164)."""
    text = re.sub(rb"^<\d+>", b"", datagram).replace(b"\n", b" ").rstrip(b"\0 ")
    found = re.fullmatch(rb"([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d) (.*)", text, re.DOTALL)
    stamp, rest = found.groups() if found else (time.strftime("%b %e %H:%M:%S").encode(), text)
    return stamp + b" " + host.encode() + b" " + rest + b"\n"


def main() -> None:
    """Serve for ever."""
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    log.bind(str(SOCKET))
    SOCKET.chmod(0o666)
    while not RESOLVER.read_text().startswith("# maillab\n"):
        time.sleep(0.01)
    subprocess.run(DAEMON, check=True)
    # The kernel reaps for us.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    host = socket.gethostname().partition(".")[0]
    while True:
        line = logged(log.recv(_LINE_BYTES_MAX), host)
        os.write(sys.stdout.fileno(), line)


if __name__ == "__main__":
    main()
