"""A port on which connections are refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from maillab.faults._filter import SessionFault


@dataclass(frozen=True)
class Refused(SessionFault):
    """A client's SYN is answered by a reset, as where no server listens (RFC 9293 3.5.2).

    The client sees "Connection refused". Sessions under way go on.
    """

    VERDICT: ClassVar[str] = "reject with tcp reset"
    COUNTED: ClassVar[str] = "connections refused"
