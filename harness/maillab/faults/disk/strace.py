"""Counts read from the lines of strace(1), apart from the program that started it."""

from __future__ import annotations

import re

from maillab.engine.channel import Channel

# The folder in which images/inside/mailhost/disk.py keeps one trace per process.
_READ = "strace -V; cat /run/maillab/traces/* 2>/dev/null"


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
