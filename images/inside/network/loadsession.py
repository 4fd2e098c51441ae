"""One SMTP session of a load: a state machine on a non-blocking socket.

A session has no task, future or timer of its own: its worker (loadgen.py) reports events
of the socket, and deadlines that have passed. A *step* is the method that handles the next
reply. aiosmtplib's protocol needs a future, a lock and two coroutines for each command,
which costs more than the system calls; tests compare the replies with those that it reads.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Optional

from smtpreplies import first_reply, reply_text

if TYPE_CHECKING:
    from loadgen import Worker

PHASES = ("connect", "greeting", "EHLO", "MAIL", "RCPT", "DATA", "end of data", "whole")
NO_PHASES = [0.0] * len(PHASES)
CONNECT, GREETING, EHLO, MAIL, RCPT, DATA, END, WHOLE = range(len(PHASES))

SERVICE_READY, AUTHENTICATED, OK, WILL_FORWARD = 220, 235, 250, 251
START_INPUT, GOES_AWAY = 354, 421
FINAL = range(500, 600)

# Edge-triggered: each read takes all that arrived, so one report of an event is enough.
WATCHED = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
FAILED = select.EPOLLHUP | select.EPOLLERR
ENDED = select.EPOLLRDHUP | FAILED
ARRIVED = select.EPOLLIN | ENDED
READ_BYTES = 4096
NOT_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
# The pause before a retry doubles from the first to the second of these.
PAUSE_S, PAUSE_MAX_S = 0.01, 1.0
PAUSE_DOUBLINGS = 7


@dataclass(slots=True)
class Record:
    """One message: its recipients, its outcome, and the duration of each phase."""

    number: int
    recipients: list[str]
    template: int
    due_s: float
    outcome: str = "unsent"
    code: int = 0
    text: str = ""
    rejections: list[tuple[str, int, str]] = field(default_factory=list)
    attempts: int = 0
    done_s: float = 0.0
    phases: list[float] = field(default_factory=NO_PHASES.copy)


class Session:
    """A client that connects, sends messages and leaves, as often as the load requires."""

    __slots__ = (
        "accepted", "attempts", "began_s", "deadline_s", "now_s", "opened_s", "phases", "place",
        "received", "record", "secure", "sent", "socket", "step", "unsent", "worker",
    )  # fmt: skip

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.socket: Optional[socket.socket] = None
        # The message to send; None if the session is idle, or is only to be held open.
        self.record: Optional[Record] = None
        self.step: Callable[[Session, int, bytes], None] = Session.idle
        self.phases: list[float] = []
        self.received = b""
        self.unsent = b""
        self.secure = False
        # The attempts to hold the session open, and the messages sent in this connection.
        self.attempts = 0
        self.sent = 0
        # The recipients replied to, and those accepted.
        self.place = 0
        self.accepted = 0
        self.now_s = 0.0
        self.opened_s = 0.0
        self.began_s = 0.0
        self.deadline_s = math.inf

    # For the worker.

    def hold(self) -> None:
        """Connect, and send no message yet."""
        self.attempts += 1
        self.phases = NO_PHASES.copy()
        self.connect()

    def take(self, record: Record) -> None:
        """Send a message; connect first if no session is open."""
        if self.phases and self.socket is not None and not self.sent:
            # The first message has the durations of the session's opening.
            record.phases[: EHLO + 1] = self.phases[: EHLO + 1]
        self.record = record
        self.phases = record.phases
        self.attempt(record)

    def attempt(self, record: Record) -> None:
        """Try to send the message, for the first time or again."""
        record.attempts += 1
        record.outcome, record.code, record.text = "unsent", 0, ""
        self.now_s = perf_counter()
        self.deadline_s = self.now_s + self.worker.timeout_s
        if self.socket is None:
            self.connect()
        else:
            self.begin(record)

    def resume(self) -> None:
        """Retry after the pause."""
        if self.record is not None:
            self.attempt(self.record)
        else:
            self.hold()

    def leave(self) -> None:
        """End the session with QUIT; the reply decides nothing."""
        self.deadline_s = perf_counter() + self.worker.timeout_s
        self.say(b"QUIT\r\n", Session.left)

    def expire(self, now_s: float) -> None:
        """Close a session whose deadline has passed, and say which bound it was."""
        worker = self.worker
        if self.opening and self.step in (Session.connecting, Session.greeted):
            # The server takes its time: this session may wait while others are greeted.
            self.deadline_s = max(self.opened_s, worker.greeted_s) + worker.greeting_wait_s
            if self.deadline_s <= now_s:
                self.close()
                worker.not_opened(self, worker.no_greeting)
            return
        awaited = _AWAITED.get(self.step, "reply")
        self.broken(TimeoutError(f"no {awaited} within {worker.timeout_s:g} s (timeout_s)"))

    def ready(self, events: int) -> None:
        """Go on after the kernel reported events of the socket."""
        if self.step is Session.connecting:
            if events & FAILED:
                self.broken(self.failure())
                return
            self.now_s = perf_counter()
            self.lap(CONNECT)
            self.step = Session.greeted
            self.worker.open += 1
        elif self.unsent:
            unsent, self.unsent = self.unsent, b""
            self.say(unsent, self.step)
        if self.step is Session.handshaking:
            self.shake_hands()
            return
        if events & ARRIVED:
            self.receive()
        if events & ENDED and self.socket is not None:
            self.receive()

    @property
    def opening(self) -> bool:
        """Return True while a session that is to be held is not open yet."""
        return self.record is None and self.step in _OPENING

    # The socket.

    def connect(self) -> None:
        """Begin to connect."""
        worker = self.worker
        self.now_s = self.began_s = self.opened_s = perf_counter()
        if self.record is None:
            self.deadline_s = self.now_s + worker.greeting_wait_s
        self.step = Session.connecting
        self.sent = 0
        try:
            self.socket = socket.socket(worker.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            worker.watch(self.socket.fileno(), self.ready)
            code = self.socket.connect_ex(worker.target)
        except OSError as error:
            self.broken(error)
            return
        if code not in (0, errno.EINPROGRESS):
            self.broken(OSError(code, os.strerror(code)))

    def failure(self) -> OSError:
        """Return the kernel's error for a connection that did not open."""
        code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if self.socket else 0
        return OSError(code, os.strerror(code))

    def close(self) -> None:
        """Close the connection, if there is one."""
        connected = self.step is not Session.connecting
        self.step = Session.idle
        self.deadline_s = math.inf
        self.received = self.unsent = b""
        self.secure = False
        if self.socket is not None:
            self.worker.open -= connected
            self.worker.forget(self.socket.fileno())
            self.socket.close()
            self.socket = None

    def say(self, data: bytes, step: Callable[[Session, int, bytes], None]) -> None:
        """Send a command or a message; ``step`` handles the reply."""
        self.step = step
        if self.socket is None:
            return
        if self.unsent:
            # The server replied before it had read everything.
            self.unsent += data
            return
        try:
            sent = self.socket.send(data)
        except NOT_NOW:
            sent = 0
        except OSError:
            # An event follows; before that comes the last reply of the server, if there is one.
            return
        if sent < len(data):
            self.unsent = data[sent:]

    def receive(self) -> None:
        """Read what arrived, and handle each complete reply."""
        if self.socket is None:
            return
        try:
            data = self.socket.recv(READ_BYTES)
        except NOT_NOW:
            return
        except OSError as error:
            self.broken(error)
            return
        if not data:
            self.broken(ConnectionResetError("the server closed the connection"))
            return
        # TLS may hold more than it reported.
        if len(data) == READ_BYTES or self.secure:
            data += self.read_rest()
        self.now_s = perf_counter()
        self.received += data
        try:
            while self.received and (reply := first_reply(self.received)):
                code, lines = reply
                self.received = self.received[len(lines) :]
                self.worker.replies[code] += 1
                # The step may close the connection, and with it drop what was received.
                self.step(self, code, lines)
        except ValueError as error:
            self.broken(error)

    def read_rest(self) -> bytes:
        """Return what arrived beside a first piece; an error is met again by the next read."""
        pieces = []
        with contextlib.suppress(OSError):
            while self.socket is not None and (piece := self.socket.recv(READ_BYTES)):
                pieces.append(piece)
        return b"".join(pieces)

    # The replies.

    def lap(self, phase: int) -> None:
        """Record the duration of a phase; the next one begins."""
        self.phases[phase] = self.now_s - self.began_s
        self.began_s = self.now_s

    def connecting(self, code: int, lines: bytes) -> None:
        """Wait for the connection; no reply comes before it."""

    def handshaking(self, code: int, lines: bytes) -> None:
        """Wait for TLS; no reply comes before it."""

    def idle(self, code: int, lines: bytes) -> None:
        """Nothing was asked; 421 announces that the server closes the session."""
        if code == GOES_AWAY:
            self.broken(ConnectionResetError(f"the server closed it: {_reply(code, lines)}"))

    def greeted(self, code: int, lines: bytes) -> None:
        """Introduce the client."""
        self.lap(GREETING)
        if code != SERVICE_READY:
            self.turned_away(code, lines)
            return
        self.worker.greeted_s = self.now_s
        if self.record is None:
            self.deadline_s = self.now_s + self.worker.timeout_s
        self.say(self.worker.ehlo, Session.introduced)

    def introduced(self, code: int, lines: bytes) -> None:
        """Go on to TLS, to the login, or to what the session is for."""
        worker = self.worker
        if code != OK:
            self.turned_away(code, lines)
        elif worker.tls is not None and not self.secure:
            self.say(b"STARTTLS\r\n", Session.tls_granted)
        else:
            self.lap(EHLO)
            if worker.login:
                self.say(worker.login, Session.logged_in)
            else:
                self.opened()

    def tls_granted(self, code: int, lines: bytes) -> None:
        """Begin the handshake; what came in clear text after the reply is not part of TLS."""
        if code != SERVICE_READY or self.worker.tls is None or self.socket is None:
            self.turned_away(code, lines)
            return
        self.received = b""
        self.step = Session.handshaking
        try:
            self.socket = self.worker.tls.wrap_socket(self.socket, do_handshake_on_connect=False)
        except (OSError, ValueError) as error:
            self.broken(error)
        else:
            self.shake_hands()

    def shake_hands(self) -> None:
        """Go on with the handshake; EHLO comes again after it."""
        if not isinstance(self.socket, ssl.SSLSocket):
            return
        try:
            self.socket.do_handshake()
        except NOT_NOW:
            return
        except OSError as error:
            self.broken(error)
            return
        self.secure = True
        self.say(self.worker.ehlo, Session.introduced)

    def logged_in(self, code: int, lines: bytes) -> None:
        """Check the reply to AUTH."""
        if code != AUTHENTICATED:
            self.turned_away(code, lines)
        else:
            self.opened()

    def opened(self) -> None:
        """Send the message, or stay open for the first one."""
        if self.record is not None:
            self.begin(self.record)
            return
        self.step = Session.idle
        self.deadline_s = math.inf
        self.worker.opened(self)

    def begin(self, record: Record) -> None:
        """Begin the transaction."""
        record.rejections = []
        self.place = self.accepted = 0
        self.began_s = self.now_s
        self.say(self.worker.mail, Session.sender_answered)

    def sender_answered(self, code: int, lines: bytes) -> None:
        """Name the first recipient."""
        self.lap(MAIL)
        if code != OK:
            self.refused(code, lines)
        elif self.record is not None:
            self.say(self.worker.rcpt[self.record.recipients[0]], Session.recipient_answered)

    def recipient_answered(self, code: int, lines: bytes) -> None:
        """Name the next recipient, or ask for the data if at least one was accepted."""
        record = self.record
        if record is None:
            return
        if code in (OK, WILL_FORWARD):
            self.accepted += 1
        else:
            record.rejections.append((record.recipients[self.place], code, reply_text(lines)))
        self.place += 1
        if code != GOES_AWAY and self.place < len(record.recipients):
            command = self.worker.rcpt[record.recipients[self.place]]
            self.say(command, Session.recipient_answered)
            return
        self.lap(RCPT)
        if self.accepted and code != GOES_AWAY:
            self.say(b"DATA\r\n", Session.data_answered)
        else:
            self.refused(code, lines)

    def data_answered(self, code: int, lines: bytes) -> None:
        """Send the text; from now on the server may have the message."""
        self.lap(DATA)
        if code != START_INPUT:
            self.refused(code, lines)
        elif self.record is not None:
            self.record.outcome = "unknown"
            self.say(self.worker.text_of(self.record), Session.end_answered)

    def end_answered(self, code: int, lines: bytes) -> None:
        """Record the outcome."""
        self.lap(END)
        record = self.record
        if code != OK or record is None:
            self.refused(code, lines)
            return
        record.outcome, record.code, record.text = "acknowledged", code, reply_text(lines)
        self.finish(record)
        self.next_message()

    def left(self, _: int, __: bytes) -> None:
        """Close after the reply to QUIT."""
        self.close()
        self.worker.free.append(self)

    def was_reset(self, code: int, _: bytes) -> None:
        """Retry the refused message after a pause, or go on to the next."""
        if code == GOES_AWAY:
            self.close()
        if self.record is None:
            self.next_message()
        else:
            self.retry(self.record)

    # What did not work.

    def turned_away(self, code: int, lines: bytes) -> None:
        """Close a session that the server does not want."""
        self.close()
        record = self.record
        if record is None:
            self.worker.not_opened(self, _reply(code, lines))
            return
        record.outcome, record.code, record.text = "refused", code, reply_text(lines)
        self.end_attempt(record)

    def refused(self, code: int, lines: bytes) -> None:
        """Record a refusal; the session goes on unless the server said 421."""
        record = self.record
        if record is None:
            return
        record.outcome, record.code, record.text = "refused", code, reply_text(lines)
        if code == GOES_AWAY:
            self.close()
            self.end_attempt(record)
            return
        if not self.retries(record):
            self.finish(record)
        self.say(b"RSET\r\n", Session.was_reset)

    def broken(self, error: Exception) -> None:
        """Close a connection that failed; decide on its message, if it has one."""
        worker, record, step, opening = self.worker, self.record, self.step, self.opening
        self.now_s = perf_counter()
        self.close()
        why = f"{type(error).__name__}: {error}"
        if isinstance(error, ConnectionRefusedError):
            worker.counts["connections refused"] += 1
        if step is Session.left:
            worker.free.append(self)
        elif opening:
            worker.not_opened(self, why)
        elif step is Session.idle:
            # With a message, the session pauses before the retry, which connects again.
            if record is None:
                worker.lost_idle(self, why)
        else:
            worker.counts["broken"] += 1
            if record is None:
                # The refused message has its outcome.
                self.next_message()
                return
            if step is not Session.was_reset:
                record.code, record.text = 0, why
            if record.outcome != "unknown":
                record.outcome = "refused"
            self.end_attempt(record)

    def retries(self, record: Record) -> bool:
        """Return True if the message is to be tried again."""
        worker = self.worker
        refused = record.outcome == "refused" and record.code not in FINAL
        return refused and record.attempts <= worker.retries and not worker.over

    def end_attempt(self, record: Record) -> None:
        """Retry the message after a pause, or record its outcome and go on."""
        if self.retries(record):
            self.retry(record)
        else:
            self.finish(record)
            self.next_message()

    def retry(self, record: Record) -> None:
        """Retry the message after a pause."""
        self.step = Session.idle
        self.deadline_s = math.inf
        self.worker.resume_later(self, record.attempts)

    def finish(self, record: Record) -> None:
        """Record the end of a message."""
        record.done_s = self.now_s
        record.phases[WHOLE] = self.now_s - record.due_s
        self.worker.counts[record.outcome] += 1
        self.record = None

    def next_message(self) -> None:
        """Be free for a message, in this session or, after QUIT, in the next."""
        self.sent += 1
        self.step = Session.idle
        self.deadline_s = math.inf
        if self.socket is not None and self.sent >= self.worker.messages_per_session:
            self.leave()
        else:
            self.worker.free.append(self)


def pause_s(attempts: int) -> float:
    """Return the pause before a retry, so that retries outlast a server's restart."""
    return min(PAUSE_MAX_S, PAUSE_S * 2.0 ** min(attempts - 1, PAUSE_DOUBLINGS))


def _reply(code: int, lines: bytes) -> str:
    return f"{code} {reply_text(lines)}"


_OPENING = {
    Session.connecting, Session.greeted, Session.introduced, Session.tls_granted,
    Session.handshaking, Session.logged_in,
}  # fmt: skip
_AWAITED: dict[Callable[[Session, int, bytes], None], str] = {
    Session.connecting: "connection",
    Session.greeted: "greeting",
    Session.introduced: "reply to EHLO",
    Session.tls_granted: "reply to STARTTLS",
    Session.handshaking: "end of the TLS handshake",
    Session.logged_in: "reply to AUTH",
    Session.sender_answered: "reply to MAIL",
    Session.recipient_answered: "reply to RCPT",
    Session.data_answered: "reply to DATA",
    Session.end_answered: "reply to the end of data",
    Session.was_reset: "reply to RSET",
}
