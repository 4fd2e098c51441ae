"""A Milter or policy service that is down."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

from maillab.errors import BadInput
from maillab.faults.process.supervised import DOWN, filters_of, held
from maillab.faults.registry import fault
from maillab.hosts.host import Host
from maillab.scenario.state import Witness


@fault(
    proof="test_filters.py::test_symptom_mail_passes_unsigned_while_the_filter_is_down",
    host="sender",
    topology="authenticated",
    example={"filter": "opendkim"},
)
@dataclass(frozen=True)
class FilterDown:
    """A filter beside the mail host, such as "opendkim", is killed, and started at the end.

    Postfix sees "Connection refused", or a socket in the file system without a server. The
    witness counts the filter's processes that the kernel no longer has.
    """

    filter: str

    def __post_init__(self) -> None:
        if not self.filter:
            raise BadInput(f"{self!r}: filter must be a name such as opendkim")

    def on(self, host: Host) -> AbstractContextManager[Witness]:
        """Keep the filter from answering for the block."""
        return held(host, filters_of(host, self), self, self.filter, DOWN)
