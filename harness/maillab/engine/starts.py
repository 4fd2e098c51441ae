"""Starts of mail servers that wait until something needs the servers.

A setting goes into a server's files at once, and a reset restores them. Each needs a start
afterwards, and several need only one. Each channel of a lab therefore starts the waiting
servers before it sends any request that is not a setting (``@setting`` in ``images/inside``).

Only labs of a test run delay their starts. Other labs have users beside this process, who
would find a server with old settings.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from maillab.errors import LabError

_PACKAGE = __package__.partition(".")[0]


class Answer(Protocol):
    """The answer to a request, still to come."""

    def result(self) -> Any:
        """Wait for the answer; raise LabError if the operation failed."""


class Server(Protocol):
    """The channel to a server."""

    def begin(self, op: str) -> Answer:
        """Send a request without waiting for its answer."""


class _Due:
    """The start that a server needs, and the lines of the scenario that asked for it."""

    def __init__(self, op: str) -> None:
        self.op = op
        self.causes: list[str] = []

    def explained(self, error: LabError) -> LabError:
        """Return the error of the start, with the lines that the start comes from."""
        since = "; settings since the last start: " + ", ".join(self.causes)
        return type(error)(f"{error}{since if self.causes else ''}")


class Starts:
    """The servers of one lab that must be started before the lab is used; for any thread."""

    def __init__(self) -> None:
        # Requests of other threads wait until the starts are made.
        self._lock = threading.RLock()
        self._due: dict[Server, _Due] = {}
        self._making = False
        # Make a start only when something needs it.
        self.delayed = False

    def need(self, channels: Iterable[Server], op: str, verb: str = "") -> None:
        """Note that servers need the operation ``op`` before the next request.

        Only the first operation noted is made: a server that a reset left stopped needs no
        restart. ``verb`` is what the scenario did, for the report if the start fails. Raise
        as ``make`` does if starts are not delayed.
        """
        with self._lock:
            for channel in channels:
                due = self._due.setdefault(channel, _Due(op))
                if verb:
                    due.causes.append(f"{_line_of_caller()} ({verb})")
        if not self.delayed:
            self.make()

    @property
    def pending(self) -> bool:
        """Return True if a server is to be started, or is just being started."""
        return bool(self._due)

    def make(self) -> None:
        """Start all servers that are due, side by side.

        Raise LabError with the servers' words and the lines that their starts come from.
        """
        with self._lock:
            # The requests that make the starts come back here; other threads wait for the lock.
            if self._making or not self._due:
                return
            self._making = True
            try:
                errors = self._make()
            finally:
                self._due, self._making = {}, False
        if errors:
            raise type(errors[0])("; ".join(map(str, errors)))

    def _make(self) -> list[LabError]:
        answers: list[tuple[Answer, _Due]] = []
        errors: list[LabError] = []
        for channel, due in self._due.items():
            try:
                answers.append((channel.begin(due.op), due))
            except LabError as error:
                errors.append(due.explained(error))
        for answer, due in answers:
            try:
                answer.result()
            except LabError as error:
                errors.append(due.explained(error))
        return errors

    def forget(self) -> None:
        """Start nothing: the servers are about to be reset or removed."""
        with self._lock:
            self._due.clear()


def _line_of_caller() -> str:
    """Return the file and line outside this package that the call comes from."""
    frame = sys._getframe()  # noqa: SLF001  # inspect.stack() reads the sources of all frames
    while frame.f_back and _in_package(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def _in_package(module: str) -> bool:
    return module.partition(".")[0] == _PACKAGE
