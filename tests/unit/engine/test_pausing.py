"""A container is paused even if its processes do not stop at once."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
from docker.errors import APIError

from maillab.engine import container
from maillab.errors import HostGone

RESTLESS = "OCI runtime pause failed: unable to freeze: unknown"


class Engine:
    """An engine that refuses a pause with each of these texts, and then does it."""

    def __init__(self, *says: str) -> None:
        self.says = list(says)
        self.paused: list[str] = []

    def pause(self, name: str) -> None:
        if self.says:
            raise APIError("500 Server Error", explanation=self.says.pop(0))
        self.paused.append(name)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[Engine], Engine]:
    def use(engine: Engine) -> Engine:
        monkeypatch.setattr(container, "connect", lambda: SimpleNamespace(api=engine))
        return engine

    return use


def test_a_refused_pause_is_tried_again(use: Callable[[Engine], Engine]) -> None:
    """The retries end once the container is paused."""
    engine = use(Engine(RESTLESS, RESTLESS))

    container.pause("host")

    assert engine.paused == ["host"]


def test_the_retries_have_a_limit(
    use: Callable[[Engine], Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error has the engine's text."""
    monkeypatch.setattr(container, "_FROZEN_WITHIN_S", 0.0)
    engine = use(Engine(*[RESTLESS] * 1_000_000))

    with pytest.raises(HostGone, match="unable to freeze"):
        container.pause("host")

    assert not engine.paused


def test_any_other_refusal_is_final(use: Callable[[Engine], Engine]) -> None:
    """For example of a container that is already paused."""
    engine = use(Engine("Container host is already paused", RESTLESS))

    with pytest.raises(HostGone, match="already paused"):
        container.pause("host")

    assert engine.says == [RESTLESS]
