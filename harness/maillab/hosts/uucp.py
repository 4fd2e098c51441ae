"""UUCP between two hosts of a lab: calls, and the jobs that wait for them (Taylor UUCP).

A host's node name is its role. The journey follows the mail itself, also across a call.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from maillab.errors import CommandFailed
from maillab.hosts.host import Host
from maillab.hosts.postfix import PostfixHost

# Where a topology's /etc/uucp/config puts it ("logfile").
LOG = "/var/spool/uucp/Log"
# The user of the jobs that Postfix queues for a call.
USER = "uucp"
_CALL_WITHIN_S = 60.0
_JOB = re.compile(
    r"(?P<id>\S+) (?P<system>\S+) (?P<user>\S+) \S+ \S+ Executing (?P<command>.*)"
    r" \(sending (?P<size>\d+) bytes\)"
)


@dataclass(frozen=True)
class Call:
    """A finished call, as the caller's log reports it."""

    log: str

    @property
    def completed(self) -> bool:
        """Return True if both sides ended the call with all files sent."""
        return bool(re.search(r"\) Call complete \(", self.log))

    @property
    def sent(self) -> list[str]:
        """The commands sent, in order."""
        return re.findall(r"\) Sending (rmail .*|rsmtp.*?) \(D\.\S+\) \(\d+ bytes", self.log)

    @property
    def received(self) -> list[str]:
        """The commands received, in order."""
        return re.findall(r"\) Receiving (rmail .*|rsmtp.*?) \(\d+ bytes\)", self.log)

    @property
    def errors(self) -> list[str]:
        """UUCP's error messages."""
        return re.findall(r"(?m)\) ERROR: (.*)$", self.log)


@dataclass(frozen=True)
class Job:
    """A command that waits for a call (uustat(1) -a): its system, words and size."""

    system: str
    command: str
    size: int


def call(caller: PostfixHost, called: Host, *, force: bool = True) -> Call:
    """Call another host, as cron would; return when the caller has run all received jobs.

    Without ``force``, UUCP waits a while before it calls a host again that did not
    answer, as by default. Raise CommandFailed if no call was attempted.
    """
    before = caller.read(LOG) or ""
    # -r1: call; -D: stay in the foreground. uuxqt(8) follows in the same process.
    done = caller.run(
        *("/usr/lib/uucp/uucico", "-r1", "-D", "-S" if force else "-s", called.name),
        user=USER,
        timeout_s=_CALL_WITHIN_S,
        check=False,
    )
    log = (caller.read(LOG) or "").removeprefix(before)
    if done.status is None or not log:
        raise CommandFailed(f"{caller.name}: uucico: status {done.status}: {done.stderr.strip()}")
    return Call(log)


def jobs(host: PostfixHost) -> list[Job]:
    """Return the jobs that wait for a call on a host, oldest first."""
    found = [_JOB.fullmatch(line) for line in host.run("uustat", "-a").stdout.splitlines()]
    return [Job(job["system"], job["command"], int(job["size"])) for job in found if job]
