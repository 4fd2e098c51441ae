"""A machine that cannot start more processes."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from maillab.engine import container
from maillab.engine.channel import Channel
from maillab.errors import BadInput
from maillab.faults.process.postfix import mail_host
from maillab.faults.registry import fault
from maillab.hosts.host import Host
from maillab.scenario.state import Witness

# For each container, all limits in force (the lowest applies), and the limit without faults.
_limits: dict[str, list[int]] = {}
_usual: dict[str, int | None] = {}
# The folder of a container's own pids cgroup, in versions 1 and 2 of cgroups(7).
_FOLDERS = ("/sys/fs/cgroup/pids", "/sys/fs/cgroup")


def _refused(channel: Channel) -> int:
    """Return the number of forks that the kernel has refused on the host (pids cgroup)."""
    for folder in _FOLDERS:
        events = channel.call("read", path=f"{folder}/pids.events")["content"]
        if found := re.search(r"max (\d+)", events or ""):
            return int(found[1])
    return 0


@fault(
    proof="test_process.py::test_symptom_no_daemon_starts_when_the_host_is_out_of[processes]",
    host="receiver",
    example={"spare": "100"},
)
@dataclass(frozen=True)
class ProcessLimit:
    """A limit on the host's processes: those that run now, and ``spare`` more.

    The limit is for the whole host (pids cgroup), since RLIMIT_NPROC does not bind root,
    which forks all daemons. Postfix's own limit is default_process_limit. Commands on the
    host count, too. The witness counts the forks that the kernel refused.
    """

    spare: int = 0

    def __post_init__(self) -> None:
        if self.spare < 0:
            raise BadInput(f"{self}: spare must be >= 0")

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Limit the host for the block."""
        channel = mail_host(host, self).channel
        witness = Witness(repr(self), host.name, "forks that the kernel refused")
        before, refused = channel.call("process_count"), _refused(channel)
        limits = _limits.setdefault(channel.container, [])
        if not limits:
            _usual[channel.container] = container.process_limit(channel.container)
        most = before["current"] + self.spare
        limits.append(most)
        try:
            container.limit_processes(channel.container, min(limits))
            yield witness
        finally:
            limits.remove(most)
            most_now = min(limits, default=_usual[channel.container])
            container.limit_processes(channel.container, most_now)
            witness.count = _refused(channel) - refused
