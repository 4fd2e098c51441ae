"""The lines of whole logs that are about one message. Pure.

This search costs a fraction of parsing every line as an event. A line is about the
message if it names a queue id or Message-ID that another such line names. The search
may find too much, for example when a queue id was used twice. The journey drops that.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping

from maillab.mail.maillog import QUEUE_ID

_QUEUE_ID = re.compile(rb"\]: (?:(?:warning|error|fatal|panic): )?(" + QUEUE_ID.encode() + rb"): ")
# In the place of a queue id, Dovecot's LMTP server logs the id of a session.
_SESSION = re.compile(
    rb" dovecot: lmtp\([^)]*\)<\d+><([^>:]+)[^>]*>: (?:sieve: )?(?:msgid=(<[^>]*>))?"
)
_SAVED_AS = re.compile(rb"\(250 2\.0\.0 <[^>]*> ([^\s:]+)\S* Saved\)")
_NAMED = re.compile(rb"message-id=(\S.*)|(?:queued as |forwarded as |notification: |orig_id=)(\w+)")
# Lines about messages that they do not name: postsuper(1), which renames files and logs
# sums, and rules that apply before there is a queue id.
_UNNAMED = re.compile(rb"postsuper\[|NOQUEUE: (?:milter-)?(?:discard|hold): ")


def about(wanted: str, logs: Mapping[str, bytes]) -> dict[str, list[bytes]]:
    """Return each host's lines about the message of a queue id or Message-ID, in log order.

    Return all lines if the logs contain any that may be about the message without naming it.
    """
    lines = {host: log.splitlines() for host, log in logs.items()}
    if any(_UNNAMED.search(log) for log in logs.values()):
        return lines
    places: dict[bytes, list[tuple[str, int]]] = defaultdict(list)
    for host, of_host in lines.items():
        for number, line in enumerate(of_host):
            for name in _names(line):
                places[name].append((host, number))
    found: set[tuple[str, int]] = set()
    known = {wanted.encode(errors="replace"), f"<{wanted}>".encode(errors="replace")}
    left = list(known)
    while left:
        for host, number in places.get(left.pop(), ()):
            if (host, number) not in found:
                found.add((host, number))
                fresh = set(_names(lines[host][number])) - known
                known |= fresh
                left += fresh
    return {
        host: [line for number, line in enumerate(of_host) if (host, number) in found]
        for host, of_host in lines.items()
    }


def _names(line: bytes) -> Iterator[bytes]:
    if queue_id := _QUEUE_ID.search(line):
        yield queue_id[1]
        for found in _NAMED.finditer(line, queue_id.end()):
            yield found[1] or found[2]
        if saved := _SAVED_AS.search(line, queue_id.end()):
            yield saved[1]
    elif session := _SESSION.search(line):
        yield from filter(None, session.groups())
