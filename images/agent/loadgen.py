"""Many SMTP sessions at once from inside the lab, on aiosmtplib: every message accounted for.

The channel (load.py) starts worker processes, which run this file as a program:
the argument is a file with the plan, "go" comes on standard input; on standard
output comes a JSON line of counts a few times a second, and in the end one line
for each message. What a worker that is ended has done by then it still tells.

Latencies are seconds by phase: connect, greeting, EHLO, MAIL, RCPT (all of
them), DATA, end of data; "whole" is from when the message was due. In closed
loop a message is due when a session is free for it; in open loop by the rate,
so that a server that stalls cannot hide (coordinated omission).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import random
import resource
import signal
import ssl
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from aiosmtplib.errors import SMTPException, SMTPResponseException
from aiosmtplib.protocol import SMTPProtocol

from loadlimits import check_address, raise_file_limit

PHASES = ("connect", "greeting", "EHLO", "MAIL", "RCPT", "DATA", "end of data")
TELL_EVERY_S = 0.2
OK, WILL_FORWARD, START_INPUT, GOES_AWAY = 250, 251, 354, 421
AUTHENTICATED = 235
FINAL = range(500, 600)
TOKEN = b"@TOKEN@"
TO = b"@TO@"


@dataclass(slots=True)
class Record:
    """One message: what it was, what came of it, and how long each phase took."""

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
    phases: dict[str, float] = field(default_factory=dict)


class Worker:
    """One process's share of a plan."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        self.address: str = plan["address"]
        self.port: int = plan["port"]
        self.dice = random.Random(plan["seed"])  # noqa: S311  # to be repeated
        self.templates = [text.encode("latin-1") for text in plan["templates"]]
        self.ehlo = f"EHLO {plan['name']}".encode()
        self.mail = f"MAIL FROM:<{plan['sender']}>".encode()
        self.records: list[Record] = []
        self.replies: Counter[int] = Counter()
        self.counts: Counter[str] = Counter()
        self.open = 0
        self.began = 0.0
        self.late_since: Optional[float] = None
        self.all_open = asyncio.Event()
        self.go = asyncio.Event()
        self.over = asyncio.Event()
        self.numbers = itertools.count(plan["first_number"], plan["step"])
        self.left = plan["messages"]
        self.waiting: asyncio.Queue[Record] = asyncio.Queue()

    # The messages.

    def next_record(self, due_s: float) -> Optional[Record]:
        """The next message of the plan, or None when all were given out."""
        if self.left <= 0 or self.over.is_set():
            return None
        self.left -= 1
        plan = self.plan
        count = self.dice.choices(*zip(*plan["recipient_counts"]))[0]  # noqa: B905  # pairs
        record = Record(
            next(self.numbers),
            self.dice.sample(plan["recipients"], count),
            self.dice.choices(range(len(self.templates)), plan["template_weights"])[0],
            due_s,
        )
        self.records.append(record)
        return record

    async def take(self) -> Optional[Record]:
        """Wait for a message: at once in closed loop, when one is due in open loop."""
        if not self.plan["rate"]:
            return self.next_record(time.perf_counter())
        getting = asyncio.ensure_future(self.waiting.get())
        ending = asyncio.ensure_future(self.over.wait())
        await asyncio.wait((getting, ending), return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if getting.done():
            record = getting.result()
            return record if record.number >= 0 else None
        getting.cancel()
        return None

    async def arrivals(self) -> None:
        """Open loop: messages become due at the rate, whoever is free or not."""
        began, gap_s = time.perf_counter(), 1 / self.plan["rate"]
        for number in itertools.count():
            due_s = began + number * gap_s
            wait_s = due_s - time.perf_counter()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            record = self.next_record(due_s)
            if record is None:
                break
            self.waiting.put_nowait(record)
        for _ in range(self.plan["sessions"]):
            self.waiting.put_nowait(Record(-1, [], 0, 0.0))

    # A session.

    async def session(self) -> None:
        """Send messages as long as there are any, in as many connections as it takes."""
        held: Optional[SMTPProtocol] = None
        phases: dict[str, float] = {}
        if self.plan["barrier"]:
            held = await self.connect_for_good(phases)
            self.counts["connected" if held else "never connected"] += 1
            if self.counts["connected"] + self.counts["never connected"] >= self.plan["sessions"]:
                self.all_open.set()
            await self.go.wait()
        sent = 0
        while (record := await self.take()) is not None:
            record.phases.update(phases)
            phases = {}
            held = await self.deliver(record, held)
            sent += 1
            if held is not None and sent % self.plan["messages_per_session"] == 0:
                await self.leave(held)
                held = None
        if held is not None:
            await self.leave(held)

    async def connect_for_good(self, phases: dict[str, float]) -> Optional[SMTPProtocol]:
        """Connect, again and again if need be, so that all are open at once."""
        for _ in range(1 + self.plan["retries"]):
            if self.over.is_set():
                break
            with contextlib.suppress(OSError, SMTPException, asyncio.TimeoutError):
                async with asyncio.timeout(self.plan["timeout_s"]):
                    return await self.connect(phases)
            self.counts["retried"] += 1
        return None

    async def deliver(self, record: Record, held: Optional[SMTPProtocol]) -> Optional[SMTPProtocol]:
        """One message, tried anew in another session where none was there or it broke off."""
        while True:
            record.attempts += 1
            try:
                async with asyncio.timeout(self.plan["timeout_s"]):
                    if held is None:
                        held = await self.connect(record.phases)
                    await self.transaction(record, held)
            except SMTPResponseException as error:
                record.code, record.text = error.code, error.message
                record.outcome = "refused"
                held = None
            except (TimeoutError, OSError, SMTPException) as error:
                self.counts["broken"] += 1
                self.drop(held)
                held = None
                if record.outcome != "unknown":
                    record.outcome = "refused"
                record.text = f"{type(error).__name__}: {error}"
            again = record.outcome == "refused" and record.code not in FINAL
            if not again or record.attempts > self.plan["retries"] or self.over.is_set():
                break
            self.counts["retried"] += 1
        record.done_s = time.perf_counter()
        record.phases["whole"] = record.done_s - record.due_s
        self.counts[record.outcome] += 1
        return held

    async def connect(self, phases: dict[str, float]) -> SMTPProtocol:
        """Open a session up to the reply to EHLO; raises what went wrong."""
        loop = asyncio.get_running_loop()
        began = time.perf_counter()
        protocol: Optional[SMTPProtocol] = None
        try:
            try:
                _, protocol = await loop.create_connection(SMTPProtocol, self.address, self.port)
            except ConnectionRefusedError:
                self.counts["connections refused"] += 1
                raise
            self.open += 1
            began = self.lap(phases, "connect", began)
            greeting = await protocol.read_response()
            began = self.lap(phases, "greeting", began)
            self.expect(greeting, 220)
            self.expect(await protocol.execute_command(self.ehlo), OK)
            if self.plan["tls"]:
                await protocol.start_tls(_context())
                self.expect(await protocol.execute_command(self.ehlo), OK)
            self.lap(phases, "EHLO", began)
            if self.plan["auth"]:
                login = f"AUTH PLAIN {self.plan['auth']}".encode()
                self.expect(await protocol.execute_command(login), AUTHENTICATED)
        except BaseException:
            self.drop(protocol)
            raise
        return protocol

    def expect(self, reply: tuple[int, str], code: int) -> None:
        """Count a reply; raises when it is not the one that is needed."""
        self.replies[reply[0]] += 1
        if reply[0] != code:
            raise SMTPResponseException(*reply)

    @staticmethod
    def lap(phases: dict[str, float], phase: str, began: float) -> float:
        """Write down how long a phase took; returns when the next begins."""
        now = time.perf_counter()
        phases[phase] = now - began
        return now

    async def transaction(self, record: Record, protocol: SMTPProtocol) -> None:
        """MAIL to the end of data; a refusal is kept, and the session stays of use."""
        execute, replies = protocol.execute_command, self.replies
        record.outcome, record.rejections = "refused", []
        began = time.perf_counter()
        code, text = await execute(self.mail)
        began = self.lap(record.phases, "MAIL", began)
        replies[code] += 1
        accepted = 0
        if code == OK:
            for recipient in record.recipients:
                code, text = await execute(b"RCPT TO:<%s>" % recipient.encode())
                replies[code] += 1
                if code in (OK, WILL_FORWARD):
                    accepted += 1
                else:
                    record.rejections.append((recipient, code, text))
            began = self.lap(record.phases, "RCPT", began)
            if accepted:
                code, text = await execute(b"DATA")
                replies[code] += 1
                began = self.lap(record.phases, "DATA", began)
                if code == START_INPUT:
                    token = b"%s-%d" % (self.plan["token"].encode(), record.number)
                    to = ", ".join(record.recipients).encode()
                    text_ = self.templates[record.template]
                    record.outcome = "unknown"
                    protocol.write(text_.replace(TOKEN, token).replace(TO, to) + b".\r\n")
                    code, text = await protocol.read_response()
                    replies[code] += 1
                    self.lap(record.phases, "end of data", began)
                    record.outcome = "acknowledged" if code == OK else "refused"
        record.code, record.text = code, text
        if record.outcome == "refused":
            if code == GOES_AWAY:
                raise SMTPResponseException(code, text)
            await execute(b"RSET")

    async def leave(self, protocol: SMTPProtocol) -> None:
        """QUIT; what a server says to it decides nothing."""
        with contextlib.suppress(OSError, SMTPException, asyncio.TimeoutError):
            async with asyncio.timeout(self.plan["timeout_s"]):
                self.replies[(await protocol.execute_command(b"QUIT"))[0]] += 1
        self.drop(protocol)

    def drop(self, protocol: Optional[SMTPProtocol]) -> None:
        """Close a connection, if there is one."""
        if protocol is not None:
            self.open -= 1
            if protocol.transport is not None:
                protocol.transport.close()

    # The whole.

    async def run(self) -> None:
        """Play the plan, telling how it stands; the messages' lines come in the end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.over.set)
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        told = asyncio.ensure_future(self.tell_now_and_then())
        started = asyncio.ensure_future(self.wait_for_go(reader))
        if not self.plan["barrier"]:
            await self.go.wait()
        self.began = time.perf_counter()
        tasks = [asyncio.ensure_future(self.session()) for _ in range(self.plan["sessions"])]
        if self.plan["rate"]:
            await self.go.wait()
            tasks.append(asyncio.ensure_future(self.arrivals()))
        whole = asyncio.gather(*tasks)
        ending = asyncio.ensure_future(self.ended_early())
        await asyncio.wait((whole, ending), return_when=asyncio.FIRST_COMPLETED)
        if not whole.done():
            whole.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await whole
        for task in (told, started, ending):
            task.cancel()
        self.tell()
        for record in self.records:
            line = [
                record.number, record.recipients, record.template, record.outcome, record.code,
                record.text, record.rejections, record.attempts, record.due_s, record.done_s,
                record.phases,
            ]  # fmt: skip
            sys.stdout.write(json.dumps({"message": line}) + "\n")
        sys.stdout.write(json.dumps({"end": True}) + "\n")
        sys.stdout.flush()

    async def ended_early(self) -> None:
        """Told to end: what is under way gets a moment."""
        await self.over.wait()
        await asyncio.sleep(1.0)

    async def wait_for_go(self, reader: asyncio.StreamReader) -> None:
        """Open the barrier when we are told to; the end of the input ends the run."""
        if await reader.readline():
            self.go.set()
            while await reader.readline():
                pass
        self.over.set()
        self.go.set()

    async def tell_now_and_then(self) -> None:
        """For whoever watches."""
        while True:
            self.tell()
            await asyncio.sleep(TELL_EVERY_S)

    def tell(self) -> None:
        """How it stands, as one line."""
        behind = self.waiting.qsize() if self.plan["rate"] and self.left > 0 else 0
        status = {
            "at_s": time.perf_counter(),
            "open": self.open,
            "ready": self.all_open.is_set(),
            "given": len(self.records),
            "behind": behind,
            "counts": self.counts,
            "replies": self.replies,
            "rss_kb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        }
        sys.stdout.write(json.dumps(status) + "\n")
        sys.stdout.flush()


def _context() -> ssl.SSLContext:
    """TLS with whatever certificate the server has: load measures, it does not judge."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def main() -> None:
    """Be a worker."""
    plan = json.loads(Path(sys.argv[1]).read_text())
    try:
        check_address(plan["address"])
        raise_file_limit(plan["sessions"])
        worker = Worker(plan)
    except ValueError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    # What there is by now stays; of the rest hardly anything is in cycles.
    gc.freeze()
    gc.set_threshold(50_000, 50, 50)
    try:
        import uvloop  # noqa: PLC0415  # only here, so that tests need none
    except ImportError:
        asyncio.run(worker.run())
    else:
        uvloop.run(worker.run())


if __name__ == "__main__":
    main()
