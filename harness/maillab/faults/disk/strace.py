"""System calls that strace(1) tampers with, counted from the lines that it writes."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from maillab.engine.channel import Channel
from maillab.scenario.state import Witness

# The folder in which images/inside/mailhost/disk.py keeps one trace per process.
_READ = "strace -V; cat /run/maillab/traces/* 2>/dev/null"


@contextlib.contextmanager
def injected(
    channel: Channel,
    witness: Witness,
    *,
    daemon: str,
    call: str,
    action: str,
    once: bool = False,
    error: str = "",
) -> Iterator[Witness]:
    """Tamper with a call of a daemon for the block; give the witness the count that strace wrote.

    ``action`` is an injection of strace(1), such as "error=ENOSPC". With ``once`` it applies
    to the first process of the daemon only. ``error`` is the name of the error that is counted,
    or "" for delayed calls.
    """
    number = channel.call("inject_start", daemon=daemon, call=call, once=once, action=action)
    try:
        yield witness
    finally:
        # The end of the last injection removes the traces.
        traces = lines(channel)
        channel.call("inject_stop", injection=number["injection"])
        witness.count = tampered(traces, call, error=error)


def lines(channel: Channel) -> str:
    """Return strace's version and everything that it has written; it flushes after each line."""
    return str(channel.call("run", argv=["sh", "-c", _READ])["stdout"])


def tampered(traces: str, call: str, *, error: str = "") -> int:
    """Return how often a call failed with this error, or was delayed if no error is given.

    Debian bullseye's strace(1) does not mark delayed calls. There, every call that it shows
    and that did not fail is a delayed one.
    """
    delayed = r"= \d+$" if " version 5." in traces else r"= \S+.* \(DELAYED\)$"
    ending = rf"= -1 {error} \([^)]*\) \(INJECTED" if error else delayed
    return len(re.findall(rf"(?m)^{call}\(.*\) +{ending}", traces))
