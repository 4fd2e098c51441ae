"""The folders of topologies, image sources and scenarios: in the wheel, or beside the package."""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parents[1]


def _folder(name: str) -> Path:
    installed = _HERE / "data" / name
    return installed if installed.is_dir() else _HERE.parents[1] / name


def compose() -> Path:
    """Return the folder of the topologies."""
    return _folder("compose")


def images() -> Path:
    """Return the folder of the images' sources."""
    return _folder("images")


def scenarios() -> Path:
    """Return the folder of the FAQ's scenarios."""
    return _folder("scenarios")
