"""Many SMTP sessions at once from inside the lab: every message accounted for.

The channel (load.py) starts worker processes, which run this file as a program. The
argument is a file with the plan, "go" comes on standard input. On standard output a worker
reports its counts as a JSON line a few times a second, and at the end all messages, several
to a line. A worker that is ended early reports what it has done.

A worker is one loop over epoll(7). Its sessions (loadsession.py) are state machines, and
one periodic check looks for deadlines that have passed.

Latencies are seconds by phase: connect, greeting, EHLO, MAIL, RCPT (all of them), DATA,
end of data; "whole" begins when the message is due. In closed loop a message is due when a
session is free for it. In open loop it is due by the rate, so that a server that stalls
cannot hide (coordinated omission).
"""

from __future__ import annotations

import contextlib
import gc
import heapq
import ipaddress
import itertools
import json
import math
import os
import random
import re
import resource
import select
import signal
import socket
import ssl
import sys
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

from loadlimits import check_address, raise_file_limit
from loadsession import PHASES, WATCHED, Record, Session, pause_s

CHECK_EVERY_S = 0.2
# How long sessions may go on once the load is to end.
GRACE_S = 1.0
INPUT = 0
# Messages are reported together up to this number of recipients, so that no line is too long.
LINE_RECIPIENTS = 100
TOKEN = b"@TOKEN@"
TO = b"@TO@"
CONTROL = re.compile(rb"[\x00-\x1f\x7f]")


class Worker:
    """One process's share of a plan."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        address: str = plan["address"]
        self.target = (address, plan["port"])
        is_v6 = ipaddress.ip_address(address).version == 6  # noqa: PLR2004  # the version
        self.family = socket.AF_INET6 if is_v6 else socket.AF_INET
        self.timeout_s: float = plan["timeout_s"]
        self.greeting_wait_s: float = plan["greeting_wait_s"]
        self.no_greeting = (
            f"no session was greeted for {self.greeting_wait_s:g} s (greeting_wait_s)"
        )
        self.retries: int = plan["retries"]
        self.messages_per_session: int = plan["messages_per_session"]
        self.tls = _context() if plan["tls"] else None
        self.ehlo = _command(f"EHLO {plan['name']}")
        self.mail = _command(f"MAIL FROM:<{plan['sender']}>")
        self.login = _command(f"AUTH PLAIN {plan['auth']}") if plan["auth"] else b""
        self.rcpt = {name: _command(f"RCPT TO:<{name}>") for name in plan["recipients"]}
        self.templates: list[bytes] = [
            text.encode("latin-1") + b".\r\n" for text in plan["templates"]
        ]
        self.token: bytes = plan["token"].encode()
        self.draw = _Draw(plan)
        self.records: list[Record] = []
        self.replies: defaultdict[int, int] = defaultdict(int)
        self.counts: Counter[str] = Counter()
        # Why sessions that were to be held are not open, and how many.
        self.unopened: Counter[str] = Counter()
        self.open = 0
        # When a session was greeted last, of all sessions.
        self.greeted_s = -math.inf
        self.started = False
        self.interrupted = False
        self.over = False
        self.over_s = math.inf
        self.left: int = plan["messages"]
        self.sessions = [Session(self) for _ in range(plan["sessions"])]
        self.unfinished = len(self.sessions)
        # Sessions that can take a message; sessions for which none is due; messages due.
        self.free: deque[Session] = deque()
        self.resting: deque[Session] = deque()
        self.waiting: deque[Record] = deque()
        self.gap_s = 1 / plan["rate"] if plan["rate"] else 0.0
        self.due_s = math.inf
        self.pauses: list[tuple[float, int, Session]] = []
        self.pause_numbers = itertools.count()
        self.check_s = 0.0
        self.epoll = select.epoll()
        self.handlers: dict[int, Callable[[int], None]] = {}

    # For the sessions.

    def watch(self, number: int, handler: Callable[[int], None]) -> None:
        """Register a socket with epoll(7); ``handler`` gets its events."""
        self.epoll.register(number, WATCHED)
        self.handlers[number] = handler

    def forget(self, number: int) -> None:
        """Drop a socket that is about to be closed."""
        self.handlers.pop(number, None)

    def text_of(self, record: Record) -> bytes:
        """Return the text of a message, with the final dot."""
        text = self.templates[record.template]
        text = text.replace(TOKEN, b"%s-%d" % (self.token, record.number))
        return text.replace(TO, ", ".join(record.recipients).encode())

    def resume_later(self, session: Session, attempts: int) -> None:
        """Schedule the retry of a session, after a pause."""
        self.counts["retried"] += 1
        at_s = time.perf_counter() + pause_s(attempts)
        heapq.heappush(self.pauses, (at_s, next(self.pause_numbers), session))

    def opened(self, session: Session) -> None:
        """Count a session that is held open."""
        self.counts["connected"] += 1
        if self.started:
            self.free.append(session)

    def not_opened(self, session: Session, why: str) -> None:
        """Retry to hold a session open, or give it up."""
        silent = why == self.no_greeting
        if silent and session.attempts > 1 and self.greeted_s < session.opened_s:
            # The server greeted neither the second connection nor any other session's.
            again = False
        else:
            again = session.attempts <= self.retries and not self.over
        if again:
            self.resume_later(session, session.attempts)
        else:
            self.counts["never connected"] += 1
            self.unopened[why] += 1
            if self.started:
                self.free.append(session)

    def lost_idle(self, session: Session, why: str) -> None:
        """Note that the server closed a session between two messages, or before the first."""
        if self.started:
            self.counts["closed while idle"] += 1
        else:
            self.counts["connected"] -= 1
            self.not_opened(session, f"lost while held open: {why}")

    @property
    def all_open(self) -> bool:
        """Return True if each session that is to be held is open or given up."""
        return self.counts["connected"] + self.counts["never connected"] >= len(self.sessions)

    # The messages.

    def next_record(self, due_s: float) -> Optional[Record]:
        """Return the next message of the plan, or None if all were given out."""
        if self.left <= 0 or self.over:
            return None
        self.left -= 1
        record = Record(*self.draw.next(), due_s)
        self.records.append(record)
        return record

    def serve(self, session: Session) -> None:
        """Give a free session its next message, let it rest, or let it end."""
        record: Optional[Record]
        if not self.gap_s:
            record = self.next_record(time.perf_counter())
        elif self.waiting and not self.over:
            record = self.waiting.popleft()
        elif self.left and not self.over:
            self.resting.append(session)
            return
        else:
            record = None
        if record is not None:
            session.take(record)
        elif session.socket is not None:
            session.leave()
        else:
            self.unfinished -= 1

    def arrive(self, now_s: float) -> None:
        """Open loop: messages become due at the rate, even if no session is free."""
        while self.due_s <= now_s:
            record = self.next_record(self.due_s)
            self.due_s += self.gap_s
            if record is None:
                self.due_s = math.inf
            else:
                self.waiting.append(record)
            if self.resting:
                self.free.append(self.resting.popleft())
        if not self.left:
            self.free.extend(self.resting)
            self.resting.clear()

    # The whole.

    def run(self) -> None:
        """Play the plan, and report; the messages' lines come at the end."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.interrupt)
        self.epoll.register(INPUT, select.EPOLLIN)
        self.handlers[INPUT] = self.read_input
        if self.plan["barrier"]:
            for session in self.sessions:
                session.hold()
        while self.unfinished and time.perf_counter() < self.over_s + GRACE_S:
            self.turn()
        for session in self.sessions:
            session.close()
        self.report()
        messages, recipients = [], 0
        for record in self.records:
            messages.append(_reported(record))
            recipients += len(record.recipients)
            if recipients >= LINE_RECIPIENTS:
                sys.stdout.write(json.dumps({"messages": messages}) + "\n")
                messages, recipients = [], 0
        sys.stdout.write(json.dumps({"messages": messages}) + "\n")
        sys.stdout.write(json.dumps({"end": True}) + "\n")
        sys.stdout.flush()

    def turn(self) -> None:
        """Wait for events, and handle them and whatever is due."""
        handlers, free = self.handlers, self.free
        next_s = min(self.check_s, self.due_s, self.pauses[0][0] if self.pauses else math.inf)
        wait_s = 0.0 if free else max(0.0, next_s - time.perf_counter())
        for number, events in self.epoll.poll(wait_s):
            handler = handlers.get(number)
            if handler is not None:
                handler(events)
        now_s = time.perf_counter()
        if now_s >= self.due_s:
            self.arrive(now_s)
        while self.pauses and self.pauses[0][0] <= now_s:
            _, _, session = heapq.heappop(self.pauses)
            if self.started and session.record is None:
                free.append(session)
            else:
                session.resume()
        # A session that fails at once is free again; the others have their turn first.
        for _ in range(len(free)):
            self.serve(free.popleft())
        if now_s >= self.check_s:
            self.check_s = now_s + CHECK_EVERY_S
            self.check(now_s)

    def check(self, now_s: float) -> None:
        """Look for a signal and for deadlines that have passed, and report."""
        if self.interrupted:
            self.end()
        for session in self.sessions:
            if session.deadline_s <= now_s:
                session.expire(now_s)
        self.report()

    def interrupt(self, _: int, __: object) -> None:
        """Note a signal; the next check ends the load."""
        self.interrupted = True

    def end(self) -> None:
        """Send no further message; open sessions have a moment to end."""
        if self.over:
            return
        self.over = True
        self.over_s = time.perf_counter()
        self.due_s = math.inf
        self.free.extend(self.resting)
        self.resting.clear()
        self.start()
        for _, _, session in self.pauses:
            if session.record is not None:
                session.now_s = self.over_s
                session.end_attempt(session.record)
            else:
                self.free.append(session)
        self.pauses.clear()

    def start(self) -> None:
        """Let the sessions send."""
        if self.started:
            return
        self.started = True
        # Only sessions that are not open yet pause before the start.
        self.pauses.clear()
        if self.gap_s and not self.over:
            # The workers' messages are due in turn.
            self.due_s = time.perf_counter() + self.gap_s * self.draw.first / self.draw.step
        self.free.extend(session for session in self.sessions if not session.opening)

    def read_input(self, _: int) -> None:
        """Start at a line on standard input; its end ends the load."""
        if os.read(INPUT, 1024):
            self.start()
        else:
            self.epoll.unregister(INPUT)
            self.end()

    def report(self) -> None:
        """Report the counts as one line."""
        status = {
            "at_s": time.perf_counter(),
            "open": self.open,
            "ready": self.all_open,
            "given": len(self.records),
            "behind": len(self.waiting) if self.left > 0 else 0,
            "counts": self.counts,
            "unopened": self.unopened,
            "replies": self.replies,
            "rss_kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        }
        sys.stdout.write(json.dumps(status) + "\n")
        sys.stdout.flush()


class _Draw:
    """The messages of a load in order, drawn by the seed; this worker's share of them.

    Every worker draws all messages, so that their number does not change what is sent.
    """

    def __init__(self, plan: dict[str, Any]) -> None:
        self.dice = random.Random(plan["seed"])  # noqa: S311  # to be repeated
        self.recipients: list[str] = plan["recipients"]
        self.counts, self.count_weights = zip(*plan["recipient_counts"])  # noqa: B905  # pairs
        self.template_weights: list[float] = plan["template_weights"]
        self.first: int = plan["first_number"]
        self.step: int = plan["step"]
        self.number = 0

    def next(self) -> tuple[int, list[str], int]:
        """Return the number, recipients and template of the worker's next message."""
        while self.number % self.step != self.first:
            self.draw()
        number = self.number
        return (number, *self.draw())

    def draw(self) -> tuple[list[str], int]:
        """Draw the next message's recipients and template."""
        self.number += 1
        dice = self.dice
        count, template = self.counts[0], 0
        if len(self.counts) > 1:
            count = dice.choices(self.counts, self.count_weights)[0]
        if len(self.template_weights) > 1:
            template = dice.choices(range(len(self.template_weights)), self.template_weights)[0]
        if count == 1:
            return [self.recipients[int(dice.random() * len(self.recipients))]], template
        return dice.sample(self.recipients, count), template


def _reported(record: Record) -> list[Any]:
    """Return a message as it is reported."""
    phases = {name: took for name, took in zip(PHASES, record.phases) if took}  # noqa: B905  # pairs
    return [
        record.number, record.recipients, record.template, record.outcome, record.code,
        record.text, record.rejections, record.attempts, record.due_s, record.done_s, phases,
    ]  # fmt: skip


def _command(words: str) -> bytes:
    """Return a command as sent; raises ValueError for a character that would end it."""
    command = words.encode()
    if CONTROL.search(command):
        raise ValueError(f"{words!r} must not have control characters")
    return command + b"\r\n"


def _context() -> ssl.SSLContext:
    """Return a context that accepts every certificate: a load does not judge TLS."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def main() -> None:
    """Run a worker."""
    plan = json.loads(Path(sys.argv[1]).read_text())
    try:
        check_address(plan["address"])
        raise_file_limit(plan["sessions"])
        worker = Worker(plan)
    except ValueError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    # Hardly any garbage is in cycles, and what exists by now stays.
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
    # Without the parent there is nothing to report to.
    with contextlib.suppress(BrokenPipeError):
        worker.run()


if __name__ == "__main__":
    main()
