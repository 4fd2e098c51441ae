"""A path with a narrow leg, and nobody who says so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from maillab.faults.small_mtu import SmallMtu
from maillab.host import LET_THROUGH


@dataclass(frozen=True)
class MtuBlackHole(SmallMtu):
    """As SmallMtu, but the router's ICMP is dropped: the sender repeats big packets for ever.

    Small mail passes, big mail hangs in DATA (RFC 2923 section 2.1). Cures:
    ``router.let_icmp_through()``, ``router.clamp_mss()``.
    """

    UNTOLD: ClassVar[str] = f'meta mark != {LET_THROUGH} counter drop comment "too big, untold"'
