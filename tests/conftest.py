"""Fixtures and plugins for all tests of the harness."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from maillab.lab.lab import Lab
from maillab.lab.pool import Labs
from maillab.site import topology

# Runs of pytest inside pytest, and the command line with fake labs.
pytest_plugins = ["pytester", "inner_runs", "cli_calls"]


@pytest.fixture(scope="module")
def some_labs() -> Iterator[Labs]:
    running = Labs()
    yield running
    running.close()


@pytest.fixture
def lab(some_labs: Labs, request: pytest.FixtureRequest) -> Lab:
    """Return a lab of "backup-mx" in its initial state, whose mail is not judged."""
    return some_labs.get(topology.load("backup-mx"), request.config.option.postfix)
