"""CI's caches between its runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

WORKFLOWS = sorted((Path(__file__).parents[3] / ".github/workflows").glob("*.yml"))


def cached(path: Path) -> list[tuple[list[dict[str, Any]], str]]:
    """Return each cache's key, and the steps before it."""
    found = []
    for job in yaml.safe_load(path.read_text())["jobs"].values():
        for number, step in enumerate(job["steps"]):
            if "actions/cache@" in step.get("uses", ""):
                found.append((job["steps"][:number], step["with"]["key"]))
    return found


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_cached_images_last_a_week(path: Path) -> None:
    """Then they are built again, with the security updates of their suites."""
    caches = cached(path)

    assert caches
    for steps, key in caches:
        assert "${{ env.WEEK }}" in key
        assert any("WEEK=$(date -u +%G-W%V)" in step.get("run", "") for step in steps)
