"""The IPv6 addresses that go with a lab's IPv4 addresses."""

from __future__ import annotations

import pytest

import ipv6 as inside
from maillab.site import ipv6


@pytest.mark.parametrize(
    ("ipv4", "address"),
    [("198.18.0.20", "2001:db8::c612:14"), ("10.0.0.1", "2001:db8::a00:1")],
)
def test_an_address_has_its_prefix_before_it(ipv4: str, address: str) -> None:
    """Programs inside and the harness agree."""
    assert ipv6.behind_prefix(ipv4) == inside.behind_prefix(ipv4) == address
    assert inside.ipv4_of(address) == inside.ipv4_of(ipv4) == ipv4
