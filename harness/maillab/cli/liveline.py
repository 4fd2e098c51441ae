"""One line on a terminal that shows progress, and is erased at the end."""

from __future__ import annotations

import os
from typing import TextIO

_ERASE = "\r\x1b[K"
_CUT = "…"


class LiveLine:
    """A line that is rewritten in place; without a terminal there is no output."""

    def __init__(self, stream: TextIO, *, quiet: bool = False) -> None:
        self._stream = stream
        self.quiet = quiet or not stream.isatty() or os.environ.get("TERM") == "dumb"

    def show(self, text: str) -> None:
        """Replace the line, cut to the terminal's width: a line that wraps cannot be erased."""
        if self.quiet:
            return
        # Read each time, since terminals are resized; 0 if the terminal does not know.
        columns = os.get_terminal_size(self._stream.fileno()).columns or 80
        # On some terminals, a character in the last column moves the cursor to the next line.
        width = max(1, columns - 1)
        line = text if len(text) <= width else text[: width - 1] + _CUT
        self._write(_ERASE + line)

    def clear(self) -> None:
        """Erase the line."""
        if not self.quiet:
            self._write(_ERASE)

    def _write(self, text: str) -> None:
        encoding = self._stream.encoding or "ascii"
        self._stream.write(text.encode(encoding, "replace").decode(encoding))
        self._stream.flush()
