"""Images are told present, missing or stale, and an engine is installed only where it may be."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from cli_calls import Api, status_of

from maillab.cli import images
from maillab.engine import bootstrap
from maillab.engine.images import needed
from maillab.errors import NoEngine, NoRights


def entry(number: str, *tags: str) -> dict[str, Any]:
    return {"Id": number, "RepoTags": list(tags), "Size": 1000, "Created": 0}


def test_images_are_present_missing_or_stale(
    engine_api: Callable[..., Api], capsys: pytest.CaptureFixture[str]
) -> None:
    """Stale are hash tags of ours that the sources do not give, and nothing else."""
    postfix, *_ = needed("3.10")
    old = {name: f"maillab/{name}-0123456789ab" for name in ("agent:lab", "dns:lab", "base:sid")}
    api = engine_api(
        images=[
            entry("now", postfix.tag, postfix.plain_tag),
            entry("old", old["base:sid"]),
            entry("used", old["dns:lab"], "maillab/dns:latest"),
            entry("unused", old["agent:lab"], "maillab/agent:latest", "mine/agent:lab"),
            entry("theirs", "maillab/other:lab-0123456789ab", "maillab/agent:mine"),
        ],
        containers=[{"ImageID": "used"}],
        conflicts=[old["base:sid"]],
    )

    assert status_of("images", "--postfix", "3.10", "--prune", "--json") == 0

    told = {row["tag"]: row for row in json.loads(capsys.readouterr().out)}
    assert told[postfix.tag] == {
        "tag": postfix.tag,
        "state": "present",
        "in_use": False,
        "size_bytes": 1000,
        "created": "1970-01-01T00:00:00+00:00",
    }
    states = {tag: (row["state"], row["in_use"]) for tag, row in told.items()}
    assert [state for state, _ in states.values()].count("missing") == 3
    assert states[old["dns:lab"]] == states["maillab/dns:latest"] == ("stale", True)
    assert states[old["base:sid"]] == ("stale", True)
    assert api.removed == [old["agent:lab"], "maillab/agent:latest"]
    assert not {"maillab/agent:mine", "maillab/other:lab-0123456789ab"} & set(told)


def test_making_nothing_is_one_line(
    engine_api: Callable[..., Api],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made: list[list[str]] = []
    engine_api()
    monkeypatch.setattr(images, "ensure", made.append)
    assert status_of("images", "--make", "--postfix", "3.10") == 0
    assert capsys.readouterr().out == "images of Postfix 3.10: all present\n"
    assert made == [["3.10"]]


@pytest.mark.parametrize(
    ("error", "docker_host", "root", "installs"),
    [
        (NoEngine, "", True, True),
        (NoEngine, "", False, False),
        (NoEngine, "tcp://elsewhere:2375", True, False),
        (NoRights, "", True, False),
    ],
)
def test_an_engine_is_installed_only_where_it_is_ours_to_do(
    error: type[NoEngine],
    docker_host: str,
    root: bool,  # noqa: FBT001  # a column of the table
    installs: bool,  # noqa: FBT001  # as above
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []

    def connect() -> None:
        if not said:
            raise error("no")

    monkeypatch.setattr(images, "connect", connect)
    monkeypatch.setattr(images, "ensure", lambda versions: None)
    monkeypatch.setattr(bootstrap, "is_debian_root", lambda: root)
    monkeypatch.setattr(bootstrap, "install_engine", lambda say: said.append("installing"))
    monkeypatch.setenv("DOCKER_HOST", docker_host)
    ended = status_of("images", "--make", "--postfix", "3.10")
    assert (ended, said) == ((0, ["installing"]) if installs else (error.exit_code, []))
