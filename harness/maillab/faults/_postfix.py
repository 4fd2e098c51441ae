"""What faults of a host's Postfix have in common; no fault itself."""

from __future__ import annotations

import re

from maillab.errors import BadInput, UnknownName
from maillab.host import Host
from maillab.postfix import MailHost

# The programs that master(8) starts, and itself; "postfix" stands for all of them at once.
DAEMONS = [
    "anvil", "bounce", "cleanup", "discard", "dnsblog", "error", "flush", "lmtp", "local",
    "master", "pickup", "pipe", "postscreen", "proxymap", "qmgr", "scache", "showq", "smtp",
    "smtpd", "spawn", "tlsmgr", "tlsproxy", "trivial-rewrite", "verify", "virtual",
]  # fmt: skip

_QUEUE_BYTES_MAX = 1 << 30


def check_daemon(daemon: str, *more: str) -> None:
    """Raise UnknownName for what is no daemon of Postfix, nor one of the words given."""
    if daemon not in (*DAEMONS, *more):
        raise UnknownName.among("Postfix daemon", daemon, [*DAEMONS, *more])


def mail_host(host: Host, fault: object) -> MailHost:
    """The host, if it runs Postfix and can be asked something; raises BadInput."""
    if not isinstance(host, MailHost):
        raise BadInput(f"{fault} on {host.name}: it runs no Postfix; take one of the mail hosts")
    if host.away:
        raise BadInput(
            f"{fault} on {host.name}: it is paused or has crashed, and nothing can be done "
            "to it; apply this fault before that one"
        )
    return host


def logged(host: MailHost, since: int, pattern: str) -> int:
    """How many lines that match the host logged from a position of the stream on, up to now."""
    host.mark()
    return sum(
        event.host == host.name and bool(re.search(pattern, event.text))
        for event in host.record.stream.since(since)
    )


def check_bounded(host: MailHost, fault: object, **left: int) -> None:
    """Raise BadInput unless the queue's file system is a small one with so much left."""
    room = host.channel.call("room")
    if room["free_bytes"] > _QUEUE_BYTES_MAX:
        raise BadInput(
            f"{fault} on {host.name}: its queue has {room['free_bytes']} bytes, too many to fill; "
            'give its volume a size, as in compose/standalone.yaml: o: "size=128m,nr_inodes=16k"'
        )
    for what, wanted in left.items():
        if wanted > room[what]:
            raise BadInput(f"{fault} on {host.name}: only {room[what]} {what} are there; take less")
