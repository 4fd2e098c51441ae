"""Parser for Sendmail's log: the mail that a command or a file took. Pure.

Mailboxes, the queue and other hosts show everything else that Sendmail does with mail.
Delivery to a command leaves only a log line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from maillab.mail.maillog import Event

# "(?>" as in maillog: the time is proportional to the line's length.
_TAKEN = re.compile(r"(\w+): from=(?>.*, msgid=<)([^>]*)>", re.ASCII)
# The copy of a message that Sendmail sends in the name of a list's owner.
_CLONE = re.compile(r"(\w+): (\w+): clone: owner=", re.ASCII)
_KEPT = re.compile(
    r"(\w+): to=((?>.*?(?=, (?:ctladdr|delay)=))), (?>.*?, mailer=(?:prog|\*file\*), ).*stat=Sent"
)


def swallowed(events: Iterable[Event], host: str, message_id: str) -> list[str]:
    """Return the commands and files of a host that took a message, as its log names them."""
    ids: set[str] = set()
    found = []
    for event in events:
        if event.host != host:
            continue
        # The parser of Postfix's log splits off those of its queue ids that look like Postfix's.
        line = f"{event.queue_id}: {event.text}" if event.queue_id else event.text
        if (taken := _TAKEN.match(line)) and f"<{taken[2]}>" == message_id:
            ids.add(taken[1])
        elif (clone := _CLONE.match(line)) and clone[1] in ids:
            ids.add(clone[2])
        elif (kept := _KEPT.match(line)) and kept[1] in ids:
            found.append(kept[2])
    return found
