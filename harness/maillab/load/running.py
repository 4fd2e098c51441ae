"""A load on one of the lab's servers, by the agents of one or more hosts (RFC 5321 sessions)."""

from __future__ import annotations

import base64
import contextlib
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, cast

from maillab.engine.channel import Answer
from maillab.errors import BadInput, LabError, TimedOut
from maillab.hosts.host import Host
from maillab.hosts.mailserver import MailServer
from maillab.hosts.session import OK, Reply
from maillab.load.plan import TO, TOKEN, Load, part_of, templates, weights
from maillab.load.report import Attempted, Band, Report, Sample
from maillab.mail.history import Submission
from maillab.mail.message import GIVEN, Probe

_OUTCOMES = ("acknowledged", "refused", "unknown")
USERS = ("alice", "bob", "carol", "dave", "joe")
# How often the state of a load is sampled and displayed.
_LOOK_EVERY_S = 0.2
# Looking into queues, which may be long, takes at most this share of the time.
_LOOKS_SHARE = 0.02
# With fewer sessions a second worker costs more than it gains.
_SESSIONS_A_WORKER = 50
# How much later than its own time limit a worker of the generator may show a change.
_GRACE_S = 60.0


def workers_each(cores: int, hosts: int, sessions: int) -> int:
    """Return the number of worker processes on each of the sending hosts.

    The hosts share one half of the cores, because the server runs on the other half.
    """
    return max(1, min(cores // (2 * hosts), sessions // hosts // _SESSIONS_A_WORKER))


@dataclass
class _Sender:
    """One sending host's part."""

    host: Host
    number: int
    token: str
    status: dict[str, Any] = field(default_factory=dict)


class _Progress:
    """The time limit of a wait for a load: the load must make progress."""

    def __init__(self, within_s: float) -> None:
        self._within_s = within_s
        self._seen: object = None
        self._since_s = time.monotonic()

    def check(self, seen: object) -> None:
        """Raise TimedOut if nothing has changed for too long."""
        now_s = time.monotonic()
        if seen != self._seen:
            self._seen, self._since_s = seen, now_s
        elif now_s - self._since_s > self._within_s:
            raise TimedOut(
                f"load: no further session, reply or message for {self._within_s:g} s: {self._seen}"
            )


class Loading:
    """A running load; in a ``with`` block it runs while the block does."""

    def __init__(
        self, load: Load, server: MailServer, clients: Sequence[Host], watched: Sequence[MailServer]
    ) -> None:
        self.load = load
        self.server = server
        self.report: Report | None = None
        self._watched = watched
        self._scenario = server.scenario
        self._templates, self._weights = templates(load, server.name)
        self._recipients = tuple(load.recipients) or tuple(
            f"{user}@{server.fqdn}" for user in USERS
        )
        most = max(weights(load.recipients_each))
        if most > len(self._recipients):
            raise BadInput(
                f"load: recipients_each must be <= the number of recipients "
                f"({len(self._recipients)}), not {most}"
            )
        if load.sessions < len(clients):
            raise BadInput(
                f"load: sessions must be >= the number of sending hosts ({len(clients)}), "
                f"not {load.sessions}"
            )
        self._after_seq = self._scenario.stream.position - 1
        self._samples: list[Sample] = []
        self._changed = threading.Condition()
        self._opened = threading.Event()
        self._over = threading.Event()
        self._seen_max = 0
        self._failure: Exception | None = None
        self._complaints: list[str] = []
        self._check_that_it_listens(clients[0])
        cores = clients[0].agent.call("load_cores")["cores"]
        self._workers = load.workers or workers_each(cores, len(clients), load.sessions)
        self._senders = [
            self._start(host, place, len(clients)) for place, host in enumerate(clients)
        ]
        self.began_s = time.monotonic()
        self._watcher = threading.Thread(target=self._watch, daemon=True, name="load")
        self._watcher.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.finish()
        else:
            self.stop()

    # While it runs.

    @property
    def state(self) -> Mapping[str, int]:
        """The number of open sessions, of messages given out and overdue, and of each outcome."""
        numbers = {
            name: sum(sender.status.get(name, 0) for sender in self._senders)
            for name in ("open", "given", "behind")
        }
        return numbers | self._totals("counts")

    @property
    def replies(self) -> Mapping[str, int]:
        """The number of replies so far, by code."""
        return self._totals("replies")

    @property
    def queued(self) -> Mapping[str, int]:
        """The number of files in each watched host's queues, at the last sample."""
        return self._samples[-1].queued if self._samples else {}

    @property
    def over(self) -> bool:
        """Return True if every worker has ended."""
        return self._over.is_set()

    @property
    def opening(self) -> bool:
        """Return True while sessions to be held are still connecting."""
        return not self._opened.is_set()

    def wait_until_open(self) -> Self:
        """Wait until messages are sent: with ``held``, until all sessions are connected.

        The wait for a session that the server does not greet ends after ``greeting_wait_s``.
        """
        self._opened.wait()
        return self

    def wait_until(
        self,
        *,
        acknowledged: int = 0,
        replies: Mapping[str, int] | None = None,
        within_s: float = 60.0,
    ) -> None:
        """Wait until this many messages are acknowledged and replies seen, or the load ends.

        Raise TimedOut if none of these counts grows for ``within_s``.
        """
        wanted = {"acknowledged": acknowledged, **(replies or {})}
        progress = _Progress(within_s)
        with self._changed:
            while not self.over:
                seen = {name: self._seen(name) for name in wanted}
                if all(seen[name] >= count for name, count in wanted.items()):
                    return
                progress.check(seen)
                self._changed.wait(_LOOK_EVERY_S)

    def _seen(self, name: str) -> int:
        """Return the number of messages with an outcome, or of replies with a code."""
        return {**self._totals("counts"), **self._totals("replies")}.get(name, 0)

    def finish(self, within_s: float = 600.0) -> Report:
        """Wait for the end and return the report.

        Raise TimedOut if no message ends for ``within_s``, but keeps a partial report.
        """
        ended, since_s = -1, 0.0
        while not self._over.wait(_LOOK_EVERY_S):
            state = self.state
            if (count := sum(state.get(outcome, 0) for outcome in _OUTCOMES)) != ended:
                ended, since_s = count, time.monotonic()
            elif time.monotonic() - since_s > within_s:
                report = self.stop()
                self.raise_failure()
                raise TimedOut(f"load: no message ended for {within_s:g} s:\n{report.text()}")
        report = self.stop()
        self.raise_failure()
        return report

    @property
    def failure(self) -> Exception | None:
        """The error that kept the load from running as requested."""
        return self._failure

    def raise_failure(self) -> None:
        """Raise the error that kept the load from running as requested, if there is one."""
        if self._failure is not None:
            raise self._failure

    def stop(self) -> Report:
        """End the load, finished or not; every attempted message is recorded."""
        if self.report is not None:
            return self.report
        # First, so that a server that does not start costs no sending host its report.
        try:
            self.server.channel.starts.make()
        except LabError as error:
            self._failure = self._failure or error
        # Stop the watcher first, because it asks about workers that end here.
        self._over.set()
        self._watcher.join()
        took_s = time.monotonic() - self.began_s
        answers: list[tuple[_Sender, Answer]] = []
        messages: list[Attempted] = []
        for sender in self._senders:
            with self._gone_without_report(sender):
                answers.append((sender, sender.host.agent.begin("load_stop", load=sender.number)))
        for sender, answer in answers:
            with self._gone_without_report(sender):
                result = answer.result(_GRACE_S)
                sender.status = result["status"] or sender.status
                attempts = [Attempted.of(line) for line in result["messages"]]
                for attempt in attempts:
                    self._submit(sender, attempt)
                messages += attempts
        self.report = self._reported(messages, took_s)
        return self.report

    # Implementation.

    def _check_that_it_listens(self, client: Host) -> None:
        """Connect once before the load starts; raises LabError if the server does not answer."""
        with client.session(self.server, port=self.load.port, timeout_s=10) as session:
            greeting = session.greeting
            session.quit()
        if not greeting.code:
            raise LabError(
                f"load: {self.server.name} does not answer on port {self.load.port} "
                f"({greeting.text}); start its Postfix, or name another port"
            )

    def _start(self, host: Host, place: int, of: int) -> _Sender:
        load, token = self.load, uuid.uuid4().hex
        workers = min(self._workers, load.sessions // of)
        parts = of * workers
        shares = range(place * workers, (place + 1) * workers)
        user = base64.b64encode("\0".join(("", *load.auth)).encode()).decode() if load.auth else ""
        plans = [
            {
                "address": self.server.address, "port": load.port, "name": host.fqdn,
                "sender": load.sender or f"load@{host.fqdn}", "token": token,
                "templates": self._templates, "template_weights": self._weights,
                "recipients": self._recipients,
                "recipient_counts": list(weights(load.recipients_each).items()),
                "sessions": part_of(load.sessions, share, parts),
                "messages": part_of(load.messages, share, parts),
                "messages_per_session": load.messages_per_session,
                "rate": load.rate_per_s / parts, "barrier": load.held, "tls": load.tls,
                "auth": user, "retries": load.retries, "timeout_s": load.timeout_s,
                "greeting_wait_s": load.greeting_wait_s,
                "seed": load.seed, "first_number": share, "step": parts,
            }
            for share in shares
            if part_of(load.sessions, share, parts)
        ]  # fmt: skip
        return _Sender(host, host.agent.call("load_start", plans=plans)["load"], token)

    @contextlib.contextmanager
    def _gone_without_report(self, sender: _Sender) -> Iterator[None]:
        """Keep the other hosts' messages if one sending host cannot report its own."""
        try:
            yield
        except LabError as error:
            self._failure = self._failure or error
            self._complaints.append(f"the messages of {sender.host.name} are unknown: {error}")

    def _watch(self) -> None:
        """Watch the load from the first connection to the end of all workers."""
        try:
            if self.load.held:
                self._wait_until_all_are_open()
            if not self._over.is_set():
                self.began_s = time.monotonic()
                for sender in self._senders:
                    sender.host.agent.call("load_go", load=sender.number)
                self._opened.set()
                self._take_samples()
        except Exception as error:  # noqa: BLE001  # raised where the load is waited for
            self._failure = error
        finally:
            self._opened.set()
            self._over.set()
            with self._changed:
                self._changed.notify_all()

    def _wait_until_all_are_open(self) -> None:
        """Wait until each session is greeted or given up."""
        # The workers have their own bounds: a wait for a greeting and, with retries, a second,
        # or a wait for the reply to EHLO.
        bound_s = max(2 * self.load.greeting_wait_s, self.load.timeout_s)
        progress = _Progress(bound_s + _GRACE_S)
        while not self._over.wait(_LOOK_EVERY_S):
            self._look()
            progress.check((self.state, self.replies))
            self._seen_max = max(self._seen_max, self.state["open"])
            if all(sender.status.get("ready") for sender in self._senders):
                break
        unopened = self._totals("unopened")
        if unopened:
            opened = self.load.sessions - sum(unopened.values())
            why = "".join(f"; {count} were not: {reason}" for reason, count in unopened.items())
            self._complaints.append(
                f"{opened} of {self.load.sessions} sessions were held open at once{why}"
            )
            self._failure = TimedOut(f"load: {self._complaints[-1]}")

    def _look(self) -> None:
        """Ask each sending host for its status; raises the error of a worker."""
        answers = [
            (sender, sender.host.agent.begin("load_status", load=sender.number))
            for sender in self._senders
        ]
        for sender, answer in answers:
            sender.status = answer.result()
        for sender in self._senders:
            if error := sender.status.get("error"):
                raise BadInput(f"load: {sender.host.name}: {error}")
            if error := sender.status.get("died"):
                raise LabError(f"load: {sender.host.name}: {error}")

    def _take_samples(self) -> None:
        """Take samples until all workers have ended."""
        lengths: dict[str, int] = {}
        again_s = 0.0
        every_s = 1 / self.load.rate_per_s if self.load.rate_per_s else 0.0
        progress = _Progress(self.load.timeout_s + every_s + _GRACE_S)
        while not self._over.wait(_LOOK_EVERY_S):
            self._look()
            began_s = time.monotonic()
            if began_s >= again_s:
                lengths = {
                    host.name: sum(host.queue_lengths().values())
                    for host in self._watched
                    if not host.away
                }
                again_s = began_s + (time.monotonic() - began_s) / _LOOKS_SHARE
            state = self.state
            self._seen_max = max(self._seen_max, state["open"])
            at_s = time.monotonic() - self.began_s
            self._samples.append(Sample(at_s, state["open"], state.get("acknowledged", 0), lengths))
            if all(sender.status.get("ended") for sender in self._senders):
                return
            progress.check((state, self.replies))
            with self._changed:
                self._changed.notify_all()

    def _totals(self, name: str) -> dict[str, int]:
        total: Counter[str] = Counter()
        for sender in self._senders:
            total.update(sender.status.get(name, {}))
        return dict(total)

    def _submit(self, sender: _Sender, attempt: Attempted) -> None:
        if attempt.outcome == "unsent":
            return
        token = f"{sender.token}-{attempt.number}"
        text = self._templates[attempt.template].replace(TOKEN, token)
        text = text.replace(TO, ", ".join(attempt.recipients)).replace("\r\n", "\n")
        reply = Reply(attempt.code, attempt.text)
        refused = {who for who, _, _ in attempt.rejections}
        outcome = cast("Literal['acknowledged', 'refused', 'unknown']", attempt.outcome)
        self._scenario.add(
            Submission(
                number=0,
                probe=Probe(f"<{token}{GIVEN}", "", attempt.recipients, text.encode("latin-1")),
                host=self.server.name,
                via="smtp",
                accepted=tuple(who for who in attempt.recipients if who not in refused)
                if outcome != "refused"
                else (),
                outcome=outcome,
                code=attempt.code,
                dsn=reply.dsn,
                reply=attempt.text,
                queue_id=reply.queue_id if attempt.code == OK else "",
                rejections=tuple(
                    (who, code, Reply(code, why).dsn, why) for who, code, why in attempt.rejections
                ),
                after_seq=self._after_seq,
            )
        )

    def _reported(self, messages: list[Attempted], took_s: float) -> Report:
        complaints = [*self._complaints]
        rate = self.load.rate_per_s
        behind = max((m.done_s - m.due_s for m in messages if m.done_s), default=0.0)
        reached = len(messages) / took_s if took_s else 0.0
        if rate and reached < rate * 0.95 and behind > 1:
            complaints.append(
                f"the rate of {rate:g} a second was not reached: {reached:.1f}, with all "
                f"{self.load.sessions} sessions busy; take more sessions, or a lower rate"
            )
        unsent = self.load.messages - sum(message.outcome != "unsent" for message in messages)
        if unsent:
            complaints.append(f"ended before {unsent} messages were sent")
        witnesses = [witness for witness in self._scenario.witnesses if witness.began_s]
        bands = [
            Band(
                f"{witness.fault} on {witness.host}",
                max(0.0, witness.began_s - self.began_s),
                (witness.ended_s or time.monotonic()) - self.began_s,
            )
            for witness in witnesses
            if not witness.ended_s or witness.ended_s > self.began_s
        ]
        return Report(
            asked=f"{self.load} to {self.server.name}",
            messages=tuple(messages),
            samples=tuple(self._samples),
            replies=self._totals("replies"),
            counts=self._totals("counts"),
            open_max=max(self._seen_max, 1 if messages else 0),
            took_s=took_s,
            rss_kb=sum(sender.status.get("rss_kb", 0) for sender in self._senders),
            bands=tuple(bands),
            complaints=tuple(complaints),
        )
