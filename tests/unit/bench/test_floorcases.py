"""The cases of the floor name scenarios, topologies, hosts and verbs that exist."""

import re
from pathlib import Path

import pytest
from bench import floor
from bench.floorcases import CASES

from maillab.site import topology

SCENARIOS = Path(__file__).parents[3] / "scenarios"
VERBS = set(
    re.findall(r"(?m)^(\w+)\(\) \{", Path(floor.__file__).with_name("floor.sh").read_text())
)
PROGRAMS = {"printf", "postqueue"}


@pytest.mark.parametrize("name", CASES)
def test_a_case_is_about_a_scenario_and_a_topology_that_exist(name: str) -> None:
    """A renamed scenario, host or verb is found without an engine."""
    file, _, test = name.partition("::")
    text = SCENARIOS.joinpath(file).read_text()

    assert f"\ndef {test.partition('[')[0]}(" in text
    assert f'pytest.mark.topology("{CASES[name].topology}")' in text
    commands = floor.commands(name)
    roles = topology.load(CASES[name].topology).roles
    assert {host for host, _ in commands} - {"all"} <= set(roles)
    assert {command.split()[0] for _, command in commands} <= VERBS | PROGRAMS
    assert len(commands) == len(CASES[name].lines.strip().splitlines())


def test_the_cases_are_twenty_of_different_entries() -> None:
    """No family of scenarios counts twice."""
    assert len({name.partition("::")[0] for name in CASES}) == len(CASES) == 20


@pytest.mark.parametrize("name", CASES)
def test_a_case_judges_what_became_of_the_mail(name: str) -> None:
    """The last command is a check that can fail."""
    _, last = floor.commands(name)[-1]

    assert last.startswith(("stored", "smtp"))
