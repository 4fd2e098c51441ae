"""Parsing of the counts that nft(8) and strace(1) print."""

from __future__ import annotations

import json
from typing import Any

import pytest

from maillab.engine.channel import Channel
from maillab.faults import counters
from maillab.faults.disk import strace
from maillab.scenario.state import Witness

LISTED = {
    "nftables": [
        {"metainfo": {"json_schema_version": 1}},
        {"table": {"family": "ip", "name": "t"}},
        {"counter": {"name": "lost_out", "packets": 3, "bytes": 120}},
        {"set": {"name": "open", "elem": [{"concat": ["198.18.0.1", 1]}, {"concat": ["a", 2]}]}},
        {
            "set": {
                "name": "fresh",
                "elem": [{"elem": {"val": {"concat": ["a", 2]}, "timeout": 1, "expires": 0}}],
            }
        },
        {"rule": {"comment": "late", "expr": [{"counter": {"packets": 2, "bytes": 80}}]}},
        {"rule": {"comment": "late", "expr": [{"match": {}}, {"counter": {"packets": 1}}]}},
        {"rule": {"expr": [{"drop": None}]}},
    ]
}


def test_counters_add_up_by_comment_and_sets_count_their_elements() -> None:
    """Open sessions that are not fresh are silent."""
    found = counters.read(json.dumps(LISTED))

    assert found == {
        "lost_out": 3, "open": 2, "fresh": 1, "open but not fresh": 1, "late": 3,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("version", "line", "error", "count"),
    [
        ("6.5", "fsync(12) = -1 ENOSPC (No space left on device) (INJECTED)", "ENOSPC", 1),
        ("6.5", "fsync(12) = -1 ENOSPC (No space left on device)", "ENOSPC", 0),
        ("6.5", "fsync(12) = -1 EIO (Input/output error) (INJECTED)", "EIO", 1),
        ("6.5", "fsync(12) = -1 EIO (Input/output error) (INJECTED)", "ENOSPC", 0),
        ("6.5", "fdatasync(12) = -1 EIO (Input/output error) (INJECTED)", "EIO", 0),
        ("5.10", "fsync(12) = -1 EIO (Input/output error) (INJECTED)", "EIO", 1),
        ("5.10", "fsync(12) = -1 EIO (Input/output error)", "EIO", 0),
        ("5.10", "fsync(12) = -1 EIO (Input/output error)", "", 0),
        ("6.5", "fsync(12)   = 0 (DELAYED)", "", 1),
        ("6.5", "fsync(12) = -1 EIO (Input/output error) (DELAYED)", "", 1),
        ("6.5", "fsync(12) = -1 EIO (Input/output error) (INJECTED)", "", 0),
        ("6.5", "fsync(12)   = 0", "", 0),
        ("5.10", "fsync(12)   = 0", "", 1),
        ("6.5", "write(12) = 0 (DELAYED)", "", 0),
        ("6.5", 'write(13, "fsync(1) = -1 ENOSPC (x) (INJECTED", 20) = 20', "ENOSPC", 0),
    ],
)
def test_lines_of_strace_are_counted(version: str, line: str, error: str, count: int) -> None:
    """Lines of other calls, other errors and other kinds do not count."""
    traces = f"strace -- version {version}\n{line}\n"

    assert strace.tampered(traces, "fsync", error=error) == count
    assert strace.tampered("strace -- version 6.5\n", "fsync", error=error) == 0


class Traced(Channel):
    """A channel into a host whose trace is there until the injection stops."""

    def __init__(self) -> None:
        super().__init__("", "mail")
        self.requests: list[tuple[str, dict[str, Any]]] = []

    def call(self, op: str, **arguments: Any) -> dict[str, Any]:
        """Answer as the program inside does."""
        self.requests.append((op, arguments))
        stopped = any(op == "inject_stop" for op, _ in self.requests)
        trace = "" if stopped else "fsync(12) = -1 EIO (Input/output error) (INJECTED)\n"
        return {"injection": 7, "stdout": f"strace -- version 6.5\n{trace}"}


def test_an_injection_is_counted_and_stopped_when_its_block_fails() -> None:
    """The trace is read first: the end of the injection removes it."""
    channel, witness = Traced(), Witness("SyscallFails", "mail", "calls")
    what = {"daemon": "cleanup", "call": "fsync", "action": "error=EIO:when=1"}

    with (
        pytest.raises(ZeroDivisionError),
        strace.injected(channel, witness, once=True, error="EIO", **what),
    ):
        _ = 1 / 0

    assert witness.count == 1
    assert channel.requests[0] == ("inject_start", what | {"once": True})
    assert channel.requests[-1] == ("inject_stop", {"injection": 7})
