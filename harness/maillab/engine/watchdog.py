"""A process that removes a run's labs if the run ends without doing so, SIGKILL included.

The run holds the writing end of a pipe to this process. If the pipe closes without the
word "done", the run has not cleaned up.
"""

from __future__ import annotations

import subprocess
import sys
import threading

from maillab.errors import MaillabError

# The engine may still be creating what Compose last asked for.
QUIET_LOOKS = 4
LOOK_INTERVAL_S = 1.0


class Watchdog:
    """The run's handle of the watchdog: started with the first lab, dismissed at the end."""

    def __init__(self, argument: str, program: str = "maillab.engine.watchdog") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", program, argument],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """Tell the watchdog that the run has cleaned up."""
        if self._process.stdin and not self._process.stdin.closed:
            try:
                self._process.stdin.write(b"done\n")
                self._process.stdin.close()
            except BrokenPipeError:
                pass
        self._process.wait()


def dismissed() -> bool:
    """Wait for the end of the run; return True if the run has cleaned up."""
    return sys.stdin.read().strip() == "done"


def main(owner: str) -> None:
    """Wait for the end of the run, then remove its leftovers until no more appear."""
    if dismissed():
        return
    # Late, so that a run that ends well never pays for the import.
    from maillab.engine import compose  # noqa: PLC0415

    quiet = 0
    pause = threading.Event()
    while quiet < QUIET_LOOKS:
        compose.kill_compose(owner)
        try:
            left = [lab.name for lab in compose.projects().values() if lab.owner == owner]
            for name in left:
                compose.remove(name)
        except MaillabError:
            left = []
        quiet = 0 if left else quiet + 1
        pause.wait(LOOK_INTERVAL_S)


if __name__ == "__main__":
    main(sys.argv[1])
