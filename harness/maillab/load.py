"""A load on one of the lab's servers, by the agents of one or more hosts (RFC 5321 sessions)."""

from __future__ import annotations

import base64
import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Self, cast

from maillab.errors import BadInput, LabError, TimedOut
from maillab.history import Submission
from maillab.host import Host
from maillab.loadplan import TO, TOKEN, Load, part_of, templates, weights
from maillab.loadreport import Attempted, Band, Report, Sample
from maillab.message import GIVEN, Probe
from maillab.postfix import MailHost
from maillab.session import OK, Reply

USERS = ("alice", "bob", "carol", "dave", "joe")
# How often the state of a load is asked for: its samples, its display.
_LOOK_EVERY_S = 0.2
# Looking into queues, which may be long, takes at most this part of the time.
_LOOKS_SHARE = 0.05
_CONNECTED_WITHIN_S = 300.0


@dataclass
class _Gang:
    """One sending host's part."""

    host: Host
    number: int
    token: str
    status: dict[str, Any] = field(default_factory=dict)


class Loading:
    """A load under way; in a ``with`` block it runs beside what the block does."""

    def __init__(
        self, load: Load, server: MailHost, clients: Sequence[Host], watched: Sequence[MailHost]
    ) -> None:
        self.load = load
        self.server = server
        self.report: Report | None = None
        self._watched = watched
        self._record = server.record
        self._templates, self._weights = templates(load, server.name)
        self._recipients = tuple(load.recipients) or tuple(
            f"{user}@{server.fqdn}" for user in USERS
        )
        most = max(weights(load.recipients_each))
        if most > len(self._recipients):
            raise BadInput(
                f"load: {most} recipients each, but only {len(self._recipients)} recipients"
            )
        self._after_seq = self._record.stream.position - 1
        self._samples: list[Sample] = []
        self._changed = threading.Condition()
        self._over = threading.Event()
        self._seen_max = 0
        self._failure: Exception | None = None
        self._check_that_it_listens(clients[0])
        self._gangs = [self._start(host, place, len(clients)) for place, host in enumerate(clients)]
        if load.held:
            self._wait_until_all_are_open()
        self.began_s = time.monotonic()
        for gang in self._gangs:
            gang.host.agent.call("load_go", load=gang.number)
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
        """Sessions open, messages given out, those behind their time, and each outcome's count."""
        numbers = {
            name: sum(gang.status.get(name, 0) for gang in self._gangs)
            for name in ("open", "given", "behind")
        }
        return numbers | self._totals("counts")

    @property
    def replies(self) -> Mapping[str, int]:
        """How often each reply code came by now."""
        return self._totals("replies")

    @property
    def queued(self) -> Mapping[str, int]:
        """Files in each watched host's queues, when it was last looked."""
        return self._samples[-1].queued if self._samples else {}

    @property
    def over(self) -> bool:
        """Whether every worker has ended."""
        return self._over.is_set()

    def wait_until(
        self,
        *,
        acknowledged: int = 0,
        replies: Mapping[str, int] | None = None,
        within_s: float = 60.0,
    ) -> None:
        """Wait in the middle of a load for so many messages, or replies by code.

        Its end is waited for no longer, either. Raises TimedOut.
        """

        def true() -> bool:
            seen = self.replies
            return self.over or (
                self.state.get("acknowledged", 0) >= acknowledged
                and all(seen.get(code, 0) >= count for code, count in (replies or {}).items())
            )

        with self._changed:
            if not self._changed.wait_for(true, within_s):
                raise TimedOut(f"the load did not get so far within {within_s:g} s: {self.state}")

    def finish(self, within_s: float = 600.0) -> Report:
        """Wait for its end and do the accounts; raises TimedOut, its partial report kept."""
        done = self._over.wait(within_s)
        report = self.stop()
        self.raise_failure()
        if not done:
            raise TimedOut(f"the load did not end within {within_s:g} s:\n{report.text()}")
        return report

    def raise_failure(self) -> None:
        """Raise what kept it from going on, if anything did."""
        if self._failure is not None:
            raise self._failure

    def stop(self) -> Report:
        """End it, finished or not; every message that was attempted is on record."""
        if self.report is not None:
            return self.report
        # First, since it asks about what is gone then.
        self._over.set()
        self._watcher.join()
        answers = [
            (gang, gang.host.agent.begin("load_stop", load=gang.number)) for gang in self._gangs
        ]
        messages: list[Attempted] = []
        for gang, answer in answers:
            told = answer.result(60)
            gang.status = told["status"] or gang.status
            of_gang = [Attempted.of(line) for line in told["messages"]]
            for one in of_gang:
                self._submit(gang, one)
            messages += of_gang
        took_s = time.monotonic() - self.began_s
        self.report = self._reported(messages, took_s)
        return self.report

    # How it is done.

    def _check_that_it_listens(self, client: Host) -> None:
        """Ask once before hundreds are sent; raises LabError."""
        with client.session(self.server, port=self.load.port, timeout_s=10) as session:
            greeting = session.greeting
            session.quit()
        if not greeting.code:
            raise LabError(
                f"load: {self.server.name} does not answer on port {self.load.port} "
                f"({greeting.text}); start its Postfix, or name another port"
            )

    def _start(self, host: Host, place: int, of: int) -> _Gang:
        load, token = self.load, uuid.uuid4().hex
        workers = min(load.workers, load.sessions // of or 1)
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
                "seed": load.seed * 1000 + share, "first_number": share, "step": parts,
            }
            for share in shares
            if part_of(load.sessions, share, parts)
        ]  # fmt: skip
        return _Gang(host, host.agent.call("load_start", plans=plans)["load"], token)

    def _wait_until_all_are_open(self) -> None:
        deadline = time.monotonic() + _CONNECTED_WITHIN_S
        pause = threading.Event()
        while not all(gang.status.get("ready") for gang in self._gangs):
            self._look()
            open_ = self.state["open"]
            self._seen_max = max(self._seen_max, open_)
            if time.monotonic() > deadline or self._failed():
                self._abandon()
                raise self._failure or TimedOut(
                    f"load: not all of {self.load.sessions} sessions were greeted within "
                    f"{_CONNECTED_WITHIN_S:.0f} s; {open_} were connected"
                )
            pause.wait(_LOOK_EVERY_S)

    def _abandon(self) -> None:
        for gang in self._gangs:
            gang.host.agent.call("load_stop", load=gang.number)

    def _look(self) -> None:
        answers = [
            (gang, gang.host.agent.begin("load_status", load=gang.number)) for gang in self._gangs
        ]
        for gang, answer in answers:
            gang.status = answer.result()

    def _failed(self) -> bool:
        for gang in self._gangs:
            if error := gang.status.get("error"):
                self._failure = BadInput(f"load: {gang.host.name}: {error}")
        return self._failure is not None

    def _watch(self) -> None:
        """Take samples until all workers have ended."""
        lengths: dict[str, int] = {}
        again_s = 0.0
        try:
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
                self._samples.append(
                    Sample(at_s, state["open"], state.get("acknowledged", 0), lengths)
                )
                if self._failed() or all(gang.status.get("ended") for gang in self._gangs):
                    self._over.set()
                with self._changed:
                    self._changed.notify_all()
        except LabError as error:
            # Whoever waits for the load is told.
            self._failure = error
            self._over.set()
        with self._changed:
            self._changed.notify_all()

    def _totals(self, name: str) -> dict[str, int]:
        total: Counter[str] = Counter()
        for gang in self._gangs:
            total.update(gang.status.get(name, {}))
        return dict(total)

    def _submit(self, gang: _Gang, one: Attempted) -> None:
        if one.outcome == "unsent":
            return
        token = f"{gang.token}-{one.number}"
        text = self._templates[one.template].replace(TOKEN, token)
        text = text.replace(TO, ", ".join(one.recipients)).replace("\r\n", "\n")
        reply = Reply(one.code, one.text)
        refused = {who for who, _, _ in one.rejections}
        outcome = cast("Literal['acknowledged', 'refused', 'unknown']", one.outcome)
        self._record.add(
            Submission(
                number=0,
                probe=Probe(f"<{token}{GIVEN}", "", one.recipients, text.encode("latin-1")),
                host=self.server.name,
                via="smtp",
                accepted=tuple(who for who in one.recipients if who not in refused)
                if outcome != "refused"
                else (),
                outcome=outcome,
                code=one.code,
                dsn=reply.dsn,
                reply=one.text,
                queue_id=reply.queue_id if one.code == OK else "",
                rejections=tuple(
                    (who, code, Reply(code, why).dsn, why) for who, code, why in one.rejections
                ),
                after_seq=self._after_seq,
            )
        )

    def _reported(self, messages: list[Attempted], took_s: float) -> Report:
        complaints = []
        rate = self.load.rate_per_s
        behind = max((one.done_s - one.due_s for one in messages if one.done_s), default=0.0)
        reached = len(messages) / took_s if took_s else 0.0
        if rate and reached < rate * 0.95 and behind > 1:
            complaints.append(
                f"the rate of {rate:g} a second was not reached: {reached:.1f}, with all "
                f"{self.load.sessions} sessions busy; take more sessions, or a lower rate"
            )
        unsent = self.load.messages - sum(one.outcome != "unsent" for one in messages)
        if unsent:
            complaints.append(f"ended before {unsent} messages were sent")
        witnesses = [one for one in self._record.witnesses if one.began_s]
        bands = [
            Band(
                f"{one.fault} on {one.host}",
                max(0.0, one.began_s - self.began_s),
                (one.ended_s or time.monotonic()) - self.began_s,
            )
            for one in witnesses
            if not one.ended_s or one.ended_s > self.began_s
        ]
        return Report(
            asked=f"{self.load} to {self.server.name}",
            messages=tuple(messages),
            samples=tuple(self._samples),
            replies=self._totals("replies"),
            counts=self._totals("counts"),
            open_max=max(self._seen_max, 1 if messages else 0),
            took_s=took_s,
            rss_kb=sum(gang.status.get("rss_kb", 0) for gang in self._gangs),
            bands=tuple(bands),
            complaints=tuple(complaints),
        )
