"""The form in which a line for syslogd(8) joins a mail log, where no syslogd(8) runs."""

from __future__ import annotations

import re
import time


def as_logged(datagram: bytes, host: str) -> bytes:
    """Return one line of a log: without priority, with the host's name (RFC 3164)."""
    text = re.sub(rb"^<\d+>", b"", datagram).replace(b"\n", b" ").rstrip(b"\0 ")
    found = re.fullmatch(rb"([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d) (.*)", text, re.DOTALL)
    stamp, rest = found.groups() if found else (time.strftime("%b %e %H:%M:%S").encode(), text)
    return stamp + b" " + host.encode() + b" " + rest + b"\n"
