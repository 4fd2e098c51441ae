"""A packet filter that drops silently."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from maillab.faults.path.packetfilter import SessionFault
from maillab.faults.registry import fault


@fault(
    proof="test_path.py::test_symptom_no_connection[receiver-silent-drop]",
    host="receiver",
    example={"first": "2"},
)
@dataclass(frozen=True)
class SilentDrop(SessionFault):
    """Silent loss of a client's SYN, and of each repetition of it.

    The client sees "Connection timed out"; Postfix sees it after smtp_connect_timeout.
    Open sessions continue.
    """

    VERDICT: ClassVar[str] = "drop"
    COUNTED: ClassVar[str] = "packets dropped"
