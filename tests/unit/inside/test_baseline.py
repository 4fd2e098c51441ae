"""A container without a mail system loses leftovers, and keeps its own processes."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import baseline
import running
import snapshot
from bounded import run


@pytest.fixture
def own_and_stray(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start two processes; the first is in the session of the container's first process."""
    made = [subprocess.Popen(["sleep", "3600"], start_new_session=new) for new in (False, True)]
    fields = running.fields
    monkeypatch.setattr(running, "others", lambda: [process.pid for process in made])
    monkeypatch.setattr(running, "fields", lambda pid: fields(os.getpid() if pid == 1 else pid))
    yield made
    for process in made:
        process.kill()
        process.wait()


def test_processes_of_another_session_are_killed(
    own_and_stray: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No other process is killed, and a zombie does not delay the restoration."""
    own, stray = own_and_stray
    monkeypatch.setattr(snapshot, "put_back", lambda _: ["/etc/x: stuck"])

    assert run(baseline.restore()) == {"failed": ["/etc/x: stuck"]}
    assert run(baseline.restore()) == {"failed": ["/etc/x: stuck"]}

    assert own.poll() is None
    assert stray.wait() == -signal.SIGKILL


@pytest.mark.parametrize("kind", ["agent", "dns", "scanner"])
def test_every_image_without_a_mail_system_can_be_restored(kind: str) -> None:
    """It has the programs, and a shell that makes the kernel reap orphans.

    In dash(1), "trap '' CHLD" does not ignore the signal for the program that follows.
    """
    recipe = (Path(__file__).parents[3] / "images" / kind / "Dockerfile").read_text()

    for program in ("baseline", "channel", "running", "snapshot"):
        assert f" inside/{program}.py " in recipe
    assert 'ENTRYPOINT ["/bin/bash"' in recipe
