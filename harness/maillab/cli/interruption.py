"""A signal for the command that waits for it."""

from __future__ import annotations

import os
import select
import weakref


class Interruption:
    """An event that a signal handler sets and the main thread, which runs the handler, waits for.

    threading.Event is unsuitable: if the handler interrupts its ``wait``, the handler may find
    the lock held by its own thread. A pipe has no such lock.
    """

    def __init__(self) -> None:
        self._hears, self._says = os.pipe()
        for end in (self._hears, self._says):
            weakref.finalize(self, os.close, end)

    def set(self) -> None:
        """Set the event; safe in a signal handler."""
        os.write(self._says, b"!")

    def wait(self, within_s: float | None = None) -> bool:
        """Wait until the event is set; return False at the time limit."""
        return bool(select.select([self._hears], [], [], within_s)[0])

    def is_set(self) -> bool:
        """Return True if the event is set."""
        return self.wait(0)
