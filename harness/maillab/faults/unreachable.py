"""A host that cannot be reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from maillab.faults._filter import SessionFault


@dataclass(frozen=True)
class Unreachable(SessionFault):
    """A client's SYN is answered by ICMP "host unreachable" (RFC 792), as by a last router.

    The client sees "No route to host". Sessions under way go on.
    """

    VERDICT: ClassVar[str] = "reject with icmp type host-unreachable"
    COUNTED: ClassVar[str] = "connections answered by 'host unreachable'"
