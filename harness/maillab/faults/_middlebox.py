"""What the boxes that meddle with SMTP sessions have in common."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from maillab.host import Host
from maillab.record import Witness


@contextlib.contextmanager
def box(host: Host, fault: object, kind: str, settings: dict[str, object]) -> Iterator[Witness]:
    """Put a box of a kind in the way of SMTP to the host, or through it where it is a router.

    Its witness counts what it changed; sessions that are open already do not meet it.
    """
    witness = Witness(repr(fault), host.name, "changes on the wire")
    number = host.agent.call("middlebox_start", kind=kind, settings=settings)["box"]
    try:
        yield witness
    finally:
        counts = host.agent.call("middlebox_stop", box=number)["counts"]
        witness.count = sum(counts.values())
        witness.source = ", ".join(f"{what}: {count}" for what, count in counts.items())
