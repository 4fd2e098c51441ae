"""The decisions of the userspace queue for its settings, by a fake clock."""

from __future__ import annotations

import itertools
import json
import math
import statistics

import pytest

import netqueue
import packetfilter
from netqueue import Settings, Shaper

MANY = 20_000
PACKET_BYTES = 1500
# A correct queue fails once in 16,000 runs; but the seed is fixed.
SIGMAS = 4


def fates(settings: Settings, count: int = MANY, gap_s: float = 1.0) -> list[list[float]]:
    """Return for each of many packets the delays with which it is sent: none, one or two."""
    shaper = Shaper(settings)
    return [
        [at_s - n * gap_s for at_s in shaper.plan(n * gap_s, PACKET_BYTES)] for n in range(count)
    ]


def near(count: int, percent: float, of: int = MANY) -> bool:
    """Return True if a number of hits agrees with the probability."""
    share = percent / 100
    return abs(count - of * share) <= SIGMAS * math.sqrt(of * share * (1 - share))


def test_a_delay_is_exact() -> None:
    assert {round(fate[0], 9) for fate in fates(Settings(delay_s=0.25), 100)} == {0.25}


def test_jitter_is_even_around_the_delay() -> None:
    delays = [fate[0] for fate in fates(Settings(delay_s=0.1, jitter_s=0.04))]

    assert 0.06 <= min(delays) < 0.061
    assert 0.139 < max(delays) <= 0.14
    spread = 0.08 / math.sqrt(12)
    assert abs(statistics.fmean(delays) - 0.1) < SIGMAS * spread / math.sqrt(MANY)
    assert statistics.stdev(delays) == pytest.approx(spread, rel=0.03)


@pytest.mark.parametrize("percent", [0.5, 10, 50])
def test_loss_is_what_was_set(percent: float) -> None:
    lost = fates(Settings(loss_percent=percent)).count([])

    assert near(lost, percent)


def test_losses_do_not_depend_on_each_other() -> None:
    lost = [not fate for fate in fates(Settings(loss_percent=20))]

    after_a_loss = [now for before, now in itertools.pairwise(lost) if before]
    assert near(sum(after_a_loss), 20, of=len(after_a_loss))


@pytest.mark.parametrize(("percent", "left"), [(0, MANY), (100, 0)])
def test_none_and_all_are_exact(percent: float, left: int) -> None:
    assert sum(map(len, fates(Settings(loss_percent=percent)))) == left


def test_the_seed_determines_the_fate_of_each_packet() -> None:
    settings = Settings(loss_percent=30, delay_s=1, jitter_s=1, seed=7)

    assert fates(settings, 100) == fates(settings, 100)
    assert fates(settings, 100) != fates(
        Settings(loss_percent=30, delay_s=1, jitter_s=1, seed=8), 100
    )


def test_another_impairment_does_not_change_which_packets_are_lost() -> None:
    plain = [not fate for fate in fates(Settings(loss_percent=30), 500)]
    slow = [not fate for fate in fates(Settings(loss_percent=30, delay_s=1, jitter_s=1), 500)]

    assert plain == slow


def test_a_rate_sends_one_packet_after_the_other() -> None:
    """Twenty packets at once over 33.6 kbit/s take as long as their bits do."""
    shaper = Shaper(Settings(rate_bit_s=33_600))

    ends = [shaper.plan(5.0, PACKET_BYTES)[0] for _ in range(20)]

    assert ends == sorted(ends)
    assert ends[-1] - 5.0 == pytest.approx(20 * PACKET_BYTES * 8 / 33_600)


def test_an_idle_line_saves_no_capacity() -> None:
    shaper = Shaper(Settings(rate_bit_s=12_000))
    shaper.plan(0.0, PACKET_BYTES)

    assert shaper.plan(100.0, PACKET_BYTES) == [101.0]


def test_packets_beyond_the_limit_are_lost() -> None:
    shaper = Shaper(Settings(rate_bit_s=12_000, limit_packets=2))

    assert [len(shaper.plan(0.0, PACKET_BYTES, waiting)) for waiting in range(4)] == [1, 1, 0, 0]
    assert shaper.counts["over the limit"] == 2


def test_duplicates_go_together() -> None:
    doubled = [fate for fate in fates(Settings(duplicate_percent=25, delay_s=0.5)) if len(fate) > 1]

    assert near(len(doubled), 25)
    assert all(first == second for first, second in doubled)


def test_reordered_packets_go_at_once() -> None:
    delays = [fate[0] for fate in fates(Settings(reorder_percent=25, delay_s=0.5))]

    assert near(delays.count(0.0), 25)
    assert near(sum(delay == pytest.approx(0.5) for delay in delays), 75)


def test_everything_done_is_counted() -> None:
    shaper = Shaper(Settings(loss_percent=10, delay_s=0.1, duplicate_percent=10))
    plans = [shaper.plan(0.0, PACKET_BYTES) for _ in range(1000)]

    assert shaper.counts == {
        "seen": 1000,
        "lost": plans.count([]),
        "delayed": 1000 - plans.count([]),
        "duplicated": sum(len(plan) == 2 for plan in plans),
    }


@pytest.mark.parametrize(
    ("direction", "hooks"),
    [("in", ["prerouting"]), ("out", ["postrouting"]), ("both", ["prerouting", "postrouting"])],
)
def test_only_the_configured_direction_is_queued(direction: str, hooks: list[str]) -> None:
    text = netqueue.rules(direction, "198.18.0.9")

    assert [h for h in ("prerouting", "postrouting") if f"hook {h}" in text] == hooks
    assert ("ip saddr 198.18.0.9" in text) == ("prerouting" in hooks)
    assert ("ip daddr 198.18.0.9" in text) == ("postrouting" in hooks)


@pytest.mark.parametrize(
    ("settings", "direction", "peer", "counts"),
    [
        (Settings(delay_s=0.1), "out", "", True),
        (Settings(rate_bit_s=33_600, duplicate_percent=5), "out", "", True),
        (Settings(loss_percent=5), "out", "", True),
        (Settings(duplicate_percent=5), "out", "", False),
        (Settings(delay_s=0.1, reorder_percent=5), "out", "", True),
        (Settings(rate_bit_s=33_600, reorder_percent=5), "out", "", False),
        (Settings(loss_percent=5, duplicate_percent=5), "out", "", False),
        (Settings(delay_s=0.1), "both", "", False),
        (Settings(delay_s=0.1), "out", "198.18.0.9", False),
    ],
)
def test_netem_is_used_only_if_its_counters_show_the_effect(
    settings: Settings, direction: str, peer: str, *, counts: bool
) -> None:
    """Otherwise no witness could prove that the fault acted."""
    assert netqueue.netem_counts(settings, direction, peer) is counts


LISTING = json.dumps(
    {
        "nftables": [
            {"metainfo": {"version": "1"}},
            {"table": {"family": "ip", "name": "nat", "handle": 1}},
            {"table": {"family": "netdev", "name": "maillab_filter_3", "handle": 2}},
        ]
    }
)


def test_only_our_tables_are_found() -> None:
    assert packetfilter.tables(LISTING) == [("netdev", "maillab_filter_3")]


def test_rules_get_their_table_and_devices() -> None:
    text = packetfilter.filled("table ip TABLE { TABLES } devices = DEVICES", "t1", ["a", "b"])

    assert text == "table ip t1 { TABLES } devices = { a, b }"
