"""Parsing of mailboxes in the harness."""

from __future__ import annotations

import pytest

from maillab.hosts.serverhost import _messages

FIRST = b"Subject: one\n\nhello\nFrom the beginning\n>From here on\n\n"
SECOND = b"Subject: two\n\nbody\n\n"


@pytest.mark.parametrize(
    ("mbox", "messages"),
    [
        (b"", []),
        (b"From joe  Wed\n" + FIRST, [FIRST]),
        (b"From joe  Wed\n" + FIRST + b"From a b\n" + SECOND, [FIRST, SECOND]),
        (b"From joe  Wed\n>From alice  Wed\n" + FIRST, [FIRST]),
        (b"From joe\n" + SECOND + b"From joe\n>From alice\n" + FIRST, [SECOND, FIRST]),
    ],
    ids=["empty", "one", "two", "by-procmail", "by-both"],
)
def test_an_mbox_is_split_into_its_messages(mbox: bytes, messages: list[bytes]) -> None:
    """A From line in a body is text, and a From line that procmail quoted is no header."""
    assert _messages(mbox, "mbox") == messages
