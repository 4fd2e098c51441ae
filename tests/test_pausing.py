"""A container is paused although its processes do not come to rest at once."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
from docker.errors import APIError

from maillab.engine import container
from maillab.errors import HostGone

RESTLESS = "OCI runtime pause failed: unable to freeze: unknown"


class Engine:
    """One that says these words of a pause, one after another, and then does it."""

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


def test_a_restless_container_is_tried_again(use: Callable[[Engine], Engine]) -> None:
    """Until it is paused."""
    engine = use(Engine(RESTLESS, RESTLESS))

    container.pause("host")

    assert engine.paused == ["host"]


def test_there_is_an_end_to_it(
    use: Callable[[Engine], Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the engine's words."""
    monkeypatch.setattr(container, "_FROZEN_WITHIN_S", 0.0)
    engine = use(Engine(*[RESTLESS] * 1_000_000))

    with pytest.raises(HostGone, match="unable to freeze"):
        container.pause("host")

    assert not engine.paused


def test_any_other_refusal_is_final(use: Callable[[Engine], Engine]) -> None:
    """Such as of one that is paused already."""
    engine = use(Engine("Container host is already paused", RESTLESS))

    with pytest.raises(HostGone, match="already paused"):
        container.pause("host")

    assert engine.says == [RESTLESS]
