"""PID 1 of a host with Sendmail: waits for its agent, starts Sendmail, prints its log."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import List

import syslogsocket

RESOLVER = Path("/etc/resolv.conf")
# As Debian starts it, but without "-q10m": Sendmail runs the queue only when a scenario asks
# for it or the clock has moved.
DAEMON: List[str] = ["/usr/sbin/sendmail-mta", "-L", "sm-mta", "-bd"]


def main() -> None:
    """Start Sendmail, and print its log until the container stops."""
    log = syslogsocket.listen()
    while not RESOLVER.read_text().startswith("# maillab\n"):
        time.sleep(0.01)
    subprocess.run(DAEMON, check=True)
    # The kernel reaps children.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in syslogsocket.lines(log):
        os.write(sys.stdout.fileno(), line)


if __name__ == "__main__":
    main()
