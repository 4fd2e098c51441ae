"""The fate of a message on a host whose log is not read. Pure.

The evidence is its mailboxes, its queue, the notices that it sent and the mail that it
handed on. Aliases do not show.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from maillab.mail.history import History, Stored, names
from maillab.mail.leg import Leg
from maillab.mail.maillog import Accepted
from maillab.mail.sendmaillog import swallowed


@dataclass(frozen=True)
class Beyond:
    """The end of each recipient, and the programs that took the message and kept no copy.

    An end is "delivered", "bounced", "queued", "lost", "consumed" by a program, or
    "onward" to another host.
    """

    ends: dict[str, str]
    programs: tuple[str, ...]
    copies: int


def judge(
    history: History,
    legs: Iterable[Leg],
    host: str,
    message_id: str,
    *,
    handed: Iterable[str],
    queued: bool,
    named: Callable[[str], bool],
) -> Beyond:
    """Find the end of each recipient that was ``handed`` to a host with a message.

    A mailbox of the recipient's name, or a notice that names the recipient, proves the end.
    Any other copy, notice or hand-over counts for one of the remaining recipients. A
    recipient without evidence is lost, with one exception: a recipient that the scenario
    ``named`` may be an alias for a mailbox that others share, and is then delivered if
    there is any evidence at all.
    """
    stored = history.stored or ()
    copies = [copy for copy in stored if (copy.host, copy.message_id) == (host, message_id)]
    count = len(copies)
    mid = message_id.encode()
    notices = [copy.raw.lower() for copy in stored if is_notice(copy) and mid in copy.raw]
    commands = swallowed(history.events, host, message_id)
    ends: dict[str, str] = {}
    left = []
    for who in dict.fromkeys(who.lower() for who in handed):
        if mine := next((copy for copy in copies if names(who, copy.mailbox)), None):
            copies.remove(mine)
            ends[who] = "delivered"
        elif any(who.encode() in raw for raw in notices):
            ends[who] = "bounced"
        else:
            left.append(who)
    spare = ["delivered"] * len(copies) + ["onward"] * _onward(history, legs, host, message_id)
    spare += ["bounced"] * len(notices) + ["consumed"] * len(commands)
    found = bool(ends or spare)
    for who in left:
        if queued and not ends and not spare:
            ends[who] = "queued"
        elif spare:
            ends[who] = spare.pop(0)
        else:
            ends[who] = "queued" if queued else "delivered" if found and named(who) else "lost"
    # A program may have stored the copies that no recipient accounts for.
    programs = commands[spare.count("delivered") :]
    return Beyond(ends, tuple(programs), count)


def is_notice(copy: Stored) -> bool:
    """Return True if a copy is a delivery status notification (RFC 3464)."""
    return b"multipart/report" in copy.raw


def _onward(history: History, legs: Iterable[Leg], host: str, message_id: str) -> int:
    """Return the number of recipients of a message that other hosts took from this host."""
    return sum(
        leg.nrcpt or 1
        for leg in legs
        if leg.message_id == message_id and isinstance(leg.events[0], Accepted)
        if history.unlogged.get(leg.events[0].client_address) == host
    )
