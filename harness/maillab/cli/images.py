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
from datetime import UTC, date, datetime
from http import HTTPStatus

from docker.errors import APIError, ImageNotFound

from maillab.cli.arguments import Add
from maillab.cli.output import print_json, print_table
from maillab.engine import bootstrap, byhand
from maillab.engine.client import connect, engine_errors
from maillab.engine.images import (
    SUITES,
    VERSION_LABEL,
    Image,
    ensure,
    needed,
    own_images,
    packages_day,
    renew,
    today,
)
from maillab.errors import BadInput, ImageError, NoEngine

_ENGINE_ANSWERS_WITHIN_S = 30.0
_LOOK_INTERVAL_S = 0.2


def register(add: Add) -> None:
    """Declare the commands of this family and their arguments."""
    parser = add(
        images,
        "maillab images --make --postfix 3.10",
        details="State: present, missing, or stale (its sources have changed since).",
        json='[{"tag", "state": "present|missing|stale|removed", "in_use", "size_bytes", '
        '"created", "version", "packages_days"}]',
    )
    parser.add_argument(
        "--make",
        action="store_true",
        help="build missing images; rebuild those with packages older than 30 days",
    )
    parser.add_argument(
        "--older-than",
        metavar="DAYS",
        type=int,
        help="with --make: rebuild images with packages older than DAYS (0: not from today)",
    )
    parser.add_argument(
        "--postfix",
        metavar="VERSION",
        action="append",
        help="only images for this Postfix version, such as 3.10; repeatable (default: all)",
    )
    parser.add_argument(
        "--prune",
        action="store_true",
        help="remove stale images that no container uses",
    )


@dataclass(frozen=True)
class _Row:
    """One image by its tag; ``created`` is in ISO 8601.

    ``version`` is that of the mail server's package, ``packages_days`` the packages' age.
    """

    tag: str
    state: str
    in_use: bool = False
    size_bytes: int | None = None
    created: str | None = None
    version: str | None = None
    packages_days: int | None = None


def images(arguments: Namespace) -> int:
    """List, build and prune images."""
    older_than = arguments.older_than
    if older_than is not None and not (arguments.make and older_than >= 0):
        raise BadInput(f"--older-than must be >= 0 and used with --make, not {older_than}")
    versions = arguments.postfix or list(SUITES)
    wanted = _all(versions)
    if arguments.make:
        _have_engine()
        ensure(versions)
        _renew(versions, older_than)
        byhand.write(versions, chosen=bool(arguments.postfix))
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
                _age(row),
                row.version or "",
            )
            for row in rows
        )
    return 0


def _age(row: _Row) -> str:
    if row.created is None:
        return ""
    if row.packages_days is None:
        return "packages of unknown age"
    days = row.packages_days
    return "packages from today" if not days else f"packages {days} day{'s'[: days > 1]} old"


def _renew(versions: list[str], older_than: int | None) -> None:
    """Renew old images; raise ImageError only if the user requested it."""
    try:
        if older_than is None:
            renew(versions)
        else:
            renew(versions, older_than)
    except ImageError as error:
        if older_than is not None:
            raise
        print(f"maillab: using the old images: {error}", file=sys.stderr)


def _have_engine() -> None:
    """Install the distribution's engine if there is none and we may; raise NoEngine."""
    try:
        connect()
    except NoEngine as error:
        # Never touch an engine that is too old, refuses access or is remote.
        ours = type(error) is NoEngine and not os.environ.get("DOCKER_HOST")
        if not (ours and bootstrap.is_debian_root()):
            raise
    else:
        return
    bootstrap.install_engine(lambda text: print(f"maillab: {text}", file=sys.stderr))
    deadline = time.monotonic() + _ENGINE_ANSWERS_WITHIN_S
    pause = threading.Event()
    # Its init script returns before the engine listens.
    while time.monotonic() < deadline:
        with contextlib.suppress(NoEngine):
            connect()
            return
        pause.wait(_LOOK_INTERVAL_S)
    connect()


def _all(versions: list[str]) -> list[Image]:
    """Return the images for these versions; bases come after the images built on them."""
    run = list(dict.fromkeys(image for version in versions for image in needed(version)))
    return run + list(dict.fromkeys(image.base for image in run))


def _stock(wanted: list[Image]) -> list[_Row]:
    """Return the wanted images, then those in the engine that the sources no longer produce."""
    with engine_errors("looking for images"):
        existing = connect().api.images(name="maillab/*")
        used = {entry["ImageID"] for entry in connect().api.containers(all=True)}
    rows: dict[str, _Row] = {}
    for entry in existing:
        row = _Row(
            "",
            "present",
            entry["Id"] in used,
            entry["Size"],
            datetime.fromtimestamp(entry["Created"], UTC).isoformat(),
            (entry["Labels"] or {}).get(VERSION_LABEL),
            (today() - day).days if (day := packages_day(entry["Labels"])) != date.min else None,
        )
        rows |= {tag: replace(row, tag=tag) for tag in entry["RepoTags"] or []}
    own = list(dict.fromkeys(image for version in SUITES for image in own_images(version)))
    sources = [*own, *_all(list(SUITES))]
    stale = [tag for entry in existing for tag in _stale(entry["RepoTags"] or [], sources)]
    return [
        *(rows.get(image.tag, _Row(image.tag, "missing")) for image in wanted),
        # A missing image of one topology is not shown: the first lab that runs it builds it.
        *(rows[image.tag] for image in own if image.tag in rows),
        # Bases last: the engine keeps them while other images use them.
        *(replace(rows[tag], state="stale") for tag in sorted(stale, key=_is_base)),
    ]


def _is_base(tag: str) -> bool:
    return tag.startswith("maillab/base:")


def _stale(tags: list[str], sources: list[Image]) -> list[str]:
    """Return the tags of ours, among one image's tags, that the sources no longer produce."""
    kinds = "|".join({image.kind for image in sources})
    hashed = {tag for tag in tags if re.fullmatch(rf"maillab/({kinds}):.+-[0-9a-f]{{12}}", tag)}
    # Tags of earlier releases, which do not depend on the sources.
    plain = {f"maillab/{image.kind}:{image.version or image.suite}" for image in sources}
    plain |= {f"maillab/{image.kind}:latest" for image in sources}
    return sorted((hashed | (plain & set(tags))) - {image.tag for image in sources})


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
