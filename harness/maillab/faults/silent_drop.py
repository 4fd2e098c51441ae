"""A packet filter that says nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from maillab.faults._filter import SessionFault


@dataclass(frozen=True)
class SilentDrop(SessionFault):
    """A client's SYN, and each repetition of it, is dropped without an answer.

    The client sees "Connection timed out", Postfix after smtp_connect_timeout.
    Sessions under way go on.
    """

    VERDICT: ClassVar[str] = "drop"
    COUNTED: ClassVar[str] = "packets dropped"
