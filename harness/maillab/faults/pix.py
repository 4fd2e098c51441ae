"""A Cisco PIX firewall with "fixup protocol smtp"."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from maillab.errors import BadInput
from maillab.faults._middlebox import box
from maillab.host import Host
from maillab.record import Witness


@dataclass(frozen=True)
class Pix:
    """Masks the banner with stars, lets no ESMTP pass, and has the dot-CRLF bug.

    On a host it stands before its port 25, on a router in the way of all SMTP
    through it; both ends see each other's addresses. ``swallows_dot``: an end of
    data that is not alone in its packet never arrives. The model has what one
    read returns for a packet; that shows the bug and the cure of postconf(5)
    smtp_pix_workarounds, not which packets of a real one were lost.
    """

    masks_banner: bool = True
    blocks_esmtp: bool = True
    swallows_dot: bool = True

    def __post_init__(self) -> None:
        if not any(asdict(self).values()):
            raise BadInput(f"{self!r}: does nothing; leave at least one of its settings True")

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Put it before the host, or on the path through it."""
        with box(host, self, "Pix", asdict(self)) as witness:
            yield witness
