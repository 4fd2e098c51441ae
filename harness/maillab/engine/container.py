"""Operations of the engine on one whole container: pause, kill, start, limit, log."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from docker.errors import NotFound

from maillab.engine.client import connect, engine_errors
from maillab.errors import HostGone

# Compose's labels: the lab, the service, and "not a service of the file" (docker compose run).
PROJECT_LABEL = "com.docker.compose.project"
SERVICE_LABEL = "com.docker.compose.service"
LAB_LABELS = (PROJECT_LABEL, SERVICE_LABEL)
BESIDE = {"com.docker.compose.oneoff": "True"}
# The size of the header of each piece of a log (the Engine API, "Attach to a container").
_PIECE_HEADER_BYTES = 8
_FROZEN_WITHIN_S = 20.0
# The folder in which images/inside/channel.py records faults by hand.
_FAULTS = "/run/maillab/faults"


def is_beside(labels: Mapping[str, str]) -> bool:
    """Return True for a short-lived helper container that is not a service of the lab."""
    return BESIDE.items() <= labels.items()


def pause(container: str) -> None:
    """Freeze all processes of the container.

    runc(8) soon gives up ("unable to freeze") if a process forks or stays in the kernel
    while it freezes (cgroups v1); then try again, up to a time limit.
    """
    deadline = time.monotonic() + _FROZEN_WITHIN_S
    while True:
        try:
            with engine_errors("pausing a container"):
                connect().api.pause(container)
        except HostGone as error:
            if "unable to freeze" not in str(error) or time.monotonic() > deadline:
                raise
        else:
            return


def unpause(container: str) -> None:
    """Let the processes of a paused container continue."""
    with engine_errors("unpausing a container"):
        connect().api.unpause(container)


def kill(container: str) -> None:
    """Kill all processes of the container (SIGKILL); they have ended on return."""
    with engine_errors("killing a container"):
        api = connect().api
        api.kill(container)
        api.wait(container)


def start(container: str) -> None:
    """Start the container again, with its file system unchanged."""
    with engine_errors("starting a container"):
        connect().api.start(container)


def state(container: str) -> dict[str, Any]:
    """Return the engine's state of the container: Running, Paused, ExitCode and more."""
    with engine_errors("looking at a container"):
        found: dict[str, Any] = connect().api.inspect_container(container)["State"]
    return found


def process_limit(container: str) -> int | None:
    """Return the container's limit of processes and threads; None for no limit."""
    with engine_errors("looking at a container"):
        limit = connect().api.inspect_container(container)["HostConfig"].get("PidsLimit")
    return int(limit) if limit and limit > 0 else None


def held(container: str, processes_max: int | None) -> list[str]:
    """Return what the engine holds a container by: paused, not running, short of processes."""
    found = state(container)
    by = []
    if found["Paused"]:
        by.append("paused")
    elif not found["Running"]:
        by.append("not running")
    if process_limit(container) != processes_max:
        by.append("short of processes")
    return by


def restore(container: str, processes_max: int | None) -> list[str]:
    """Unpause or start a container and restore its process limit; return what was lifted."""
    lifted = held(container, processes_max)
    if "paused" in lifted:
        unpause(container)
    if "not running" in lifted:
        start(container)
    if "short of processes" in lifted:
        limit_processes(container, processes_max)
    return lifted


def faults(agent: str) -> list[str]:
    """Return the active faults by hand, from the agent's notes."""
    with engine_errors("looking for faults in force"):
        try:
            chunks, _ = connect().api.get_archive(agent, _FAULTS)
        except NotFound as none_yet:
            if none_yet.response is not None:
                # It was requested as a stream, which the library leaves open.
                none_yet.response.close()
            return []
        packed = io.BytesIO(b"".join(chunks))
    with tarfile.open(fileobj=packed) as notes:
        members = sorted(notes.getmembers(), key=lambda note: note.name)
        files = [notes.extractfile(note) for note in members if note.isfile()]
        return [file.read().decode(errors="replace") for file in files if file]


def started_s(container: str) -> float:
    """Return when the container was last started, in seconds by the engine's clock."""
    return datetime.fromisoformat(state(container)["StartedAt"]).timestamp()


def log(container: str) -> bytes:
    """Return everything that the container has logged so far, faster than line by line."""
    with engine_errors("reading a container's log"):
        api: Any = connect().api
        url = api._url("/containers/{0}/logs", container)  # noqa: SLF001  # the SDK goes by lines
        answer = api._get(url, params={"stdout": 1, "stderr": 1})  # noqa: SLF001  # as above
        api._raise_for_status(answer)  # noqa: SLF001  # as above
        content: bytes = answer.content
    # Each piece has a header: its stream and, in the last four bytes, its length.
    pieces, position = [], 0
    while position < len(content):
        begin = position + _PIECE_HEADER_BYTES
        position = begin + int.from_bytes(content[begin - 4 : begin], "big")
        pieces.append(content[begin:position])
    return b"".join(pieces)


def limit_processes(container: str, most: int | None) -> None:
    """Limit the container's processes and threads (pids cgroup); None is no limit."""
    with engine_errors("limiting a container's processes"):
        # The SDK's update_container() lacks this setting.
        api: Any = connect().api
        url = api._url("/containers/{0}/update", container)  # noqa: SLF001
        api._raise_for_status(api._post_json(url, {"PidsLimit": most or -1}))  # noqa: SLF001


def set_network(container: str, settings: Mapping[str, str]) -> None:
    """Set parameters of the container's network in the kernel, by name (sysctl(8)).

    /proc/sys is read-only in a container. But the engine sets parameters for a container that
    it creates, and lets it join another container's network. So a short-lived container does
    it, without further rights. Raise HostGone with the engine's error for a parameter of the
    whole machine.
    """
    client = connect()
    with engine_errors(f"setting {', '.join(settings)}"):
        # The container's own image, so that no other image is needed.
        beside = client.api.inspect_container(container)
        labels = beside["Config"]["Labels"]
        client.containers.run(
            beside["Image"],
            entrypoint=["true"],
            # The lab's labels, so that the helper is removed with the lab if we are killed.
            labels={**{name: labels[name] for name in LAB_LABELS if name in labels}, **BESIDE},
            network_mode=f"container:{container}",
            sysctls=dict(settings),
            # The engine sets the parameters at the start, and then removes the container even if we
            # are killed.
            detach=True,
            auto_remove=True,
        )


def helper_with_raw_sockets(container: str, token: str) -> None:
    """Start the helper that an agent expects (rawsockets.py), in the agent's network.

    Its one right is NET_RAW, which no container of a lab has. It ends by itself, and is
    removed with its lab if the engine did not remove it by then.
    """
    client = connect()
    with engine_errors("starting a helper with raw sockets"):
        agent = client.api.inspect_container(container)
        labels = agent["Config"]["Labels"]
        client.containers.run(
            agent["Image"],
            labels={**{name: labels[name] for name in LAB_LABELS if name in labels}, **BESIDE},
            entrypoint=["python3", "/opt/maillab/rawsockets.py", token],
            network_mode=f"container:{container}",
            cap_drop=["ALL"],
            cap_add=["NET_RAW"],
            security_opt=["no-new-privileges"],
            detach=True,
            auto_remove=True,
        )
