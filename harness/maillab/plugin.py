"""The pytest plugin: the ``lab`` fixture, its options and marks, and the verdicts.

A test's verdict is passed, failed by its own assertion, not conserved (the
ledger), void (a fault without a witness) or an error of the lab or the test.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from maillab import evidence, faq, shards, topology
from maillab.engine import images
from maillab.errors import (
    BadInput,
    ImageError,
    MaillabError,
    NoDisk,
    NoEngine,
    NotConserved,
    TimedOut,
    Void,
)
from maillab.journeys import Journeys
from maillab.lab import Lab
from maillab.labs import Labs
from maillab.verdict import Verdict

_CONCERNED: dict[str, faq.Kind] = {"cures": "cure", "faults": "symptom"}
# What an assert raises, and what pytest.raises and pytest.fail do.
_OWN_ASSERTIONS = (AssertionError, pytest.fail.Exception)
# The rest is in the evidence.
_JOURNEYS_SHOWN_MAX = 5
_WORKERS_A_CORE = 2
_LABS = pytest.StashKey[Labs]()
_LAB = pytest.StashKey[Lab]()
_EVIDENCE = pytest.StashKey[str]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the design; they have their help here."""
    group = parser.getgroup("maillab")
    group.addoption(
        "--postfix",
        default=images.VERSION_DEFAULT,
        metavar="VERSION",
        help=f"Postfix version of the labs: {', '.join(images.SUITES)}",
    )
    group.addoption(
        "--withhold",
        default="",
        choices=("", "cures", "faults", "witnesses"),
        help="leave out what cures or what breaks: cure or symptom tests must then fail; "
        "with 'witnesses' faults do nothing and each test that has one must be void",
    )
    group.addoption("--fresh-labs", action="store_true", help="a new lab for each test")
    group.addoption(
        "--keep-labs", action="store_true", help="leave a failed test's lab up to look at"
    )
    group.addoption("--pcap", action="store_true", help="record every packet; kept of failed tests")
    group.addoption("--runs", default="runs", metavar="DIR", help="where failed tests leave files")
    group.addoption("--shard", default="1/1", metavar="K/N", help="run only the Kth of N parts")
    parser.addini("maillab_durations", "file that --shard balances by, from the root", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Marks, refusals of bad options, and how xdist shares out the tests."""
    config.addinivalue_line(
        "markers", "faq(slug, *bullets): the FAQ entry, and the catalogue's bullets, it proves"
    )
    config.addinivalue_line(
        "markers", "topology(name, pool=…): the lab it needs, and addresses other than 198.18/15"
    )
    config.addinivalue_line("markers", "heavy: runs only when asked for with -m heavy")
    try:
        images.postfix(config.option.postfix)
        shards.Shard.parse(config.option.shard)
    except BadInput as error:
        raise pytest.UsageError(str(error)) from error
    # Each worker begins with a stretch of its own of the tests, which are in the order of
    # their topologies, so that few labs are started; who is done first takes of the others'.
    if getattr(config.option, "dist", "no") == "load":
        config.option.dist = "worksteal"
    config.stash[_LABS] = Labs(by_hand=config.option.keep_labs)


def pytest_report_header(config: pytest.Config) -> str:
    """Say what is being tested, and how to do it again."""
    withheld = config.option.withhold
    return f"maillab: Postfix {config.option.postfix}" + (withheld and f", {withheld} withheld")


@pytest.hookimpl(tryfirst=True, optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """``-n auto``: two workers a core, since mail waits as often as it works.

    PYTEST_XDIST_AUTO_NUM_WORKERS says otherwise, see pytest-xdist.
    """
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return _WORKERS_A_CORE * len(os.sched_getaffinity(0))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose the tests, and bring those of one topology together."""
    for item in items:
        site = faq.topology_of(item)
        for mark in faq.marks_of(item):
            try:
                faq.check(mark, item.nodeid)
            except BadInput as error:
                raise pytest.UsageError(str(error)) from error
        if site and item.get_closest_marker("faq") and not faq.kind_of(item):
            raise pytest.UsageError(
                f"{item.nodeid}: name a scenario test_symptom_…, test_cure_…, "
                "test_behaviour_… or test_historic_…"
            )
    items.sort(key=faq.topology_of)
    concerned = _CONCERNED.get(config.option.withhold)
    wants_heavy = "heavy" in (config.option.markexpr or "")
    chosen = [
        item
        for item in items
        if (concerned is None or faq.kind_of(item) == concerned)
        and (wants_heavy or not item.get_closest_marker("heavy"))
    ]
    mine = _of_shard(config, chosen)
    chosen = [item for item in chosen if item.nodeid in mine]
    left_out = [item for item in items if item not in set(chosen)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = chosen


def _of_shard(config: pytest.Config, items: list[pytest.Item]) -> set[str]:
    shard = shards.Shard.parse(config.option.shard)
    named = config.getini("maillab_durations")
    try:
        durations_s = shards.durations(config.rootpath / named) if named else {}
    except BadInput as error:
        raise pytest.UsageError(str(error)) from error
    return shard.of({item.nodeid: faq.topology_of(item) for item in items}, durations_s)


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lab of the topology that the ``topology`` mark names, in its first state."""
    config = request.config
    mark = request.node.get_closest_marker("topology")
    if mark is None or not mark.args:
        raise BadInput(f"{request.node.name}: needs @pytest.mark.topology(name)")
    labs = config.stash[_LABS]
    try:
        running = labs.get(
            topology.load(faq.topology_of(request.node)),
            config.option.postfix,
            pool=mark.kwargs.get("pool", ""),
            withhold=config.option.withhold,
        )
    except (NoEngine, NoDisk, ImageError) as error:
        # No other test could do better.
        pytest.exit(f"maillab: {error}", returncode=error.exit_code)
    request.node.stash[_LAB] = running
    if config.option.pcap:
        running.capture()
    yield running
    if config.option.fresh_labs and _LAB in request.node.stash:
        labs.discard(running)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Run a scenario, then judge its faults' witnesses and its ledger."""
    running = pyfuncitem.stash.get(_LAB, None)
    if running is None:
        return (yield)
    failure: BaseException | None = None
    try:
        result = yield
    except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001  # raised again below
        failure, result = error, None
    config = pyfuncitem.config
    try:
        history, verdict = running.conclude()
    except MaillabError as error:
        config.stash[_LABS].discard(running)
        del pyfuncitem.stash[_LAB]
        raise _beside(failure, error) from None
    failure = _judge(running, verdict, failure)
    if failure is None:
        return result
    if isinstance(failure, _OWN_ASSERTIONS):
        journeys = Journeys(history)
        for submission in history.submissions[:_JOURNEYS_SHOWN_MAX]:
            failure.add_note(journeys.of(submission).text())
    red = config.option.withhold and isinstance(failure, _OWN_ASSERTIONS)
    if not red:
        # Not the item's own id, to which xdist appends the group.
        test = f"{pyfuncitem.location[0]}::{pyfuncitem.location[2]}"
        folder = Path(config.option.runs) / evidence.folder_name(test)
        evidence.write(folder, running, history, verdict, f"{type(failure).__name__}: {failure}")
        if config.option.pcap:
            evidence.write_captures(folder, running)
        failure.add_note(f"evidence: {folder}")
        pyfuncitem.stash[_EVIDENCE] = str(folder)
    if config.option.keep_labs and not red:
        config.stash[_LABS].release(running)
        del pyfuncitem.stash[_LAB]
        failure.add_note(f"the lab is still up: maillab shell HOST --lab {running.project.name}")
    raise failure


def _beside(failure: BaseException | None, error: MaillabError) -> BaseException:
    """What is raised where the lab gives no verdict: the scenario's own failure, if any."""
    if failure is None:
        return error
    failure.add_note(f"and the lab gives no verdict: {error}")
    return failure


def _judge(running: Lab, verdict: Verdict, failure: BaseException | None) -> BaseException | None:
    """What is said of a scenario in the end; without witnesses nothing can be."""
    if running.record.withhold != "faults":
        unseen = running.record.unwitnessed
        # What a fault that did not act was to bring about may be waited for in vain.
        if unseen and (failure is None or isinstance(failure, (*_OWN_ASSERTIONS, TimedOut))):
            return Void(
                "; ".join(
                    f"{witness.fault} on {witness.host} was never seen to act: 0 {witness.source}"
                    for witness in unseen
                )
            )
    if failure is None and not verdict.conserved:
        return NotConserved(f"mail was not conserved: {verdict.text()}")
    return failure


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Give each report its verdict, and errors of ours their one line."""
    report = yield
    error = call.excinfo.value if call.excinfo else None
    verdict: str = report.outcome
    if report.failed and error is not None:
        verdict = "error"
        if isinstance(error, _OWN_ASSERTIONS):
            verdict = "assertion"
        elif isinstance(error, Void):
            verdict = "void"
        elif isinstance(error, NotConserved):
            verdict = "ledger"
        if isinstance(error, MaillabError):
            report.longrepr = _one_line(item, error)
    running = item.stash.get(_LAB, None)
    report.maillab = {  # type: ignore[attr-defined]  # travels with the report, through xdist, too
        "verdict": verdict,
        "kind": faq.kind_of(item),
        "faq": bool(faq.marks_of(item)),
        "waited_s": dict(running.stream.waited_s) if running else {},
        "evidence": item.stash.get(_EVIDENCE, ""),
        "faulty": bool(running and running.record.witnesses),
    }
    if item.config.option.withhold and report.when == "call":
        _invert(report, verdict, item.config.option.withhold)
    return report


def _one_line(item: pytest.Item, error: MaillabError) -> str:
    """Where in the test, what, and the notes; no traceback through the harness."""
    place = str(item.location[0])
    step = error.__traceback__
    while step is not None:
        if Path(step.tb_frame.f_code.co_filename) == item.path:
            place = f"{item.location[0]}:{step.tb_lineno}"
        step = step.tb_next
    return "\n".join([f"{place}: {error}", *getattr(error, "__notes__", [])])


def _invert(report: pytest.TestReport, verdict: str, withheld: str) -> None:
    """In a withholding run a test is right when its own assertion fails, or it is void.

    Without witnesses those tests are concerned that have a fault.
    """
    wanted = "assertion"
    if withheld == "witnesses":
        told: dict[str, Any] = vars(report)["maillab"]
        wanted = "void" if told["faulty"] else verdict
    if verdict == wanted:
        report.outcome = "passed"
        report.longrepr = None
    else:
        observed = "passed" if verdict == "passed" else f"{verdict}: {report.longrepr}"
        report.outcome = "failed"
        # pytest would not count it.
        vars(report).pop("wasxfail", None)
        how = "was not void" if withheld == "witnesses" else "did not fail by its own assertion"
        report.longrepr = f"{how}; {observed}"


def pytest_report_teststatus(
    report: pytest.TestReport, config: pytest.Config
) -> tuple[str, str, str] | None:
    """VOID is neither pass nor fail; RED is what a withholding run wants to see."""
    verdict = getattr(report, "maillab", {}).get("verdict")
    if verdict == "void" and not config.option.withhold:
        return "void", "V", "VOID"
    withheld = config.option.withhold
    if withheld and report.when == "call" and report.passed:
        concerned = withheld != "witnesses" or vars(report)["maillab"]["faulty"]
        return ("red", "r", "RED") if concerned else None
    return None


class _Verdicts:
    """Counts the verdicts where the run ends: the only process, or xdist's controller."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._voids: list[pytest.TestReport] = []
        self._failures = 0
        self._results: dict[str, faq.Result] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take down what is void and what failed."""
        verdict = getattr(report, "maillab", {}).get("verdict")
        if verdict == "void" and not self._config.option.withhold:
            self._voids.append(report)
        elif report.failed:
            self._failures += 1
        self._take_down(report)

    def _take_down(self, report: pytest.TestReport) -> None:
        """Keep how a scenario of the FAQ ended; the worst of its phases counts."""
        told = getattr(report, "maillab", {})
        if not told.get("faq") or self._config.option.withhold:
            return
        outcome: faq.Outcome = report.outcome
        if report.failed and told["verdict"] in ("void", "error"):
            outcome = told["verdict"]
        before = self._results.get(report.nodeid)
        if before and before.outcome != "passed":
            outcome = before.outcome
        self._results[report.nodeid] = faq.Result(
            outcome,
            round(report.duration + (before.duration_s if before else 0), 3),
            {what: round(for_s, 3) for what, for_s in told["waited_s"].items()},
            told["evidence"],
        )

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """End with the code of void when nothing worse happened; keep the FAQ's results."""
        if self._results:
            options = self._config.option
            faq.record(Path(options.runs), options.postfix, self._results)
        if (
            self._voids
            and not self._failures
            and session.exitstatus == pytest.ExitCode.TESTS_FAILED
        ):
            session.exitstatus = Void.exit_code

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say which tests are void and which witness was missing."""
        if self._voids:
            terminalreporter.section("void: no verdict, a fault was not witnessed", yellow=True)
            for report in self._voids:
                terminalreporter.line(f"{report.nodeid}\n{report.longreprtext}")


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Count verdicts, unless this is a worker of somebody who does."""
    if not hasattr(session.config, "workerinput"):
        session.config.pluginmanager.register(_Verdicts(session.config), "maillab-verdicts")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Take down all labs of this run."""
    labs = config.stash.get(_LABS, None)
    if labs is not None:
        labs.close()
