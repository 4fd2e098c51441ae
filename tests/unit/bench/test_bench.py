"""The bench gives no figures of a run that failed, and names what is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Self

import pytest
from bench import __main__ as program
from bench import faq, floor
from bench.cost import POSTFIX, Cost

from maillab.suite import results
from maillab.suite.results import Result


class FixedMeter:
    """A meter that has measured this cost."""

    cost = Cost(1.0, 60, {POSTFIX: 0.5}, foreign=2)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class IdleWatchdog:
    """A watchdog that starts no process."""

    def __init__(self, _owner: str) -> None:
        pass

    def dismiss(self) -> None:
        pass


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> subprocess.CompletedProcess[str]:
    """Return the end of a pytest that ran two scenarios, which a test may change."""
    done = subprocess.CompletedProcess([], 0, stdout="2 passed\n", stderr="")
    known = {test: {"3.10": Result("passed", 1.0)} for test in ("test_a.py::a", "test_a.py::b")}
    monkeypatch.setattr(faq, "Meter", FixedMeter)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    monkeypatch.setattr(results, "read", lambda _: known)
    return done


@pytest.mark.usefixtures("ended")
def test_a_run_of_the_faq_gives_the_cost_of_one_scenario() -> None:
    """Containers of other programs are counted, since the total contains their time."""
    figures = dict(faq.measure("3.10"))

    assert figures["cpu_s_per_scenario"] == [0.5]
    assert figures["forks_per_scenario"] == [30]
    assert figures["faq_scenarios"] == [2]
    assert figures["faq_foreign_containers"] == [2]


@pytest.mark.parametrize("status", [1, 2, 3, 20])
def test_a_run_of_the_faq_that_failed_gives_no_figures(
    ended: subprocess.CompletedProcess[str], status: int
) -> None:
    """A run that broke off has results of the scenarios before, too."""
    ended.returncode = status
    figures = faq.measure("3.10")

    with pytest.raises(RuntimeError, match=f"pytest exited with {status} after 2 scenarios: 2 pas"):
        next(figures)


@pytest.mark.usefixtures("ended")
def test_a_run_of_the_faq_without_mail_hosts_gives_no_figures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The meter saw none of them, so the figures would be of something else."""
    monkeypatch.setattr(FixedMeter, "cost", Cost(1.0, 60, {POSTFIX: 0.0}))

    with pytest.raises(RuntimeError, match="no CPU time of a mail host was measured"):
        next(faq.measure("3.10"))


@pytest.mark.parametrize("blind", ["floor", "harness"])
def test_an_overhead_without_mail_hosts_gives_no_figures(
    monkeypatch: pytest.MonkeyPatch, blind: str
) -> None:
    """Neither of the two costs may miss them."""
    seen = {name: Cost(1.0, 60, {POSTFIX: 0.5}) for name in ("floor", "harness")}
    seen[blind] = Cost(1.0, 60, {POSTFIX: 0.0})
    monkeypatch.setattr(floor, "Watchdog", IdleWatchdog)
    monkeypatch.setattr(floor, "floor", lambda _: (seen["floor"], 1.0))
    monkeypatch.setattr(floor, "harness", lambda _: seen["harness"])

    with pytest.raises(RuntimeError, match="no CPU time of a mail host was measured"):
        next(floor.measure("3.10"))


def test_a_sample_and_a_part_exclude_each_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The error comes before anything is built or written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bench", "faq", "--sample", "scenarios/test_maildir.py"])

    with pytest.raises(SystemExit) as raised:
        program.main()

    assert raised.value.code == 2
    assert "--sample measures no parts: leave out faq or --sample" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
