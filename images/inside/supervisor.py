"""PID 1 of a container with several programs: starts them, and passes on what they log.

An environment variable names those to start. Each line that a program logs or prints becomes
a line of this container's log. A filter's line becomes one of the mail host's own log, too: the
two containers share the queue, and so the socket of postlogd(8).

Requests arrive on the control socket, one JSON object on a line each; so do answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Deque, Dict, List, Optional

import parts
import running
from parts import Part
from syslogline import as_logged

CONTROL = Path("/run/maillab/control")
# Reports that the container's start is complete, see baseline.py.
BOOTED = Path("/run/maillab/booted")
# Every program of the topology listens; for the health check.
READY = Path("/run/maillab/ready")
SYSLOG = Path("/dev/log")
POSTLOG = "/var/spool/postfix/public/postlog"
RESOLVER = Path("/etc/resolv.conf")
# The clock of the mail host (machine.py), and how programs follow it (libfaketime).
CLOCK = {
    "LD_PRELOAD": "/opt/maillab/libfaketime.so.1",
    "FAKETIME_TIMESTAMP_FILE": "/var/spool/postfix/etc/faketimerc",
    "FAKETIME_NO_CACHE": "1",
    "NO_FAKE_STAT": "1",
}
LISTENS_WITHIN_S = 60.0
LOOK_AGAIN_S = 0.01
POSTLOG_WITHIN_S = 1.0
LINE_BYTES_MAX = 65536
WORDS_MAX = 4


@dataclass(frozen=True)
class Kind:
    """The programs of a kind of container, and what is particular to it."""

    # As in error messages, such as "filter".
    name: str
    parts: Dict[str, Part]
    # The environment variable with the names of the topology's programs.
    variable: str
    # The topology's own preparations, such as keys.
    setup: Path
    # Runs before the first start, once the host's agent is ready.
    prepare: Callable[[], None] = lambda: None

    def wanted(self) -> List[str]:
        """Return the names of the programs that the topology starts."""
        return os.environ.get(self.variable, "").split()


class DoesNotStart(Exception):
    """A program or a setup failed; the text has its name, its own words and its file."""


@dataclass
class Running:
    """A program that was started: its process, and its last log lines."""

    process: subprocess.Popen[bytes]
    # It has logged that it answers, or its log does not say so.
    ready: bool
    # The FIFO of its second log.
    log: Optional[int] = None
    words: Deque[str] = field(default_factory=lambda: deque(maxlen=WORDS_MAX))


class Supervisor:
    """The programs of one container, and their log."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.host = socket.gethostname().partition(".")[0]
        self.running: Dict[str, Running] = {}
        self.failed: List[str] = []
        # Lines logged since all programs listened: one that has logged was used.
        self.lines = 0
        self.at_rest = False
        self.clock: Dict[str, str] = {}
        # Takes what has arrived, by file descriptor.
        self.outputs: Dict[int, Callable[[], None]] = {}
        self._syslog = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._postlog = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._postlog.settimeout(POSTLOG_WITHIN_S)

    def listen(self) -> None:
        """Take the place of syslogd(8)."""
        self._syslog.bind(str(SYSLOG))
        self._syslog.setblocking(False)
        SYSLOG.chmod(0o666)
        asyncio.get_running_loop().add_reader(self._syslog, self.take)

    def take(self) -> None:
        """Pass on every line that has arrived."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.pass_on(as_logged(self._syslog.recv(LINE_BYTES_MAX), self.host))
        for take in list(self.outputs.values()):
            take()

    def pass_on(self, line: bytes) -> None:
        """Write a line to this container's log and, except at start and end, to the mail log."""
        os.write(sys.stdout.fileno(), line)
        text = line.decode(errors="replace")
        for name, started in self.running.items():
            if f" {name}[" in text or f" {name}: " in text:
                part, words = self.kind.parts[name], text.partition(f" {name}")[2]
                started.words.append(words.partition(": ")[2].strip())
                started.ready = started.ready or part.ready in text
                if part.reads and re.search(part.reads, started.words[-1]):
                    return
        if not self.at_rest:
            return
        self.lines += 1
        # No program reads there while Postfix is stopped.
        with contextlib.suppress(OSError):
            self._postlog.sendto(line.rstrip(b"\n"), POSTLOG)

    def begin(self, name: str) -> None:
        """Start a program's process."""
        part = self.kind.parts[name]
        identity: Dict[str, Any] = {}
        if part.user:
            identity = {"user": part.user, "group": part.user, "extra_groups": []}
        log = self.fifo(name, part) if part.log else None
        for path in parts.sockets(part, Path(part.configuration).read_text())[1]:
            # A program that was killed has left its socket.
            Path(path).unlink(missing_ok=True)
        try:
            process = subprocess.Popen(
                part.command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.clock},
                cwd="/",
                # With its children, and in the session of this container's own processes.
                process_group=0,
                **identity,
            )
        except OSError as error:
            words = f"{part.command[0]}: {error.strerror}"
            raise DoesNotStart(f"{name} does not start: {words}") from error
        self.running[name] = Running(process, ready=not part.ready, log=log)
        assert process.stdout is not None  # noqa: S101  # as ordered above
        output = os.dup(process.stdout.fileno())
        process.stdout.close()
        self.hear(name, output)

    def hear(self, name: str, output: int) -> None:
        """Pass on each line that arrives from a program, until it closes its output."""
        rest = b""
        os.set_blocking(output, False)

        def take() -> None:
            nonlocal rest
            try:
                data = os.read(output, LINE_BYTES_MAX)
            except BlockingIOError:
                return
            *lines, rest = (rest + data).split(b"\n")
            if data == b"":
                lines, rest = [*lines, rest], b""
                asyncio.get_running_loop().remove_reader(output)
                self.outputs.pop(output, None)
                os.close(output)
            for line in filter(None, lines):
                self.pass_on(as_logged(name.encode() + b": " + line, self.host))

        self.outputs[output] = take
        asyncio.get_running_loop().add_reader(output, take)

    def fifo(self, name: str, part: Part) -> int:
        """Make the FIFO of a program's second log, and listen to it."""
        Path(part.log).unlink(missing_ok=True)
        os.mkfifo(part.log)
        if part.user:
            shutil.chown(part.log, part.user)
        # Open for writing, too, so that it has no end.
        log = os.open(part.log, os.O_RDWR | os.O_NONBLOCK)
        self.hear(name, log)
        return log

    async def listens(self, name: str) -> None:
        """Wait until a program listens; raise DoesNotStart if it ends first, or needs too long."""
        part, started = self.kind.parts[name], self.running[name]
        until = time.monotonic() + LISTENS_WITHIN_S
        while not (started.ready and parts.listens(part)):
            ended = running.state(started.process.pid) in ("", "Z")
            if ended or time.monotonic() > until:
                # Its last lines may still be on their way.
                await asyncio.sleep(LOOK_AGAIN_S)
                self.take()
                why = " / ".join(started.words) or "it gave no reason"
                how = "" if ended else f" within {LISTENS_WITHIN_S:g} s"
                raise DoesNotStart(f"{name} does not listen{how}: {why}; see {part.configuration}")
            await asyncio.sleep(LOOK_AGAIN_S)

    async def start(self, names: List[str]) -> None:
        """Start programs that do not run, and wait until they listen."""
        known = self.kind.parts
        unknown = [name for name in names if name not in known]
        if unknown:
            names_known = ", ".join(known)
            raise DoesNotStart(
                f"unknown {self.kind.name} {unknown[0]!r} (choose from {names_known})"
            )
        fresh = [name for name in names if not self.runs(name)]
        for name in fresh:
            self.begin(name)
        for name in fresh:
            await self.listens(name)

    def runs(self, name: str) -> bool:
        """Return True if a program was started and its process is there."""
        return name in self.running and running.state(self.running[name].process.pid) not in (
            "",
            "Z",
        )

    async def stop(self, names: List[str], *, for_good: bool) -> None:
        """Kill programs; their sockets in the file system stay.

        Unless a program stops ``for_good``, it may close its database.
        """
        pids = [self.running[name].process.pid for name in names if self.runs(name)]
        ending = []
        for pid in pids:
            # Those made with libmilter need up to five seconds for SIGTERM.
            closes = self.has_database(pid) and not for_good
            # The first process is the first to end: it would replace the others.
            ours = sorted(members(pid), key=lambda member: member != pid)
            for member in ours:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(member, signal.SIGTERM if closes else signal.SIGKILL)
                    os.kill(member, signal.SIGCONT)
            ending += ours
        await running.gone(ending)
        self.take()
        for name in names:
            stopped = self.running.pop(name, None)
            if stopped and stopped.log is not None:
                asyncio.get_running_loop().remove_reader(stopped.log)
                del self.outputs[stopped.log]
                os.close(stopped.log)

    def has_database(self, pid: int) -> bool:
        """Return True if the program with this process has to close a database."""
        return any(
            started.process.pid == pid and self.kind.parts[name].database
            for name, started in self.running.items()
        )

    @contextlib.contextmanager
    def aside(self) -> Any:
        """Keep the lines of starts and ends out of the mail log."""
        self.take()
        was, self.at_rest = self.at_rest, False
        try:
            yield
        finally:
            self.take()
            self.at_rest = was

    async def answer(self, request: Dict[str, Any]) -> Dict[str, Any]:
        """Carry out a request, and return the state of the programs."""
        op, names = request["op"], request.get("names") or list(self.running)
        self.take()
        if op == "start":
            with self.aside():
                await self.start(names)
        elif op == "stop":
            with self.aside():
                await self.stop(names, for_good=request.get("for_good", False))
        elif op == "clock":
            self.clock = CLOCK if request["follows"] else {}
        elif op == "begin":
            self.lines = 0
        elif op == "mark":
            os.write(
                sys.stdout.fileno(), as_logged(f"maillab[1]: {request['text']}".encode(), self.host)
            )
        return {
            "running": [name for name in self.running if self.runs(name)],
            "pids": {name: self.running[name].process.pid for name in self.running},
            "known": list(self.kind.parts),
            "lines": self.lines,
            "failed": self.failed,
        }

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        while line := await reader.readline():
            try:
                answer = await self.answer(json.loads(line))
            except DoesNotStart as error:
                answer = {"error": str(error)}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()

    async def boot(self) -> None:
        """Start the topology's programs; report the first that does not start."""
        names = self.kind.wanted()
        try:
            prepare(self.kind)
            await self.start(names)
        except DoesNotStart as error:
            self.failed.append(str(error))
            self.take()
            self.report(f"Fatal: {error}")
        else:
            self.report(f"started: {' '.join(names)}")
            READY.touch()
        self.at_rest = True
        BOOTED.touch()

    def report(self, text: str) -> None:
        """Write a line of this program's own to the container's log."""
        os.write(sys.stdout.fileno(), as_logged(f"supervisor: {text}".encode(), self.host))


def members(group: int) -> List[int]:
    """Return the processes of a process group, and all descendants of its first process.

    The group has the id of that process. PostgreSQL's processes each have a group of their own.
    """
    # The fields after the state are the parent and the group (proc(5) stat).
    found = {pid: running.fields(pid)[1:3] for pid in running.others()}
    ours = {group} & found.keys() | {pid for pid, at in found.items() if at[1:] == [str(group)]}
    while more := {
        pid for pid, at in found.items() if at and int(at[0]) in ours and pid not in ours
    }:
        ours |= more
    return sorted(ours)


def prepare(kind: Kind) -> None:
    """Wait for the host's agent, then run the topology's own preparations, such as keys.

    Raise DoesNotStart if that fails.
    """
    while not RESOLVER.read_text().startswith("# maillab\n"):
        time.sleep(LOOK_AGAIN_S)
    kind.prepare()
    if kind.setup.exists():
        argv = ["bash", "-eu", str(kind.setup)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            words = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise DoesNotStart(f"{kind.setup} failed: {' '.join(words)}")


def reap() -> None:
    """Take the exit status of every process that has ended, orphans included."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


async def ask(op: str, **arguments: Any) -> Dict[str, Any]:
    """Ask the container's PID 1; raise RuntimeError with its words if it cannot."""
    reader, writer = await asyncio.open_unix_connection(str(CONTROL))
    writer.write(json.dumps({"op": op, **arguments}).encode() + b"\n")
    answer: Dict[str, Any] = json.loads(await reader.readline())
    writer.close()
    await writer.wait_closed()
    if "error" in answer:
        raise RuntimeError(answer["error"])
    return answer


async def main(kind: Kind) -> None:
    """Serve until the container is stopped."""
    supervisor = Supervisor(kind)
    asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, reap)
    supervisor.listen()
    CONTROL.parent.mkdir(parents=True, exist_ok=True)
    server = await asyncio.start_unix_server(supervisor.serve, str(CONTROL))
    await supervisor.boot()
    async with server:
        await server.serve_forever()
