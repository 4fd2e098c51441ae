"""Shared parts of the faults of a host's Postfix; not a fault itself."""

from __future__ import annotations

import re

from maillab.engine.channel import Channel
from maillab.errors import BadInput, UnknownName
from maillab.hosts.host import Host
from maillab.hosts.postfix import PostfixHost
from maillab.hosts.serverhost import ServerHost

# master(8) and the programs that it starts; "postfix" stands for all of them at once.
DAEMONS = [
    "anvil", "bounce", "cleanup", "discard", "dnsblog", "error", "flush", "lmtp", "local",
    "master", "pickup", "pipe", "postscreen", "proxymap", "qmgr", "scache", "showq", "smtp",
    "smtpd", "spawn", "tlsmgr", "tlsproxy", "trivial-rewrite", "verify", "virtual",
]  # fmt: skip

_QUEUE_BYTES_MAX = 1 << 30


def check_daemon(daemon: str, *more: str) -> None:
    """Raise UnknownName unless the name is a daemon of Postfix or one of ``more``."""
    if daemon not in (*DAEMONS, *more):
        raise UnknownName.among("Postfix daemon", daemon, [*DAEMONS, *more])


def mail_host(host: Host, fault: object) -> PostfixHost:
    """Return the host if it runs Postfix and answers; raise BadInput otherwise."""
    if not isinstance(host, PostfixHost):
        raise BadInput(f"{fault} on {host.name}: it runs no Postfix; choose a mail host")
    server_host(host, fault)
    return host


def server_host(host: Host, fault: object) -> ServerHost:
    """Return the host if it has a server that answers; raise BadInput otherwise."""
    if not isinstance(host, ServerHost):
        raise BadInput(f"{fault} on {host.name}: it runs no server; choose a mail host")
    if host.away:
        raise BadInput(
            f"{fault} on {host.name}: the host is paused or has crashed, and runs no command; "
            "apply this fault before that one"
        )
    return host


def logged(host: PostfixHost, since: int, pattern: str) -> int:
    """Return the number of matching lines that the host has logged since a stream position."""
    host.catch_up()
    return sum(
        event.host == host.name and bool(re.search(pattern, event.text))
        for event in host.scenario.stream.since(since)
    )


def processes(channel: Channel, daemon: str, *, state: str = "") -> list[int]:
    """Return the process ids of a daemon as the kernel shows them, in any state or one (proc(5)).

    "postfix" is master(8) and every daemon.
    """
    names = DAEMONS if daemon == "postfix" else [daemon]
    # A process may end while it is read.
    shown = channel.call("run", argv=["sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null"])["stdout"]
    found = re.findall(r"(?m)^(\d+) \((.*)\) (\S)", shown)
    return [int(pid) for pid, name, now in found if name in names and state in ("", now)]


def check_bounded(host: PostfixHost, fault: object, **left: int) -> None:
    """Raise BadInput unless the queue has a small file system with at least this much left."""
    free = host.channel.call("free_space")
    if free["free_bytes"] > _QUEUE_BYTES_MAX:
        raise BadInput(
            f"{fault} on {host.name}: its queue has {free['free_bytes']} free bytes, too many to "
            "fill; give its volume a size, as in compose/standalone.yaml: "
            'o: "size=128m,nr_inodes=16k"'
        )
    for what, wanted in left.items():
        if wanted > free[what]:
            raise BadInput(
                f"{fault} on {host.name}: its queue has {free[what]} {what}, fewer than {wanted}"
            )
