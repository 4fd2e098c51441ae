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
from stories import run

import machine
import processes

# The kernel keeps 15 characters of a name.
NAME = "maillab-sleeper"


class Sleepers:
    """Processes of a name that nothing else on this machine has."""

    def __init__(self, folder: Path) -> None:
        self.program = folder / NAME
        shutil.copy(shutil.which("sleep") or "/bin/sleep", self.program)
        self.all: list[subprocess.Popen[bytes]] = []

    def start(self, count: int = 1) -> list[int]:
        """Start some; returns once each has its name."""
        new = [subprocess.Popen([self.program, "60"]) for _ in range(count)]
        self.all += new
        # exec(2) closes files, which is all that Popen waits for, before it gives the name.
        while {machine.names().get(one.pid) for one in new} != {NAME}:
            pass
        return [one.pid for one in new]


@pytest.fixture
def sleepers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sleepers]:
    """Sleepers, and nothing left of them; no Postfix of this machine is looked at."""
    monkeypatch.setattr(machine, "MASTER_PID", tmp_path / "no-master.pid")
    made = Sleepers(tmp_path)
    yield made
    asyncio.run(processes.heal())
    for one in made.all:
        one.kill()
        one.wait()


async def until(fact: Callable[[], bool]) -> None:
    """Wait for something that only the kernel knows."""
    while not fact():  # noqa: ASYNC110  # the kernel sets no event
        await asyncio.sleep(0.01)


def hunt(**settings: Any) -> dict[str, Any]:
    """Hunt, and stop at once."""

    async def story() -> dict[str, Any]:
        started = await processes.hunt_start(NAME, **settings)
        return await processes.hunt_stop(started["hunt"])

    return run(story())


@pytest.mark.parametrize(("times", "killed"), [(1, 1), (2, 2), (5, 3)])
def test_so_many_are_killed_and_counted_when_dead(
    times: int, killed: int, sleepers: Sleepers
) -> None:
    """Those that there are when it begins are dead when it has begun."""
    sleepers.start(3)

    confirmed = hunt(times=times)["confirmed"]

    dead = [one.pid for one in sleepers.all if one.poll() == -signal.SIGKILL]
    assert sorted(confirmed) == sorted(dead)
    assert len(dead) == killed


def test_one_that_starts_later_is_found(sleepers: Sleepers) -> None:
    """As long as the hunt lasts."""

    async def story() -> list[int]:
        started = await processes.hunt_start(NAME)
        (pid,) = sleepers.start()
        await until(lambda: processes.HUNTS[started["hunt"]].done)
        confirmed: list[int] = (await processes.hunt_stop(started["hunt"]))["confirmed"]
        assert confirmed == [pid]
        return confirmed

    assert len(run(story())) == 1


def test_nobody_found_is_nobody_counted(sleepers: Sleepers) -> None:
    """So that a fault that did not act has no witness."""
    assert hunt() == {"confirmed": [], "waited_s": []}


def test_a_seed_repeats_the_instants(sleepers: Sleepers) -> None:
    """Each within the bound, and not all the same."""

    async def story(seed: int) -> list[float]:
        sleepers.start(3)
        started = await processes.hunt_start(NAME, times=3, within_s=0.05, seed=seed)
        await until(lambda: processes.HUNTS[started["hunt"]].done)
        waited: list[float] = (await processes.hunt_stop(started["hunt"]))["waited_s"]
        return waited

    first, again, other = run(story(7)), run(story(7)), run(story(8))

    assert first == again != other
    assert all(0 <= wait_s <= 0.05 for wait_s in first)
    assert len(set(first)) == 3


def test_a_stopped_process_goes_on_when_the_last_lets_go(sleepers: Sleepers) -> None:
    """Two who hold it may let go in any order."""
    (pid,) = sleepers.start()

    async def story() -> list[str]:
        await until(lambda: processes.state_of(pid) == "S")
        states = []
        first = (await processes.hunt_start(NAME, stop=True, times=0))["hunt"]
        states.append(processes.state_of(pid))
        second = (await processes.hunt_start(NAME, stop=True, times=0))["hunt"]
        assert (await processes.hunt_stop(first))["confirmed"] == [pid]
        states.append(processes.state_of(pid))
        assert (await processes.hunt_stop(second))["confirmed"] == [pid]
        await until(lambda: processes.state_of(pid) == "S")
        return states

    assert run(story()) == ["T", "T"]


def test_heal_lets_go_and_hunts_no_more(sleepers: Sleepers) -> None:
    """What a scenario left behind."""
    (pid,) = sleepers.start()

    async def story() -> None:
        await processes.hunt_start(NAME, stop=True, times=0)
        assert processes.state_of(pid) == "T"
        await processes.heal()
        await until(lambda: processes.state_of(pid) != "T")

    run(story())

    assert (processes.HUNTS, processes.HELD) == ({}, {})
    assert hunt(times=1)["confirmed"] == [pid]
