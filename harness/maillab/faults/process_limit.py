"""A machine that can start no more processes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from maillab.engine import container
from maillab.errors import BadInput
from maillab.faults._postfix import mail_host
from maillab.host import Host
from maillab.record import Witness

# By container, all limits in force: the least of them counts.
_limits: dict[str, list[int]] = {}


@dataclass(frozen=True)
class ProcessLimit:
    """``spare`` processes more than now can run on the host, and no other.

    A limit on the whole host (pids cgroup), since RLIMIT_NPROC does not bind
    root, who forks all daemons; Postfix's own is default_process_limit. Commands
    on the host count, too. The witness counts the forks that the kernel refused.
    """

    spare: int = 0

    def __post_init__(self) -> None:
        if self.spare < 0:
            raise BadInput(f"{self}: fewer processes than run cannot be asked for; take 0 or more")

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Limit the host as long as the block."""
        channel = mail_host(host, self).channel
        witness = Witness(repr(self), host.name, "forks that the kernel refused")
        before = channel.call("process_count")
        limits = _limits.setdefault(channel.container, [])
        most = before["current"] + self.spare
        limits.append(most)
        try:
            container.limit_processes(channel.container, min(limits))
            yield witness
        finally:
            limits.remove(most)
            container.limit_processes(channel.container, min(limits, default=None))
            witness.count = channel.call("process_count")["refused"] - before["refused"]
