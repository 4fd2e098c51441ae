"""A cache of answers about files and folders.

Reading a file or folder costs many times as much as stat(2).

Runs on every Python from 3.9 on (Debian bullseye) and needs no library.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Callable, Dict, Generic, Tuple, TypeVar

from snapshot import CLOCK_STEP_NS

Answer = TypeVar("Answer")
_MOST = 2000


class Remembered(Generic[Answer]):
    """A cached function of a path whose result depends only on the file or folder there."""

    def __init__(self, ask: Callable[[Path], Answer]) -> None:
        self._ask = ask
        self._known: Dict[str, Tuple[Tuple[int, ...], Answer]] = {}

    def about(self, path: Path) -> Answer:
        """Return the answer; raise OSError if there is no such path, and as the question does."""
        status = path.stat()
        mark = (status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns)
        known = self._known.get(str(path))
        if known and known[0] == mark:
            return known[1]
        looked_ns = time.time_ns()
        answer = self._ask(path)
        # After a recent change, a further change may get the same ctime.
        if looked_ns - status.st_ctime_ns > CLOCK_STEP_NS:
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[str(path)] = (mark, answer)
        return answer


def text_of(file: Path) -> str:
    """Return the text of a regular file; "" if there is none."""
    with contextlib.suppress(OSError):
        if file.is_file():
            return _content.about(file)
    return ""


def _decoded(file: Path) -> str:
    return os.fsdecode(file.read_bytes())


_content = Remembered(_decoded)
