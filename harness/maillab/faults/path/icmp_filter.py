"""A packet filter on the path that drops the ICMP of other routers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from maillab.faults.path.packetfilter import FRAG_NEEDED, filtering
from maillab.faults.registry import fault
from maillab.hosts.host import LET_THROUGH, Host
from maillab.scenario.state import Witness

_RULES = f"""
table ip TABLE {{
  chain forward {{
    type filter hook forward priority filter;
    {FRAG_NEEDED} meta mark != {LET_THROUGH} counter drop comment "dropped"
    counter comment "passed"
  }}
}}
"""


@fault(proof="test_path.py::test_symptom_a_filter_on_the_path_makes_a_black_hole", host="provider")
@dataclass(frozen=True)
class IcmpFilter:
    """A router drops the ICMP "fragmentation needed" that comes through it from others.

    With SmallMtu on a router behind it, large packets are lost and their sender never learns
    why (RFC 2923 section 2.1). Its cure is ``router.let_icmp_through()``. The witness counts
    the packets dropped, and also those that passed, so that a test of the cure is not void:
    a test of the symptom asserts that its source says "dropped".
    """

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Filter the packets that the host forwards."""
        with filtering(host, self, "packets at the filter", _RULES) as witness:
            yield witness
