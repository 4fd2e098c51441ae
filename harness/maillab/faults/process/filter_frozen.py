"""A Milter or policy service that hangs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

from maillab.errors import BadInput
from maillab.faults.process.supervised import FROZEN, filters_of, held
from maillab.faults.registry import fault
from maillab.hosts.host import Host
from maillab.scenario.state import Witness


@fault(
    proof="test_filters.py::test_symptom_a_filter_that_hangs_delays_mail",
    host="sender",
    topology="authenticated",
    example={"filter": "opendkim"},
)
@dataclass(frozen=True)
class FilterFrozen:
    """SIGSTOP for a filter beside the mail host, such as "opendkim", and SIGCONT at the end.

    The kernel still accepts Postfix's connections, but no answer comes. Postfix waits for a
    Milter as long as milter_command_timeout says. The witness counts the filter's processes
    that the kernel shows in state T (proc(5)).
    """

    filter: str

    def __post_init__(self) -> None:
        if not self.filter:
            raise BadInput(f"{self!r}: filter must be a name such as opendkim")

    def on(self, host: Host) -> AbstractContextManager[Witness]:
        """Keep the filter from answering for the block."""
        return held(host, filters_of(host, self), self, self.filter, FROZEN)
