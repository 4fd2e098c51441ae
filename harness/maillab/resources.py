"""Where the Compose files and the images' sources are: in the wheel, or beside it."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent


def _folder(name: str) -> Path:
    installed = _HERE / "data" / name
    return installed if installed.is_dir() else _HERE.parents[1] / name


def compose() -> Path:
    """The folder of the topologies."""
    return _folder("compose")


def images() -> Path:
    """The folder of the images' sources."""
    return _folder("images")
