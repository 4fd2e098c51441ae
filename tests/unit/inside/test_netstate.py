"""The state of a network namespace contains neither counters nor times."""

from __future__ import annotations

import netstate


def link(packets: int, mtu_bytes: int) -> dict[str, object]:
    """Return a link as pyroute2 represents it."""
    return {
        "index": 2,
        "attrs": [
            ("IFLA_IFNAME", "eth0"),
            ("IFLA_MTU", mtu_bytes),
            ("IFLA_STATS64", {"rx_packets": packets}),
            ("IFLA_CARRIER_CHANGES", packets),
            (
                "IFLA_LINKINFO",
                {"attrs": [("IFLA_INFO_KIND", "ifb"), ("IFLA_INFO_XSTATS", packets)]},
            ),
        ],
        "header": {"sequence_number": packets},
        "event": "RTM_NEWLINK",
    }


def test_traffic_changes_nothing() -> None:
    assert netstate.lasting(link(1, 1500)) == netstate.lasting(link(2, 1500))


def test_a_setting_is_a_change() -> None:
    assert netstate.lasting(link(1, 1500)) != netstate.lasting(link(1, 1400))


def test_nested_settings_stay() -> None:
    assert netstate.lasting(link(1, 1500)) == {
        "index": 2,
        "IFLA_IFNAME": "eth0",
        "IFLA_MTU": 1500,
        "IFLA_LINKINFO": {"IFLA_INFO_KIND": "ifb"},
    }
