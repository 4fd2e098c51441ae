"""Parsing of the counts that nft(8) and strace(1) print."""

from __future__ import annotations

import json

import pytest

from maillab.faults import counters
from maillab.faults.disk import strace

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
