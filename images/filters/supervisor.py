"""PID 1 of a container with filters: starts them, and passes on what they log.

FILTERS names the filters to start (parts.py). Each line that a filter logs or prints becomes
a line of the mail host's own log: the two containers share the queue, and so the socket of
postlogd(8). It is also a line of this container's log.

Requests arrive on the control socket, one JSON object on a line each; so do answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Deque, Dict, List

import parts
import running
from syslogline import as_logged

CONTROL = Path("/run/maillab/filters")
# Reports that the container's start is complete, see baseline.py.
BOOTED = Path("/run/maillab/booted")
# Every filter of the topology listens; for the health check.
READY = Path("/run/maillab/ready")
SYSLOG = Path("/dev/log")
POSTLOG = "/var/spool/postfix/public/postlog"
RESOLVER = Path("/etc/resolv.conf")
# The topology's own preparations, such as keys.
SETUP = Path("/etc/maillab/filters-setup.sh")
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


class DoesNotStart(Exception):
    """A filter or a setup failed; the text has its name, its own words and its file."""


@dataclass
class Running:
    """A filter that was started: its process, and its last log lines."""

    process: subprocess.Popen[bytes]
    words: Deque[str] = field(default_factory=lambda: deque(maxlen=WORDS_MAX))


class Supervisor:
    """The filters of one host, and their log."""

    def __init__(self) -> None:
        self.host = socket.gethostname().partition(".")[0]
        self.running: Dict[str, Running] = {}
        self.failed: List[str] = []
        # Lines logged since all filters listened: a filter that has logged was used.
        self.lines = 0
        self.at_rest = False
        self.clock: Dict[str, str] = {}
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

    def pass_on(self, line: bytes) -> None:
        """Write a line to this container's log and, except at start and end, to the mail log."""
        os.write(sys.stdout.fileno(), line)
        text = line.decode(errors="replace")
        for name, part in self.running.items():
            if f" {name}[" in text or f" {name}: " in text:
                part.words.append(text.partition(f" {name}")[2].partition(": ")[2].strip())
        if not self.at_rest:
            return
        self.lines += 1
        # No program reads there while Postfix is stopped.
        with contextlib.suppress(OSError):
            self._postlog.sendto(line.rstrip(b"\n"), POSTLOG)

    def begin(self, name: str) -> None:
        """Start a filter's process."""
        part = parts.PARTS[name]
        for path in parts.sockets(part, Path(part.configuration).read_text())[1]:
            # A filter that was killed has left its socket.
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
            )
        except OSError as error:
            words = f"{part.command[0]}: {error.strerror}"
            raise DoesNotStart(f"{name} does not start: {words}") from error
        self.running[name] = Running(process)
        assert process.stdout is not None  # noqa: S101  # as ordered above
        output = process.stdout
        os.set_blocking(output.fileno(), False)

        def hear() -> None:
            data = output.read(LINE_BYTES_MAX)
            if data == b"":
                asyncio.get_running_loop().remove_reader(output)
                output.close()
            for line in (data or b"").splitlines():
                self.pass_on(as_logged(name.encode() + b": " + line, self.host))

        asyncio.get_running_loop().add_reader(output, hear)

    async def listens(self, name: str) -> None:
        """Wait until a filter listens; raise DoesNotStart if it ends first, or needs too long."""
        part, started = parts.PARTS[name], self.running[name]
        until = time.monotonic() + LISTENS_WITHIN_S
        while not parts.listens(part):
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
        """Start filters that do not run, and wait until they listen."""
        unknown = [name for name in names if name not in parts.PARTS]
        if unknown:
            known = ", ".join(parts.PARTS)
            raise DoesNotStart(f"unknown filter {unknown[0]!r} (choose from {known})")
        fresh = [name for name in names if not self.runs(name)]
        for name in fresh:
            self.begin(name)
        for name in fresh:
            await self.listens(name)

    def runs(self, name: str) -> bool:
        """Return True if a filter was started and its process is there."""
        return name in self.running and running.state(self.running[name].process.pid) not in (
            "",
            "Z",
        )

    async def stop(self, names: List[str], *, for_good: bool) -> None:
        """Kill filters; their sockets in the file system stay.

        Unless a filter stops ``for_good``, it may close its database.
        """
        pids = [self.running[name].process.pid for name in names if self.runs(name)]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGCONT)
                # Those made with libmilter need up to five seconds for SIGTERM.
                closes = self.has_database(pid) and not for_good
                os.killpg(pid, signal.SIGTERM if closes else signal.SIGKILL)
        await running.gone([member for pid in pids for member in members(pid)])
        for name in names:
            self.running.pop(name, None)

    def has_database(self, pid: int) -> bool:
        """Return True if the filter with this process has to close a database."""
        return any(
            started.process.pid == pid and parts.PARTS[name].database
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
        """Carry out a request, and return the state of the filters."""
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
        return {
            "running": [name for name in self.running if self.runs(name)],
            "pids": {name: self.running[name].process.pid for name in self.running},
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

    async def boot(self, names: List[str]) -> None:
        """Start the topology's filters; report the first that does not start."""
        try:
            prepare()
            await self.start(names)
        except DoesNotStart as error:
            self.failed.append(str(error))
            print(f"maillab: {error}", flush=True)
        else:
            READY.touch()
        self.at_rest = True
        BOOTED.touch()


def members(group: int) -> List[int]:
    """Return the processes of a process group, which has the id of its first process."""
    # The fields after the state are the parent and the group (proc(5) stat).
    found = [(pid, running.fields(pid)[2:3]) for pid in running.others()]
    return sorted(pid for pid, fields in found if fields == [str(group)])


def prepare() -> None:
    """Wait for the host's agent, then run the topology's own preparations, such as keys.

    Raise DoesNotStart if that fails.
    """
    while not RESOLVER.read_text().startswith("# maillab\n"):
        time.sleep(LOOK_AGAIN_S)
    name_the_nameserver()
    if SETUP.exists():
        argv = ["bash", "-eu", str(SETUP)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            words = (done.stderr or done.stdout).strip().splitlines()[-1:]
            raise DoesNotStart(f"{SETUP} failed: {' '.join(words)}")


def name_the_nameserver() -> None:
    """Write the lab's name server into opendkim.conf: libunbound does not read resolv.conf.

    Only images/filters has OpenDKIM.
    """
    file = Path(parts.PARTS["opendkim"].configuration)
    if not file.exists():
        return
    text = file.read_text()
    (address,) = re.findall(r"(?m)^nameserver (\S+)", RESOLVER.read_text())
    if "Nameservers" not in text:
        file.write_text(f"{text}Nameservers {address}\n")


def reap() -> None:
    """Take the exit status of every process that has ended, orphans included."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


async def main() -> None:
    """Serve until the container is stopped."""
    supervisor = Supervisor()
    asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, reap)
    supervisor.listen()
    CONTROL.parent.mkdir(parents=True, exist_ok=True)
    server = await asyncio.start_unix_server(supervisor.serve, str(CONTROL))
    await supervisor.boot(os.environ.get("FILTERS", "").split())
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
