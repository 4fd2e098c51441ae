"""What the engine can do to one container as a whole."""

from __future__ import annotations

from typing import Any

from maillab.engine.client import connect, engine_errors


def pause(container: str) -> None:
    """Have the kernel's freezer hold all of its processes."""
    with engine_errors("pausing a container"):
        connect().api.pause(container)


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
