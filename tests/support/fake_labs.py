"""Labs without an engine, for tests of the layers above the lab."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from maillab.engine.channel import Channel
from maillab.engine.compose import Project
from maillab.engine.starts import Starts
from maillab.errors import CommandFailed, EngineGone, LabError, MaillabError, Unsupported
from maillab.hosts.host import Host
from maillab.mail import ledger
from maillab.mail.history import History
from maillab.mail.verdict import Expected, Verdict
from maillab.plugin import fixture
from maillab.scenario.state import ScenarioState, Withheld, Witness
from maillab.scenario.stream import Stream
from maillab.site.topology import Topology


@dataclass(frozen=True)
class Acting:
    """A fault whose only trace is its witness."""

    times: int = 1

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Report the configured count to the witness."""
        witness = Witness(repr(self), host.name, "times it acted")
        yield witness
        witness.count = self.times


class FakeLab:
    """A topology's hosts without containers, with a real record."""

    def __init__(self, site: Topology, version: str) -> None:
        self.topology = site
        self.requested_version = version
        self.project = Project("maillab_fake_1", "198.18.0", site.path)
        self.stream = Stream()
        self.starts = Starts()
        self.scenario = ScenarioState(self.stream, {})
        self.servers: list[Host] = []
        self.ends_badly: MaillabError | None = None
        self.captures = False
        for role in site.roles.values():
            channel = Channel("nowhere", role.name)
            setattr(self, role.name, Host(role, "198.18.0", channel, self.scenario))

    def expects(self, *, lost: int, because: str) -> None:
        """Declare a loss; none happens, so the mail is then not conserved."""
        self.scenario.expected.append(Expected(lost=lost, because=because))

    def break_down(self) -> None:
        """Raise the error of a host on which a command fails."""
        raise CommandFailed("mail: postqueue -f: status 1: no such thing")

    def lack(self, feature: str) -> None:
        """Raise the error of a fault that the kernel does not support."""
        raise Unsupported(f"mail: the kernel lacks {feature}")

    def lose_the_engine(self) -> None:
        """Raise the error that every host raises after the engine goes away."""
        self.ends_badly = EngineGone("mail: the Docker engine went away")
        raise self.ends_badly

    def lose_the_engine_in_the_end(self) -> None:
        """Raise EngineGone in conclude()."""
        self.ends_badly = EngineGone("mail: the Docker engine went away")

    def break_down_in_the_end(self) -> None:
        """Raise a LabError in conclude()."""
        self.ends_badly = LabError("mail: no answer any more")

    def capture(self) -> None:
        """Record packets from now on."""
        self.captures = True

    def captured(self) -> dict[str, bytes]:
        """Return the recorded packets of each host."""
        return {"mail": b"packets"} if self.captures else {}

    def conclude(self) -> tuple[History, Verdict]:
        """Return the history and verdict of a lab without mail."""
        if self.ends_badly:
            raise self.ends_badly
        history = self.scenario.history([], [])
        return history, ledger.judge(history, self.scenario.expected)


class FakeLabs:
    """Replaces ``maillab.lab.pool.Labs``; every call is logged in ``journal.txt``."""

    refusal: ClassVar[Exception | None] = None

    def get(self, site: Topology, version: str, pool: str = "", withhold: Withheld = "") -> FakeLab:
        """Return a fresh lab."""
        if self.refusal:
            raise self.refusal
        words = ["get", site.name, version, pool, withhold]
        self._note(*(word for word in words if word))
        lab = FakeLab(site, version)
        lab.scenario.withhold = withhold
        return lab

    def discard(self, lab: FakeLab) -> None:
        """Log the call."""
        self._note("discard", lab.topology.name)

    def release(self, lab: FakeLab) -> None:
        """Log the call."""
        self._note("release", lab.topology.name)

    def close(self) -> None:
        """Log the call."""
        self._note("close")

    @staticmethod
    def _note(*words: str) -> None:
        with Path("journal.txt").open("a") as journal:
            journal.write(" ".join(words) + "\n")


def install(refusal: Exception | None = None) -> None:
    """Make this process's plugin use fake labs; with a refusal none of them starts."""
    FakeLabs.refusal = refusal
    vars(fixture)["Labs"] = FakeLabs
