"""The addresses that each leg of a message was given, and those it was not given. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from maillab.mail.history import Submission, local_part
from maillab.mail.instructions import Instructions
from maillab.mail.leg import Leg
from maillab.mail.maillog import Delivery

# Also splits "@relay:user@site", "user%site@relay", "site!user" and "user+extension".
_PARTS = re.compile(r"[^\s@%!:\"+]+")


class Recipients:
    """The addresses that each leg of a submission was given, from its first leg on.

    A leg must account for each address that it was handed, and may deliver to no other,
    with two exceptions: an address with the same local part (the domain was rewritten),
    and an address that the scenario named in its instructions for that host.
    """

    def __init__(self, instructions: Mapping[str, Instructions]) -> None:
        self._instructions = instructions
        self._known: dict[Leg, frozenset[str]] = {}

    def enter(self, leg: Leg) -> None:
        """Add the next leg of a journey. Its parent has to be added before."""
        known = set()
        if isinstance(leg.parent, Submission):
            mail = leg.parent
            given = mail.accepted if mail.outcome == "acknowledged" else mail.probe.recipients
            known = {name.lower() for name in (*mail.accepted, *given)}
        elif leg.parent:
            lines = leg.handed if leg.via in ("sent", "forwarded") else leg.parent.deliveries
            known |= _names(lines)
            if leg.via in ("requeued", "rejoined"):
                known |= self._known.get(leg.parent, frozenset())
        self._known[leg] = frozenset(known)

    def handed(self, leg: Leg) -> tuple[str, ...]:
        """Return the addresses that a leg must account for, as handed to it."""
        if isinstance(leg.parent, Submission):
            return leg.parent.accepted if leg.host == leg.parent.host else ()
        if leg.via == "sent":
            return tuple(dict.fromkeys(line.to for line in leg.handed))
        return ()

    def unaccounted(self, leg: Leg) -> list[str]:
        """Return the addresses that a leg was handed and that its log does not mention."""
        siblings = [leg]
        if isinstance(leg.parent, Leg) and leg.parent.host == leg.host:
            # A filter may pass the recipients on in separate messages.
            siblings = [edge.leg for edge in leg.parent.edges if edge.leg.host == leg.host]
        lines = [line for sibling in siblings for line in sibling.latest.values()]
        handed = self.handed(leg)
        handed_names, tried = {name.lower() for name in handed}, _names(lines)
        renamed = {
            (line.orig_to or line.to).lower()
            for line in lines
            if handed_names.isdisjoint(_names([line]))
        }
        missing = []
        for name in handed:
            same = [other for other in renamed if _same_user(name, other)]
            if name.lower() in tried:
                continue
            if same:
                renamed.discard(same[0])
            # The recipients of the scenario's alias may be among the others already.
            elif not self._instructions[leg.host].catch(name):
                missing.append(name)
        named = [name for name in renamed if self._instructions[leg.host].name(name)]
        return missing[len(named) :]

    def unaddressed(self, leg: Leg) -> list[Delivery]:
        """Return the deliveries to recipients that neither the message nor the scenario named."""
        known = self._known.get(leg)
        if known is None:
            return []
        return [
            line
            for line in leg.latest.values()
            if line.to.lower() not in known and not any(_same_user(n, line.to) for n in known)
            if not self._instructions[leg.host].name(line.to)
        ]


def _names(lines: Iterable[Delivery]) -> set[str]:
    return {name.lower() for line in lines for name in (line.to, line.orig_to) if name}


def _same_user(handed: str, used: str) -> bool:
    """Return True if an address still contains the user of the address it was rewritten from."""
    user = next(iter(_PARTS.findall(local_part(used))), "")
    return user != "" and user in _PARTS.findall(handed.lower())
