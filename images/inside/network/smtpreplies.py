"""SMTP replies as bytes: where the first one ends, its code and its text (RFC 5321, 4.2)."""

from __future__ import annotations

import functools
import re

# A complete reply is a few kB at most, also to EHLO.
REPLY_BYTES_MAX = 32 * 1024
REPLIES_KEPT = 256
_REPLY = re.compile(rb"(?:[0-9]{3}-[^\n]*\n)*([0-9]{3})(?!-)[^\n]*\n")
_LINE = re.compile(rb"[0-9]{3}")
_TEXT_AT = 4


# A server gives the same few replies again and again.
@functools.lru_cache(maxsize=REPLIES_KEPT)
def first_reply(received: bytes) -> tuple[int, bytes] | None:
    """Return the code and the lines of the first reply; None if it is not complete.

    Raise ValueError if the bytes are not an SMTP reply.
    """
    if found := _REPLY.match(received):
        return int(found[1]), found[0]
    for line in received.split(b"\n")[:-1]:
        if not _LINE.match(line):
            raise ValueError(f"malformed reply: {line.decode('utf-8', 'replace').strip()!r}")
    if len(received) > REPLY_BYTES_MAX:
        raise ValueError(f"malformed reply: no end in {len(received)} bytes")
    return None


def reply_text(lines: bytes) -> str:
    """Return the text of a reply without its codes; several lines are joined by newlines."""
    texts = [line[_TEXT_AT:].strip() for line in lines.rstrip().split(b"\n")]
    return b"\n".join(texts).decode("utf-8", "surrogateescape")
