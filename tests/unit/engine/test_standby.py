"""A host is restored from what the engine does after the command was killed."""

from __future__ import annotations

import pytest

from maillab.engine import channel, container, standby
from maillab.engine.standby import Standby


class Quiet:
    """A channel into a host; its requests do nothing."""

    def __init__(self, *_: object) -> None:
        pass

    def call(self, op: str, **_: object) -> None:
        pass

    def close(self) -> None:
        pass


class Engine:
    """An engine that reports what holds a mail host: for each query the next of ``looks``."""

    def __init__(self, looks: list[list[str]], faults: list[str]) -> None:
        self.looks = looks
        self.notes = faults
        self.restored = 0

    def held(self, *_: object) -> list[str]:
        return self.looks.pop(0) if self.looks else []

    def restore(self, *_: object) -> None:
        self.restored += 1

    def faults(self, _: str) -> list[str]:
        return self.notes


def restored(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> int:
    """Let the standby restore a host; return how often it asked the engine to."""
    monkeypatch.setattr(channel, "Channel", Quiet)
    monkeypatch.setattr(standby, "LOOK_INTERVAL_S", 0.0)
    for name in ("held", "restore", "faults"):
        monkeypatch.setattr(container, name, getattr(engine, name))
    Standby("receiver", "agent", mail="mail").restore()
    return engine.restored


def test_a_host_that_dies_after_the_first_look_is_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The engine still carries out the kill that the dead command requested."""
    engine = Engine([[], ["not running"]], faults=[])

    assert restored(monkeypatch, engine) == 2


def test_a_quiet_host_is_restored_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first restore, the standby finds nothing to do."""
    assert restored(monkeypatch, Engine([], faults=[])) == 1


def test_the_next_fault_keeps_its_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later command paused the host, after it had noted its fault."""
    engine = Engine([["paused"]], faults=["HostFrozen() on receiver"])

    assert restored(monkeypatch, engine) == 1
