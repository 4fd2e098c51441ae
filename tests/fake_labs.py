"""Labs without an engine, for tests of what stands above the lab."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from maillab import ledger, plugin
from maillab.engine.channel import Channel
from maillab.engine.compose import Project
from maillab.errors import CommandFailed, LabError, MaillabError
from maillab.history import History
from maillab.host import Host
from maillab.record import Record, Withheld, Witness
from maillab.stream import Stream
from maillab.topology import Topology
from maillab.verdict import Expected, Verdict


@dataclass(frozen=True)
class Acting:
    """A fault that nothing shows but its witness."""

    times: int = 1

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Be seen so many times."""
        witness = Witness(repr(self), host.name, "times it acted")
        yield witness
        witness.count = self.times


class FakeLab:
    """The hosts of a topology, none of which is there; the record is a real one."""

    def __init__(self, site: Topology, version: str) -> None:
        self.topology = site
        self.version = version
        self.project = Project("maillab_fake_1", "198.18.0", site.path)
        self.stream = Stream()
        self.record = Record(self.stream, {})
        self.mail_hosts: list[Host] = []
        self.ends_badly = False
        self.captures = False
        for role in site.roles.values():
            channel = Channel("nowhere", role.name)
            setattr(self, role.name, Host(role, "198.18.0", channel, self.record))

    def expects(self, *, lost: int, because: str) -> None:
        """Declare a loss; since none happens, the mail is then not conserved."""
        self.record.expected.append(Expected(lost=lost, because=because))

    def break_down(self) -> None:
        """Fail as a host does on which a command fails."""
        raise CommandFailed("mail: postqueue -f: status 1: no such thing")

    def break_down_in_the_end(self) -> None:
        """Fail once the scenario is over."""
        self.ends_badly = True

    def capture(self) -> None:
        """Record packets from now on."""
        self.captures = True

    def captured(self) -> dict[str, bytes]:
        """What was recorded on each host."""
        return {"mail": b"packets"} if self.captures else {}

    def conclude(self) -> tuple[History, Verdict]:
        """The accounts of a lab in which no mail was sent."""
        if self.ends_badly:
            raise LabError("mail: no answer any more")
        history = self.record.history([], [])
        return history, ledger.judge(history, self.record.expected)


class FakeLabs:
    """Stands in for ``maillab.labs.Labs``; what is done to it goes into ``journal.txt``."""

    refusal: ClassVar[MaillabError | None] = None

    def __init__(self, *, by_hand: bool = False) -> None:
        self._by_hand = by_hand

    def get(self, site: Topology, version: str, pool: str = "", withhold: Withheld = "") -> FakeLab:
        """A lab in its first state."""
        if self.refusal:
            raise self.refusal
        words = ["get", site.name, version, pool, withhold, "by hand" if self._by_hand else ""]
        self._note(*(word for word in words if word))
        lab = FakeLab(site, version)
        lab.record.withhold = withhold
        return lab

    def discard(self, lab: FakeLab) -> None:
        """Note it."""
        self._note("discard", lab.topology.name)

    def release(self, lab: FakeLab) -> None:
        """Note it."""
        self._note("release", lab.topology.name)

    def close(self) -> None:
        """Note it."""
        self._note("close")

    @staticmethod
    def _note(*words: str) -> None:
        with Path("journal.txt").open("a") as journal:
            journal.write(" ".join(words) + "\n")


def install(refusal: MaillabError | None = None) -> None:
    """Have the plugin of this process use fake labs, which all refuse to come up if told so."""
    FakeLabs.refusal = refusal
    vars(plugin)["Labs"] = FakeLabs
