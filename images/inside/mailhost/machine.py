"""Operations of a mail host: run Postfix, move its clock, restore its baseline.

A host to which nothing happened between two scenarios keeps running.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import time
from pathlib import Path
from typing import Any, Dict, List, Optional

import channel
import configuration
import mailfiles
import mailstores
import snapshot
import startup
from operations import operation, setting
from running import fields, gone, kill_all, left, names

QUEUE_DIRECTORY = mailfiles.QUEUE_DIRECTORY
MAIN_CF = Path("/etc/postfix/main.cf")
LOG = Path("/var/log/mail.log")
PRELOAD = Path("/etc/ld.so.preload")
# One file for both, in the chroot and, by a link, outside of it.
CLOCK = QUEUE_DIRECTORY / "etc/faketimerc"
CLOCK_OUTSIDE = Path("/etc/faketimerc")
# Read the file each time, and leave the times of queue files real, or no retry is ever due.
CLOCK_ENVIRONMENT = "FAKETIME_NO_CACHE=1 NO_FAKE_STAT=1"
MASTER_PID = QUEUE_DIRECTORY / "pid/master.pid"
# master(8) refuses to start while a process holds one of these locks (flock(2)).
LOCKS = (MASTER_PID, Path("/var/lib/postfix/master.lock"))
UNLOCKED_WITHIN_S = 5.0
POSTLOGD_WITHIN_S = 10.0
LOOK_AGAIN_S = 0.005
# Busy daemons continue until they are done.
RELOADED_WITHIN_S = 2.0
# Operations that do not change a host.
QUIET_OPERATIONS = {
    "collect", "conclude", "first_start", "halt", "undo", "mark", "queue_files", "queue_lengths",
    "read", "reset",
}  # fmt: skip
FIRST_DAEMONS = {"master", "pickup", "postlogd", "qmgr"}
IDLE_LINE = re.compile(rb" maillab\[1\]: | postfix/master\[\d+\]: daemon started ")
# The command that starts master(8), such as prlimit(1).
LAUNCHER: List[str] = []


class _Begun:
    """The length of the log when a reset last started Postfix."""

    log_bytes = 0


_begun = _Begun()


class _LastStop:
    """The last stop of a master(8), for the report when the next start fails."""

    report = "no stop before"


_last_stop = _LastStop()


@operation(paths={}, processes=[])
async def digest() -> Dict[str, Any]:
    """Return a checksum of each watched path, and the processes."""
    return {"paths": snapshot.sums(), "processes": sorted(names().values())}


def master_pid(file: Optional[Path] = None) -> int:
    """Return the process id of a running master(8), by default the first instance's, or 0."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((file or MASTER_PID).read_text())
        if Path(f"/proc/{pid}/comm").read_text().strip() == "master":
            return pid
    return 0


def other_masters() -> List[int]:
    """Return the process ids of the running master(8) of other instances."""
    found = []
    for folder in mailfiles.queue_directories()[1:]:
        pid = master_pid(folder / "pid/master.pid")
        if pid:
            found.append(pid)
    return found


def master_and_daemons(master: int) -> List[int]:
    """Return the process group of a master(8): the process itself and its daemons."""
    found = []
    for pid in names():
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(pid) == master:
                found.append(pid)
    return found


@operation(was_running=False)
async def stop() -> Dict[str, Any]:
    """Stop Postfix as ``postfix stop`` does; return once all its processes are gone."""
    master = master_pid()
    if master:
        await end(master)
    return {"was_running": bool(master)}


async def end(master: int) -> None:
    """Stop a master(8) and its daemons."""
    steps = startup.Steps()
    stopped = startup.named([master])
    with contextlib.suppress(ProcessLookupError):
        os.kill(master, signal.SIGTERM)
        os.kill(master, signal.SIGCONT)
    # Wait for master(8) first, since it may have forked a moment ago. A process listing while it
    # ends may show neither it nor that child, which has its locks and sockets.
    await gone([master])
    steps.done("end of master")
    count = 0
    while pids := master_and_daemons(master):
        count += len(pids)
        for pid in pids:
            # A child that has not become a daemon yet handles SIGTERM as master(8) does: it reports
            # an error that no process reads, and stays for a second.
            number = signal.SIGKILL if names().get(pid) == "master" else signal.SIGCONT
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        await gone(pids)
    steps.done("end of its daemons", f"{count} left")
    _last_stop.report = f"before that stop of {stopped}: {steps}"


@operation()
async def start() -> Dict[str, Any]:
    """Start master(8) as ``postfix start`` does after its checks; return once it listens."""
    if master_pid():
        return {}
    clock = ["env", *CLOCK_ENVIRONMENT.split()] if PRELOAD.exists() else []
    steps = startup.Steps()
    await unlocked()
    steps.done("waiting for the locks")
    with startup.errors_heard(LOCKS) as syslog:
        done = await channel.run([*LAUNCHER, *clock, "/usr/lib/postfix/sbin/master", "-w"])
    if done["status"] == 0:
        return {}
    steps.done("master -w", f"status {done['status']}")
    words = syslog.errors
    if not words:
        # postfix(1) prints to our standard error.
        asked = await channel.run(["postfix", "status"])
        words = [line for line in asked["stderr"].splitlines() if "fatal" in line]
    words = words or [done["stderr"].strip() or "no error was reported"]
    scene = syslog.scene or startup.scene(LOCKS)
    raise RuntimeError(
        f"master does not start: {' / '.join(words)} ({steps}; {_last_stop.report}; {scene})"
    )


async def unlocked() -> None:
    """Wait until no process holds a lock that master(8) needs; raise RuntimeError otherwise."""
    until = time.monotonic() + UNLOCKED_WITHIN_S
    for file in LOCKS:
        while startup.locked(file):
            pids = startup.having_open(file)
            left_s = until - time.monotonic()
            if left_s <= 0:
                holders = startup.named(pids) or "a process outside of this container"
                raise RuntimeError(
                    f"master does not start: {file} is still locked by {holders} "
                    f"after {UNLOCKED_WITHIN_S:g} s ({_last_stop.report})"
                )
            await left(pids, left_s)
            # A process that ended before the check, or a process in another container.
            await asyncio.sleep(LOOK_AGAIN_S)


@operation()
async def restart() -> Dict[str, Any]:
    """Stop and start Postfix, so that no daemon keeps an old setting; leave it if stopped."""
    if (await stop())["was_running"]:
        await start()
    return {}


@operation()
async def reload() -> Dict[str, Any]:
    """Reload as ``postfix reload`` does, without its checks; return once idle daemons ended."""
    master = master_pid()
    before = [pid for pid in master_and_daemons(master) if pid != master]
    os.kill(master, signal.SIGHUP)
    await left(before, RELOADED_WITHIN_S)
    return {}


@setting(unknown=[])
async def configure(settings: Dict[str, str]) -> Dict[str, Any]:
    """Set main.cf parameters (postconf(1) -e) for the next start; return unknown names."""
    before = MAIN_CF.read_text()
    kept = []
    dropping = False
    for line in before.removesuffix("\n").split("\n"):
        # Blank lines and comments do not end a logical line (postconf(5)).
        aside = not line.strip() or line.lstrip().startswith("#")
        if not aside and not line[0].isspace():
            dropping = line.partition("=")[0].strip() in settings
        if aside or not dropping:
            kept.append(line)
    kept += [f"{name} = {value}".replace("\n", "\n ") for name, value in settings.items()]
    MAIN_CF.write_text("".join(f"{line}\n" for line in kept))
    channel.cool(MAIN_CF)
    known = set(Path("/opt/maillab/parameters").read_text().split())
    if set(settings) - known:
        # postconf(1) knows the parameters that master.cf and other parameters define.
        check = await channel.run(["postconf", "-n"])
        unused = set(re.findall(r"unused parameter: ([^\s=]+)", check["stderr"]))
        unknown = sorted(unused & set(settings))
        if unknown:
            MAIN_CF.write_text(before)
            channel.cool(MAIN_CF)
            return {"unknown": unknown}
    configuration.remember(settings)
    return {"unknown": []}


def clock_offset_s() -> float:
    """Return the offset of this host's clock in seconds."""
    return float(CLOCK.read_text()) if CLOCK.exists() else 0.0


@operation(offset_s=0.0, waits=False)
async def warp(seconds: float) -> Dict[str, Any]:
    """Move the clock of all processes here; if mail becomes due, the host ``waits`` for ``wake``.

    The first call restarts Postfix, so that libfaketime is loaded into it. From then on, its
    daemons see a new time as soon as it is written.
    """
    offset_s = clock_offset_s() + seconds
    first = not PRELOAD.exists()
    running = bool(master_pid())
    if first:
        await stop()
        CLOCK.parent.mkdir(exist_ok=True)
    # Written in place: a new file might be read half-written.
    with CLOCK.open("r+" if CLOCK.exists() else "w") as file:
        file.write(f"{offset_s:+015.1f}\n")
    if first:
        CLOCK_OUTSIDE.symlink_to(CLOCK)
        imported = (await channel.run(["postconf", "-h", "import_environment"]))["stdout"].strip()
        await configure({"import_environment": f"{imported} {CLOCK_ENVIRONMENT}"})
        PRELOAD.write_text("/opt/maillab/libfaketime.so.1\n")
    # The next hop has to be running, too, before a delivery is tried.
    waits = running and due()
    if running and not waits:
        await start()
    return {"offset_s": offset_s, "waits": waits}


@operation(status=0, stdout="", stderr="")
async def wake() -> Dict[str, Any]:
    """Let qmgr(8) look for mail that is due after ``warp``; Postfix runs on return."""
    await start()
    # A flush would also try mail that is not due yet.
    return await channel.run(["postkick", "public", "qmgr", "D"])


def check_log_room() -> None:
    """Raise RuntimeError if the mail log's file system is full: lines would be missing."""
    folder = os.statvfs(LOG.parent)
    if folder.f_blocks and not folder.f_bavail:
        size_mb = folder.f_blocks * folder.f_frsize // 2**20
        raise RuntimeError(
            f"the mail log is full: {LOG.parent} has no room left in {size_mb} MB; "
            "look for a mail loop, or for a program that logs too much"
        )


@operation()
async def mark(text: str) -> Dict[str, Any]:
    """Write a line to the mail log after every line that was logged so far.

    The line goes through postlogd(8), like Postfix's own lines. Only if no process has that
    socket open, and so no line waits in it, the line goes to the file directly.
    """
    check_log_room()
    now = time.strftime("%b %e %H:%M:%S")
    line = f"{now} {socket.gethostname().split('.')[0]} maillab[1]: {text}".encode()
    await others_logged(line.replace(b"mark", b"behind", 1))
    if not master_pid():
        # A postlogd(8) ends soon after its master(8), and may lose lines meanwhile.
        await left(orphaned_postlogd(), POSTLOGD_WITHIN_S)
    if not await handed_over(QUEUE_DIRECTORY / "public/postlog", line):
        with LOG.open("ab", buffering=0) as file:
            file.write(line + b"\n")
    return {}


async def handed_over(service: Path, line: bytes) -> bool:
    """Send a line to a log socket, after all earlier lines; return False if no process reads it.

    The kernel keeps the order. If the socket is full, the line waits.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.setblocking(False)
        try:
            log.connect(str(service))
            sending = asyncio.get_running_loop().sock_sendall(log, line)
            await asyncio.wait_for(sending, POSTLOGD_WITHIN_S)
        except (ConnectionError, FileNotFoundError):
            return False
        except asyncio.TimeoutError:  # noqa: UP041  # another class before Python 3.11
            raise RuntimeError(
                f"no line was read from {service} for {POSTLOGD_WITHIN_S:g} s; "
                "is postlogd(8) stopped?"
            ) from None
    return True


def orphaned_postlogd() -> List[int]:
    """Return each postlogd(8) whose master(8) is gone."""
    postlogd = [pid for pid, name in names().items() if name == "postlogd"]
    # The field after the state is the parent (proc(5) stat).
    return [pid for pid in postlogd if fields(pid)[1:2] == ["1"]]


async def others_logged(line: bytes) -> None:
    """Wait until the postlogd(8) of each other instance has written its pending lines."""
    for folder in mailfiles.queue_directories()[1:]:
        before = LOG.stat().st_size
        if not logs_here(folder) or not await handed_over(folder / "public/postlog", line):
            continue
        until = time.monotonic() + POSTLOGD_WITHIN_S
        while line not in read_from(LOG, before):
            if time.monotonic() > until:
                raise RuntimeError(
                    f"the postlogd(8) of {folder.name} did not log a line "
                    f"within {POSTLOGD_WITHIN_S:g} s"
                )
            await asyncio.sleep(LOOK_AGAIN_S)


def logs_here(queue: Path) -> bool:
    """Return True if another instance (postmulti(1)) logs to the file that the lab reads."""
    with contextlib.suppress(FileNotFoundError):
        text = Path("/etc", queue.name, "main.cf").read_text()
        return bool(re.search(rf"(?m)^maillog_file\s*=\s*{re.escape(str(LOG))}\s*$", text))
    return False


def read_from(file: Path, position: int) -> bytes:
    """Return a file's content from a position on."""
    with file.open("rb") as opened:
        opened.seek(position)
        return opened.read()


def due() -> bool:
    """Return True if a moved clock has made deferred mail due: qmgr(8) stores it as mtime."""
    if not PRELOAD.exists():
        return False
    now = time.time() + clock_offset_s()
    deferred = QUEUE_DIRECTORY / "deferred"
    return any(path.stat().st_mtime <= now for path in deferred.rglob("*") if path.is_file())


@operation(queued=[], running=False, due=False)
async def queue_files() -> Dict[str, Any]:
    """Return the messages in the queue directories, see ``mailfiles.queued``."""
    # Read in the order in which mail moves, or mail that leaves one queue might be seen in none.
    is_due = due()
    return {"queued": mailfiles.queued(), "running": bool(master_pid()), "due": is_due}


@operation(lengths={}, running=False)
async def queue_lengths() -> Dict[str, Any]:
    """Return the number of files in each queue: cheap even if there are thousands."""
    return {"lengths": mailfiles.lengths(), "running": bool(master_pid())}


@operation(mailboxes=[], queued=[], rewriting={})
async def collect() -> Dict[str, Any]:
    """Return all mailboxes and the names of all queue files."""
    return {
        "mailboxes": mailstores.mailboxes(),
        "queued": mailfiles.queued(),
        "rewriting": configuration.rewriting(),
    }


def untouched() -> bool:
    """Return True if Postfix runs and nothing has happened to this host since its start.

    An operation, a process or a log line would show any change.
    """
    if not master_pid() or channel.asked - QUIET_OPERATIONS:
        return False
    if set(names().values()) - FIRST_DAEMONS:
        return False
    with LOG.open("rb") as log:
        log.seek(_begun.log_bytes)
        return all(IDLE_LINE.search(line) for line in log)


@operation(was_running=False)
async def halt(*, whole: bool) -> Dict[str, Any]:
    """Stop Postfix; leave it running if it is untouched and ``whole`` is false."""
    if not whole and untouched():
        return {"was_running": True}
    for master in other_masters():
        await end(master)
    return await stop()


@operation(mailboxes=[], queued=[], rewriting={})
async def conclude(token: str) -> Dict[str, Any]:
    """After every host was halted: mark the end of the log, and collect mailboxes and queues.

    A host that got mail from another one in the meantime is stopped first.
    """
    if not untouched():
        await halt(whole=True)
    await mark(f"mark {token}")
    return await collect()


@operation(failed=[], running=True)
async def reset(token: str, *, whole: bool = True) -> Dict[str, Any]:
    """Restore this host's baseline, and mark the log.

    Postfix runs only if it was left running; ``first_start`` starts it.
    """
    if not whole and untouched():
        await mark(f"mark {token}")
        return {"failed": [], "running": True}
    await kill_all()
    failed = snapshot.put_back()
    await mark(f"mark {token}")
    begin()
    return {"failed": failed, "running": False}


@operation()
async def first_start() -> Dict[str, Any]:
    """Start Postfix after a reset, which does not count as a change of the host."""
    return await start()


def begin() -> None:
    """Count what happens to this host from now on."""
    channel.asked.clear()
    configuration.forget()
    _begun.log_bytes = LOG.stat().st_size


def prepare() -> None:
    """Record the host's state before the first request, for ``reset``."""
    if snapshot.BASELINE.exists():
        # The operations of the channel before this one are unknown.
        channel.asked.add("what went before")
    snapshot.baseline()
