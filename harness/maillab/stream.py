"""One stream of events from all hosts of a lab, and waiting for facts in it."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import requests
from docker.errors import DockerException

from maillab import maillog
from maillab.engine.client import connect, engine_errors
from maillab.errors import TimedOut
from maillab.maillog import Event, Sentinel

Fact = TypeVar("Fact")
# A fact that no log line announces is looked at again after this long.
_LOOK_AGAIN_S = 0.01


class Stream:
    """Events in the order of their arrival; safe to use from any thread."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._arrived = threading.Condition()
        self._followers: list[_Follower] = []
        self._lines: dict[str, list[str]] = {}
        self._name = uuid.uuid4().hex[:8]
        self._tokens = itertools.count(1)
        # Seconds spent in waiting, by what for.
        self.waited_s: defaultdict[str, float] = defaultdict(float)

    def follow(self, host: str, container: str) -> None:
        """Take in a container's log from its beginning on."""
        self._lines[host] = []
        self._followers.append(_Follower(self, host, container))

    def follow_again(self, host: str) -> None:
        """Take in what a container logs since it was started again."""
        before = next(one for one in self._followers if one.host == host)
        before.join()
        self._followers.remove(before)
        self._followers.append(_Follower(self, host, before.container, before.taken_bytes))

    def close(self) -> None:
        """Follow no more."""
        for follower in self._followers:
            follower.close()

    def feed(self, host: str, lines: Iterable[bytes]) -> None:
        """Take in lines of a host's log."""
        now = time.monotonic()
        with self._arrived:
            for line in lines:
                event = maillog.parse(line, host=host, seq=len(self._events), arrived=now)
                self._events.append(event)
                self._lines.setdefault(host, []).append(line.decode(errors="backslashreplace"))
            self._arrived.notify_all()

    @property
    def position(self) -> int:
        """How many events have arrived by now."""
        return len(self._events)

    def since(self, position: int = 0) -> tuple[Event, ...]:
        """The events from a position on."""
        with self._arrived:
            return tuple(self._events[position:])

    def new_token(self) -> str:
        """A word no sentinel has had, those of earlier streams of the same lab included."""
        return f"{self._name}-{next(self._tokens)}"

    def log(self, host: str) -> list[str]:
        """A host's log lines as they came."""
        with self._arrived:
            return list(self._lines.get(host, []))

    def wait(
        self,
        fact: Callable[[], Fact | None],
        *,
        within_s: float,
        what: str,
        state: Callable[[], str] = lambda: "",
        announced: bool = True,
    ) -> Fact:
        """Wait until ``fact()`` is true, asking anew whenever lines have arrived.

        A fact that is not ``announced`` by a log line is asked for in between, too.
        Raises TimedOut with ``what``, the last state and the tail of the log.
        """
        began = time.monotonic()
        deadline = began + within_s
        while True:
            seen = self.position
            found = fact()
            if found:
                self.waited_s[what] += time.monotonic() - began
                return found
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimedOut(
                    f"{what} did not happen within {within_s:g} s\n{state()}{self.tail()}"
                )
            with self._arrived:
                self._arrived.wait_for(
                    lambda: len(self._events) > seen,  # noqa: B023  # called before seen changes
                    left_s if announced else min(left_s, _LOOK_AGAIN_S),
                )

    def wait_for_marks(self, tokens: Mapping[str, str], *, since: int, within_s: float) -> None:
        """Wait for each host's sentinel, asked for after ``since``, and so for all before it."""
        missing = set(tokens.items())
        seen = since

        def arrived() -> bool:
            nonlocal seen
            events = self.since(seen)
            seen += len(events)
            missing.difference_update(
                (event.host, event.token) for event in events if isinstance(event, Sentinel)
            )
            return not missing

        self.wait(arrived, within_s=within_s, what=f"the mark in the log of {sorted(tokens)}")

    def tail(self, count: int = 15) -> str:
        """The last lines of all logs, as a paragraph."""
        events = self.since(max(0, self.position - count))
        return "last log lines:\n" + "".join(
            f"  {event.host}: {event.program} {event.queue_id} {event.text}\n" for event in events
        )


class _Follower(threading.Thread):
    """Reads one container's log until it ends or nobody wants it any more.

    The engine keeps a container's log over its restarts; ``skip_bytes`` of it
    were taken in before.
    """

    def __init__(self, stream: Stream, host: str, container: str, skip_bytes: int = 0) -> None:
        super().__init__(daemon=True, name=f"log of {host}")
        self.host = host
        self.container = container
        self.taken_bytes = 0
        self._stream = stream
        self._skip_bytes = skip_bytes
        with engine_errors(f"following the log of {host}"):
            self._log = connect().api.logs(container, stream=True, follow=True)
        self.start()

    def run(self) -> None:
        pending = b""
        try:
            for chunk in self._log:
                fresh = chunk[max(0, self._skip_bytes - self.taken_bytes) :]
                self.taken_bytes += len(chunk)
                *lines, pending = (pending + fresh).split(b"\n")
                if lines:
                    self._stream.feed(self.host, lines)
        except (requests.exceptions.RequestException, DockerException, OSError, ValueError):
            # The container or the engine is gone, or we closed the connection; whoever
            # needs the host next is told so by its channel.
            pass
        if pending:
            # A container that was killed leaves half a line.
            self._stream.feed(self.host, [pending])

    def close(self) -> None:
        self._log.close()
