"""A process that restores a host when the command that broke it is killed.

The agent lifts what a channel set when the channel ends. No program in the lab can lift
what the engine holds, such as a paused container. This process does; like the watchdog
of labs, it holds a pipe from the command.
"""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import asdict, dataclass

from maillab.engine.watchdog import LOOK_INTERVAL_S, QUIET_LOOKS, Watchdog, dismissed


@dataclass(frozen=True)
class Standby:
    """The data that restores a host."""

    name: str
    agent: str
    # The container that runs the mail server, and what its channel loads; "" without one.
    mail: str = ""
    modules: tuple[str, ...] = ()
    # The container's process limit; None for no limit.
    processes_max: int | None = None
    # The process id, in the agent, of the channel that lifts the rest by itself.
    channel: int = 0
    # Daemons keep what the fault gave them.
    restarts: bool = False

    def begin(self) -> Watchdog:
        """Start the process that restores the host unless it is dismissed."""
        return Watchdog(json.dumps(asdict(self)), "maillab.engine.standby")

    def restore(self) -> None:
        """Restore the host's container, then the agent's network, then restart the daemons.

        The engine may still carry out the last request of the killed command, so look again.
        """
        # Late, as in the watchdog of labs.
        from maillab.engine import container  # noqa: PLC0415
        from maillab.engine.channel import Channel  # noqa: PLC0415

        if self.mail:
            container.restore(self.mail, self.processes_max)
        agent = Channel(self.agent, self.name)
        agent.call("channel_ended", channel=self.channel)
        agent.close()
        try:
            if self.mail and self.restarts:
                mail = Channel(self.mail, self.name, self.modules)
                mail.call("restart")
                mail.close()
        finally:
            self._look_again()

    def _look_again(self) -> None:
        """Undo what the engine still did for the killed command.

        A fault that began meanwhile keeps its host.
        """
        from maillab.engine import container  # noqa: PLC0415  # as above

        pause = threading.Event()
        quiet = 0
        while self.mail and quiet < QUIET_LOOKS:
            pause.wait(LOOK_INTERVAL_S)
            # In this order: a fault is noted before the engine does anything for it.
            late = container.held(self.mail, self.processes_max)
            if late and container.faults(self.agent):
                return
            if late:
                container.restore(self.mail, self.processes_max)
            quiet = 0 if late else quiet + 1


def main(argument: str) -> None:
    """Wait for the end of the command, then restore what it left broken."""
    if not dismissed():
        given = json.loads(argument)
        Standby(**{**given, "modules": tuple(given["modules"])}).restore()


if __name__ == "__main__":
    main(sys.argv[1])
