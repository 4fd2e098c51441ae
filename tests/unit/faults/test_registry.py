"""A fault registers itself, with its proof and an example."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from maillab import faults
from maillab.errors import UnknownName
from maillab.faults.registry import ENTRIES, FORMER_NAMES, REGISTRY, find

SCENARIOS = Path(__file__).parents[3] / "scenarios" / "faults"
FOLDER = Path(inspect.getfile(faults)).parent


def test_every_file_with_a_fault_is_imported() -> None:
    """A fault whose file is not imported would not be registered."""
    decorated = [
        name
        for path in FOLDER.rglob("*.py")
        for name in re.findall(
            r"@fault\((?:[^@]*?)\)\n@dataclass\(frozen=True\)\nclass (\w+)", path.read_text()
        )
    ]

    assert sorted(decorated) == sorted(REGISTRY)
    assert all(getattr(faults, name) is kind for name, kind in REGISTRY.items())


@pytest.mark.parametrize("name", sorted(set(ENTRIES) - {"Noop"}))
def test_the_proof_of_a_fault_is_a_scenario(name: str) -> None:
    file, _, test = ENTRIES[name].proof.partition("::")

    assert f"def {test.partition('[')[0]}(" in (SCENARIOS / file).read_text()


@pytest.mark.parametrize("name", sorted(FORMER_NAMES))
def test_a_former_name_still_finds_its_fault(name: str) -> None:
    """The old name works on the command line and as an import."""
    assert find(name) is FORMER_NAMES[name] is getattr(faults, name)


def test_an_unknown_fault_is_named() -> None:
    with pytest.raises(UnknownName, match="Fire"):
        find("Fire")
