"""Images are reported as present, missing or stale; an engine is installed only if allowed."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cli_calls import Api, status_of
from maillab.cli import images
from maillab.engine import bootstrap, byhand
from maillab.engine.images import needed
from maillab.errors import EngineSilent, ImageError, NoEngine, NoRights


def entry(number: str, *tags: str) -> dict[str, Any]:
    day = datetime.now(UTC).date() - timedelta(45)
    labels = {"maillab.packages": str(day), "maillab.version": "3.10.5-1"}
    return {
        "Id": number,
        "RepoTags": list(tags),
        "Size": 1000,
        "Created": 0,
        "Labels": labels if number == "now" else None,
    }


def test_images_are_present_missing_or_stale(
    engine_api: Callable[..., Api], capsys: pytest.CaptureFixture[str]
) -> None:
    """Tags of ours that the sources do not produce are stale, and no others."""
    postfix, *_ = needed("3.10")
    old = {name: f"maillab/{name}-0123456789ab" for name in ("agent:lab", "dns:lab", "base:sid")}
    api = engine_api(
        images=[
            entry("now", postfix.tag, "maillab/postfix:3.10"),
            entry("old", old["base:sid"]),
            entry("used", old["dns:lab"], "maillab/dns:latest"),
            entry("unused", old["agent:lab"], "maillab/agent:latest", "mine/agent:lab"),
            entry("theirs", "maillab/other:lab-0123456789ab", "maillab/agent:mine"),
        ],
        containers=[{"ImageID": "used"}],
        conflicts=[old["base:sid"]],
    )

    assert status_of("images", "--postfix", "3.10", "--prune", "--json") == 0

    rows = {row["tag"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows[postfix.tag] == {
        "tag": postfix.tag,
        "state": "present",
        "in_use": False,
        "size_bytes": 1000,
        "created": "1970-01-01T00:00:00+00:00",
        "version": "3.10.5-1",
        "packages_days": 45,
    }
    assert rows[old["dns:lab"]]["packages_days"] is None
    states = {tag: (row["state"], row["in_use"]) for tag, row in rows.items()}
    assert [state for state, _ in states.values()].count("missing") == 3
    assert states[old["dns:lab"]] == states["maillab/dns:latest"] == ("stale", True)
    assert states[old["base:sid"]] == ("stale", True)
    # The plain tags of earlier releases are removed, too: they say nothing about the sources.
    assert api.removed == ["maillab/postfix:3.10", old["agent:lab"], "maillab/agent:latest"]
    assert not {"maillab/agent:mine", "maillab/other:lab-0123456789ab"} & set(rows)


def test_building_nothing_is_one_line(
    engine_api: Callable[..., Api],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made: list[list[str]] = []
    engine_api()
    monkeypatch.setattr(images, "ensure", made.append)
    monkeypatch.setattr(images, "renew", made.append)
    monkeypatch.setattr(byhand, "write", lambda versions, **_: made.append(versions))
    assert status_of("images", "--make", "--postfix", "3.10") == 0
    assert capsys.readouterr().out == "images of Postfix 3.10: all present\n"
    assert made == [["3.10"]] * 3


def test_the_age_of_an_images_packages_is_shown(
    engine_api: Callable[..., Api], capsys: pytest.CaptureFixture[str]
) -> None:
    """Next to the version of its mail server."""
    postfix, *_ = needed("3.10")
    engine_api(images=[entry("now", postfix.tag)])

    assert status_of("images", "--postfix", "3.10") == 0

    line = capsys.readouterr().out.splitlines()[0]
    assert line.startswith(postfix.tag)
    assert line.endswith("packages 45 days old  3.10.5-1")


@pytest.mark.parametrize(("options", "status"), [((), 0), (("--older-than", "9"), 14)])
def test_old_images_are_used_unless_newer_ones_are_requested(
    engine_api: Callable[..., Api],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    status: int,
) -> None:
    """A machine that is offline continues with the images that it has."""

    def renew(versions: list[str], *days: int) -> None:
        raise ImageError("no network")

    engine_api()
    monkeypatch.setattr(images, "ensure", lambda versions: None)
    monkeypatch.setattr(images, "renew", renew)
    monkeypatch.setattr(byhand, "write", lambda versions, **_: None)

    assert status_of("images", "--make", *options) == status
    assert "no network" in capsys.readouterr().err


@pytest.mark.parametrize("options", [("--older-than", "3"), ("--make", "--older-than", "-3")])
def test_an_invalid_age_is_refused(
    options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """The error comes before anything is built."""
    assert status_of("images", *options) == 2
    assert "--older-than must be >= 0 and used with --make, not " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "docker_host", "root", "installs"),
    [
        (NoEngine, "", True, True),
        (NoEngine, "", False, False),
        (NoEngine, "tcp://elsewhere:2375", True, False),
        (NoRights, "", True, False),
        (EngineSilent, "", True, False),
    ],
)
def test_an_engine_is_installed_only_if_there_is_none(
    error: type[NoEngine],
    docker_host: str,
    root: bool,  # noqa: FBT001  # a column of the table
    installs: bool,  # noqa: FBT001  # as above
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    messages: list[str] = []

    def connect() -> None:
        if not messages:
            raise error("no")

    monkeypatch.setattr(images, "connect", connect)
    monkeypatch.setattr(images, "ensure", lambda versions: None)
    monkeypatch.setattr(images, "renew", lambda versions: None)
    monkeypatch.setattr(byhand, "write", lambda versions, **_: None)
    monkeypatch.setattr(bootstrap, "is_debian_root", lambda: root)
    monkeypatch.setattr(bootstrap, "install_engine", lambda say: messages.append("installing"))
    monkeypatch.setenv("DOCKER_HOST", docker_host)
    ended = status_of("images", "--make", "--postfix", "3.10")
    assert (ended, messages) == ((0, ["installing"]) if installs else (error.exit_code, []))
