"""The verdicts of a run, counted at its end: exit status, summary, results of the FAQ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from maillab.engine.images import VERSION_DEFAULT
from maillab.errors import (
    BadInput,
    NoDisk,
    Void,
)
from maillab.suite import answers, results
from maillab.suite.answers import Answer


class _Tally:
    """Counts the verdicts in the process that ends the run: the only one, or xdist's controller."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._voids: list[pytest.TestReport] = []
        # Tests that were skipped, and what the engine or the kernel lacks for them.
        self._unsupported: dict[str, str] = {}
        self._failures = 0
        self._results: dict[str, results.Result] = {}
        self._setup_s: dict[str, float] = {}
        self._contrasts: dict[str, results.Contrast] = {}
        # Of a withholding run: each kind's tests, and how they ended.
        self._ends: dict[str, Counter[results.Contrast]] = {}
        self._ended_with: int | None = None
        self._unrecorded = ""
        self._unread = ""
        self._stale: list[str] = []
        self._unanswered: list[str] = []
        self._workers: list[Any] = []

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None]:
        """Record void and failed tests; end a run in which no test can have a lab."""
        outcome: dict[str, Any] = getattr(report, "maillab", {})
        verdict = outcome.get("verdict")
        reason, self._ended_with = outcome.get("ends_run", ("", self._ended_with))
        if reason and verdict == "error":
            self._end(reason)
        yield
        self._count(report, verdict)
        if reason:
            self._end(reason)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodeready(self, node: Any) -> None:
        """Record a worker of xdist."""
        self._workers.append(node)

    def _end(self, reason: str) -> NoReturn:
        for worker in self._workers:
            # An idle worker waits for tests until it is shut down; xdist kills it after 10 s.
            worker.shutdown()
        pytest.exit(reason)

    def _count(self, report: pytest.TestReport, verdict: str | None) -> None:
        if verdict == "void" and not self._config.option.withhold:
            self._voids.append(report)
        elif report.failed:
            self._failures += 1
        elif verdict == "unsupported":
            self._unsupported[report.nodeid] = vars(report)["maillab"]["lacks"]
        self._take_down(report)
        self._contrast(report)

    def _contrast(self, report: pytest.TestReport) -> None:
        """Keep how a test ended without its cures or its faults."""
        details = getattr(report, "maillab", {})
        withheld = self._config.option.withhold
        if withheld not in results.NAMED or report.when != "call" or report.skipped:
            return
        end: results.Contrast = "nothing"
        if details["concerned"]:
            end = "red" if report.passed else "green"
        self._ends.setdefault(details["kind"], Counter())[end] += 1
        # An error is no verdict on the scenario.
        if details["faq"] and details["verdict"] != "error":
            self._contrasts[report.nodeid] = end

    def _take_down(self, report: pytest.TestReport) -> None:
        """Record the result of an FAQ scenario; the worst of its phases counts."""
        details = getattr(report, "maillab", {})
        if not details.get("faq") or self._config.option.withhold:
            return
        if report.when == "setup" and report.passed:
            # After Ctrl-C the test itself does not run.
            self._setup_s[report.nodeid] = report.duration
            return
        outcome: results.Outcome = report.outcome
        if report.failed and details["verdict"] in ("void", "error"):
            outcome = details["verdict"]
        before = self._results.get(report.nodeid)
        if before and before.outcome != "passed":
            outcome = before.outcome
        earlier_s = before.duration_s if before else self._setup_s.get(report.nodeid, 0)
        self._results[report.nodeid] = results.Result(
            outcome,
            round(report.duration + earlier_s, 3),
            {what: round(for_s, 3) for what, for_s in details["waited_s"].items()},
            details["evidence"],
            **details["shown"],
        )

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Set the exit status of void if nothing worse happened; write the FAQ's results."""
        self._record(session)
        self._compare_answers()
        if (self._stale or self._unread) and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if (
            self._voids
            and not self._failures
            and session.exitstatus == pytest.ExitCode.TESTS_FAILED
        ):
            session.exitstatus = Void.exit_code
        if self._ended_with is not None:
            session.exitstatus = self._ended_with

    def _record(self, session: pytest.Session) -> None:
        """Keep the FAQ's results; where they cannot be kept, that is what the run ends with."""
        options = self._config.option
        runs = Path(options.runs)
        try:
            if self._results:
                results.record(runs, options.postfix, self._results)
            if self._contrasts:
                results.record_contrasts(runs, options.postfix, options.withhold, self._contrasts)
        except (OSError, BadInput) as error:
            self._unrecorded = f"{options.runs}: the results were not recorded: {error}"
            if session.exitstatus == pytest.ExitCode.OK:
                session.exitstatus = NoDisk.exit_code

    def _compare_answers(self) -> None:
        """Find the tests whose cure takes other steps than the recorded answers show."""
        named = self._config.getini("maillab_answers")
        if not named or self._config.option.postfix != VERSION_DEFAULT:
            return
        fresh = {test: {VERSION_DEFAULT: result} for test, result in self._results.items()}
        try:
            known = answers.read(self._config.rootpath / named)
        except BadInput as error:
            self._unread = f"the cures were not compared: {error}"
            return
        for test, answer in answers.of_results(fresh, VERSION_DEFAULT).items():
            before = known.get(test, Answer())
            if before.settings and answer.settings != before.settings:
                self._stale.append(test)
            elif (answer.settings and not before.settings) or (answer.log and not before.log):
                self._unanswered.append(test)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print what could not be written, then the tests without a verdict and the reasons."""
        if self._unrecorded:
            terminalreporter.line(f"maillab: {self._unrecorded}", red=True)
        if self._unread:
            terminalreporter.line(f"maillab: {self._unread}", red=True)
        if self._stale:
            terminalreporter.section("answers out of date: run 'make answers'", red=True)
            for test in self._stale:
                terminalreporter.line(test)
        if self._unanswered:
            terminalreporter.line(
                f"maillab: scenarios without a recorded answer: {len(self._unanswered)}; run "
                "'make answers'",
                yellow=True,
            )
        if self._ends:
            terminalreporter.section(f"{self._config.option.withhold} withheld")
            for kind, ends in sorted(self._ends.items()):
                concerned = ends["red"] + ends["green"]
                terminalreporter.line(
                    f"{kind}: {ends['red']} of {concerned} turned red, "
                    f"{ends['nothing']} had nothing to withhold"
                )
        self._name_unjudged(terminalreporter)

    def _name_unjudged(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the tests that the engine or the kernel cannot run, and the void ones."""
        if self._unsupported:
            terminalreporter.section("not supported here: these tests were skipped", yellow=True)
            for test, lacks in self._unsupported.items():
                terminalreporter.line(f"{test}\n{lacks}")
        if self._voids:
            terminalreporter.section("void: no verdict, a fault was not witnessed", yellow=True)
            for report in self._voids:
                terminalreporter.line(f"{report.nodeid}\n{report.longreprtext}")


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Count verdicts, unless this process is a worker of xdist."""
    if not hasattr(session.config, "workerinput"):
        session.config.pluginmanager.register(_Tally(session.config), "maillab-verdicts")
