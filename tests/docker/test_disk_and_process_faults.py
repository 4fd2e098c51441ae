"""Faults of disk and processes leave a host unchanged. Needs an engine."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from maillab.engine.client import connect
from maillab.errors import BadInput
from maillab.faults import (
    DaemonFrozen,
    DaemonKilled,
    DiskFull,
    HostCrashed,
    HostFrozen,
    InodesGone,
    OpenFilesLimit,
    ProcessLimit,
    SlowDisk,
    SlowFsync,
    SyscallFails,
)
from maillab.hosts.host import Fault
from maillab.lab.lab import Lab
from maillab.lab.pool import Labs
from maillab.site import topology

FAULTS: list[Fault] = [
    HostCrashed(), DiskFull(), InodesGone(), DaemonKilled("master"), DaemonKilled("postfix"),
    DaemonKilled("qmgr"),
    OpenFilesLimit(files=140), HostFrozen(), ProcessLimit(), SlowDisk(1000), SlowFsync(0.1),
    DaemonFrozen("qmgr"),
    DaemonFrozen("postfix"), SyscallFails("cleanup", "fsync"),
]  # fmt: skip


def state(lab: Lab) -> dict[str, object]:
    """Return what a fault may change: files, free space, limits."""
    host = lab.primary
    limits = host.run(
        "sh", "-c", "grep files /proc/$(tr -d ' ' </var/spool/postfix/pid/master.pid)/limits"
    ).stdout
    return {
        "paths": host.channel.call("digest")["paths"],
        "free_space": host.channel.call("free_space"),
        "limits": limits,
        "pids": host.run("sh", "-c", "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max",
                         check=False).stdout,
        "delivers": delivers(lab),
    }  # fmt: skip


def delivers(lab: Lab) -> bool:
    mail = lab.sender.smtp("alice@example.org", server=lab.primary)
    lab.settle(mail)
    return bool(mail.delivered_to(lab.primary, "alice"))


@pytest.mark.parametrize("fault", FAULTS, ids=repr)
def test_a_fault_leaves_no_trace(fault: Fault, lab: Lab) -> None:
    """After lifting and a reset, even from a failing block, the host is unchanged."""
    before = state(lab)
    lab.reset()
    # Otherwise master(8) waits a minute to restart a daemon that died before serving.
    lab.primary.configure(service_throttle_time="1s")

    with pytest.raises(ZeroDivisionError), lab.primary.faulty(fault):
        _ = 1 / 0
    assert delivers(lab)
    lab.reset()

    assert state(lab) == before


@pytest.mark.parametrize("fault", [DaemonKilled("smtp"), DaemonFrozen("smtp")], ids=repr)
def test_a_fault_without_a_process_has_no_count(fault: Fault, lab: Lab) -> None:
    """The primary sends no mail, so no process has that name."""
    with lab.primary.faulty(fault):
        pass

    assert len(lab.scenario.unwitnessed) == 1


def test_faults_nest_and_lift_in_any_order(lab: Lab) -> None:
    """Faults are lifted in the order in which they were applied."""
    nested: list[Fault] = [
        SyscallFails("local", "fsync"), SlowFsync(0.1), DiskFull(left_bytes=50_000_000),
        SlowDisk(100_000),
        OpenFilesLimit(files=200), DiskFull(left_bytes=40_000_000), DaemonFrozen("qmgr"),
        OpenFilesLimit(files=150), DaemonFrozen("postfix"), InodesGone(left=5000),
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


def test_a_log_is_followed_after_a_crash(lab: Lab) -> None:
    """The stream loses no line and repeats none."""
    for _ in range(2):
        delivers(lab)
        with lab.primary.faulty(HostCrashed()):
            pass
    delivers(lab)
    lab.catch_up()

    whole = connect().api.logs(lab.primary.channel.container).decode().splitlines()
    assert lab.stream.log("primary") == whole


def test_a_host_without_postfix_has_no_such_fault(some_labs: Labs, lab: Lab) -> None:
    """The error gives the reason and the alternatives."""
    other = some_labs.get(topology.load("standalone"), lab.requested_version)

    with pytest.raises(BadInput, match="runs no Postfix"), other.client.faulty(DiskFull()):
        pass


@pytest.mark.parametrize("gone", [HostFrozen(), HostCrashed()], ids=repr)
@pytest.mark.parametrize("other", [DiskFull(), HostFrozen()], ids=repr)
def test_a_host_that_is_away_has_no_other_fault(lab: Lab, gone: Fault, other: Fault) -> None:
    """The fault is refused at once, because the host would not answer."""
    with (
        lab.primary.faulty(gone),
        pytest.raises(BadInput, match="apply this fault before that one"),
        lab.primary.faulty(other),
    ):
        pass

    assert delivers(lab)


def test_mail_moves_to_a_slow_disk_and_back(lab: Lab) -> None:
    """A deferred message keeps its queue id, and is delivered afterwards."""

    def device() -> str:
        return lab.sender.run("stat", "-c", "%d", "/var/spool").stdout

    lab.primary.stop()
    lab.backup.stop()
    mail = lab.sender.send("alice@example.org")
    lab.settle(mail)
    (before,) = lab.sender.queued()
    devices = [device()]

    with lab.sender.faulty(SlowDisk(1000)):
        (there,) = lab.sender.queued()
        devices.append(device())
    (after,) = lab.sender.queued()
    devices.append(device())
    lab.primary.start()
    lab.sender.flush()
    lab.settle(mail)

    assert before == there == after
    assert devices[0] == devices[2] != devices[1]
    assert mail.delivered_to(lab.primary, "alice")
    lab.reset()


def test_more_space_than_there_is_cannot_be_left(lab: Lab) -> None:
    """The error leaves the host untouched."""
    before = lab.primary.channel.call("free_space")

    with (
        pytest.raises(BadInput, match=f"fewer than {1 << 29}"),
        lab.primary.faulty(DiskFull(1 << 29)),
    ):
        pass

    assert lab.primary.channel.call("free_space") == before
