"""A slow disk: all queues of the host share a block device that writes few blocks a second."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from maillab.engine.channel import Channel
from maillab.errors import BadInput
from maillab.faults.process.postfix import mail_host
from maillab.faults.registry import fault
from maillab.hosts.disk import Disk
from maillab.hosts.host import Host
from maillab.scenario.state import Witness

# The folder of the queues of all instances.
SPOOL = "/var/spool"
_WRITES_PER_S_MAX = 1_000_000


@fault(
    proof="test_disk.py::test_symptom_mail_waits_in_incoming_while_the_disk_is_busy",
    host="receiver",
    example={"writes_per_s": "100000"},
)
@dataclass(frozen=True)
class SlowDisk:
    """The host's queues lie on a block device that makes ``writes_per_s`` writes a second.

    Everything in /var/spool moves to that device for the block, and back at its end. For both
    moves the running instances of Postfix are stopped, as by "postfix stop": a delivery that is
    under way may happen again. The device has a file system (ext4, without a journal) that
    writes each change of a directory at once ("dirsync" in mount(8)), as BSD's does. So qmgr(8)
    waits for the disk, too; a journal gathers such changes, and then mainly cleanup(8) waits.
    The queue does not survive HostCrashed. The witness counts, in the kernel's statistics of
    the device, the writes that waited for their turn.
    """

    writes_per_s: int

    def __post_init__(self) -> None:
        if not 1 <= self.writes_per_s <= _WRITES_PER_S_MAX:
            raise BadInput(f"{self}: writes_per_s must be 1 to {_WRITES_PER_S_MAX}")

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Keep the queues on the slow disk for the block."""
        mail = mail_host(host, self)
        witness = Witness(repr(self), host.name, "writes that waited for the disk")
        stay = mail.channel.call("stay_begin", path=SPOOL)["stay"]
        try:
            with self._disk(mail.name, mail.channel, mail.agent):
                mail.channel.call("stay_moved", stay=stay)
                before = _statistics(mail.channel)
                try:
                    yield witness
                finally:
                    witness.count = self._waited(before, _statistics(mail.channel))
                    mail.channel.call("stay_leave", stay=stay)
        finally:
            mail.channel.call("stay_end", stay=stay)

    @contextlib.contextmanager
    def _disk(self, name: str, mail: Channel, agent: Channel) -> Iterator[None]:
        disk = Disk(name, mail, agent, SPOOL, writes_per_s=self.writes_per_s, returns=True)
        try:
            yield
        finally:
            disk.remove()

    def _waited(self, before: tuple[int, int], after: tuple[int, int]) -> int:
        """Return how many writes waited: as many as fit into the time that all of them took."""
        writes, took_ms = (new - old for new, old in zip(after, before, strict=True))
        return min(writes, took_ms * self.writes_per_s // 1000)


def _statistics(mail: Channel) -> tuple[int, int]:
    """Return the writes to the device of the queues, and the milliseconds that they took.

    The kernel counts them (Documentation/block/stat.rst). Return zeros for no device.
    """
    mounts = mail.call("read", path="/proc/self/mountinfo")["content"].splitlines()
    found = [line.split()[2] for line in mounts if line.split()[4] == SPOOL]
    counts = mail.call("read", path=f"/sys/dev/block/{found[-1]}/stat")["content"] if found else ""
    numbers = [int(word) for word in (counts or "").split()]
    return (numbers[4], numbers[7]) if numbers else (0, 0)
