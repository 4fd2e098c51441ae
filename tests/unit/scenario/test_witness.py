"""The text for what a witness counted."""

from __future__ import annotations

import pytest

from maillab.scenario.state import Witness


@pytest.mark.parametrize(
    ("source", "count", "seen"),
    [
        ("clients that the server greeted", 1, "1 client that the server greeted"),
        ("clients that the server greeted", 2, "2 clients that the server greeted"),
        ("clients that the server greeted", 0, "0 clients that the server greeted"),
        ("log lines about missing space", 1, "1 log line about missing space"),
        ("queries answered late", 1, "1 query answered late"),
        ("processes seen in state T", 1, "1 process seen in state T"),
        ("bdat: 1, banners: 0", 1, "1 bdat: 1, banners: 0"),
    ],
)
def test_one_is_singular(source: str, count: int, seen: str) -> None:
    """As in "1 client"."""
    assert Witness("Noop", "mail", source, count).sighting == f"Noop on mail: {seen}"
