"""One stream of events from all hosts of a lab, and waits for facts in it."""

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

from maillab.engine import container
from maillab.engine.client import connect, engine_errors
from maillab.errors import TimedOut
from maillab.mail import hostlog
from maillab.mail.maillog import Event, Sentinel

Fact = TypeVar("Fact")
# A fact that no log line announces is checked again after this long.
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
        # Seconds spent waiting, by the wait's ``what``.
        self.waited_s: defaultdict[str, float] = defaultdict(float)

    def follow(self, host: str, container: str, last_lines: int | None = None) -> None:
        """Read a container's log from the beginning, or only its last lines, and follow it.

        Which line is the first of ``last_lines`` depends on what is logged meanwhile.
        """
        self._lines[host] = []
        if last_lines is None:
            self._followers.append(_Follower(self, host, container))
        else:
            self._followers.append(_Follower(self, host, container, tail=last_lines))

    def follow_again(self, host: str) -> None:
        """Read what a container logs after it was started again."""
        before = next(follower for follower in self._followers if follower.host == host)
        before.join()
        self._followers.remove(before)
        if before.took_all:
            again = _Follower(self, host, before.container, before.taken_bytes)
        else:
            started = container.started_s(before.container)
            again = _Follower(self, host, before.container, since_s=started)
        self._followers.append(again)

    def close(self) -> None:
        """Stop following all logs."""
        for follower in self._followers:
            follower.close()

    def feed(self, host: str, lines: Iterable[bytes]) -> None:
        """Add lines of a host's log."""
        now = time.monotonic()
        with self._arrived:
            for line in lines:
                event = hostlog.parse(line, host=host, seq=len(self._events), arrived=now)
                self._events.append(event)
                self._lines.setdefault(host, []).append(line.decode(errors="backslashreplace"))
            self._arrived.notify_all()

    @property
    def position(self) -> int:
        """The number of events that have arrived so far."""
        return len(self._events)

    def since(self, position: int = 0) -> tuple[Event, ...]:
        """Return the events from a position on."""
        with self._arrived:
            return tuple(self._events[position:])

    def new_token(self) -> str:
        """Return a word that no sentinel has had, not even in an earlier stream of the lab."""
        return f"{self._name}-{next(self._tokens)}"

    def log(self, host: str) -> list[str]:
        """Return a host's log lines, unparsed."""
        with self._arrived:
            return list(self._lines.get(host, []))

    def wait(
        self,
        fact: Callable[[], Fact | None],
        *,
        within_s: float,
        what: str,
        state: Callable[[], str] = lambda: "",
        polled: bool = False,
    ) -> Fact:
        """Wait until ``fact()`` is true; check it again whenever log lines have arrived.

        Set ``polled=True`` for a fact that no log line announces: it is checked
        in between, too. ``what`` completes "… within 30 s" in the message, such as
        "mail did not settle". Raise TimedOut with ``what``, the last state and the
        last log lines.
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
                raise TimedOut(f"{what} within {within_s:g} s\n{state()}{self.tail()}")
            with self._arrived:
                self._arrived.wait_for(
                    lambda: len(self._events) > seen,  # noqa: B023  # called before seen changes
                    min(left_s, _LOOK_AGAIN_S) if polled else left_s,
                )

    def wait_for_marks(self, tokens: Mapping[str, str], *, since: int, within_s: float) -> None:
        """Wait for each host's sentinel after ``since``, and so for all lines before it."""
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

        hosts = ", ".join(sorted(tokens))
        self.wait(arrived, within_s=within_s, what=f"no mark arrived in the log of {hosts}")

    def tail(self, count: int = 15) -> str:
        """Return the last lines of all logs as a paragraph."""
        events = self.since(max(0, self.position - count))
        return "last log lines:\n" + "".join(
            f"  {event.host}: {event.program} {event.queue_id} {event.text}\n" for event in events
        )


class _Follower(threading.Thread):
    """A thread that reads one container's log until the log ends or the follower is closed.

    The engine keeps a container's log across restarts. ``skip_bytes`` is the part that
    was read before. Alternatively, reading starts at the last lines (``tail``) or at a
    time of the engine's clock (``since_s``).
    """

    def __init__(
        self,
        stream: Stream,
        host: str,
        container: str,
        skip_bytes: int = 0,
        *,
        tail: int | None = None,
        since_s: float | None = None,
    ) -> None:
        super().__init__(daemon=True, name=f"log of {host}")
        self.host = host
        self.container = container
        self.taken_bytes = 0
        self.took_all = tail is None and since_s is None
        self._stream = stream
        self._skip_bytes = skip_bytes
        with engine_errors(f"following the log of {host}"):
            self._log = connect().api.logs(
                container,
                stream=True,
                follow=True,
                tail="all" if tail is None else tail,
                since=since_s,
            )
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
            # The container or the engine is gone, or we closed the connection; the next
            # use of the host's channel reports it.
            pass
        if pending:
            # A container that was killed leaves half a line.
            self._stream.feed(self.host, [pending])

    def close(self) -> None:
        self._log.close()
