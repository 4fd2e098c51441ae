"""Runs of pytest inside pytest with fake labs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from maillab.lab.pool import Labs

HERE = Path(__file__).parent

HEAD = """
import pytest
from fake_labs import Acting
from maillab.faults import Noop

pytestmark = pytest.mark.topology("standalone")

"""

VOID = """
def test_behaviour_void(lab):
    with lab.mail.faulty(Noop()):
        pass
"""

TWO = "def test_behaviour_a(lab): assert 0\ndef test_behaviour_b(lab): pass\n"

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that writes test files, each with the head, and runs pytest."""
    # The inner conftest replaces Labs; monkeypatch restores it.
    monkeypatch.setattr("maillab.plugin.fixture.Labs", Labs)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def write_and_run(*options: str, refusal: str = "None", **files: str) -> pytest.RunResult:
        pytester.makeconftest(
            f"import sys\nsys.path.insert(0, {str(HERE)!r})\n"
            f"import fake_labs\nfrom maillab.errors import *\nfake_labs.install({refusal})\n"
        )
        for name, text in files.items():
            pytester.path.joinpath(f"{name}.py").write_text(HEAD + text)
        return pytester.runpytest_inprocess(
            *("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:randomly"),
            "-rA",
            *options,
        )

    return write_and_run


def journal(pytester: pytest.Pytester) -> list[str]:
    """Return the calls that the labs logged."""
    return (pytester.path / "journal.txt").read_text().splitlines()


def failures(result: pytest.RunResult) -> str:
    """Return the run's output about failed tests, without the summaries."""
    text = result.stdout.str()
    return text[: text.find("short test summary info")]
