"""Loads on a real server that go wrong: interrupted, refused, too large.

Needs an engine.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from maillab.errors import BadInput, LabError
from maillab.lab import lab as labs
from maillab.lab.lab import Lab
from maillab.load.report import Report
from maillab.mail.maillog import Connected, Delivery
from maillab.site import topology

# More messages than any of these tests waits for.
ENDLESS = ("--messages", "100000", "--rate", "50", "--sessions", "5")


@pytest.fixture(scope="module")
def by_hand(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Start a lab as ``maillab up`` leaves it."""
    version = request.config.option.postfix
    running = labs.start(topology.load("standalone"), version)
    yield running
    running.down()


def load_by_hand(lab: Lab, *options: str) -> subprocess.Popen[str]:
    where = ("--from-host", "client", "--to-host", "mail", "--lab", lab.project.name)
    return subprocess.Popen(
        [sys.executable, "-m", "maillab", "load", "--json", *where, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_load_reports_its_messages(by_hand: Lab, number: int) -> None:
    """Every accepted message is accounted for, and no worker remains."""
    seen = by_hand.stream.position
    with load_by_hand(by_hand, *ENDLESS) as process:
        try:
            by_hand.stream.wait(
                lambda: any(isinstance(event, Delivery) for event in by_hand.stream.since(seen)),
                within_s=300,
                what="the load delivered no message",
            )
            process.send_signal(number)
            out, err = process.communicate(timeout=120)
        finally:
            # Otherwise leaving the block would wait for a process that never exits.
            process.kill()

    summary = json.loads(out)
    assert process.returncode == 130, err
    assert summary["outcomes"]["acknowledged"] > 0
    assert summary["complaints"][-1].startswith("ended before ")
    assert summary["ledger"].endswith("conserved")
    assert workers(by_hand) == []


def test_held_sessions_that_are_never_greeted_cost_no_report(by_hand: Lab) -> None:
    """The other sessions send, and the error comes after a complete report."""
    by_hand.mail.configure(default_process_limit="1")
    few = ("--held", "--sessions", "3", "--messages", "3", "--greeting-wait-s", "2")
    try:
        with load_by_hand(by_hand, *few) as process:
            try:
                out, err = process.communicate(timeout=120)
            finally:
                process.kill()
    finally:
        by_hand.mail.configure(default_process_limit="100")

    summary = json.loads(out)
    assert summary["outcomes"] == {"acknowledged": 3}
    assert summary["ledger"].endswith("conserved")
    held = (
        "1 of 3 sessions were held open at once; 2 were not: "
        "no session was greeted for 2 s (greeting_wait_s)"
    )
    assert summary["complaints"] == [held]
    assert process.returncode == LabError.exit_code
    assert err.startswith(f"maillab: load: {held}")
    assert workers(by_hand) == []


def test_sessions_lost_in_the_accept_queue_after_a_reload_cost_no_report(by_hand: Lab) -> None:
    """A reload raises the process limit and not the listen queue, so the kernel drops clients.

    The client's kernel takes their connections for open, and nothing ever arrives on them.
    """
    many = ("--held", "--sessions", "200", "--messages", "200", "--workers", "1")
    bounds = ("--greeting-wait-s", "5", "--timeout-s", "10")
    lifted = {"default_process_limit": "300", "smtpd_client_connection_count_limit": "0"}
    by_hand.mail.configure(default_process_limit="5")
    try:
        settings = [f"{name}={value}" for name, value in lifted.items()]
        by_hand.mail.run("postconf", "-e", *settings)
        by_hand.mail.reload()
        with load_by_hand(by_hand, *many, *bounds) as process:
            try:
                out, err = process.communicate(timeout=240)
            finally:
                process.kill()
    finally:
        by_hand.mail.configure(
            default_process_limit="100", smtpd_client_connection_count_limit="50"
        )

    summary = json.loads(out)
    opened, _, why = summary["complaints"][0].partition(" of 200 sessions were held open at once; ")
    assert 0 < int(opened) < 200
    assert "were not: no session was greeted for 5 s (greeting_wait_s)" in why
    assert process.returncode == LabError.exit_code, err
    assert sum(summary["outcomes"].values()) == 200
    assert summary["outcomes"]["acknowledged"] > 0
    assert summary["ledger"].endswith("conserved")
    assert workers(by_hand) == []


def test_a_load_that_waits_for_its_sessions_can_be_interrupted(by_hand: Lab) -> None:
    """An interrupted load gives an empty report and leaves no worker."""
    by_hand.mail.configure(default_process_limit="1")
    endless = ("--held", "--sessions", "3", "--messages", "3", "--greeting-wait-s", "250")
    seen = by_hand.stream.position
    try:
        with load_by_hand(by_hand, *endless) as process:
            try:
                # The first connection checks that the server listens.
                by_hand.stream.wait(
                    lambda: connections(by_hand, seen) > 1,
                    within_s=300,
                    what="no held session was greeted",
                )
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=120)
            finally:
                process.kill()
    finally:
        by_hand.mail.configure(default_process_limit="100")

    assert process.returncode == 130, err
    assert json.loads(out)["complaints"] == ["ended before 3 messages were sent"]
    assert workers(by_hand) == []


def test_a_report_survives_the_loss_of_a_sending_host(by_hand: Lab) -> None:
    """After a worker is killed the report says that its results are unknown."""
    by_hand.scenario.begin()
    load = by_hand.loading(by_hand.mail, by_hand.client, sessions=5, messages=100_000)
    load.wait_until(acknowledged=20)
    (worker,) = workers(by_hand)

    by_hand.client.run("sh", "-c", f"kill -9 {worker.split('/')[2]}")

    with pytest.raises(LabError, match="client: a worker of the load generator ended with status"):
        load.finish()
    assert isinstance(load.report, Report)
    assert load.report.complaints[-1].startswith("ended before ")
    assert workers(by_hand) == []
    by_hand.drain()


def test_a_block_that_fails_leaves_a_report_and_no_worker(by_hand: Lab) -> None:
    """The attempts are recorded, and the ledger judges them."""
    by_hand.scenario.begin()
    load = by_hand.loading(by_hand.mail, by_hand.client, sessions=5, messages=100_000)

    load.wait_until(acknowledged=20)

    with pytest.raises(ZeroDivisionError), load:
        _ = 1 / 0

    assert isinstance(load.report, Report)
    assert load.report.acknowledged >= 20
    assert load.report.text().endswith("messages were sent")
    assert workers(by_hand) == []
    by_hand.drain()
    assert by_hand.verdict().conserved


def test_a_stopped_load_reports_once_and_leaves_no_worker(by_hand: Lab) -> None:
    """Messages that were under way are recorded, and the ledger judges them."""
    by_hand.scenario.begin()
    load = by_hand.loading(by_hand.mail, by_hand.client, sessions=5, messages=100_000)
    load.wait_until(acknowledged=20)

    report = load.stop()

    assert load.over
    assert load.stop() is load.finish() is report
    assert 20 <= report.acknowledged < 100_000
    assert report.complaints[-1].startswith("ended before ")
    assert workers(by_hand) == []
    by_hand.drain()
    assert by_hand.verdict().conserved


def connections(lab: Lab, since: int) -> int:
    """Return the number of sessions that smtpd(8) has accepted."""
    return sum(isinstance(event, Connected) for event in lab.stream.since(since))


def workers(lab: Lab) -> list[str]:
    """Return the generator's processes on the client."""
    script = "grep -al loadgen /proc/[0-9]*/cmdline 2>/dev/null | grep -v /self/"
    found = lab.client.run("sh", "-c", script, check=False).stdout.split()
    shell = {line for line in found if "loadgen.py" in (lab.client.read(line) or "")}
    return sorted(shell)


def test_a_host_that_does_not_listen_is_named(by_hand: Lab) -> None:
    """The load fails before it sends anything."""
    with pytest.raises(LabError, match="mail does not answer on port 2525"):
        by_hand.load(by_hand.mail, by_hand.client, sessions=2, messages=2, port=2525)


def test_fewer_sessions_than_sending_hosts_are_refused(by_hand: Lab) -> None:
    """Each sending host needs a session."""
    with pytest.raises(BadInput, match=r"number of sending hosts \(2\), not 1"):
        by_hand.load(by_hand.mail, by_hand.client, by_hand.remote, sessions=1, messages=2)


def test_more_sessions_than_files_are_refused_with_the_limit(by_hand: Lab) -> None:
    """The error names the limit and how to stay below it."""
    limit = int(by_hand.client.run("sh", "-c", "ulimit -Hn").stdout)
    if limit > 20_000:
        # The limit of connections from one address to one port applies first.
        with pytest.raises(BadInput, match="sessions must be <= 20000"):
            by_hand.load(by_hand.mail, by_hand.client, sessions=limit, messages=1)
        return
    with pytest.raises(BadInput, match=f"the limit is {limit}: take fewer sessions"):
        by_hand.load(by_hand.mail, by_hand.client, sessions=limit, messages=1)


def test_a_rate_that_cannot_be_reached_is_reported(by_hand: Lab) -> None:
    """The complaint has the actual rate and what to do."""
    by_hand.scenario.begin()
    report = by_hand.load(
        by_hand.mail, by_hand.client, sessions=1, messages=400, rate_per_s=100_000.0
    )
    by_hand.drain()

    assert report.outcomes == {"acknowledged": 400}
    (complaint,) = report.complaints
    assert complaint.startswith("the rate of 100000 a second was not reached: ")
    assert complaint.endswith("take more sessions, or a lower rate")
