"""A fault by hand ends with its command, however the command ends. Needs an engine."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from facts import wait_until
from maillab import faults
from maillab.engine import container
from maillab.engine.channel import Channel
from maillab.errors import LabError, Void
from maillab.faults import Noop, Partition
from maillab.hosts.host import Fault, Host
from maillab.hosts.mailserver import MailServer
from maillab.lab.lab import Lab
from maillab.lab.pool import Labs
from maillab.site import topology
from wan_faults import found, lab_for, state

# Faults set in several steps, which can be interrupted halfway.
SET_IN_STEPS = (
    "HostCrashed", "DeadNameserver", "DiskFull", "Greeting", "Netem", "SlowDisk", "SyscallFails",
)  # fmt: skip
PROGRAM = (sys.executable, "-m", "maillab")


@pytest.fixture
def wan(some_labs: Labs, request: pytest.FixtureRequest) -> Lab:
    return some_labs.get(topology.load("wan"), request.config.option.postfix)


def words(lab: Lab, host: Host, fault: Fault) -> list[str]:
    """Return the command line that applies a fault."""
    assert dataclasses.is_dataclass(fault)
    settings = [
        f"{field.name}={getattr(fault, field.name)}"
        for field in dataclasses.fields(fault)
        if getattr(fault, field.name) != field.default
    ]
    name = type(fault).__name__
    return [*PROGRAM, "fault", name, host.name, *settings, "--lab", lab.project.name]


def settled(host: Host) -> bool:
    """Return True if the host answers and has no fault noted."""
    if isinstance(host, MailServer):
        held = container.state(host.channel.container)
        if held["Paused"] or not held["Running"]:
            return False
    return not container.faults(host.agent.container)


def everything(host: Host) -> list[str]:
    """Return the host's state, and the engine's limits."""
    return [*state(host), str(container.process_limit(host.channel.container))]


def is_as(host: Host, before: list[str]) -> bool:
    """Return True if the host is unchanged; False while it is down or Postfix is starting.

    The engine may carry out a killed command's last request after all faults were lifted.
    """
    try:
        return everything(host) == before
    except LabError:
        return False


@pytest.mark.parametrize(
    ("name", "instant"),
    [
        *((name, "in force") for name in sorted(faults.REGISTRY)),
        *((name, "noted") for name in SET_IN_STEPS),
    ],
)
def test_a_fault_whose_command_is_killed_is_lifted(
    some_labs: Labs, request: pytest.FixtureRequest, name: str, instant: str
) -> None:
    """The fault is lifted if its command is killed when it is noted or in force."""
    lab = lab_for(some_labs, name, request.config.option.postfix)
    host, fault = found(lab, name)
    before = everything(host)

    with subprocess.Popen(words(lab, host, fault), stdout=subprocess.PIPE, text=True) as process:
        try:
            if instant == "noted":
                wait_until(lambda: container.faults(host.agent.container))
            else:
                assert process.stdout
                assert "Ctrl-C lifts it" in process.stdout.readline()
                (noted,) = container.faults(host.agent.container)
                assert noted.partition("(")[0] == name
        finally:
            process.kill()

    wait_until(lambda: settled(host))
    wait_until(lambda: is_as(host, before))


def kill(channel: Channel, surviving: Channel) -> None:
    """Kill a channel's program through another channel to the same container."""
    pid = int(channel.call("run", argv=["sh", "-c", "echo $PPID"])["stdout"])
    surviving.call("run", argv=["sh", "-c", f"kill -9 {pid}"])
    surviving.call("channel_ended", channel=pid)
    channel.close()


@pytest.fixture
def left_in_force(wan: Lab) -> Iterator[Lab]:
    """Return a lab with faults whose channels died without lifting them."""
    router, sender, receiver = wan.router, wan.sender, wan.receiver
    asked = sender.nameserver
    names = {"client": asked.client, "action": "drop", "name": "*", "type": "*"}
    for host, ours, op, arguments in (
        (router, router.agent, "filter_add", {"rules": Partition().rules()}),
        (sender, asked.channel, "names_start", names),
        (receiver, receiver.agent, "nameserver_start", {"refuses": False}),
        (receiver, receiver.agent, "smtp_fault_start", {"stage": "greeting", "reply": "421 busy"}),
    ):
        # The note of a fault is in the host's agent, wherever the fault is.
        channels = {
            each: Channel(each.container, each.name, each.modules) for each in (host.agent, ours)
        }
        channels[host.agent].call("fault_begin", words=f"of {op}")
        channels[ours].call(op, **arguments)
        for surviving, channel in channels.items():
            kill(channel, surviving)
    mail = Channel(receiver.channel.container, "receiver", receiver.channel.modules)
    mail.call("fill", left_bytes=50_000_000)
    receiver.run("pkill", "-9", "-n", "-f", "channel.py")
    mail.close()
    container.pause(receiver.channel.container)
    yield wan
    wan.reset()


def test_faults_left_in_force_are_shown_and_lifted(
    wan: Lab, request: pytest.FixtureRequest
) -> None:
    """The programs that set the faults need not be alive."""
    before = {host.name: state(host) for host in wan.hosts.values()}
    request.getfixturevalue("left_in_force")
    names_in_force = state(wan.sender)
    here = wan.project.name

    def ask(*argv: str) -> dict[str, list[dict[str, object]]]:
        asked = subprocess.run([*PROGRAM, *argv, "--json"], capture_output=True, check=True)
        answer: dict[str, list[dict[str, object]]] = json.loads(asked.stdout)
        return answer

    shown = {str(host["name"]): host for host in ask("inspect", here)["hosts"]}
    lifted = ask("lift", "--lab", here)["lifted"]

    assert shown["receiver"]["state"] == "paused"
    assert shown["receiver"]["faults"] == ["of nameserver_start", "of smtp_fault_start"]
    assert shown["router"]["faults"] == ["of filter_add"]
    assert shown["sender"]["faults"] == ["of names_start"]
    assert shown["provider"]["faults"] == []
    assert names_in_force != before["sender"]
    assert len(lifted) == 4
    assert {host.name: state(host) for host in wan.hosts.values()} == before
    assert ask("lift", "--lab", here)["lifted"] == []


@pytest.mark.parametrize("status", [0, 3])
def test_a_fault_by_hand_that_never_acted_is_void(wan: Lab, status: int) -> None:
    """The exit status is that of void in pytest, whatever the command's status."""
    command = ["--", "sh", "-c", f"exit {status}"]
    done = subprocess.run(
        words(wan, wan.receiver, Noop()) + command, capture_output=True, text=True, check=False
    )

    assert done.returncode == Void.exit_code
    assert done.stderr.startswith("maillab: void: Noop on receiver was never seen to act: 0 ")
    assert done.stderr.count("\n") == 1


def test_a_missing_command_is_bad_input(wan: Lab) -> None:
    """The fault is lifted, and the error names the command."""
    before = state(wan.router)
    done = subprocess.run(
        [*words(wan, wan.router, Partition()), "--", "/no/such/command"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 2
    assert done.stderr.startswith("maillab: /no/such/command: No such file or directory")
    assert state(wan.router) == before
