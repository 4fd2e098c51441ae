"""Properties of every fault in the registry, in a real lab. Needs an engine."""

from __future__ import annotations

import random
import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from idle_faults import SEEN_BY
from lying_agents import HONEST, LIES
from maillab import faults
from maillab.errors import Void
from maillab.faults.registry import ENTRIES
from maillab.lab.lab import Lab
from maillab.lab.pool import Labs
from maillab.site import topology
from wan_faults import found, lab_for, state

ROOT = Path(__file__).parents[2]

PROOFS = {name: entry.proof for name, entry in ENTRIES.items() if entry.proof}

# While a host is frozen or down no other fault can be applied or lifted there.
ALONE = {"HostCrashed", "HostFrozen"}


@pytest.fixture
def wan(some_labs: Labs, request: pytest.FixtureRequest) -> Lab:
    """Return a fresh lab of the topology "wan", whose hosts support nearly every fault."""
    return some_labs.get(topology.load("wan"), request.config.option.postfix)


def unseen(result: pytest.RunResult, by: str = "") -> set[str]:
    """Return the faults that a run reports as never seen to act; a scenario may have several."""
    reported = rf"[:;] (\w+)\([^;\n]*\) on \w+ was never seen to act: 0 {by}"
    return set(re.findall(reported, result.stdout.str()))


def test_a_scenario_of_every_fault_is_void_when_the_fault_does_nothing(
    pytester: pytest.Pytester,
) -> None:
    """Without a witness the scenario is void, whatever its result."""
    scenarios = [str(ROOT / "scenarios" / "faults" / proof) for proof in PROOFS.values()]
    options = ("-p", "no:cacheprovider", "-p", "idle_faults", "-c", str(ROOT / "pyproject.toml"))

    result = pytester.runpytest_subprocess(*options, *scenarios, timeout=600)

    assert set(PROOFS) == set(faults.REGISTRY) - {"Noop"}
    assert result.ret == Void.exit_code
    assert result.parseoutcomes() == {"void": len(PROOFS)}
    assert unseen(result, SEEN_BY) == set(PROOFS)


def test_a_scenario_of_every_fault_is_void_when_its_program_lies(
    pytester: pytest.Pytester,
) -> None:
    """A program that does nothing and reports a count is not its own witness."""
    scenarios = [str(ROOT / "scenarios" / "faults" / PROOFS[name]) for name in sorted(LIES)]
    options = ("-p", "no:cacheprovider", "-p", "lying_agents", "-c", str(ROOT / "pyproject.toml"))

    result = pytester.runpytest_subprocess(*options, *scenarios, timeout=600)

    # Every fault has false answers, or a reason why its program cannot lie.
    assert set(LIES) | set(HONEST) == set(faults.REGISTRY)
    assert unseen(result) == set(LIES)
    assert result.parseoutcomes() == {"void": len(LIES)}
    assert result.ret == Void.exit_code


@pytest.mark.parametrize("name", sorted(faults.REGISTRY))
def test_a_fault_leaves_no_trace_however_its_block_ends(
    some_labs: Labs, request: pytest.FixtureRequest, name: str
) -> None:
    """The block ends normally, by an assertion, or by Ctrl-C."""
    host, fault = found(lab_for(some_labs, name, request.config.option.postfix), name)
    before = state(host)

    with host.faulty(fault):
        pass
    after = [state(host)]
    for end in (AssertionError, KeyboardInterrupt):
        with pytest.raises(end), host.faulty(fault):
            raise end
        after.append(state(host))

    assert after == [before] * 3


@pytest.mark.parametrize("seed", [1, 2])
def test_all_faults_at_once_lift_in_any_order(wan: Lab, seed: int) -> None:
    """Each fault removes only its own changes."""
    dice = random.Random(seed)  # noqa: S311  # an order, no secret
    before = {name: state(host) for name, host in wan.hosts.items()}
    here = {name for name, entry in ENTRIES.items() if entry.topology == "wan"}
    together = sorted(here - ALONE)

    with ExitStack() as all_of_them:
        stacks = []
        for name in dice.sample(together, len(together)):
            host, fault = found(wan, name)
            stack = all_of_them.enter_context(ExitStack())
            stack.enter_context(host.faulty(fault))
            stacks.append(stack)
        for stack in dice.sample(stacks, len(stacks)):
            stack.close()

    assert {name: state(host) for name, host in wan.hosts.items()} == before
