"""The whole FAQ on one version: its wall time, and its slowest ten with what they wait for."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from maillab import faq

SLOWEST = 10


def measure(version: str) -> Iterator[tuple[str, list[float]]]:
    """One run with all cores; prints the slowest."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "scenarios"),
                *("--ignore=scenarios/faults", "--ignore=scenarios/load"),
                *("-n", "auto", "-q", "--postfix", version, "--runs", folder),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        took = time.perf_counter() - began
        print("  " + done.stdout.strip().splitlines()[-1])
        known = faq.results(Path(folder))
    results = sorted(
        ((of[version], test) for test, of in known.items()), key=lambda one: -one[0].duration_s
    )
    failed = [test for result, test in results if result.outcome != "passed"]
    for test in failed:
        print(f"  not passed: {test}")
    for result, test in results[:SLOWEST]:
        waits = sorted(result.waited_s.items(), key=lambda one: -one[1])[:2]
        why = "; ".join(f"{what} {for_s:.1f} s" for what, for_s in waits)
        print(f"  {result.duration_s:6.1f} s  {test.rpartition('/')[2]}  [{why or 'no event'}]")
    yield "faq_wall_s", [took]
    yield "faq_scenarios", [float(len(known))]
    yield "faq_not_passed", [float(len(failed))]
