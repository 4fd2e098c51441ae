"""What holds of every fault in the registry, in a real lab. Needs an engine."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from idle_faults import SEEN_BY

from maillab import faults, topology
from maillab.errors import Void
from maillab.host import Fault, Host
from maillab.lab import Lab
from maillab.labs import Labs
from maillab.postfix import MailHost

ROOT = Path(__file__).parents[1]

# A scenario of each, without those that take long to find that nothing happens.
PROOFS = {
    "Crashed": "test_process.py::test_symptom_a_crashed_host_refuses_connections",
    "DeadNameserver": "test_names.py::"
    "test_symptom_a_dead_first_nameserver_is_asked_each_time[silent]",
    "Dialup": "test_line.py::test_symptom_the_phone_rings_for_each_message",
    "DiskFull": "test_disk.py::test_symptom_sendmail_fails_when_the_disk_is_full",
    "DnsAnswer": "test_names.py::test_symptom_a_name_that_does_not_exist_returns_mail",
    "DnsDelay": "test_names.py::test_symptom_a_late_answer_makes_mail_late",
    "DnsDrop": "test_names.py::test_symptom_mail_waits_for_names[drop]",
    "DnsTruncated": "test_names.py::test_symptom_a_truncated_answer_is_asked_for_by_tcp",
    "ExtensionRewriter": "test_middlebox.py::test_symptom_one_extension_is_dropped[remote]",
    "ForeignPtr": "test_names.py::test_symptom_a_foreign_name_is_not_believed",
    "Greeting": "test_smtp_server.py::test_symptom_a_greeting_refuses_all_mail[421 4.3.2 too busy]",
    "InodesGone": "test_disk.py::test_symptom_a_disk_without_inodes_keeps_clients_waiting",
    "Killed": "test_process.py::test_symptom_a_session_breaks_when_its_smtpd_is_killed",
    "MtuBlackHole": "test_path.py::test_symptom_an_mtu_black_hole_swallows_big_mail",
    "Netem": "test_path.py::test_symptom_one_way_is_slow",
    "OpenFilesLimit": "test_process.py::"
    "test_symptom_no_daemon_starts_when_the_host_is_out_of[open-files]",
    "Partition": "test_path.py::test_symptom_partition[both]",
    "Paused": "test_process.py::"
    "test_symptom_a_hanging_host_takes_connections_and_says_nothing[container]",
    "Pix": "test_middlebox.py::test_symptom_a_masked_banner_alone_costs_esmtp[remote]",
    "ProcessLimit": "test_process.py::"
    "test_symptom_no_daemon_starts_when_the_host_is_out_of[processes]",
    "Refused": "test_path.py::test_symptom_no_connection[receiver-refused]",
    "ResetInSession": "test_path.py::"
    "test_symptom_a_session_is_reset_while_it_sends[receiver-fault0]",
    "SilentDrop": "test_path.py::test_symptom_no_connection[receiver-silent-drop]",
    "SlowFsync": "test_disk.py::test_symptom_a_slow_disk_delays_mail_on_its_way_into_the_queue",
    "SmallMtu": "test_path.py::test_symptom_a_small_mtu_is_learned",
    "SmtpStage": "test_smtp_server.py::test_symptom_the_server_goes_away[MAIL-close]",
    "StaleAnswer": "test_names.py::test_symptom_a_stale_address_leads_to_nobody",
    "StarttlsStripper": "test_middlebox.py::test_symptom_starttls_is_not_offered[remote]",
    "Stopped": "test_process.py::test_mail_waits_in_incoming_while_the_queue_manager_hangs",
    "SyscallFails": "test_disk.py::test_symptom_mail_that_the_disk_did_not_take_is_refused[fsync]",
    "Unreachable": "test_path.py::test_symptom_no_connection[receiver-unreachable]",
}

# Where each is at home in the topology "wan".
ON: dict[str, tuple[str, Callable[[Lab], Fault]]] = {
    "Crashed": ("receiver", lambda _: faults.Crashed()),
    "DeadNameserver": ("sender", lambda _: faults.DeadNameserver()),
    "Dialup": ("sender", lambda _: faults.Dialup()),
    "DiskFull": ("receiver", lambda _: faults.DiskFull(left_bytes=50_000_000)),
    "DnsAnswer": ("sender", lambda _: faults.DnsAnswer("example.org", rcode="SERVFAIL")),
    "DnsDelay": ("sender", lambda _: faults.DnsDelay("example.org", delay_s=1)),
    "DnsDrop": ("sender", lambda _: faults.DnsDrop("example.org")),
    "DnsTruncated": ("sender", lambda _: faults.DnsTruncated("example.org")),
    "ExtensionRewriter": ("router", lambda _: faults.ExtensionRewriter("DSN")),
    "ForeignPtr": (
        "receiver",
        lambda lab: faults.ForeignPtr(lab.sender.address, points_to="router.example.com"),
    ),
    "Greeting": ("receiver", lambda _: faults.Greeting("421 too busy")),
    "InodesGone": ("receiver", lambda _: faults.InodesGone(left=5000)),
    "Killed": ("receiver", lambda _: faults.Killed("qmgr")),
    "MtuBlackHole": ("router", lambda lab: faults.MtuBlackHole(lab.receiver.address)),
    "Netem": ("router", lambda _: faults.Netem(delay_s=0.01, loss_percent=1)),
    "Noop": ("receiver", lambda _: faults.Noop()),
    "OpenFilesLimit": ("receiver", lambda _: faults.OpenFilesLimit(files=200)),
    "Partition": ("receiver", lambda _: faults.Partition()),
    "Paused": ("receiver", lambda _: faults.Paused()),
    "Pix": ("receiver", lambda _: faults.Pix()),
    "ProcessLimit": ("receiver", lambda _: faults.ProcessLimit(spare=100)),
    "Refused": ("receiver", lambda _: faults.Refused(every=3)),
    "ResetInSession": ("router", lambda _: faults.ResetInSession(bytes_before=20_000)),
    "SilentDrop": ("receiver", lambda _: faults.SilentDrop(first=2)),
    "SlowFsync": ("receiver", lambda _: faults.SlowFsync(0.1)),
    "SmallMtu": ("router", lambda lab: faults.SmallMtu(lab.receiver.address)),
    "SmtpStage": ("receiver", lambda _: faults.SmtpStage("RCPT", reply="450 4.7.1 not today")),
    "StaleAnswer": (
        "sender",
        lambda lab: faults.StaleAnswer("example.org", address=lab.router.address),
    ),
    "StarttlsStripper": ("router", lambda _: faults.StarttlsStripper()),
    "Stopped": ("receiver", lambda _: faults.Stopped("qmgr")),
    "SyscallFails": ("receiver", lambda _: faults.SyscallFails("cleanup", "fsync")),
    "Unreachable": ("router", lambda _: faults.Unreachable(after=4)),
}
# While a host is held or down nothing can be lifted there, nor anything else applied.
ALONE = {"Crashed", "Paused"}


@pytest.fixture
def wan(some_labs: Labs, request: pytest.FixtureRequest) -> Lab:
    """A lab whose hosts have any fault, in its first state."""
    return some_labs.get(topology.load("wan"), request.config.option.postfix)


def found(wan: Lab, name: str) -> tuple[Host, Fault]:
    """The host that is to have a fault, and the fault."""
    role, fault = ON[name]
    return wan.hosts[role], fault(wan)


def state(host: Host) -> list[str]:
    """Links, routes, qdiscs, packet filter, sysctls, resolver; mounts, clock and limits."""
    said = [
        host.agent.call("netstate")["text"],
        str(host.agent.call("read", path="/etc/resolv.conf")),
    ]
    if isinstance(host, MailHost):
        limits = "grep files /proc/$(tr -d ' ' </var/spool/postfix/pid/master.pid)/limits"
        said += [
            str(host.read(path))
            for path in ("/proc/self/mounts", "/etc/resolv.conf", "/etc/faketimerc")
        ]
        said += [host.run("sh", "-c", limits).stdout, str(host.channel.call("room"))]
    return said


def test_a_scenario_of_every_fault_is_void_when_the_fault_does_nothing(
    pytester: pytest.Pytester,
) -> None:
    """Whatever the scenario makes of it: nobody saw the fault act."""
    scenarios = [str(ROOT / "scenarios" / "faults" / proof) for proof in PROOFS.values()]
    options = ("-p", "no:cacheprovider", "-p", "idle_faults", "-c", str(ROOT / "pyproject.toml"))

    result = pytester.runpytest_subprocess(*options, *scenarios, timeout=600)

    assert set(PROOFS) == set(faults.REGISTRY) - {"Noop"}
    assert result.ret == Void.exit_code
    assert result.parseoutcomes() == {"void": len(PROOFS)}
    told = re.findall(
        rf": (\w+)\(.*\) on \w+ was never seen to act: 0 {SEEN_BY}", result.stdout.str()
    )
    assert sorted(told) == sorted(PROOFS)


@pytest.mark.parametrize("name", sorted(faults.REGISTRY))
def test_a_fault_leaves_no_trace_however_its_block_ends(wan: Lab, name: str) -> None:
    """Of itself, by an assertion, or by somebody's Control-C."""
    host, fault = found(wan, name)
    before = state(host)

    with host.faulty(fault):
        pass
    after = [state(host)]
    for end in (AssertionError, KeyboardInterrupt):
        with pytest.raises(end), host.faulty(fault):
            raise end
        after.append(state(host))

    assert after == [before] * 3


@pytest.mark.parametrize("seed", [1, 2])
def test_all_faults_at_once_lift_in_any_order(wan: Lab, seed: int) -> None:
    """Each takes away what is its own."""
    dice = random.Random(seed)  # noqa: S311  # an order, no secret
    before = {name: state(host) for name, host in wan.hosts.items()}
    together = sorted(set(ON) - ALONE)

    with ExitStack() as all_of_them:
        stacks = []
        for name in dice.sample(together, len(together)):
            host, fault = found(wan, name)
            stack = all_of_them.enter_context(ExitStack())
            stack.enter_context(host.faulty(fault))
            stacks.append(stack)
        for stack in dice.sample(stacks, len(stacks)):
            stack.close()

    assert {name: state(host) for name, host in wan.hosts.items()} == before
