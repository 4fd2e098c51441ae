"""The load generator reads replies as aiosmtplib does, however they arrive."""

from __future__ import annotations

import asyncio
import string

import pytest
from aiosmtplib.protocol import SMTPProtocol
from hypothesis import given
from hypothesis import strategies as st

from smtpreplies import REPLY_BYTES_MAX, first_reply, reply_text

codes = st.integers(200, 599)
texts = st.text(string.ascii_letters + string.digits + " .<>-@é", min_size=1, max_size=40)
line_ends = st.sampled_from([b"\r\n", b"\n"])


@st.composite
def replies(draw: st.DrawFn) -> bytes:
    """Return a reply of one or more lines."""
    code, end = draw(codes), draw(line_ends)
    lines = draw(st.lists(texts.filter(str.strip), min_size=1, max_size=12))
    marks = "-" * (len(lines) - 1) + " "
    pairs = zip(marks, lines, strict=True)
    return b"".join(f"{code}{mark}{line}".encode() + end for mark, line in pairs)


async def as_aiosmtplib_reads(reply: bytes) -> tuple[int, str]:
    protocol = SMTPProtocol()
    protocol.connection_made(asyncio.Transport())
    protocol.data_received(reply)
    return await protocol.read_response()


@given(replies())
def test_a_reply_has_the_code_and_text_that_aiosmtplib_finds(reply: bytes) -> None:
    """The code, and the lines without it."""
    found = first_reply(reply)

    assert found is not None
    code, lines = found
    assert lines == reply
    assert (code, reply_text(lines)) == asyncio.run(as_aiosmtplib_reads(reply))


@given(replies(), replies())
def test_the_second_reply_is_left_and_a_part_of_one_is_none(first: bytes, second: bytes) -> None:
    """The cut may be at any place, since a packet may end anywhere."""
    found = first_reply(first + second)
    assert found is not None
    assert found[1] == first
    assert all(first_reply(first[:end]) is None for end in range(len(first)))


@pytest.mark.parametrize(
    "received", [b"hello\r\n", b"25 ok\r\n", b"250-ok\r\nno code\r\n", b"250-" + b"x" * 40_000]
)
def test_a_line_that_is_no_reply_is_named_in_the_error(received: bytes) -> None:
    """The error has the line, or the size of a reply that is too large."""
    with pytest.raises(ValueError, match="malformed reply: "):
        first_reply(received)


def test_a_reply_may_come_slowly_up_to_its_limit() -> None:
    """A reply that takes longer is none."""
    assert first_reply(b"250-" + b"x" * (REPLY_BYTES_MAX - 4)) is None
