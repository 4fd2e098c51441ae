"""Parser for a host's log, whatever programs write it. Pure.

``maillog`` reads each line. Then the reader of its program gives it a kind of its own.
"""

from __future__ import annotations

from collections.abc import Callable

from maillab.mail import dovecotlog, filterlog, haproxylog, maillog, tableslog
from maillab.mail.maillog import Event, NotStarted, Started


def _supervised(event: Event) -> Event | None:
    """Return the event of a line with which a supervisor (images/inside) reports a start."""
    what, _, words = event.text.partition(": ")
    if what == "started":
        return event.becomes(Started, version="", configuration=words)
    return event.becomes(NotStarted, words=words) if what == "Fatal" else None


_READERS: dict[str, Callable[[Event], Event | None]] = {
    "dovecot": dovecotlog.read,
    "haproxy": haproxylog.read,
    "supervisor": _supervised,
    **dict.fromkeys(filterlog.PROGRAMS, filterlog.read),
    **dict.fromkeys(tableslog.PROGRAMS, tableslog.read),
}


def parse(line: bytes | str, *, host: str, seq: int, arrived: float = 0.0) -> Event:
    """Parse one line of ``host``'s log; never fail. See ``maillog.parse``."""
    event = maillog.parse(line, host=host, seq=seq, arrived=arrived)
    reader = _READERS.get(event.program)
    return (reader(event) if reader else None) or event
