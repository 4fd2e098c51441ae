"""The channel of a withheld host: nothing that it is asked to do is done."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from maillab.engine import operations
from maillab.engine.channel import Answer, Channel


class WithheldChannel(Channel):
    """Stands for another channel, and gives each operation's empty answer.

    It leads into no container.
    """

    def __init__(self, real: Channel) -> None:
        super().__init__("", real.name, real.modules)

    def begin(self, op: str, **arguments: Any) -> Answer:
        """Return the operation's empty answer; raise LabError if there is no such operation."""
        del arguments
        future: Future[dict[str, Any]] = Future()
        future.set_result({"ok": operations.empty_answer(self._programs, op)})
        return Answer(self.name, op, future)

    def restart_later(self, verb: str) -> None:
        """Restart nothing."""

    def open_early(self) -> None:
        """Do nothing: there is no container to open a channel into."""
