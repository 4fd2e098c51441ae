"""A question costs the new events only, and following a log the new lines only."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from maillab.engine import container
from maillab.mail.history import History
from maillab.mail.tracing import Journeys
from maillab.scenario import state, stream
from maillab.scenario.state import ScenarioState
from maillab.scenario.stream import Stream

LINE = b"Nov 23 08:10:11 mail postfix/qmgr[1]: %dAAAAAA: from=<a@b>, size=1, nrcpt=1 (queue active)"


def test_journeys_are_built_again_only_if_something_is_new(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However often a scenario asks."""
    built: list[History] = []

    def build(history: History) -> Journeys:
        built.append(history)
        return Journeys(history)

    monkeypatch.setattr(state, "Journeys", build)
    kept = ScenarioState(Stream(), {})

    kept.stream.feed("mail", [LINE % 1])
    assert kept.journeys() is kept.journeys()
    assert len(built) == 1
    kept.stream.feed("mail", [LINE % 2])
    assert len(kept.journeys().legs) == 2
    assert len(built) == 2
    kept.begin()
    assert kept.journeys().legs == []


class Engine:
    """The part of the engine's API for logs."""

    def __init__(self) -> None:
        self.api = self
        self.asked: list[dict[str, Any]] = []

    def logs(self, container: str, **settings: Any) -> SimpleNamespace:
        self.asked.append({key: settings[key] for key in ("tail", "since")})
        return SimpleNamespace(__iter__=lambda: iter(()), close=lambda: None)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    engine = Engine()
    monkeypatch.setattr(stream, "connect", lambda: engine)
    monkeypatch.setattr(stream._Follower, "run", lambda self: None)
    monkeypatch.setattr(
        container, "state", lambda _: {"StartedAt": "2026-01-02T03:04:05.678901234Z"}
    )
    return engine


def test_a_log_is_read_from_its_beginning_or_its_end(engine: Engine) -> None:
    """In a lab by hand, which may have had much mail, only the last lines are read."""
    logs = Stream()

    logs.follow("mail", "c1")
    logs.follow("remote", "c2", last_lines=2000)
    assert engine.asked == [{"tail": "all", "since": None}, {"tail": 2000, "since": None}]


def test_the_log_of_a_restarted_host_is_read_from_there(engine: Engine) -> None:
    """Earlier lines have been read, or are of no interest."""
    logs = Stream()
    logs.follow("mail", "c1")
    logs.follow("remote", "c2", last_lines=2000)
    engine.asked.clear()

    logs.follow_again("mail")
    logs.follow_again("remote")
    assert engine.asked == [
        {"tail": "all", "since": None},
        {"tail": "all", "since": pytest.approx(1767323045.678901)},
    ]
