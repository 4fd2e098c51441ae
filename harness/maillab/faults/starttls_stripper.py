"""A middlebox that keeps SMTP sessions in clear text."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from maillab.faults._middlebox import box
from maillab.host import Host
from maillab.record import Witness


@dataclass(frozen=True)
class StarttlsStripper:
    """Takes STARTTLS out of the reply to EHLO; with ``offers`` only makes the command fail.

    RFC 3207 section 6 names this attack. On a host it stands before its port 25,
    on a router in the way of all SMTP through it.
    """

    offers: bool = False

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Put it before the host, or on the path through it."""
        with box(host, self, "StarttlsStripper", {"offers": self.offers}) as witness:
            yield witness
