"""The kernel's counters of packets without a route."""

from __future__ import annotations

import pytest

import routes

SNMP = "Ip: Forwarding OutNoRoutes ReasmFails\nIp: 1 17 0\nTcp: ActiveOpens\nTcp: 3\n"
SNMP6 = "Ip6InReceives                   \t40\nIp6OutNoRoutes                  \t5\n"


@pytest.mark.parametrize(
    ("text", "name", "count"), [(SNMP, "OutNoRoutes", 17), (SNMP6, "Ip6OutNoRoutes", 5)]
)
def test_both_forms_of_counters_are_read(text: str, name: str, count: int) -> None:
    assert routes.counted(text, name) == count


def test_a_missing_counter_is_an_error() -> None:
    with pytest.raises(ValueError, match="no counter OutNoRoutes"):
        routes.counted(SNMP6, "OutNoRoutes")


@pytest.mark.parametrize(
    ("destination", "stays"),
    [
        ("fe80::", True),
        ("ff00::", True),
        ("2001:db8::", False),
        ("198.18.0.0", False),
        (None, False),
    ],
)
def test_routes_on_the_link_stay(destination: str | None, *, stays: bool) -> None:
    assert routes.on_link(destination) == stays
