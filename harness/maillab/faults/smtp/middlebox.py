"""Shared parts of the middleboxes that change SMTP sessions."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from maillab.faults import counters
from maillab.faults.smtp import wire
from maillab.hosts.host import Host
from maillab.scenario.state import Witness

# A command that a middlebox replaces so that the server does not know it.
UNKNOWN_COMMAND = b"XXX"


@contextlib.contextmanager
def box(
    host: Host,
    fault: object,
    kind: str,
    settings: dict[str, object],
    *,
    rules: str,
    evidence: Sequence[str],
) -> Iterator[Witness]:
    """Put a middlebox of a kind before a host, or on the path through a router.

    The witness counts what it changed, at most as often as ``rules`` let the kernel see the
    ``evidence``, and the packets that the rules dropped. Sessions that are already open
    bypass the middlebox, but not the rules.
    """
    witness = Witness(repr(fault), host.name, "changes on the wire")
    with counters.watching(host, rules) as seen:
        number = host.agent.call("middlebox_start", kind=kind, settings=settings)["box"]
        try:
            yield witness
        finally:
            kernel = seen()
            counts = host.agent.call("middlebox_stop", box=number)["counts"]
            witness.source = ", ".join(f"{what}: {count}" for what, count in counts.items())
            counters.agree(witness, sum(counts.values()), sum(kernel[what] for what in evidence))
            if kernel[wire.DROPPED]:
                witness.count += kernel[wire.DROPPED]
                witness.source += f", packets dropped: {kernel[wire.DROPPED]}"
