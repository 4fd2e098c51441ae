"""CPU seconds and forks of a run, by part: from control groups and /proc, never from wall time.

The whole is the machine's (/proc/stat), so run it on an idle machine. The parts are the run's
own: the containers of its labs, with the shims and the mounts that serve them. A container's
control group ends with it, so a thread reads all of them several times a second and keeps the
last value; what passes between that and the end is in ``REST``, as are the kernel's own work and
runc(8), which starts each container. The thread's own time is in no figure.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import resource
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

import psutil
from docker.errors import NotFound

from maillab.engine.client import connect
from maillab.engine.container import PROJECT_LABEL
from maillab.errors import LabError

POSTFIX = "postfix"
CHANNELS = "channels"
AGENTS = "agents"
NAME_SERVERS = "name_servers"
STORAGE = "storage_driver"
SHIMS = "shims"
ENGINE = "engine"
CHILDREN = "pytest"
REST = "rest"
OWN_PARTS = (POSTFIX, CHANNELS, AGENTS, NAME_SERVERS, STORAGE, SHIMS, CHILDREN)
PARTS = (*OWN_PARTS, ENGINE, REST)

_PART_OF_IMAGE = {"agent": AGENTS, "dns": NAME_SERVERS}
_INTERVAL_S = 0.25
_PROC = Path("/proc")
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat after the name (proc(5)).
_OWN = slice(11, 13)
_OWN_AND_CHILDREN = slice(11, 15)
_STARTED = 19
_SHIM = "containerd-shim"
_MOUNT = "fuse-overlayfs"
_ENGINES = ("dockerd", "containerd")
_CHANNEL = b"/opt/maillab/channel.py"
_ID = re.compile(r"[0-9a-f]{64}")
# The two of cgroups v1, where the controllers have one folder or two; then v2.
_V1 = ("/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/cpu,cpuacct")
_V2 = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")


class _Process(NamedTuple):
    """A process for good: a process id is used again."""

    pid: int
    started: int


@dataclass
class _Reading:
    """A counter that only rises: its first and its last value, in seconds."""

    part: str
    first_s: float
    last_s: float


@dataclass
class Cost:
    """The cost of a run."""

    total_s: float
    forks: float
    parts_s: dict[str, float]
    # The containers of other programs that ran meanwhile: the total contains their time.
    foreign: int = 0

    def add(self, other: Cost, times: int = 1) -> None:
        """Add another cost, or subtract it."""
        self.total_s += times * other.total_s
        self.forks += times * other.forks
        for part, seconds in other.parts_s.items():
            self.parts_s[part] = self.parts_s.get(part, 0) + times * seconds
        self.foreign = max(self.foreign, other.foreign)

    def each(self, count: int) -> Cost:
        """Return the cost of one of ``count``."""
        parts = {part: seconds / count for part, seconds in self.parts_s.items()}
        return Cost(self.total_s / count, self.forks / count, parts, self.foreign)

    def require_mail_hosts(self) -> None:
        """Raise RuntimeError if no time of a mail host was measured."""
        if self.parts_s.get(POSTFIX, 0) <= 0:
            raise RuntimeError(
                "no CPU time of a mail host was measured: the engine must be on this machine, and "
                "its containers' shims must be visible in /proc"
            )

    @property
    def own_s(self) -> float:
        """The parts that are the run's alone, whatever else the machine does."""
        return sum(self.parts_s.get(part, 0) for part in OWN_PARTS)

    def text(self) -> str:
        """Return the parts in one line, in CPU seconds."""
        parts = ", ".join(f"{part} {seconds:.3f}" for part, seconds in self.parts_s.items())
        foreign = f"; {self.foreign} foreign containers ran, too" if self.foreign else ""
        return f"{parts}{foreign}"


@dataclass
class _Container:
    """A container of the run: what it is part of, its mount, and its control group."""

    part: str
    usage: Path
    mount: str


@dataclass
class Meter:
    """Measures a block. ``cost`` is complete once the block has ended."""

    cost: Cost = field(default_factory=lambda: Cost(0, 0, {}))

    def __post_init__(self) -> None:
        self._containers: dict[str, _Container | None] = {}
        self._processes: dict[_Process, Callable[[list[str]], None] | None] = {}
        self._readings: dict[tuple[object, ...], _Reading] = {}
        self._began = False
        self._ended = threading.Event()
        self._failure: BaseException | None = None
        self._own_s = 0.0
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._look()
        self._began = True
        self._total_s, self._forks = _machine()
        self._children_s = _children_s()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if self._failure:
            raise self._failure
        self._look()
        total_s, forks = _machine()
        parts: dict[str, float] = defaultdict(float, dict.fromkeys(PARTS, 0.0))
        for reading in self._readings.values():
            parts[reading.part] += reading.last_s - reading.first_s
        # A channel is a process of its mail host's container.
        parts[POSTFIX] -= parts[CHANNELS]
        parts[CHILDREN] = _children_s() - self._children_s
        self.cost.total_s = total_s - self._total_s - self._own_s
        self.cost.forks = forks - self._forks
        parts[REST] = self.cost.total_s - sum(parts.values())
        self.cost.parts_s = dict(parts)
        self.cost.foreign = sum(container is None for container in self._containers.values())

    def _watch(self) -> None:
        try:
            while not self._ended.wait(_INTERVAL_S):
                self._look()
                self._own_s = time.thread_time()
        except BaseException as error:  # noqa: BLE001  # raised again where the block ends
            self._failure = error

    def _look(self) -> None:
        """Read the counters of every process that is the engine's or a lab's."""
        for pid in psutil.pids():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                self._look_at(pid)

    def _look_at(self, pid: int) -> None:
        text = _PROC.joinpath(str(pid), "stat").read_text(errors="replace")
        name, _, rest = text.partition("(")[2].rpartition(")")
        if not name.startswith((_SHIM, _MOUNT[:15], *_ENGINES, "python3")):
            return
        fields = rest.split()
        process = _Process(pid, int(fields[_STARTED]))
        if process not in self._processes:
            self._processes[process] = self._reader_of(process, name)
        read = self._processes[process]
        if read:
            read(fields)

    def _reader_of(self, process: _Process, name: str) -> Callable[[list[str]], None] | None:
        """Return the function that reads a process's counters; None if it is not of the run."""
        if name in _ENGINES:
            return lambda fields: self._note(process, ENGINE, fields, _OWN_AND_CHILDREN)
        words = _PROC.joinpath(str(process.pid), "cmdline").read_bytes().split(b"\0")
        if words == [b""]:
            # It is just ending.
            raise ProcessLookupError
        if name.startswith(_SHIM):
            container = container_of_shim(words)
            return self._shim_reader(process, container) if container else None
        if name.startswith(_MOUNT[:15]):
            mount = words[-2].decode()
            return lambda fields: self._note_mount(process, mount, fields)
        if _CHANNEL in words:
            found = _ID.search(_PROC.joinpath(str(process.pid), "cgroup").read_text())
            of = self._container(found.group()) if found else None
            if of and of.part == POSTFIX:
                return lambda fields: self._note(process, CHANNELS, fields, _OWN)
        return None

    def _shim_reader(self, process: _Process, container: str) -> Callable[[list[str]], None] | None:
        # A container that was killed and started again has another shim and another group.
        found = self._container(container)
        if found is None:
            return None

        def read(fields: list[str]) -> None:
            # Not its children's time: they are the container's commands, which its group has.
            self._note(process, SHIMS, fields, _OWN)
            with contextlib.suppress(OSError):
                self._keep((container, process), found.part, usage_s(found.usage))

        return read

    def _note_mount(self, process: _Process, mount: str, fields: list[str]) -> None:
        if any(found and found.mount == mount for found in self._containers.values()):
            self._note(process, STORAGE, fields, _OWN)

    def _note(self, process: _Process, part: str, fields: list[str], times: slice) -> None:
        self._keep(process, part, sum(map(int, fields[times])) * _TICK_S)

    def _keep(self, key: tuple[object, ...], part: str, seconds: float) -> None:
        if key in self._readings:
            self._readings[key].last_s = seconds
        else:
            # One that was not there at first has begun at nothing.
            self._readings[key] = _Reading(part, 0.0 if self._began else seconds, seconds)

    def _container(self, id_: str) -> _Container | None:
        """Return the container, if it is of a lab of this process or of one that it started."""
        if id_ not in self._containers:
            try:
                found = connect().api.inspect_container(id_)
            except NotFound:
                return None
            pid = found["State"]["Pid"]
            if not pid:
                # The engine is still starting it: look again with its next process.
                raise ProcessLookupError
            kind = re.match(r"maillab/(\w+):", found["Config"]["Image"])
            ours = _is_ours((found["Config"]["Labels"] or {}).get(PROJECT_LABEL, ""))
            self._containers[id_] = (
                _Container(
                    _PART_OF_IMAGE.get(kind.group(1) if kind else "", POSTFIX),
                    _usage_file(id_, _PROC.joinpath(str(pid), "cgroup").read_text()),
                    (found["GraphDriver"]["Data"] or {}).get("MergedDir", ""),
                )
                if ours
                else None
            )
        return self._containers[id_]


def container_of_shim(words: list[bytes]) -> str:
    """Return the id of the container in a shim's command line; "" if it has none."""
    for word, following in itertools.pairwise(words):
        if word == b"-id":
            return following.decode()
    return ""


def _is_ours(project: str) -> bool:
    owner = re.match(r"maillab_\w+-(\d+)-\d+_", project)
    if not owner:
        return False
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(int(owner.group(1)))
        return os.getpid() in (process.pid, *(parent.pid for parent in process.parents()))
    return False


def control_group(container: str, text: str) -> Iterator[list[Path]]:
    """Yield the files that may have the CPU time of a container's control group.

    ``text`` is the file "cgroup" of its first process in proc(5). Raise ProcessLookupError while
    that process is still in the group of the engine, or of the whole machine.
    """
    if container not in text:
        raise ProcessLookupError
    for line in text.splitlines():
        number, controllers, path = line.split(":", 2)
        if "cpuacct" in controllers.split(","):
            yield [Path(f"{mount}{path}", "cpuacct.usage") for mount in _V1]
        elif number == "0":
            yield [Path(f"{mount}{path}", "cpu.stat") for mount in _V2]


def _usage_file(container: str, text: str) -> Path:
    """Return the file with the CPU time of a container's control group."""
    for candidates in control_group(container, text):
        for file in candidates:
            if file.is_file():
                return file
    raise LabError(f"the control group of {container} has no CPU time: is the engine remote?")


def usage_s(file: Path) -> float:
    """Return the CPU time of a control group from its file, cgroups v1 or v2."""
    text = file.read_text()
    if file.name == "cpuacct.usage":
        return int(text) / 1e9
    return int(dict(line.split() for line in text.splitlines())["usage_usec"]) / 1e6


def _machine() -> tuple[float, int]:
    """Return the seconds that the machine's CPUs were busy since boot, and its forks."""
    lines = dict(line.split(" ", 1) for line in (_PROC / "stat").read_text().splitlines())
    user, nice, system, _idle, _iowait, irq, softirq, *_ = map(int, lines["cpu"].split())
    return (user + nice + system + irq + softirq) * _TICK_S, int(lines["processes"])


def _children_s() -> float:
    """Return the CPU time of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
