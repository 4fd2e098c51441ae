"""A Milter or policy service that hangs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from maillab.faults.process.filters import FilterFault
from maillab.faults.registry import fault


@fault(
    proof="test_filters.py::test_symptom_a_filter_that_hangs_delays_mail",
    host="sender",
    topology="authenticated",
    example={"filter": "opendkim"},
)
@dataclass(frozen=True)
class FilterFrozen(FilterFault):
    """SIGSTOP for a filter beside the mail host, such as "opendkim", and SIGCONT at the end.

    The kernel still accepts Postfix's connections, but no answer comes. Postfix waits for a
    Milter as long as milter_command_timeout says. The witness counts the filter's processes
    that the kernel shows in state T (proc(5)).
    """

    HOW: ClassVar[str] = "frozen"
    SEEN: ClassVar[str] = "processes seen in state T"

    def acted(self, state: str) -> bool:
        """Return True if the process is stopped."""
        return state == "T"
