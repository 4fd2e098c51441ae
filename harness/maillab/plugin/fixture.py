"""The ``lab`` fixture, and the labs of a run from its start to its end."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Iterator

import pytest

from maillab.engine import client
from maillab.errors import (
    BadInput,
    EngineGone,
    ImageError,
    MaillabError,
    NoDisk,
    NoEngine,
    of_os,
)
from maillab.lab.lab import Lab
from maillab.lab.pool import Labs
from maillab.site import topology
from maillab.suite import collection

# After these errors no other test can have a lab: after the first two, not even this one.
NO_ENGINE = (NoEngine, EngineGone)
_NO_LABS = (*NO_ENGINE, NoDisk, ImageError)
LABS = pytest.StashKey[Labs]()
LAB = pytest.StashKey[Lab]()
HOPELESS = pytest.StashKey[MaillabError]()


def prepare(config: pytest.Config) -> None:
    """Create the run's pool of labs, and print messages about a silent engine."""
    vigil = client.VIGIL
    config.add_cleanup(functools.partial(setattr, vigil, "say", vigil.say))
    vigil.say = functools.partial(_say, config)
    config.stash[LABS] = Labs()


def _say(config: pytest.Config, text: str) -> None:
    """Print a message past the capture of a test's output, while the test waits."""
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else contextlib.nullcontext():
        print(f"\nmaillab: {text}", file=sys.stderr, flush=True)


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Provide a lab of the topology in the ``topology`` mark, in its initial state."""
    config = request.config
    mark = request.node.get_closest_marker("topology")
    if mark is None or not mark.args:
        raise BadInput(f"{request.node.name}: needs @pytest.mark.topology(name)")
    labs = config.stash[LABS]
    try:
        running = labs.get(
            topology.load(collection.topology_of(request.node)),
            config.option.postfix,
            pool=mark.kwargs.get("pool", ""),
            withhold=config.option.withhold,
        )
    except _NO_LABS as error:
        request.node.stash[HOPELESS] = error
        raise
    except OSError as error:
        # An error of this machine, such as no space for a lock.
        ours = of_os(error)
        if isinstance(ours, _NO_LABS):
            request.node.stash[HOPELESS] = ours
        raise ours from error
    request.node.stash[LAB] = running
    if config.option.pcap:
        running.capture()
    yield running
    if config.option.fresh_labs and LAB in request.node.stash:
        labs.discard(running)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove all labs of this run."""
    labs = config.stash.get(LABS, None)
    if labs is None:
        return
    try:
        labs.close()
    except MaillabError as error:
        print(
            f"maillab: labs of this run are left: {error}; the next start removes them",
            file=sys.stderr,
        )
