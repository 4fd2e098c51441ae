"""A Milter or policy service that is down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from maillab.faults.process.filters import FilterFault
from maillab.faults.registry import fault


@fault(
    proof="test_filters.py::test_symptom_mail_passes_unsigned_while_the_filter_is_down",
    host="sender",
    topology="authenticated",
    example={"filter": "opendkim"},
)
@dataclass(frozen=True)
class FilterDown(FilterFault):
    """A filter beside the mail host, such as "opendkim", is killed, and started at the end.

    Postfix sees "Connection refused", or a socket in the file system without a server. The
    witness counts the filter's processes that the kernel no longer has.
    """

    HOW: ClassVar[str] = "killed"
    SEEN: ClassVar[str] = "processes that the kernel no longer has"

    def acted(self, state: str) -> bool:
        """Return True if there is no such process."""
        return state in ("", "Z", "X")
