"""What the engine can do to one container as a whole."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from maillab.engine.client import connect, engine_errors
from maillab.errors import HostGone

_FROZEN_WITHIN_S = 20.0


def pause(container: str) -> None:
    """Have the kernel's freezer hold all of its processes.

    runc(8) gives up soon ("unable to freeze") when one of them starts another, or is
    in the kernel for long, while it freezes (cgroups v1); then it is asked again.
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
    """Let them go on where they were."""
    with engine_errors("unpausing a container"):
        connect().api.unpause(container)


def kill(container: str) -> None:
    """SIGKILL all of its processes at once; they are gone on return."""
    with engine_errors("killing a container"):
        api = connect().api
        api.kill(container)
        api.wait(container)


def start(container: str) -> None:
    """Start it again, its file system as it was left."""
    with engine_errors("starting a container"):
        connect().api.start(container)


def state(container: str) -> dict[str, Any]:
    """What the engine says of it: Running, Paused, ExitCode and more."""
    with engine_errors("looking at a container"):
        found: dict[str, Any] = connect().api.inspect_container(container)["State"]
    return found


def limit_processes(container: str, most: int | None) -> None:
    """Limit its processes and threads (pids cgroup); None is no limit."""
    with engine_errors("limiting a container's processes"):
        # The SDK's update_container() does not know this one.
        api: Any = connect().api
        url = api._url("/containers/{0}/update", container)  # noqa: SLF001
        api._raise_for_status(api._post_json(url, {"PidsLimit": most or -1}))  # noqa: SLF001


def set_network(container: str, settings: Mapping[str, str]) -> None:
    """Set parameters of its network in the kernel, by their names (sysctl(8)).

    In a container /proc/sys is read-only; but the engine sets them for one that
    it makes, and lets that join another one's network. So one that lives for a
    moment does it, with no right that is not its own. Raises HostGone with the
    engine's words for a parameter that is the whole machine's.
    """
    client = connect()
    with engine_errors(f"setting {', '.join(settings)}"):
        # The container's own image, so that none must be had.
        image = client.api.inspect_container(container)["Image"]
        client.containers.run(
            image,
            entrypoint=["true"],
            network_mode=f"container:{container}",
            sysctls=dict(settings),
            # They are set by the time it has started; the engine removes it, whatever
            # becomes of us.
            detach=True,
            auto_remove=True,
        )
