"""The arithmetic of a cost, and what the meter reads from the kernel's files."""

from pathlib import Path

import pytest
from bench.cost import (
    AGENTS,
    ENGINE,
    POSTFIX,
    REST,
    Cost,
    container_of_shim,
    control_group,
    usage_s,
)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cpuacct.usage", "2500000000\n"),
        ("cpu.stat", "usage_usec 2500000\nuser_usec 1000000\nsystem_usec 1500000\n"),
    ],
    ids=["v1", "v2"],
)
def test_a_control_groups_cpu_time_is_in_seconds(tmp_path: Path, name: str, content: str) -> None:
    """Version 1 counts nanoseconds, version 2 microseconds."""
    file = tmp_path / name
    file.write_text(content)

    assert usage_s(file) == 2.5


def test_one_of_the_further_rounds_is_what_the_longer_run_adds() -> None:
    """The start of labs and pytest is in both runs, and so in neither round."""
    cost = Cost(12.0, 700, {POSTFIX: 5.0, AGENTS: 3.0})
    cost.add(Cost(4.0, 100, {POSTFIX: 1.0, AGENTS: 3.0}, foreign=2), -1)

    each = cost.each(4)

    assert (each.total_s, each.forks) == (2.0, 150)
    assert each.parts_s == {POSTFIX: 1.0, AGENTS: 0.0}
    assert "2 foreign containers" in each.text()


def test_the_runs_own_parts_are_without_the_engine_and_the_rest() -> None:
    """The engine and the kernel work for others, too."""
    assert Cost(9.0, 0, {POSTFIX: 1.0, AGENTS: 2.0, ENGINE: 4.0, REST: 2.0}).own_s == 3.0


def test_a_cost_without_mail_hosts_is_an_error() -> None:
    """The meter found no container: a ratio to its figures would mean nothing."""
    Cost(9.0, 0, {POSTFIX: 0.1}).require_mail_hosts()

    for parts in ({}, {POSTFIX: 0.0, ENGINE: 4.0}):
        with pytest.raises(RuntimeError, match="no CPU time of a mail host was measured"):
            Cost(9.0, 0, parts).require_mail_hosts()


@pytest.mark.parametrize(
    ("command", "container"),
    [
        ("containerd-shim-runc-v2 -namespace moby -id 12ab -address /run/x", "12ab"),
        ("containerd-shim-runc-v2 -namespace moby", ""),
        ("containerd-shim-runc-v2 -id", ""),
    ],
)
def test_a_shim_may_have_no_container(command: str, container: str) -> None:
    """The engine also starts its shims for other purposes."""
    words = b"\0".join([*command.encode().split(), b""]).split(b"\0")

    assert container_of_shim(words) == container


def test_a_container_that_is_still_in_the_machines_group_has_no_time_of_its_own() -> None:
    """The engine moves its first process a moment later; before, the group is the machine."""
    inside = [str(file) for files in control_group("12ab", "0::/docker/12ab\n") for file in files]

    assert all(file.endswith("/docker/12ab/cpu.stat") for file in inside)
    assert inside
    with pytest.raises(ProcessLookupError):
        list(control_group("12ab", "4:cpu,cpuacct:/\n0::/\n"))
