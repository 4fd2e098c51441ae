"""UUCP between two hosts of a lab: calls, and what waits for them (Taylor UUCP).

A host's node name is its role. The mail itself is followed by the journey, over
the call, too; this is for what a scenario does and sees beside it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from maillab.errors import CommandFailed
from maillab.host import Host
from maillab.postfix import MailHost

# Where a topology's /etc/uucp/config puts it ("logfile").
LOG = "/var/spool/uucp/Log"
# What Postfix hands over the line's far end belongs to nobody else.
USER = "uucp"
_CALL_WITHIN_S = 60.0
_JOB = re.compile(
    r"(?P<id>\S+) (?P<system>\S+) (?P<user>\S+) \S+ \S+ Executing (?P<command>.*)"
    r" \(sending (?P<size>\d+) bytes\)"
)


@dataclass(frozen=True)
class Call:
    """A call that ended, told by the caller's log."""

    log: str

    @property
    def completed(self) -> bool:
        """Whether both sides said goodbye, all files sent."""
        return bool(re.search(r"\) Call complete \(", self.log))

    @property
    def sent(self) -> list[str]:
        """The commands handed over, in order."""
        return re.findall(r"\) Sending (rmail .*|rsmtp.*?) \(D\.\S+\) \(\d+ bytes", self.log)

    @property
    def received(self) -> list[str]:
        """The commands taken, in order."""
        return re.findall(r"\) Receiving (rmail .*|rsmtp.*?) \(\d+ bytes\)", self.log)

    @property
    def errors(self) -> list[str]:
        """What went wrong, in UUCP's words."""
        return re.findall(r"(?m)\) ERROR: (.*)$", self.log)


@dataclass(frozen=True)
class Job:
    """A command that waits for a call (uustat(1) -a): for which system, what, how much."""

    system: str
    command: str
    size: int


def call(caller: MailHost, called: Host, *, force: bool = True) -> Call:
    """Call another host, as cron would; returns when the caller has run all that it got.

    Without ``force`` a host that did not answer is left alone for a while, as
    UUCP does by default. Raises CommandFailed when nothing was even tried.
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


def jobs(host: MailHost) -> list[Job]:
    """What waits on a host to be called for, or to call; oldest first."""
    found = [_JOB.fullmatch(line) for line in host.run("uustat", "-a").stdout.splitlines()]
    return [Job(job["system"], job["command"], int(job["size"])) for job in found if job]
