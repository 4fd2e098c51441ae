"""Runs every ``run:`` step of the workflows here, as far as one machine is a runner.

Each job runs in a clean clone, with the first value of each list in its matrix unless
``--only`` names another or ``--matrix all`` takes all. Steps that use an action are listed,
not run. A job ends with its first failing step, except for steps with "always()" or
"failure()".
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = ROOT / ".github" / "workflows"


def substituted(text: str, values: dict[str, str]) -> str:
    """Return a text with ${{ matrix.x }} and ${{ env.x }} replaced; others must not occur."""

    def value(found: re.Match[str]) -> str:
        if found[1] not in values:
            sys.exit(f"{found[0]}: not known here")
        return values[found[1]]

    return re.sub(r"\$\{\{\s*([\w.]+)\s*\}\}", value, text)


def combinations(job: dict[str, Any], only: dict[str, str], *, every: bool) -> list[dict[str, str]]:
    """Return the matrix's combinations that are not excluded, or the first of them."""
    matrix: dict[str, list[str]] = job.get("strategy", {}).get("matrix", {})
    names = list(matrix)
    found = [
        dict(zip(names, values, strict=True)) for values in itertools.product(*matrix.values())
    ]
    wanted = [
        combination
        for combination in found
        if all(combination.get(key, text) == text for key, text in only.items())
    ]
    if not wanted:
        sys.exit(f"{only}: not in the matrix {matrix}")
    return wanted if every else wanted[:1]


def play(name: str, job: dict[str, Any], matrix: dict[str, str], clone: Path) -> bool:
    """Run a job's steps; return True if all succeeded."""
    values = {f"matrix.{key}": value for key, value in matrix.items()}
    environment = dict(os.environ, CI="true")
    environment.update({key: substituted(text, values) for key, text in job.get("env", {}).items()})
    files = {key: clone / f".{key.lower()}" for key in ("GITHUB_ENV", "GITHUB_STEP_SUMMARY")}
    environment.update({key: str(path) for key, path in files.items()})
    ok = True
    for step in job["steps"]:
        if "uses" in step:
            print(f"  [{name}] uses {step['uses'].partition('@')[0]}: left to a runner", flush=True)
            continue
        condition = step.get("if", "")
        if (not ok and condition not in ("always()", "failure()")) or (
            ok and condition == "failure()"
        ):
            continue
        script = substituted(step["run"], values)
        print(f"  [{name}] $ {script}", flush=True)
        done = subprocess.run(["bash", "-eo", "pipefail", "-c", script], cwd=clone, env=environment)  # noqa: PLW1510  # its status is judged
        ok = ok and done.returncode == 0
        if files["GITHUB_ENV"].is_file():
            lines = files["GITHUB_ENV"].read_text().splitlines()
            environment.update(dict(line.split("=", 1) for line in lines))
    if files["GITHUB_STEP_SUMMARY"].is_file():
        print(files["GITHUB_STEP_SUMMARY"].read_text())
    return ok


def main() -> int:
    """Run the requested jobs."""
    options = argparse.ArgumentParser(prog="ci_local", description=__doc__)
    options.add_argument("jobs", nargs="*", help="such as ci/faq (default: all)")
    options.add_argument("--matrix", choices=("first", "all"), default="first")
    options.add_argument(
        "--only", action="append", default=[], metavar="NAME=VALUE", help="such as postfix=3.10"
    )
    given = options.parse_args()
    only = dict(option.split("=", 1) for option in given.only)
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(WORKFLOWS.glob("*.yml")):
            for job_name, job in yaml.safe_load(path.read_text())["jobs"].items():
                name = f"{path.stem}/{job_name}"
                if given.jobs and name not in given.jobs:
                    continue
                clone = Path(folder, name.replace("/", "-"))
                subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
                if job.get("needs"):
                    # The artifacts that earlier jobs would have uploaded.
                    before = Path(folder, f"{path.stem}-{job['needs']}", "runs")
                    (clone / "all").mkdir()
                    if before.is_dir():
                        (clone / "all" / "one").symlink_to(before)
                for matrix in combinations(job, only, every=given.matrix == "all"):
                    label = " ".join([name, *matrix.values()])
                    print(f"{label}", flush=True)
                    if not play(label, job, matrix, clone):
                        failed.append(label)
    print("failed: " + ", ".join(failed) if failed else "every job went well")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
