"""Block devices: a folder of a mail host on a disk of its own, as slow as wanted.

Runs in a helper container, which shares the mail host's processes and may mount. A disk is
two loop devices (loop(4)). The lower one lies in memory, and the kernel limits the writes of
the mail host's cgroup to it. The upper one lies on the lower one and has the file system. One
device is not enough: the kernel never holds back a file system's metadata by such a limit, since
the writers of other cgroups might wait for it. Seen from the lower device all writes are data.

The kernel frees both devices when nothing uses them any more (LO_FLAGS_AUTOCLEAR), so they
never outlive the helper and the mail host, however these end.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import stat
import struct
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from operations import Handles, operation
from running import left, others

# The mail host's file system, its cgroup, and the engine's cgroups.
HOST = "/proc/1/root"
HOST_MOUNTS = "/proc/1/ns/mnt"
HOST_CGROUP = Path("/proc/1/cgroup")
CGROUPS = Path("/cgroup")
# A disk is not larger than a queue in memory (compose/standalone.yaml): all must fit back there.
SIZE_BYTES = 192 << 20
INODES = 15_000
MKFS = ("mkfs.ext4", "-q", "-F", "-m", "0", "-N", str(INODES), "-O", "^has_journal",
        "-E", "lazy_itable_init=0")  # fmt: skip
UNUSED_WITHIN_S = 20.0
FREE_TRIES_MAX = 100

# loop(4), mount(2) and setns(2), where Python's modules have no names for them.
_LOOP_MAJOR = 7
_LOOP_CONTROL = os.makedev(10, 237)
_LOOP_CTL_GET_FREE, _LOOP_CONFIGURE = 0x4C82, 0x4C0A
_LO_FLAGS_AUTOCLEAR, _LO_FLAGS_DIRECT_IO = 4, 16
_MS_DIRSYNC, _MS_NOATIME = 128, 1024
_MNT_DETACH = 2
_CLONE_NEWNS = 0x20000
_libc = ctypes.CDLL(None, use_errno=True)


class LacksError(Exception):
    """A feature that the kernel or the engine lacks."""


@dataclass
class Disk:
    """A mounted disk: the folder, the lower device, the file system, the folder below it."""

    path: str
    limited: int
    file_system: int
    below: int
    # Move everything back at the end.
    returns: bool

    @property
    def is_mounted(self) -> bool:
        """Return True if the folder is the disk's, and not what was there before."""
        with contextlib.suppress(FileNotFoundError):
            return os.stat(HOST + self.path).st_dev == self.file_system
        return False


async def unmount(disk: Disk) -> None:
    """Unmount a disk; if its content returns, wait first until no process works there."""
    _limit(disk.limited, 0)
    if not disk.is_mounted:
        # A disk above it took it along.
        os.close(disk.below)
        return
    if disk.returns:
        until = time.monotonic() + UNUSED_WITHIN_S
        while (pids := _users(disk)) and (left_s := until - time.monotonic()) > 0:
            await left(pids, left_s)
        below = f"/proc/{os.getpid()}/fd/{disk.below}"
        _remove_missing(below, HOST + disk.path)
        # A filler of the fault DiskFull has no content, and needs no space.
        _copy(HOST + disk.path, below, "--remove-destination", "--sparse=always")
    # This takes along the disks within this one.
    _in_host(lambda: _libc.umount2(disk.path.encode(), _MNT_DETACH))
    os.close(disk.below)


_disks: Handles[Disk] = Handles(__name__, unmount, outlives=True)


@operation(disk=0, lacks="")
async def disk_mount(path: str, name: str, writes_per_s: int, *, returns: bool) -> dict[str, Any]:
    """Move a folder to a disk; with ``writes_per_s`` the disk is that slow.

    losetup(8) shows ``name``. ``lacks`` says what the kernel or the engine lacks; "" for nothing.
    """
    held: list[int] = []
    try:
        disk = _mounted(path, name, held, returns=returns)
        number = _disks.add(disk)
        if writes_per_s:
            try:
                _limit(disk.limited, writes_per_s)
            except LacksError:
                await _disks.undo(number)
                raise
    except LacksError as lack:
        return {"disk": 0, "lacks": str(lack)}
    finally:
        for descriptor in held:
            os.close(descriptor)
    return {"disk": number, "lacks": ""}


@operation()
async def disk_unmount(disk: int) -> dict[str, Any]:
    """Unmount a disk; its content moves back, or is lost."""
    await _disks.undo(disk)
    return {}


def _mounted(path: str, name: str, held: list[int], *, returns: bool) -> Disk:
    """Return a new disk, which has a folder's content and its place.

    ``held`` gets the descriptors to be closed afterwards: they keep the devices until then.
    """
    try:
        memory = os.memfd_create(name)
        held.append(memory)
        os.truncate(memory, SIZE_BYTES)
        lower, descriptor = _attach(memory, _LO_FLAGS_AUTOCLEAR)
        held.append(descriptor)
        upper, descriptor = _attach(descriptor, _LO_FLAGS_AUTOCLEAR | _LO_FLAGS_DIRECT_IO)
        held.append(descriptor)
    except OSError as error:
        raise LacksError(f"loop devices ({error})") from error
    if Path(f"/sys/block/loop{upper}/loop/dio").read_text().strip() != "1":
        raise LacksError("loop devices with direct I/O")
    device = f"/dev/loop{upper}"
    subprocess.run([*MKFS, device], check=True, stdout=subprocess.DEVNULL)
    own = Path("/run/maillab/disk")
    own.mkdir(parents=True, exist_ok=True)
    try:
        _call(_libc.mount(device.encode(), str(own).encode(), b"ext4", _MS_NOATIME, b""))
    except OSError as error:
        raise LacksError(f"the right to mount ext4 ({error})") from error
    try:
        shutil.rmtree(own / "lost+found")
        _copy(HOST + path, str(own))
    finally:
        _call(_libc.umount2(str(own).encode(), 0))
    below = os.open(HOST + path, os.O_PATH | os.O_DIRECTORY)
    # The mail host has no such device in /dev.
    source = f"/proc/self/fd/{held[-1]}".encode()
    flags = _MS_NOATIME | _MS_DIRSYNC
    try:
        _in_host(lambda: _libc.mount(source, path.encode(), b"ext4", flags, b""))
    except OSError:
        os.close(below)
        raise
    return Disk(path, lower, os.stat(HOST + path).st_dev, below, returns)


def _attach(backing: int, flags: int) -> tuple[int, int]:
    """Attach a loop device to an open file; return its number and a descriptor of it."""
    _make_node("/dev/loop-control", stat.S_IFCHR, _LOOP_CONTROL)
    control = os.open("/dev/loop-control", os.O_RDWR)
    try:
        for _ in range(FREE_TRIES_MAX):
            number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            _make_node(f"/dev/loop{number}", stat.S_IFBLK, os.makedev(_LOOP_MAJOR, number))
            descriptor = os.open(f"/dev/loop{number}", os.O_RDWR)
            try:
                fcntl.ioctl(descriptor, _LOOP_CONFIGURE, _configuration(backing, flags))
            except OSError as error:
                os.close(descriptor)
                # Another program of this machine has taken it.
                if error.errno != errno.EBUSY:
                    raise
            else:
                return number, descriptor
    finally:
        os.close(control)
    raise OSError(errno.EBUSY, "no loop device is free")


def _configuration(backing: int, flags: int) -> bytes:
    """Return a ``struct loop_config`` (linux/loop.h)."""
    info = struct.pack("=5Q4I176x", 0, 0, 0, 0, 0, 0, 0, 0, flags)
    return struct.pack("=II", backing, 0) + info + bytes(64)


def _make_node(path: str, kind: int, device: int) -> None:
    with contextlib.suppress(FileExistsError):
        os.mknod(path, kind | 0o600, device)


def _limit(number: int, writes_per_s: int) -> None:
    """Limit the mail host's writes to a loop device (cgroups v1 and v2); 0 is no limit."""
    device = f"{_LOOP_MAJOR}:{number}"
    groups = {}
    for line in HOST_CGROUP.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        groups.update(dict.fromkeys(controllers.split(","), path.lstrip("/")))
    if "blkio" in groups:
        file = CGROUPS / "blkio" / groups["blkio"] / "blkio.throttle.write_iops_device"
        rule = f"{device} {writes_per_s}"
    else:
        file = CGROUPS / groups.get("", "") / "io.max"
        rule = f"{device} wiops={writes_per_s or 'max'}"
    try:
        with file.open("r+") as limits:
            limits.write(f"{rule}\n")
    except OSError as error:
        # Without the file nothing was ever limited.
        if writes_per_s:
            raise LacksError(f"limits of a cgroup's writes ({error})") from error


def _users(disk: Disk) -> list[int]:
    """Return the processes that work in a folder of the disk: master(8) and its daemons."""
    found = []
    for pid in others():
        with contextlib.suppress(OSError):
            if os.stat(f"/proc/{pid}/cwd").st_dev == disk.file_system:
                found.append(pid)
    return found


def _copy(source: str, to: str, *options: str) -> None:
    """Copy a folder's content with owners, modes and times."""
    subprocess.run(["cp", "-a", *options, f"{source}/.", to], check=True)


def _remove_missing(folder: str, model: str) -> None:
    """Remove what is in a folder and not in another one."""
    for entry in os.scandir(folder):
        other = f"{model}/{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            if os.path.isdir(other) and not os.path.islink(other):
                _remove_missing(entry.path, other)
            else:
                shutil.rmtree(entry.path)
        elif not os.path.lexists(other) or os.path.isdir(other):
            os.unlink(entry.path)


def _in_host(call: Callable[[], int]) -> None:
    """Make a system call in the mail host's mount namespace, in a child process."""
    namespace = os.open(HOST_MOUNTS, os.O_RDONLY)
    child = os.fork()
    if child == 0:
        failed = _libc.setns(namespace, _CLONE_NEWNS) or call()
        os._exit(ctypes.get_errno() if failed else 0)
    os.close(namespace)
    _, status = os.waitpid(child, 0)
    number = os.waitstatus_to_exitcode(status)
    if number:
        raise OSError(number, os.strerror(abs(number)))


def _call(result: int) -> None:
    """Raise OSError if a system call failed."""
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
