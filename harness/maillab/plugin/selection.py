"""The tests of a run: by shard, by what is withheld, in the order of their topologies."""

from __future__ import annotations

import pytest

from maillab.engine import compose
from maillab.errors import (
    BadInput,
)
from maillab.suite import catalogue, collection, results, shards

# The kinds that both runs select.
_IN_EITHER_RUN: tuple[collection.Kind, ...] = ("behaviour", "historic")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Select the tests, and sort them by topology."""
    for item in items:
        site = collection.topology_of(item)
        try:
            for mark in collection.marks_of(item):
                catalogue.check(mark, item.nodeid)
            _check_pool(item)
        except BadInput as error:
            raise pytest.UsageError(str(error)) from error
        if site and item.get_closest_marker("faq") and not collection.kind_of(item):
            raise pytest.UsageError(
                f"{item.nodeid}: name a scenario test_symptom_…, test_cure_…, "
                "test_behaviour_… or test_historic_…"
            )
    items.sort(key=collection.topology_of)
    named = results.NAMED.get(config.option.withhold)
    wants_heavy = "heavy" in (config.option.markexpr or "")
    chosen = [
        item
        for item in items
        if (named is None or collection.kind_of(item) in (named, *_IN_EITHER_RUN))
        and (wants_heavy or not item.get_closest_marker("heavy"))
    ]
    mine = _of_shard(config, chosen)
    chosen = [item for item in chosen if item.nodeid in mine]
    left_out = [item for item in items if item not in set(chosen)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = chosen


def _check_pool(item: pytest.Item) -> None:
    mark = item.get_closest_marker("topology")
    if mark and "pool" in mark.kwargs:
        try:
            compose.pool_of(str(mark.kwargs["pool"]))
        except BadInput as error:
            raise BadInput(f"{item.nodeid}: {error}") from None


def _of_shard(config: pytest.Config, items: list[pytest.Item]) -> set[str]:
    shard = shards.Shard.parse(config.option.shard)
    named = config.getini("maillab_durations")
    try:
        durations_s = shards.durations(config.rootpath / named) if named else {}
    except BadInput as error:
        raise pytest.UsageError(str(error)) from error
    return shard.of({item.nodeid: collection.topology_of(item) for item in items}, durations_s)
