"""A path with a small MTU, and no ICMP that reports it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from maillab.faults.path.small_mtu import SmallMtu
from maillab.faults.registry import fault
from maillab.hosts.host import LET_THROUGH


@fault(
    proof="test_path.py::test_symptom_an_mtu_black_hole_swallows_big_mail",
    host="router",
    example={"peer": "receiver"},
)
@dataclass(frozen=True)
class MtuBlackHole(SmallMtu):
    """As SmallMtu, but the router's ICMP is dropped: the sender repeats big packets for ever.

    Small mail passes. Big mail hangs in DATA (RFC 2923 section 2.1). Cures:
    ``router.let_icmp_through()``, ``router.clamp_mss()``.
    """

    UNTOLD: ClassVar[str] = f'meta mark != {LET_THROUGH} counter drop comment "too big, untold"'
