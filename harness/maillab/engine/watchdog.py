"""Removes a run's labs when the run ends without having done so, SIGKILL included.

The run holds the writing end of a pipe to this process. A pipe that closes
without the word "done" means that nobody else will clean up.
"""

from __future__ import annotations

import subprocess
import sys
import threading

from maillab.errors import MaillabError

# Compose may be in the middle of an ``up`` that outlives the run.
_QUIET_LOOKS = 4
_LOOK_INTERVAL_S = 1.0


class Watchdog:
    """The run's side: started with its first lab, dismissed at its end."""

    def __init__(self, owner: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "maillab.engine.watchdog", owner],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """The run has cleaned up by itself."""
        if self._process.stdin and not self._process.stdin.closed:
            try:
                self._process.stdin.write(b"done\n")
                self._process.stdin.close()
            except BrokenPipeError:
                pass
        self._process.wait()


def main(owner: str) -> None:
    """Wait for the end of the run, then remove what it left until nothing more comes."""
    if sys.stdin.read().strip() == "done":
        return
    # Late, so that a run that ends well never pays for the import.
    from maillab.engine import compose  # noqa: PLC0415

    quiet = 0
    pause = threading.Event()
    while quiet < _QUIET_LOOKS:
        try:
            left = [name for name in compose.projects() if compose.owner_of(name) == owner]
            for name in left:
                compose.remove(name)
        except MaillabError:
            left = []
        quiet = 0 if left else quiet + 1
        pause.wait(_LOOK_INTERVAL_S)


if __name__ == "__main__":
    main(sys.argv[1])
