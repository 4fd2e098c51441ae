"""``maillab images``."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
import time
from argparse import Namespace
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus

from docker.errors import APIError, ImageNotFound

from maillab.cli.output import print_json, print_table
from maillab.engine import bootstrap
from maillab.engine.client import connect, engine_errors
from maillab.engine.images import SUITES, Image, ensure, needed, own_images
from maillab.errors import NoEngine

_ENGINE_ANSWERS_WITHIN_S = 30.0
_LOOK_INTERVAL_S = 0.2


@dataclass(frozen=True)
class _Row:
    """One image by its tag; ``created`` in ISO 8601."""

    tag: str
    state: str
    in_use: bool = False
    size_bytes: int | None = None
    created: str | None = None


def images(arguments: Namespace) -> int:
    """List, make and prune images."""
    versions = arguments.postfix or list(SUITES)
    wanted = _all(versions)
    if arguments.make:
        _have_engine()
        ensure(versions)
        if not (arguments.json or arguments.prune):
            print(f"images of Postfix {', '.join(versions)}: all present")
            return 0
    rows = _stock(wanted)
    if arguments.prune:
        rows = [_prune(row) if row.state == "stale" else row for row in rows]
    if arguments.json:
        print_json([asdict(row) for row in rows])
    else:
        print_table(
            (
                row.tag,
                row.state + (", in use" if row.in_use and row.state == "stale" else ""),
                "" if row.size_bytes is None else f"{row.size_bytes / 1e6:.0f} MB",
                row.created or "",
            )
            for row in rows
        )
    return 0


def _have_engine() -> None:
    """Install the distribution's engine where there is none and we may; raises NoEngine."""
    try:
        connect()
    except NoEngine as error:
        # One that refuses us or is too old is there, and another machine's is not ours to mend.
        ours = type(error) is NoEngine and not os.environ.get("DOCKER_HOST")
        if not (ours and bootstrap.is_debian_root()):
            raise
    else:
        return
    bootstrap.install_engine(lambda text: print(f"maillab: {text}", file=sys.stderr))
    deadline = time.monotonic() + _ENGINE_ANSWERS_WITHIN_S
    pause = threading.Event()
    # Its init script returns before it listens.
    while time.monotonic() < deadline:
        with contextlib.suppress(NoEngine):
            connect()
            return
        pause.wait(_LOOK_INTERVAL_S)
    connect()


def _all(versions: list[str]) -> list[Image]:
    """The images for these versions, bases after what is made of them."""
    run = list(dict.fromkeys(image for version in versions for image in needed(version)))
    return run + list(dict.fromkeys(Image("base", image.suite) for image in run))


def _stock(wanted: list[Image]) -> list[_Row]:
    """The images wanted, then those in the engine that the sources no longer make."""
    with engine_errors("looking for images"):
        there = connect().api.images(name="maillab/*")
        used = {entry["ImageID"] for entry in connect().api.containers(all=True)}
    rows: dict[str, _Row] = {}
    for entry in there:
        row = _Row(
            "",
            "present",
            entry["Id"] in used,
            entry["Size"],
            datetime.fromtimestamp(entry["Created"], UTC).isoformat(),
        )
        rows |= {tag: replace(row, tag=tag) for tag in entry["RepoTags"] or []}
    sources = [*own_images(), *_all(list(SUITES))]
    stale = [tag for entry in there for tag in _stale(entry["RepoTags"] or [], sources)]
    return [
        *(rows.get(image.tag, _Row(image.tag, "missing")) for image in wanted),
        # Nobody misses them before a lab that runs them is started.
        *(rows[image.tag] for image in own_images() if image.tag in rows),
        # Bases last: the engine keeps what others are made of.
        *(replace(rows[tag], state="stale") for tag in sorted(stale, key=_is_base)),
    ]


def _is_base(tag: str) -> bool:
    return tag.startswith("maillab/base:")


def _stale(tags: list[str], sources: list[Image]) -> list[str]:
    """Out of one image's tags ours that the sources do not give any more."""
    kinds = "|".join({image.kind for image in sources})
    hashed = {tag for tag in tags if re.fullmatch(rf"maillab/({kinds}):.+-[0-9a-f]{{12}}", tag)}
    stale = hashed - {image.tag for image in sources}
    if stale and stale == hashed:
        stale |= {image.plain_tag for image in sources} & set(tags)
    return sorted(stale)


def _prune(row: _Row) -> _Row:
    if row.in_use:
        return row
    with engine_errors(f"removing {row.tag}"):
        try:
            connect().api.remove_image(row.tag)
        except ImageNotFound:
            pass
        except APIError as error:
            if error.status_code != HTTPStatus.CONFLICT:
                raise
            return replace(row, in_use=True)
    return replace(row, state="removed")
