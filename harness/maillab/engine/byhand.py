"""The images of labs that plain Compose brings up: ``compose/.env``, which Compose reads by itself.

Each checkout names its own images there. A tag that several checkouts share would move to
the one that made its images last, and the others would run that one's programs.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from maillab.engine.images import VERSION_DEFAULT, needed, own_images
from maillab.site import resources

_HEADER = """\
# The images of this checkout, for "docker compose -f compose/NAME.yaml up".
# Written by maillab whenever it makes images; changes are lost.
# "maillab images --make --postfix VERSION" chooses the Postfix.
"""


def file() -> Path:
    """Return the file's path: beside the topologies, where Compose looks for it."""
    return resources.compose() / ".env"


def write(versions: Sequence[str], *, chosen: bool = False) -> None:
    """Name this checkout's images in the file, of the Postfix version that it names already.

    A new file names the default version if that is among ``versions``, else the first. With
    ``chosen`` so does an old one. A file of another version stays as it is: its images may
    not be made. Where the folder is read-only there is no file, and Compose says so.
    """
    path = file()
    named = "" if chosen else _version_in(path)
    if named and named not in versions:
        return
    version = named or (VERSION_DEFAULT if VERSION_DEFAULT in versions else versions[0])
    images = dict.fromkeys([*needed(version), *own_images(version)])
    text = _HEADER + "".join(f"{image.variable}={image.tag}\n" for image in images)
    with contextlib.suppress(OSError):
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            return
        unfinished = path.with_name(f".env.{os.getpid()}")
        try:
            unfinished.write_text(text, encoding="utf-8")
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)


def _version_in(path: Path) -> str:
    try:
        found = re.search(
            r"(?m)^POSTFIX_IMAGE=maillab/postfix:([\d.]+)-", path.read_text(encoding="utf-8")
        )
    except (OSError, UnicodeDecodeError):
        return ""
    return found[1] if found else ""
