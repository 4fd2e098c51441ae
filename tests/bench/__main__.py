"""Speed, as ratios measured in one run; ``make bench``. No test asserts a time.

Writes ``runs/bench.json``: each figure is a median unless its name says p95, with its
spread (least, median, most).
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from bench import faq, faults, floor, images, lab, load
from maillab.engine.images import VERSION_DEFAULT, ensure

REACH = {
    "cold_start_ratio": 1.5,
    "reset_ms": 150.0,
    "command_ratio": 0.2,
    "event_p95_ms": 20.0,
    "faq_wall_s": 130.0,
    "cpu_s_per_scenario": 0.35,
    "forks_per_scenario": 30.0,
    "overhead_ratio": 0.5,
    "faq_not_passed": 0.0,
    "images_from_nothing_s": 120.0,
    "load_kb_a_session": 100.0,
}
AT_LEAST = {"load_vs_smtp_source_postfix": 1.0, "load_vs_smtp_source_sink": 0.8}
Figure = tuple[str, list[float]]
PARTS: dict[str, Callable[[str], Iterable[Figure]]] = {
    "lab": lab.measure,
    "faults": faults.measure,
    "load": load.measure,
    "faq": faq.measure,
    "overhead": floor.measure,
    "images": images.measure,
}


def main() -> None:
    """Measure, print and write; exit with 1 if a figure missed its target."""
    options = argparse.ArgumentParser(prog="bench", description=__doc__)
    options.add_argument("--postfix", default=VERSION_DEFAULT, help="the version")
    options.add_argument(
        "parts", nargs="*", choices=[[], *PARTS], help=f"which of {', '.join(PARTS)} (all)"
    )
    options.add_argument(
        "--sample", metavar="TEST", action="append", help="only the cost of these scenarios"
    )
    given = options.parse_args()
    if given.sample and given.parts:
        options.error(f"--sample measures no parts: leave out {' '.join(given.parts)} or --sample")
    parts = {name: PARTS[name] for name in given.parts or PARTS}
    if given.sample:
        parts = {"sample": functools.partial(faq.sample, tests=given.sample)}
    ensure([given.postfix])
    path = Path("runs/bench.json")
    report = json.loads(path.read_text()) if path.is_file() else {}
    missed = 0
    for part, measure in parts.items():
        print(f"\n{part}", flush=True)
        for name, runs in measure(given.postfix):
            missed += tell(name, runs, report)
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(bool(missed))


def tell(name: str, runs: list[float], report: dict[str, object]) -> bool:
    """Print a figure and add it to the report; return True if it missed its target."""
    runs.sort()
    low, middle, high = runs[0], statistics.median(runs), runs[-1]
    value = runs[int(len(runs) * 0.95)] if "p95" in name else middle
    report[name] = round(value, 3)
    report[f"{name}_spread"] = [round(run, 3) for run in (low, middle, high)]
    most, least = REACH.get(name), AT_LEAST.get(name)
    missed = (most is not None and value > most) or (least is not None and value < least)
    aim = "" if most is None else f"≤ {most:g}"
    aim = aim if least is None else f"≥ {least:g}"
    aim = aim and f"{aim}: {'MISSED' if missed else 'reached'}; "
    print(
        f"  {name:34} {value:9.3f}  "
        f"({aim}min {low:.3f}, median {middle:.3f}, max {high:.3f}, {len(runs)} runs)",
        flush=True,
    )
    return missed


if __name__ == "__main__":
    main()
