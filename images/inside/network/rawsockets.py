"""Raw sockets, which need a right that no agent has (NET_RAW, capabilities(7)).

A helper container with that capability joins the agent's network namespace, and so the agent's
abstract sockets (unix(7)). The helper opens the raw socket that the agent asks for, passes it
on and exits; or it becomes tcpdump(8) with descriptors of the agent, until the agent closes
the connection. Run as a program, this module is the helper.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
import sys
from typing import Any

from operations import Handles, operation

HELPER_WITHIN_S = 20.0
# fcntl(2); Python's module has no name for it.
_F_SETSIG = 10


async def _close(listener: socket.socket) -> None:
    listener.close()


# The listeners, by the token of the expected helper.
_listeners: Handles[socket.socket] = Handles(__name__, _close)


@operation()
async def helper_expect(token: str) -> dict[str, Any]:
    """Listen for the helper with this token, which is about to start."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(_address(token))
    listener.listen(1)
    listener.setblocking(False)
    _listeners.add(listener, token)
    return {}


async def _helper(token: str) -> socket.socket:
    """Return the connection to the helper; raise RuntimeError if none arrives."""
    listener = _listeners.pop(token)
    accepted = asyncio.get_running_loop().sock_accept(listener)
    try:
        connection, _ = await asyncio.wait_for(accepted, HELPER_WITHIN_S)
    except TimeoutError:
        raise RuntimeError(
            f"no helper container connected within {HELPER_WITHIN_S:.0f} s"
        ) from None
    finally:
        listener.close()
    connection.setblocking(True)
    return connection


async def raw_socket(token: str) -> socket.socket:
    """Return a socket that sends whole IPv4 packets (raw(7)), opened by the helper."""
    with await _helper(token) as connection:
        connection.send(b"raw")
        _, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
    return socket.socket(fileno=descriptors[0])


async def tcpdump(token: str, output: int, errors: int) -> socket.socket:
    """Let the helper run as tcpdump, with these descriptors, until the result is closed."""
    connection = await _helper(token)
    socket.send_fds(connection, [b"tcpdump"], [output, errors])
    return connection


def _address(token: str) -> str:
    return f"\0maillab-{token}"


def main(token: str) -> None:
    """Do what the agent asks for."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(_address(token))
    request, descriptors, _, _ = socket.recv_fds(connection, 16, 2)
    if request == b"raw":
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as lent:
            socket.send_fds(connection, [b"x"], [lent.fileno()])
        return
    # The kernel ends tcpdump(8) when the agent closes the connection, even by dying.
    connection.set_inheritable(True)
    fcntl.fcntl(connection, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(connection, _F_SETSIG, signal.SIGTERM)
    flags = fcntl.fcntl(connection, fcntl.F_GETFL)
    fcntl.fcntl(connection, fcntl.F_SETFL, flags | os.O_ASYNC)
    for descriptor, standard in zip(descriptors, (1, 2), strict=True):
        os.dup2(descriptor, standard)
    argv = ["tcpdump", "-i", "any", "-U", "-n", "-Z", "root", "-w", "-"]
    os.execvp(argv[0], argv)  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1])
