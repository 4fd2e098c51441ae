"""What the tests of the harness share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from maillab import topology
from maillab.lab import Lab
from maillab.labs import Labs

# Runs of pytest inside pytest, and the command line with labs that are made up.
pytest_plugins = ["pytester", "inner_runs", "cli_calls"]


@pytest.fixture(scope="module")
def some_labs() -> Iterator[Labs]:
    running = Labs()
    yield running
    running.close()


@pytest.fixture
def lab(some_labs: Labs, request: pytest.FixtureRequest) -> Lab:
    """A lab of "backup-mx" in its first state, whose mail nobody judges."""
    return some_labs.get(topology.load("backup-mx"), request.config.option.postfix)
