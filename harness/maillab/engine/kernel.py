"""The kernel's parameters of a container's network, which it cannot write itself.

In a container /proc/sys is read-only; but the engine sets parameters of the
network for a container that it makes, and lets that join another one's network.
So one that lives for a moment sets them, with no right that is not its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from maillab.engine.client import connect, engine_errors


def set_network(container: str, settings: Mapping[str, str]) -> None:
    """Set parameters by their names (sysctl(8)) in the network of a running container.

    Raises HostGone with the engine's words, as for a parameter that is the whole machine's.
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
