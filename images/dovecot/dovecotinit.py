"""PID 1 of a mailbox server: waits for its agent, starts Dovecot, prints and keeps its log."""

from __future__ import annotations

import os
import shutil
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
# The topology's own preparations for this host, such as users and a certificate.
SETUP = Path("/etc/dovecot/host-setup.sh")
MAILBOXES = Path("/var/vmail")
MASTER_PID = Path("/run/dovecot/master.pid")
WORDS = "/run/maillab/dovecot.start"
# Dovecot goes into the background once it listens, and would keep a pipe of ours open there.
_SCRIPT = f"""\
mkdir -p /run/maillab
rm -f {MASTER_PID}
dovecot >{WORDS} 2>&1 && exit
status=$?
cat {WORDS} >&2
exit $status
"""
START: List[str] = ["sh", "-c", _SCRIPT]


def failure(done: subprocess.CompletedProcess[bytes], what: str) -> bytes:
    """Return the line that a command reported last, as Dovecot would log it."""
    words = done.stderr.strip().splitlines()[-1:] or [b"status %d" % done.returncode]
    return words[0] if b"Fatal: " in words[0] else what.encode() + b": Fatal: " + words[0]


def main() -> None:
    """Start Dovecot, and print its log until the container stops."""
    log = syslogsocket.listen()
    while not RESOLVER.read_text().startswith("# maillab\n"):
        time.sleep(0.01)
    shutil.chown(MAILBOXES, "vmail", "vmail")
    MAILBOXES.chmod(0o700)
    steps = [(f"setup: {SETUP}", ["sh", "-eu", str(SETUP)])] if SETUP.exists() else []
    with LOG.open("ab", buffering=0) as file:
        for what, argv in [*steps, ("master", START)]:
            done = subprocess.run(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # noqa: PLW1510  # reported below
            if done.returncode:
                host = os.uname().nodename.partition(".")[0]
                line = as_logged(b"dovecot: " + failure(done, what), host)
                os.write(sys.stdout.fileno(), line)
                sys.exit(1)
        # The kernel reaps children.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        for line in syslogsocket.lines(log):
            file.write(line)
            os.write(sys.stdout.fileno(), line)


if __name__ == "__main__":
    main()
