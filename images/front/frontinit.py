"""PID 1 of a front: waits for its agent, starts HAProxy, prints and keeps its log."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import List

import syslogsocket
from syslogline import as_logged

LOG = Path("/var/log/mail.log")
RESOLVER = Path("/etc/resolv.conf")
CONFIGURATION = "/etc/haproxy/haproxy.cfg"
VERSION = Path("/opt/maillab/version")
# HAProxy goes into the background once it listens.
START: List[str] = ["haproxy", "-D", "-f", CONFIGURATION]
CHECK: List[str] = ["haproxy", "-c", "-f", CONFIGURATION]


def failure(words: str, status: int) -> str:
    """Return the first error that HAProxy printed (``[ALERT]``), without its process id."""
    found = re.search(r"(?m)^\[ALERT\]\s+\(\d+\) : (.*)$", words)
    return found[1] if found else words.strip().rpartition("\n")[2] or f"status {status}"


def main() -> None:
    """Start HAProxy, and print its log until the container stops."""
    log = syslogsocket.listen()
    while not RESOLVER.read_text().startswith("# maillab\n"):
        time.sleep(0.01)
    done = subprocess.run(START, capture_output=True, text=True, check=False)
    if done.returncode:
        text = f"haproxy: does not start: {failure(done.stderr, done.returncode)}"
    else:
        version = VERSION.read_text().strip()
        text = f"maillab[1]: daemon started -- version {version}, configuration {CONFIGURATION}"
    first = as_logged(text.encode(), os.uname().nodename.partition(".")[0])
    # The kernel reaps children.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with LOG.open("ab", buffering=0) as file:
        for line in itertools.chain([first], () if done.returncode else syslogsocket.lines(log)):
            file.write(line)
            os.write(sys.stdout.fileno(), line)
    sys.exit(1)


if __name__ == "__main__":
    main()
