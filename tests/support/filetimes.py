"""The kernel's clock for file times: it moves in steps, and changes within a step look alike."""

from __future__ import annotations

import time
from pathlib import Path

import pytest


def wait_for_next_step(folder: Path) -> None:
    """Wait until the clock has moved; a temporary file in the folder shows that."""
    probe = folder / "probe"
    probe.touch()
    before_ns = probe.stat().st_ctime_ns
    while probe.stat().st_ctime_ns == before_ns:
        probe.touch()
    probe.unlink()


def let_changes_be_old(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Let programs find that every change so far is a second old; later changes differ from it."""
    wait_for_next_step(folder)
    time_ns = time.time_ns
    patch.setattr(time, "time_ns", lambda: time_ns() + 10**9)
