"""Rules of faults for one version of IP, or both."""

from __future__ import annotations

import re

import pytest

from maillab.faults import Partition, Refused
from maillab.faults.path.packetfilter import with_ipv6


@pytest.mark.parametrize(
    ("fault", "families"),
    [
        (Refused(), {"ip", "ip6"}),
        (Refused(over="ipv6"), {"ip6"}),
        (Refused(over="ipv4"), {"ip"}),
        (Refused(client="198.18.0.0/24"), {"ip"}),
        (Refused(client="2001:db8::/96"), {"ip6"}),
        (Partition(), {"ip", "ip6"}),
        (Partition(over="ipv6"), {"ip6"}),
        (Partition(peer="2001:db8::1"), {"ip6"}),
    ],
)
def test_a_fault_acts_on_its_versions(fault: Refused | Partition, families: set[str]) -> None:
    """An address has its own version only."""
    assert set(re.findall(r"\b(ip6?)\b(?= [sd]addr| counter)", fault.rules())) == families


def test_rules_for_ipv4_apply_to_ipv6_as_well() -> None:
    """The length of an IPv6 packet's header is not part of its length."""
    rules = "table ip TABLE {\n  set s { type ipv4_addr; }\n  ip length > 72 ip saddr @s drop\n}\n"

    both = with_ipv6(rules)

    assert both.startswith(rules)
    assert both.removeprefix(rules) == (
        "table ip6 TABLE {\n  set s { type ipv6_addr; }\n  ip6 length > 52 ip6 saddr @s drop\n}\n"
    )
