"""A pytest plugin: runs the chosen scenarios of each topology several times, in the same labs."""

from __future__ import annotations

import itertools
import os

import pytest

from maillab.suite import collection

VARIABLE = "BENCH_ROUNDS"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Repeat the items of each topology; they are sorted by topology."""
    rounds = int(os.environ[VARIABLE])
    groups = [list(group) for _, group in itertools.groupby(items, collection.topology_of)]
    items[:] = [item for group in groups for item in group * rounds]
