"""What can happen to a mail host's disk: full, out of inodes, failing, slow.

Loaded into the channel of Postfix's own container, beside ``machine``; so it runs
on every Python from 3.9 on (Debian bullseye).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
from pathlib import Path
from typing import Any, Dict

import channel
import machine

# What takes the room away; a reset removes it as it does every file that was not there.
BALLOON = machine.QUEUE_DIRECTORY / "maillab-balloon"
MASTER_CF = Path("/etc/postfix/master.cf")
INJECTIONS = Path("/run/maillab/inject")
TRACES = Path("/run/maillab/traces")
DEBUGGER = Path("/run/maillab/debugger")
FILL_TRIES_MAX = 100
PAGE_BYTES = 4096

# Run by a daemon that has -D in master.cf, before it does anything (DEBUG_README); it
# goes on when it is traced. A process can have one tracer, so that all join in one.
DEBUGGER_SCRIPT = f"""\
cd {INJECTIONS} || exit 0
options= calls=
for number in *; do
  read -r daemon once call action <"$number/what" || continue
  [ "$daemon" = "$1" ] || continue
  [ "$once" = no ] || mkdir "$number/taken" 2>/dev/null || continue
  options="$options -e inject=$call:$action" calls="$calls,$call"
done
[ "$options" ] || exit 0
strace -q -e trace="${{calls#,}}" $options -o {TRACES}/$2 -p $2 </dev/null >/dev/null 2>&1 &
for try in $(seq 500); do
  grep -q '^TracerPid:.*[1-9]' /proc/$2/status && exit 0
  sleep 0.01
done
"""

_numbers = itertools.count(1)


async def room() -> Dict[str, Any]:
    """What is free in the queue's file system, in bytes and inodes."""
    found = os.statvfs(machine.QUEUE_DIRECTORY)
    return {"free_bytes": found.f_bavail * found.f_frsize, "free_inodes": found.f_favail}


async def fill(left_bytes: int) -> Dict[str, Any]:
    """Take all room but that of the queue's file system; exact to a page."""
    number = next(_numbers)
    balloon = f"{BALLOON}-{number}"
    handle = os.open(balloon, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        for _ in range(FILL_TRIES_MAX):
            spare = (await room())["free_bytes"] - left_bytes
            if spare > 0:
                # Fails when others take some of it at the same time; then look again.
                with contextlib.suppress(OSError):
                    os.posix_fallocate(handle, os.fstat(handle).st_size, spare)
            elif spare > -PAGE_BYTES:
                break
            else:
                os.ftruncate(handle, max(0, os.fstat(handle).st_size + spare))
    finally:
        os.close(handle)
    return {"balloon": number, **await room()}


async def take_inodes(left: int) -> Dict[str, Any]:
    """Take all inodes but so many of the queue's file system."""
    number = next(_numbers)
    folder = f"{BALLOON}-{number}"
    os.mkdir(folder, 0o700)
    with contextlib.suppress(OSError):
        for name in range((await room())["free_inodes"] - left):
            os.mknod(f"{folder}/{name}", 0o600)
    return {"balloon": number, **await room()}


async def deflate(balloon: int) -> Dict[str, Any]:
    """Give back what ``fill`` or ``take_inodes`` took."""
    path = f"{BALLOON}-{balloon}"
    if os.path.isdir(path):
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    return {}


async def inject_start(daemon: str, call: str, action: str, *, once: bool) -> Dict[str, Any]:
    """Have strace(1) tamper with a system call of a daemon; Postfix is restarted for it.

    With ``once`` in the first process of that daemon only, else in each.
    """
    number = next(_numbers)
    TRACES.mkdir(parents=True, exist_ok=True)
    DEBUGGER.write_text(DEBUGGER_SCRIPT)
    folder = INJECTIONS / str(number)
    folder.mkdir(parents=True)
    (folder / "what").write_text(f"{daemon} {'yes' if once else 'no'} {call} {action}\n")
    debug(daemon, on=True)
    await machine.configure({"debugger_command": f"sh {DEBUGGER} $process_name $process_id"})
    return {"injection": number}


async def inject_stop(injection: int) -> Dict[str, Any]:
    """Tamper no more; how often strace(1) says it did."""
    folder = INJECTIONS / str(injection)
    daemon, _, call, action = (folder / "what").read_text().split()
    shutil.rmtree(folder)
    if not any(what.read_text().split()[0] == daemon for what in INJECTIONS.glob("*/what")):
        debug(daemon, on=False)
    running = (await machine.stop())["was_running"]
    version = (await channel.run(["strace", "-V"]))["stdout"]
    counted = injected(call, action, marked=" version 5." not in version)
    if not any(INJECTIONS.iterdir()):
        text = machine.MAIN_CF.read_text()
        machine.MAIN_CF.write_text(re.sub(r"(?m)^debugger_command = sh .*\n", "", text))
        channel.cool(machine.MAIN_CF)
        shutil.rmtree(TRACES)
    if running:
        await machine.start()
    return {"injected": counted}


def debug(daemon: str, *, on: bool) -> None:
    """Have master(8) start all services that this program serves with -D, or without."""
    rows = re.compile(rf"(?m)^(\S+(?:\s+\S+){{6}}\s+{re.escape(daemon)})(?: -D)?(?=\s|$)")
    MASTER_CF.write_text(rows.sub(r"\1 -D" if on else r"\1", MASTER_CF.read_text()))
    channel.cool(MASTER_CF)


def injected(call: str, action: str, *, marked: bool = True) -> int:
    """How often the traces say that a call was tampered with in that way.

    Old straces, Debian bullseye's, do not mark what they delayed: that is every
    call that they show and that did not fail.
    """
    error = re.match(r"error=(\w+)", action)
    delayed = r"= \S+.* \(DELAYED\)$" if marked else r"= \d+$"
    ending = rf"= -1 {error.group(1)} \([^)]*\) \(INJECTED" if error else delayed
    line = re.compile(rf"(?m)^{call}\(.*\) +{ending}")
    return sum(len(line.findall(trace.read_text())) for trace in TRACES.iterdir())


async def heal() -> None:
    """Tamper with nothing; a reset puts configuration and queue back."""
    for folder in (INJECTIONS, TRACES):
        shutil.rmtree(folder, ignore_errors=True)


OPERATIONS = {
    operation.__name__: operation
    for operation in (deflate, fill, inject_start, inject_stop, room, take_inodes)
}
