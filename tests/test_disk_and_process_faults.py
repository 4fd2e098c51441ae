"""Faults of disk and processes leave no trace on a host. Needs an engine."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from maillab import topology
from maillab.engine.client import connect
from maillab.errors import BadInput
from maillab.faults import (
    Crashed,
    DiskFull,
    InodesGone,
    Killed,
    OpenFilesLimit,
    Paused,
    ProcessLimit,
    SlowFsync,
    Stopped,
    SyscallFails,
)
from maillab.host import Fault
from maillab.lab import Lab
from maillab.labs import Labs

pytestmark = pytest.mark.xdist_group("labs")

FAULTS: list[Fault] = [
    Crashed(), DiskFull(), InodesGone(), Killed("master"), Killed("postfix"), Killed("qmgr"),
    OpenFilesLimit(files=140), Paused(), ProcessLimit(), SlowFsync(0.1), Stopped("qmgr"),
    Stopped("postfix"), SyscallFails("cleanup", "fsync"),
]  # fmt: skip


def state(lab: Lab) -> dict[str, object]:
    """What a fault may have changed: files, room, limits."""
    host = lab.primary
    limits = host.run(
        "sh", "-c", "grep files /proc/$(tr -d ' ' </var/spool/postfix/pid/master.pid)/limits"
    ).stdout
    return {
        "paths": host.channel.call("digest")["paths"],
        "room": host.channel.call("room"),
        "limits": limits,
        "pids": host.run("sh", "-c", "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max",
                         check=False).stdout,
        "delivers": delivers(lab),
    }  # fmt: skip


def delivers(lab: Lab) -> bool:
    mail = lab.sender.submit("alice@example.org", server=lab.primary)
    lab.settle(mail)
    return bool(mail.delivered_to(lab.primary, "alice"))


@pytest.mark.parametrize("fault", FAULTS, ids=repr)
def test_a_fault_leaves_no_trace(fault: Fault, lab: Lab) -> None:
    """Lifted and reset, also out of a failing block, the host is what it was."""
    before = state(lab)
    lab.reset()
    # Else a daemon that died before it was of use is started again after a minute.
    lab.primary.configure(service_throttle_time="1s")

    with pytest.raises(ZeroDivisionError), lab.primary.faulty(fault):
        _ = 1 / 0
    assert delivers(lab)
    lab.reset()

    assert state(lab) == before


@pytest.mark.parametrize("fault", [Killed("smtp"), Stopped("smtp")], ids=repr)
def test_a_fault_that_found_nobody_has_no_witness(fault: Fault, lab: Lab) -> None:
    """The primary sends no mail, so that nobody of that name runs."""
    with lab.primary.faulty(fault):
        pass

    assert len(lab.record.unwitnessed) == 1


def test_faults_nest_and_lift_in_any_order(lab: Lab) -> None:
    """Whoever came first goes first."""
    nested: list[Fault] = [
        SyscallFails("local", "fsync"), SlowFsync(0.1), DiskFull(left_bytes=50_000_000),
        OpenFilesLimit(files=200), DiskFull(left_bytes=40_000_000), Stopped("qmgr"),
        OpenFilesLimit(files=150), Stopped("postfix"), InodesGone(left=5000),
        ProcessLimit(spare=100), ProcessLimit(spare=50),
    ]  # fmt: skip
    before = state(lab)
    lab.reset()

    stacks = []
    for fault in nested:
        stack = ExitStack()
        stack.enter_context(lab.primary.faulty(fault))
        stacks.append(stack)
    for stack in stacks:
        stack.close()
    assert delivers(lab)
    lab.reset()

    assert state(lab) == before


def test_a_log_is_read_on_after_a_crash(lab: Lab) -> None:
    """No line is lost and none comes twice."""
    for _ in range(2):
        delivers(lab)
        with lab.primary.faulty(Crashed()):
            pass
    delivers(lab)
    lab.mark()

    whole = connect().api.logs(lab.primary.channel.container).decode().splitlines()
    assert lab.stream.log("primary") == whole


def test_a_host_without_postfix_has_no_such_fault(some_labs: Labs, lab: Lab) -> None:
    """The reason is told, and what would do."""
    other = some_labs.get(topology.load("standalone"), lab.version)

    with pytest.raises(BadInput, match="runs no Postfix"), other.client.faulty(DiskFull()):
        pass


@pytest.mark.parametrize("gone", [Paused(), Crashed()], ids=repr)
@pytest.mark.parametrize("other", [DiskFull(), Paused()], ids=repr)
def test_a_host_that_is_away_has_no_other_fault(lab: Lab, gone: Fault, other: Fault) -> None:
    """At once, where nobody would answer."""
    with (
        lab.primary.faulty(gone),
        pytest.raises(BadInput, match="apply this fault before that one"),
        lab.primary.faulty(other),
    ):
        pass

    assert delivers(lab)


def test_more_room_than_there_is_cannot_be_left(lab: Lab) -> None:
    """Nothing is touched."""
    before = lab.primary.channel.call("room")

    with pytest.raises(BadInput, match="take less"), lab.primary.faulty(DiskFull(1 << 29)):
        pass

    assert lab.primary.channel.call("room") == before
