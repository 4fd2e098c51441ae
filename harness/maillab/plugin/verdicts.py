"""The verdict on each test, by its assertions, its mail and the witnesses of its faults.

A verdict is passed, failed by the test's own assertion, not conserved (the ledger),
void (a fault without a witness), or an error of the lab or the test. A test whose fault this
engine or kernel does not support is skipped.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from maillab.errors import (
    MaillabError,
    NotConserved,
    TimedOut,
    Unsupported,
    Void,
)
from maillab.lab import evidence
from maillab.lab.lab import Lab
from maillab.lab.mail_lab import not_conserved, void
from maillab.mail.history import History
from maillab.mail.tracing import Journeys
from maillab.mail.verdict import Verdict
from maillab.plugin.fixture import HOPELESS, LAB, LABS, NO_ENGINE
from maillab.suite import answers, collection, results

# What an assert raises, and what pytest.raises and pytest.fail do.
_OWN_ASSERTIONS = (AssertionError, pytest.fail.Exception)
# The rest is in the evidence.
_JOURNEYS_SHOWN_MAX = 5
_EVIDENCE = pytest.StashKey[str]()
# What the engine or the kernel lacks for a test.
_UNSUPPORTED = pytest.StashKey[str]()
_SHOWN = pytest.StashKey[dict[str, Any]]()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Run a scenario, then judge its faults' witnesses and its ledger."""
    running = pyfuncitem.stash.get(LAB, None)
    if running is None:
        return (yield)
    _skip_without_ipv6(pyfuncitem, running)
    failure: BaseException | None = None
    try:
        result = yield
    except (Exception, pytest.fail.Exception) as error:  # noqa: BLE001  # raised again below
        failure, result = error, None
    config = pyfuncitem.config
    try:
        history, verdict = running.conclude()
    except MaillabError as error:
        _give_up(pyfuncitem, running, error)
        raise _beside(failure, error) from None
    if isinstance(failure, Unsupported):
        pyfuncitem.stash[_UNSUPPORTED] = str(failure)
        pytest.skip(str(failure))
    failure = _judge(running, verdict, failure)
    if failure is None:
        pyfuncitem.stash[_SHOWN] = _shown(pyfuncitem, running, history)
        return result
    if isinstance(failure, _OWN_ASSERTIONS):
        journeys = Journeys(history)
        for submission in history.submissions[:_JOURNEYS_SHOWN_MAX]:
            failure.add_note(journeys.of(submission).text())
    if not (config.option.withhold and isinstance(failure, _OWN_ASSERTIONS)):
        _leave_evidence(pyfuncitem, running, history, verdict, failure)
        if config.option.keep_labs:
            _leave_lab(pyfuncitem, running, failure)
    raise failure


def _shown(item: pytest.Function, running: Lab, history: History) -> dict[str, Any]:
    """Return what a scenario of the FAQ showed: its log lines and the steps of its cure."""
    if collection.kind_of(item) not in ("symptom", "cure") or not collection.marks_of(item):
        return {}
    net = running.project.net
    steps = answers.settings_of(running.scenario.advice, history, net)
    return {
        "log": answers.log_of(history, net),
        "settings": [[step.host, step.place, step.text] for step in steps],
    }


def _leave_evidence(
    item: pytest.Function,
    running: Lab,
    history: History,
    verdict: Verdict,
    failure: BaseException,
) -> None:
    """Write the evidence; the failure stands although it cannot be written, and says so."""
    # Not the item's own id, to which xdist appends the group.
    test = f"{item.location[0]}::{item.location[2]}"
    folder = Path(item.config.option.runs) / evidence.folder_name(test)
    try:
        evidence.write(folder, running, history, verdict, f"{type(failure).__name__}: {failure}")
        if item.config.option.pcap:
            evidence.write_captures(folder, running)
    except (OSError, MaillabError) as error:
        failure.add_note(f"evidence: {folder} is incomplete: {error}")
    else:
        failure.add_note(f"evidence: {folder}")
    if folder.is_dir():
        item.stash[_EVIDENCE] = str(folder)


def _leave_lab(item: pytest.Function, running: Lab, failure: BaseException) -> None:
    """Hand the lab over to the user; the failure stands although the lab cannot be kept."""
    try:
        item.config.stash[LABS].release(running)
    except MaillabError as error:
        failure.add_note(f"the lab cannot be kept: {error}")
        return
    del item.stash[LAB]
    failure.add_note(f"the lab is still up: maillab shell HOST --lab {running.project.name}")


def _give_up(item: pytest.Function, running: Lab, error: MaillabError) -> None:
    """Discard a lab that gave no verdict, and note whether the engine went away."""
    del item.stash[LAB]
    try:
        item.config.stash[LABS].discard(running)
    except MaillabError as left:
        # The watchdog removes it.
        error = error if isinstance(error, NO_ENGINE) else left
    if isinstance(error, NO_ENGINE):
        item.stash[HOPELESS] = error


def _beside(failure: BaseException | None, error: MaillabError) -> BaseException:
    """Return what to raise if the lab gives no verdict: the scenario's failure, else ``error``."""
    if failure is None:
        return error
    failure.add_note(f"and the lab gives no verdict: {error}")
    return failure


def _skip_without_ipv6(item: pytest.Function, running: Lab) -> None:
    if item.get_closest_marker("ipv6") and (why := running.no_ipv6):
        item.stash[_UNSUPPORTED] = f"no IPv6 in this lab: {why}"
        pytest.skip(item.stash[_UNSUPPORTED])


def _judge(running: Lab, verdict: Verdict, failure: BaseException | None) -> BaseException | None:
    """Return the failure of a scenario, or None; missing witnesses come first."""
    # If a fault did not act, a wait for its effect may have timed out.
    if failure is None or isinstance(failure, (*_OWN_ASSERTIONS, TimedOut)):
        failure = void(running) or failure
    return not_conserved(verdict) if failure is None else failure


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Give each report its verdict, and errors of ours their one line."""
    report = yield
    error = call.excinfo.value if call.excinfo else None
    # A scenario that calls pytest.skip() keeps pytest's outcome: withholding runs judge it.
    verdict: str = "unsupported" if _UNSUPPORTED in item.stash else report.outcome
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
    running = item.stash.get(LAB, None)
    if running and isinstance(error, NO_ENGINE):
        item.stash[HOPELESS] = error
    report.maillab = {  # type: ignore[attr-defined]  # travels with the report, through xdist, too
        "verdict": verdict,
        "lacks": item.stash.get(_UNSUPPORTED, ""),
        "kind": collection.kind_of(item),
        "faq": bool(collection.marks_of(item)),
        "waited_s": dict(running.stream.waited_s) if running else {},
        "evidence": item.stash.get(_EVIDENCE, ""),
        "concerned": _concerned(item, running),
        "shown": item.stash.get(_SHOWN, {}),
    }
    if hopeless := item.stash.get(HOPELESS, None):
        vars(report)["maillab"]["ends_run"] = (f"maillab: {hopeless}", hopeless.exit_code)
        # Under xdist this process is a worker; the controller ends the run.
        item.session.shouldstop = str(hopeless)
    if item.config.option.withhold and report.when == "call":
        _invert(report, verdict, item.config.option.withhold)
    return report


def _one_line(item: pytest.Item, error: MaillabError) -> str:
    """Return the failing line of the test, the error and its notes, without a traceback."""
    place = str(item.location[0])
    step = error.__traceback__
    while step is not None:
        if Path(step.tb_frame.f_code.co_filename) == item.path:
            place = f"{item.location[0]}:{step.tb_lineno}"
        step = step.tb_next
    return "\n".join([f"{place}: {error}", *getattr(error, "__notes__", [])])


def _concerned(item: pytest.Item, running: Lab | None) -> bool:
    """Return True if the test must turn red: by its name, or because something was left out."""
    named = results.NAMED.get(item.config.option.withhold)
    left_out = running is not None and running.scenario.left_out > 0
    return left_out or (named is not None and collection.kind_of(item) == named)


def _invert(report: pytest.TestReport, verdict: str, withheld: str) -> None:
    """Pass a test concerned if its own assertion failed, or if it is void without witnesses.

    Leave the other tests' reports as they are.
    """
    if verdict == "unsupported" or not vars(report)["maillab"]["concerned"]:
        return
    wanted = "void" if withheld == "witnesses" else "assertion"
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
        return ("red", "r", "RED") if vars(report)["maillab"]["concerned"] else None
    return None
