"""The whole FAQ on one version, or a sample: its cost by part, wall time, and its slowest ten."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.cost import Cost, Meter
from maillab.suite import results

SLOWEST = 10
ALL = ("scenarios", "--ignore=scenarios/faults", "--ignore=scenarios/load")


def measure(version: str) -> Iterator[tuple[str, list[float]]]:
    """One run with all cores; prints the slowest."""
    yield from _measured(version, ALL, "")


def sample(version: str, tests: Sequence[str]) -> Iterator[tuple[str, list[float]]]:
    """One run of some of the tests: its figures contain more of the start than the FAQ's."""
    yield from _measured(version, tests, "sample_")


def _measured(version: str, tests: Sequence[str], prefix: str) -> Iterator[tuple[str, list[float]]]:
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        with Meter() as meter:
            done = subprocess.run(
                [
                    *(sys.executable, "-m", "pytest", *tests),
                    *("-n", "auto", "-q", "--postfix", version, "--runs", folder),
                ],
                capture_output=True,
                text=True,
                check=False,
            )
        took = time.perf_counter() - began
        print("  " + (done.stdout.strip().splitlines() or [done.stderr.strip()])[-1])
        known = results.read(Path(folder))
    slowest = sorted(
        ((of[version], test) for test, of in known.items()), key=lambda pair: -pair[0].duration_s
    )
    failed = [test for result, test in slowest if result.outcome != "passed"]
    for test in failed:
        print(f"  not passed: {test}")
    for result, test in slowest[:SLOWEST]:
        waits = sorted(result.waited_s.items(), key=lambda pair: -pair[1])[:2]
        why = "; ".join(f"{what} {for_s:.1f} s" for what, for_s in waits)
        print(f"  {result.duration_s:6.1f} s  {test.rpartition('/')[2]}  [{why or 'no event'}]")
    if done.returncode or not known:
        # The cost of a run that broke off, or of a test that failed, is not the FAQ's.
        raise RuntimeError(
            f"pytest exited with {done.returncode} after {len(known)} scenarios: "
            f"{done.stderr.strip() or done.stdout[-2000:]}"
        )
    meter.cost.require_mail_hosts()
    for name, value in _figures(meter.cost.each(len(known))).items():
        yield f"{prefix}{name}", [value]
    yield f"{prefix}faq_wall_s", [took]
    yield f"{prefix}faq_scenarios", [float(len(known))]
    yield f"{prefix}faq_not_passed", [float(len(failed))]


def _figures(cost: Cost) -> dict[str, float]:
    """Return the figures of one scenario's cost, in total and by part."""
    print(f"  a scenario's CPU seconds: {cost.text()}")
    parts = {f"cpu_s_per_scenario_{part}": seconds for part, seconds in cost.parts_s.items()}
    return {
        "cpu_s_per_scenario": cost.total_s,
        "forks_per_scenario": cost.forks,
        "faq_foreign_containers": float(cost.foreign),
        **parts,
    }
