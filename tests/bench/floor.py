"""The floor of a scenario's cost: the same mail through bare Postfix, driven by a shell script.

Twenty scenarios (``floorcases.py``) run both with the harness and by the script. The script
uses containers of the same images, from the same Compose files, on the same storage. The
floor contains:

- the shell's writing of the configuration; tables and aliases built by Postfix's programs;
- one stop and one start of Postfix for each scenario, on each host that takes part in it and
  with its final configuration. Mail of the scenario before is deleted; other hosts keep running;
- the messages, sent by sendmail(1) or by SMTP from the shell, and their deliveries. The shell
  waits for them in the log, which tail and grep, started once, follow;
- the check that the mail arrived, bounced or was refused: any other result fails the bench;
- the work of the kernel and of the engine's storage driver for all this.

The floor contains no channel, no ledger, no log read through the engine and no snapshot of
files. The agents only keep the network closed. The harness's cost is that of pytest on the same
scenarios. The start of the labs and of pytest is in neither figure: both are measured over
further rounds of the same scenarios, in labs that are up.

The two totals are the whole machine's, so they count other programs, too. The bench reports how
many foreign containers ran meanwhile.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from bench.cost import Cost, Meter
from bench.floorcases import CASES
from bench.rounds import VARIABLE
from maillab.engine import compose
from maillab.engine.watchdog import Watchdog
from maillab.site import topology
from maillab.site.topology import Topology

ROUNDS = 4
_SCRIPT = Path(__file__).with_name("floor.sh")
_COMMAND = re.compile(r"^([a-z0-9]+): (.+)$", re.MULTILINE)


def commands(name: str) -> list[tuple[str, str]]:
    """Return the commands of a case, each with the host that runs it."""
    found: list[tuple[str, str]] = _COMMAND.findall(re.sub(r"(?m)^ +", "", CASES[name].lines))
    return found


class Shell:
    """A shell in one host's container: one command at a time."""

    def __init__(self, container: str) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # until close()
        self._process = subprocess.Popen(
            ["docker", "exec", "-i", container, "bash", "-c", _SCRIPT.read_text()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self._answer("the start of the shell")

    def run(self, command: str) -> None:
        """Run a command; raises RuntimeError if it fails."""
        assert self._process.stdin
        # A shell that has exited gives no answer, and the error has its last words.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{command}\n".encode())
            self._process.stdin.flush()
        self._answer(command)

    def _answer(self, command: str) -> None:
        assert self._process.stdout
        answer = self._process.stdout.readline().decode()
        # The command's own output comes before.
        while answer not in ("ok\n", "failed\n", ""):
            answer = self._process.stdout.readline().decode()
        if answer != "ok\n":
            self._errors.seek(0)
            words = self._errors.read().decode(errors="replace").splitlines()[-5:]
            raise RuntimeError(f"{command}: {'; '.join(words) or 'failed'}")

    def close(self) -> None:
        """End the shell."""
        self._process.communicate()
        self._errors.close()


class BareLab:
    """The containers of a topology as Compose starts them, each with a shell."""

    def __init__(self, site: Topology, version: str) -> None:
        self._site = site
        self._project = compose.up(site, version)
        self._shells: dict[str, Shell] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for shell in self._shells.values():
            shell.close()
        compose.remove(self._project.name)

    def _shell(self, host: str) -> Shell:
        if host not in self._shells:
            service = self._site.roles[host].service
            self._shells[host] = Shell(self._project.containers[service])
        return self._shells[host]

    def play(self, name: str) -> int:
        """Do a scenario by hand; return the number of starts of Postfix."""
        roles = self._site.roles
        addresses = {f"{{{n}}}": r.addresses(self._project.net)[0] for n, r in roles.items()}
        lines = commands(name)
        servers = list(dict.fromkeys(host for host, _ in lines if host in roles))
        servers = [host for host in servers if roles[host].has_mail]
        starts = 0
        for host in servers:
            self._shell(host).run("fresh")
        try:
            for host, command in lines:
                for word, address in addresses.items():
                    command = command.replace(word, address)  # noqa: PLW2901
                for concerned in servers if host == "all" else [host]:
                    self._shell(concerned).run(command)
                    starts += command == "start"
        except RuntimeError as error:
            raise RuntimeError(f"the floor of {name}: {error}") from error
        return starts


def floor(version: str) -> tuple[Cost, float]:
    """Return the cost of one scenario by hand, and its starts of Postfix."""
    total, starts = Cost(0, 0, defaultdict(float)), 0
    by_topology = itertools.groupby(
        sorted(CASES, key=lambda n: CASES[n].topology), lambda n: CASES[n].topology
    )
    for site, names in by_topology:
        cases = list(names)
        with BareLab(topology.load(site), version) as lab:
            for case in cases:
                lab.play(case)
            with Meter() as meter:
                starts += sum(lab.play(case) for _ in range(ROUNDS) for case in cases)
        total.add(meter.cost)
    return total.each(ROUNDS * len(CASES)), starts / (ROUNDS * len(CASES))


def harness(version: str) -> Cost:
    """Return the cost of one of the same scenarios with the harness."""
    once, more = (_pytest(version, rounds) for rounds in (1, 1 + ROUNDS))
    more.add(once, -1)
    return more.each(ROUNDS * len(CASES))


def _pytest(version: str, rounds: int) -> Cost:
    names = [f"scenarios/{name}" for name in CASES]
    with tempfile.TemporaryDirectory() as folder, Meter() as meter:
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "--postfix", version, "--runs", folder),
                *("-p", "bench.rounds", *names),
            ],
            env={
                **os.environ,
                "PYTHONPATH": str(_SCRIPT.parents[1]),
                VARIABLE: str(rounds),
            },
            capture_output=True,
            text=True,
            check=False,
        )
    if not re.search(rf"\b{len(names) * rounds} passed\b", done.stdout) or done.returncode:
        raise RuntimeError(f"not every scenario passed: {done.stdout[-2000:]}{done.stderr}")
    return meter.cost


def measure(version: str) -> Iterator[tuple[str, list[float]]]:
    """Measure the floor and the harness one after the other."""
    watchdog = Watchdog(compose.owner())
    try:
        bare, starts = floor(version)
    finally:
        watchdog.dismiss()
    ours = harness(version)
    for name, cost in (("floor", bare), ("harness", ours)):
        print(f"  {name}: {cost.text()}")
        cost.require_mail_hosts()
    yield "floor_starts_per_scenario", [starts]
    yield "floor_cpu_s_per_scenario", [bare.total_s]
    yield "floor_forks_per_scenario", [bare.forks]
    yield "harness_cpu_s_per_scenario", [ours.total_s]
    yield "harness_forks_per_scenario", [ours.forks]
    yield "overhead_ratio", [(ours.total_s - bare.total_s) / bare.total_s]
    yield "overhead_foreign_containers", [float(max(bare.foreign, ours.foreign))]
    # From the run's own parts: valid on a busy machine, too, but without the engine itself.
    yield "overhead_ratio_own_parts", [(ours.own_s - bare.own_s) / bare.own_s]
