"""A daemon dies, or all of Postfix at once."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Iterator
from dataclasses import dataclass

from maillab.errors import BadInput, TimedOut
from maillab.faults import counters
from maillab.faults.process.postfix import check_daemon, mail_host, processes
from maillab.faults.registry import fault
from maillab.hosts.host import Host
from maillab.hosts.postfix import PostfixHost
from maillab.scenario.state import Witness

# A signal informs master(8) at once.
_LOGGED_WITHIN_S = 10.0


def _logged(host: PostfixHost, since: int, daemon: str, wanted: int) -> int:
    """Wait until master(8) has logged ``wanted`` deaths, and return the number logged."""
    pattern = rf"process \S+/{re.escape(daemon)} pid \d+ killed by signal {signal.SIGKILL:d}"

    def found() -> int:
        return sum(
            event.host == host.name and bool(re.search(pattern, event.text))
            for event in host.scenario.stream.since(since)
        )

    with contextlib.suppress(TimedOut):
        host.scenario.stream.wait(
            lambda: found() >= wanted, within_s=_LOGGED_WITHIN_S, what="master(8)'s report"
        )
    return found()


@fault(
    proof="test_process.py::test_symptom_a_session_breaks_when_its_smtpd_is_killed",
    host="receiver",
    example={"daemon": "qmgr"},
    formerly="Killed",
)
@dataclass(frozen=True)
class DaemonKilled:
    """SIGKILL for a daemon, such as "smtpd", at once or as soon as it starts.

    ``times`` is the number of its processes to kill, one after another. With ``within_s``,
    each dies at a random time within that many seconds after it was found; ``seed`` repeats
    the times. master(8) waits service_throttle_time before it restarts a daemon that died
    before it served a client. "postfix" means master(8) and all daemons; a killed master(8)
    stays down until the scenario starts Postfix. The witness counts the processes that the
    kernel reported dead after the signal (pidfd_open(2)) and that master(8) logged. For
    master(8) itself, it checks that the kernel no longer has the process.
    """

    daemon: str
    times: int = 1
    within_s: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_daemon(self.daemon, "postfix")
        if self.times < 1 or not 0 <= self.within_s < float("inf"):
            raise BadInput(f"{self}: times must be >= 1 and within_s must be >= 0")

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Kill processes of the daemon that run, or start, during the block."""
        server = mail_host(host, self)
        channel = server.channel
        # This starts a postlogd(8), which logs what master(8) reports of the dead processes.
        server.catch_up()
        since = server.scenario.stream.position
        masters = set(processes(channel, "master"))
        source = "processes that the kernel reported dead"
        witness = Witness(repr(self), host.name, source)
        signaller = channel.call(
            "signals_start",
            daemon=self.daemon, times=self.times, within_s=self.within_s, seed=self.seed,
        )["signaller"]  # fmt: skip
        try:
            yield witness
        finally:
            left = set(processes(channel, "master"))
            done = channel.call("signals_stop", signaller=signaller)
            killed = len(done["confirmed"])
            # No program logs the death of master(8), but the kernel no longer has the process.
            if self.daemon in ("master", "postfix"):
                seen = killed if masters and not masters & left else 0
            else:
                seen = _logged(server, since, self.daemon, killed)
            if done["waited_s"]:
                waits = ", ".join(f"{wait_s * 1000:.1f}" for wait_s in done["waited_s"])
                witness.source = f"{source}, seed {self.seed}: {waits} ms after each was found"
            counters.agree(witness, killed, seen)
