"""The command ``maillab`` with fake labs and a fake engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import APIError

from maillab import cli
from maillab.cli import images, labs
from maillab.engine import compose
from maillab.engine.compose import Project
from maillab.site import resources

# Two labs left by runs that have ended.
HAND_1, HAND_2 = "maillab_aaaaaaaaaa-6-1_standalone_1", "maillab_bbbbbbbbbb-6-1_backup-mx_1"
RUN, PLAIN = "maillab_0123456789-7-1_standalone_1", "maillab-standalone"


def status_of(*argv: str) -> int | str | None:
    try:
        return cli.main(argv)
    except SystemExit as end:
        return end.code


@pytest.fixture
def projects(monkeypatch: pytest.MonkeyPatch) -> dict[str, Project]:
    """Return a dict that replaces the engine's labs."""
    labs: dict[str, Project] = {}
    monkeypatch.setattr(compose, "projects", lambda: labs)
    return labs


def add(labs: dict[str, Project], *names: str) -> None:
    for name in names:
        topology = "backup-mx" if "backup-mx" in name else "standalone"
        file = resources.compose() / f"{topology}.yaml"
        labs[name] = Project(name, "198.18.7", file, handed_over=name in (HAND_1, HAND_2))


class Api:
    """The part of the engine's API that the commands call."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.removed: list[str] = []

    def containers(self, **_: object) -> list[dict[str, Any]]:
        return list(self.answers.get("containers", []))

    def images(self, **_: object) -> list[dict[str, Any]]:
        return list(self.answers.get("images", []))

    def remove_image(self, tag: str) -> None:
        if tag in self.answers.get("conflicts", []):
            raise APIError("conflict", response=SimpleNamespace(status_code=409))  # type: ignore[arg-type]
        self.removed.append(tag)

    def logs(self, container: str, **_: object) -> Iterator[bytes]:
        return iter(self.answers["logs"][container])


@pytest.fixture
def engine_api(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Api]:
    def give(**answers: Any) -> Api:
        api = Api(**answers)
        for module in (labs, images):
            monkeypatch.setattr(module, "connect", lambda: SimpleNamespace(api=api))
        return api

    return give
