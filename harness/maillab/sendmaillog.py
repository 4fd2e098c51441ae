"""What of Sendmail's log the accounts need: mail that a command or a file took. Pure.

All else that Sendmail does with mail is seen where it ends, in a mailbox, in the
queue or on another host. What it gives to a command leaves only a line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from maillab.maillog import Event

_TAKEN = re.compile(r"(\w+): from=.*, msgid=(<[^>]*>)", re.ASCII)
# The part of a message that goes out in the name of a list's owner.
_CLONE = re.compile(r"(\w+): (\w+): clone: owner=", re.ASCII)
_KEPT = re.compile(r"(\w+): to=(.*?), (?:ctladdr|delay)=.*, mailer=(?:prog|\*file\*), .*stat=Sent")


def swallowed(events: Iterable[Event], host: str, message_id: str) -> list[str]:
    """The commands and files of a host that took a message, as its log names them."""
    ids: set[str] = set()
    found = []
    for event in events:
        if event.host != host:
            continue
        # Some of its queue ids look like Postfix's, and stand apart then.
        line = f"{event.queue_id}: {event.text}" if event.queue_id else event.text
        if (taken := _TAKEN.match(line)) and taken[2] == message_id:
            ids.add(taken[1])
        elif (clone := _CLONE.match(line)) and clone[1] in ids:
            ids.add(clone[2])
        elif (kept := _KEPT.match(line)) and kept[1] in ids:
            found.append(kept[2])
    return found
