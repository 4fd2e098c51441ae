"""Killing and stopping of processes by name, on processes of this machine."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import machine
import processes
import running
from bounded import run
from operations import program

# The kernel keeps 15 characters of a name.
NAME = "maillab-sleeper"


class Sleepers:
    """Processes of a name that no other process on this machine has."""

    def __init__(self, folder: Path) -> None:
        self.program = folder / NAME
        shutil.copy(shutil.which("sleep") or "/bin/sleep", self.program)
        self.all: list[subprocess.Popen[bytes]] = []

    def start(self, count: int = 1) -> list[int]:
        """Start processes; return once each has its name."""
        new = [subprocess.Popen([self.program, "60"]) for _ in range(count)]
        self.all += new
        # Popen waits until exec(2) closes files, which is before the process gets its name.
        while {running.names().get(process.pid) for process in new} != {NAME}:
            pass
        return [process.pid for process in new]


@pytest.fixture
def sleepers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sleepers]:
    """Yield sleepers, and end them afterwards; no Postfix of this machine is touched."""
    monkeypatch.setattr(machine, "MASTER_PID", tmp_path / "no-master.pid")
    made = Sleepers(tmp_path)
    yield made
    asyncio.run(program("processes").undo())
    for process in made.all:
        process.kill()
        process.wait()


async def until(fact: Callable[[], bool]) -> None:
    """Wait for a fact that only the kernel knows."""
    while not fact():  # noqa: ASYNC110  # the kernel sets no event
        await asyncio.sleep(0.01)


def signaller(**settings: Any) -> dict[str, Any]:
    """Start a signaller, and stop it at once."""

    async def actions() -> dict[str, Any]:
        started = await processes.signals_start(NAME, **settings)
        return await processes.signals_stop(started["signaller"])

    return run(actions())


@pytest.mark.parametrize(("times", "killed"), [(1, 1), (2, 2), (5, 3)])
def test_at_most_this_many_processes_are_killed_and_counted(
    times: int, killed: int, sleepers: Sleepers
) -> None:
    """Processes that run at the start are dead when it returns."""
    sleepers.start(3)

    confirmed = signaller(times=times)["confirmed"]

    dead = [process.pid for process in sleepers.all if process.poll() == -signal.SIGKILL]
    assert sorted(confirmed) == sorted(dead)
    assert len(dead) == killed


def test_a_process_that_starts_later_is_found(sleepers: Sleepers) -> None:
    """The signaller looks for processes as long as it runs."""

    async def actions() -> list[int]:
        started = await processes.signals_start(NAME)
        (pid,) = sleepers.start()
        await until(lambda: processes.SIGNALLERS[started["signaller"]].done)
        confirmed: list[int] = (await processes.signals_stop(started["signaller"]))["confirmed"]
        assert confirmed == [pid]
        return confirmed

    assert len(run(actions())) == 1


def test_without_a_process_nothing_is_counted(sleepers: Sleepers) -> None:
    """A fault that did not act then has a witness without a count."""
    assert signaller() == {"confirmed": [], "waited_s": []}


def test_a_seed_repeats_the_times(sleepers: Sleepers) -> None:
    """Each time is within the limit, and they differ."""

    async def actions(seed: int) -> list[float]:
        sleepers.start(3)
        started = await processes.signals_start(NAME, times=3, within_s=0.05, seed=seed)
        await until(lambda: processes.SIGNALLERS[started["signaller"]].done)
        waited: list[float] = (await processes.signals_stop(started["signaller"]))["waited_s"]
        return waited

    first, again, other = run(actions(7)), run(actions(7)), run(actions(8))

    assert first == again != other
    assert all(0 <= wait_s <= 0.05 for wait_s in first)
    assert len(set(first)) == 3


def test_a_stopped_process_continues_when_the_last_signaller_ends(sleepers: Sleepers) -> None:
    """Two signallers that hold it may end in any order."""
    (pid,) = sleepers.start()

    async def actions() -> list[str]:
        await until(lambda: running.state(pid) == "S")
        states = []
        first = (await processes.signals_start(NAME, stop=True, times=0))["signaller"]
        states.append(running.state(pid))
        second = (await processes.signals_start(NAME, stop=True, times=0))["signaller"]
        assert (await processes.signals_stop(first))["confirmed"] == [pid]
        states.append(running.state(pid))
        assert (await processes.signals_stop(second))["confirmed"] == [pid]
        await until(lambda: running.state(pid) == "S")
        return states

    assert run(actions()) == ["T", "T"]


def test_undo_continues_processes_and_stops_signalling(sleepers: Sleepers) -> None:
    """A scenario has left the signaller."""
    (pid,) = sleepers.start()

    async def actions() -> None:
        await processes.signals_start(NAME, stop=True, times=0)
        assert running.state(pid) == "T"
        await program("processes").undo()
        await until(lambda: running.state(pid) != "T")

    run(actions())

    assert (list(processes.SIGNALLERS), processes.HELD) == ([], {})
    assert signaller(times=1)["confirmed"] == [pid]
