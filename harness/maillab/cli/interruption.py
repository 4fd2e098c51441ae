"""What a signal says to the command that waits for it."""

from __future__ import annotations

import os
import select
import weakref


class Interruption:
    """Said by a signal handler, waited for by the main thread, which runs the handler, too.

    threading.Event is not for that: where the handler interrupts its ``wait`` it may
    find the lock held, by the very thread it runs in. A pipe has no lock to be found.
    """

    def __init__(self) -> None:
        self._hears, self._says = os.pipe()
        for end in (self._hears, self._says):
            weakref.finalize(self, os.close, end)

    def set(self) -> None:
        """Say it; fit for a signal handler."""
        os.write(self._says, b"!")

    def wait(self, within_s: float | None = None) -> bool:
        """Whether it was said, by the end of that time at the latest."""
        return bool(select.select([self._hears], [], [], within_s)[0])

    def is_set(self) -> bool:
        """Whether it was said by now."""
        return self.wait(0)
