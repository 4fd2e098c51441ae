"""Faults of a mail host's disk: full, out of inodes, failing, slow.

Loaded into the channel of Postfix's own container, next to ``machine``; so it runs on every
Python from 3.9 on (Debian bullseye).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any, Dict, List

import channel
import machine
from operations import Handles, left_to_reset, new_number, operation

# Occupies the space. A reset removes it, like every file that is not in the baseline.
FILLER = machine.QUEUE_DIRECTORY / "maillab-filler"
MASTER_CF = Path("/etc/postfix/master.cf")
INJECTIONS = Path("/run/maillab/inject")
TRACES = Path("/run/maillab/traces")
DEBUGGER = Path("/run/maillab/debugger")
FILL_TRIES_MAX = 100
PAGE_BYTES = 4096
MASTER = "/usr/lib/postfix/sbin/master"
# The major number of loop devices, which the disks of blockdevice.py are.
LOOP_MAJOR = "7"
UNMOUNTED_WITHIN_S = 30.0
LOOK_AGAIN_S = 0.01

# A daemon with -D in master.cf runs this script before anything else (DEBUG_README), and goes
# on when it is traced. A process can have only one tracer, so all injections share one.
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


async def remove_filler(filler: Path) -> None:
    """Remove a filler."""
    if filler.is_dir():
        shutil.rmtree(filler)
    else:
        with contextlib.suppress(FileNotFoundError):
            filler.unlink()


async def stop_tampering(folder: Path) -> None:
    """End the injection that has this folder."""
    daemon = (folder / "what").read_text().split()[0]
    shutil.rmtree(folder)
    if not any(what.read_text().split()[0] == daemon for what in INJECTIONS.glob("*/what")):
        debug(daemon, on=False)
    running = (await machine.stop())["was_running"]
    if not any(INJECTIONS.iterdir()):
        text = machine.MAIN_CF.read_text()
        machine.MAIN_CF.write_text(re.sub(r"(?m)^debugger_command = sh .*\n", "", text))
        channel.cool(machine.MAIN_CF)
        shutil.rmtree(TRACES)
    if running:
        await machine.start()


class Stay:
    """A folder's time on another disk, and the instances of Postfix that wait for a move.

    An instance is named by its MAIL_CONFIG, "" for the first one.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.stopped: List[str] = []

    async def stop(self) -> None:
        """Stop the instances whose queue is in the folder."""
        for master in (machine.master_pid(), *machine.other_masters()):
            if master and f"{os.readlink(f'/proc/{master}/cwd')}/".startswith(f"{self.path}/"):
                self.stopped.append(configuration_of(master))
                await machine.end(master)

    async def start(self) -> None:
        """Start the stopped instances again."""
        stopped, self.stopped = self.stopped, []
        for folder in stopped:
            if folder:
                await channel.run(["env", f"MAIL_CONFIG={folder}", MASTER, "-w"])
            else:
                await machine.start()

    @property
    def is_mounted(self) -> bool:
        """Return True while a disk is mounted on the folder."""
        mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        return any(
            place == self.path and device.startswith(f"{LOOP_MAJOR}:")
            for _, _, device, _, place, *_ in mounts
        )


def configuration_of(master: int) -> str:
    """Return the MAIL_CONFIG of a master(8), "" for none."""
    environment = Path(f"/proc/{master}/environ").read_bytes().decode(errors="replace")
    found = re.search(r"(?:^|\0)MAIL_CONFIG=([^\0]*)", environment)
    return found[1] if found else ""


async def return_from(stay: Stay) -> None:
    """End a stay: stop what runs there, wait until the disk is gone, and start it again.

    The helper that mounted the disk moves everything back once no daemon is left. If the
    harness dies, both see their channels end and do the same.
    """
    await stay.stop()
    until = time.monotonic() + UNMOUNTED_WITHIN_S
    try:
        while stay.is_mounted:
            if time.monotonic() > until:
                raise RuntimeError(f"the disk of {stay.path} is still mounted")
            await asyncio.sleep(LOOK_AGAIN_S)
    finally:
        await stay.start()


_stays: Handles[Stay] = Handles(__name__, return_from, at_reset=left_to_reset)
_fillers: Handles[Path] = Handles(__name__, remove_filler, at_reset=left_to_reset)
_injections: Handles[Path] = Handles(__name__, stop_tampering, at_reset=left_to_reset)


@operation(free_bytes=0, free_inodes=0)
async def free_space() -> Dict[str, Any]:
    """Return the free bytes and inodes of the queue's file system."""
    found = os.statvfs(machine.QUEUE_DIRECTORY)
    return {"free_bytes": found.f_bavail * found.f_frsize, "free_inodes": found.f_favail}


@operation(filler=0, free_bytes=0, free_inodes=0)
async def fill(left_bytes: int) -> Dict[str, Any]:
    """Fill the queue's file system up to ``left_bytes``, exact to a page."""
    number = new_number()
    filler = Path(f"{FILLER}-{number}")
    _fillers.add(filler, number)
    handle = os.open(filler, os.O_CREAT | os.O_WRONLY, 0o600)
    try:
        for _ in range(FILL_TRIES_MAX):
            spare = (await free_space())["free_bytes"] - left_bytes
            if spare > 0:
                # This fails if another process takes space at the same time; then check again.
                with contextlib.suppress(OSError):
                    os.posix_fallocate(handle, os.fstat(handle).st_size, spare)
            elif spare > -PAGE_BYTES:
                break
            else:
                os.ftruncate(handle, max(0, os.fstat(handle).st_size + spare))
    finally:
        os.close(handle)
    return {"filler": number, **await free_space()}


@operation(filler=0, free_bytes=0, free_inodes=0)
async def take_inodes(left: int) -> Dict[str, Any]:
    """Take all but ``left`` inodes of the queue's file system."""
    number = new_number()
    folder = Path(f"{FILLER}-{number}")
    _fillers.add(folder, number)
    os.mkdir(folder, 0o700)
    with contextlib.suppress(OSError):
        for name in range((await free_space())["free_inodes"] - left):
            os.mknod(f"{folder}/{name}", 0o600)
    return {"filler": number, **await free_space()}


@operation()
async def unfill(filler: int) -> Dict[str, Any]:
    """Free what ``fill`` or ``take_inodes`` took."""
    if filler in _fillers:
        await _fillers.undo(filler)
    else:
        # A channel that died left it.
        await remove_filler(Path(f"{FILLER}-{filler}"))
    return {}


@operation(injection=0)
async def inject_start(daemon: str, call: str, action: str, *, once: bool) -> Dict[str, Any]:
    """Let strace(1) tamper with a system call of a daemon; restart Postfix for it.

    With ``once``, tamper only with the first process of that daemon, otherwise with each.
    """
    number = new_number()
    TRACES.mkdir(parents=True, exist_ok=True)
    DEBUGGER.write_text(DEBUGGER_SCRIPT)
    folder = INJECTIONS / str(number)
    folder.mkdir(parents=True)
    _injections.add(folder, number)
    (folder / "what").write_text(f"{daemon} {'yes' if once else 'no'} {call} {action}\n")
    debug(daemon, on=True)
    await machine.configure({"debugger_command": f"sh {DEBUGGER} $process_name $process_id"})
    await machine.restart()
    return {"injection": number}


@operation()
async def inject_stop(injection: int) -> Dict[str, Any]:
    """Stop tampering, and restart Postfix."""
    if injection in _injections:
        await _injections.undo(injection)
    else:
        # A channel that died left it.
        await stop_tampering(INJECTIONS / str(injection))
    return {}


@operation(stay=0)
async def stay_begin(path: str) -> Dict[str, Any]:
    """Stop the instances whose queue is in a folder that is about to move to another disk."""
    stay = Stay(path)
    number = _stays.add(stay)
    await stay.stop()
    return {"stay": number}


@operation()
async def stay_moved(stay: int) -> Dict[str, Any]:
    """Start the instances on their new disk."""
    await _stays[stay].start()
    return {}


@operation()
async def stay_leave(stay: int) -> Dict[str, Any]:
    """Stop the instances, so that the folder can move back."""
    await _stays[stay].stop()
    return {}


@operation()
async def stay_end(stay: int) -> Dict[str, Any]:
    """Start the instances where they were before."""
    await _stays.undo(stay)
    return {}


def debug(daemon: str, *, on: bool) -> None:
    """Start all services of this program with -D, or without."""
    rows = re.compile(rf"(?m)^(\S+(?:\s+\S+){{6}}\s+{re.escape(daemon)})(?: -D)?(?=\s|$)")
    MASTER_CF.write_text(rows.sub(r"\1 -D" if on else r"\1", MASTER_CF.read_text()))
    channel.cool(MASTER_CF)


async def clear() -> None:
    """Remove the fillers and injections of other channels."""
    for filler in FILLER.parent.glob(f"{FILLER.name}-*"):
        await remove_filler(filler)
    if INJECTIONS.exists():
        for folder in sorted(INJECTIONS.glob("*")):
            await stop_tampering(folder)


async def undo() -> None:
    """Remove the traces of injections; a reset restores configuration and queue."""
    for folder in (INJECTIONS, TRACES):
        shutil.rmtree(folder, ignore_errors=True)
