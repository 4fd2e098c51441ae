"""Nothing of ours outlives its owner, however that ended. Needs an engine."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from facts import wait_until

from maillab.engine import compose
from maillab.engine.client import connect

pytestmark = pytest.mark.xdist_group("labs")

RUN = """
import sys
from maillab import topology
from maillab.engine import compose
from maillab.labs import Labs
labs = Labs()
print(compose.owner(), flush=True)
labs.get(topology.load("standalone"), sys.argv[1])
print("up", flush=True)
sys.stdin.read()
labs.close()
"""


def run(version: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, version],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    return process, process.stdout.readline().strip()


def labs_of(owner: str) -> list[str]:
    return [name for name in compose.projects() if compose.owner_of(name) == owner]


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_killed_leaves_nothing(
    end: signal.Signals, request: pytest.FixtureRequest
) -> None:
    """Its watchdog removes containers, networks and volumes."""
    process, owner = run(request.config.option.postfix)
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    assert labs_of(owner)

    process.send_signal(end)
    process.communicate()

    wait_until(lambda: not labs_of(owner))


def test_a_run_that_is_killed_while_its_lab_comes_up_leaves_nothing(
    request: pytest.FixtureRequest,
) -> None:
    """What Compose still creates after the run's death goes, too."""
    process, owner = run(request.config.option.postfix)
    wait_until(lambda: labs_of(owner))

    process.kill()
    process.communicate()

    wait_until(lambda: not labs_of(owner) and not _compose_of(owner))
    assert not labs_of(owner)


def _compose_of(owner: str) -> bool:
    listed = subprocess.run(["ps", "ax", "-o", "args"], capture_output=True, text=True, check=True)
    return f"--project-name maillab_{owner}" in listed.stdout


def test_the_end_of_a_run_takes_its_labs_along(request: pytest.FixtureRequest) -> None:
    """A run that ends well needs no watchdog."""
    process, owner = run(request.config.option.postfix)
    process.communicate("")

    assert process.returncode == 0
    assert not labs_of(owner)


def test_sweep_removes_what_a_dead_owner_left_and_nothing_else() -> None:
    """A pid that is not alive, or is another process by now, is a dead owner."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    dead = f"{compose.machine()}-{ended.pid}-1"
    ended.wait()
    nets = {
        f"maillab_{dead}_standalone_1": "gone",
        f"maillab_{compose.owner()}_standalone_99": "alive",
        "maillab_0000000000-1-1_standalone_1": "of another machine",
        "maillab_hand_standalone_zz": "by hand",
    }
    made = [
        connect().api.create_network(
            name, internal=True, labels={"com.docker.compose.project": name}
        )["Id"]
        for name in nets
    ]
    try:
        removed = compose.sweep()
        left = [name for name in nets if name in compose.projects()]
    finally:
        for network in made[1:]:
            connect().api.remove_network(network)

    # A run beside us sweeps, too, and may have been first with the dead one's.
    assert left == list(nets)[1:]
    assert not set(left) & set(removed)
