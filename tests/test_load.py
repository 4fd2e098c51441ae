"""A load on a real server that does not go as it should: cut off, refused, too much.

Needs an engine.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from maillab import lab as labs
from maillab import topology
from maillab.errors import BadInput, LabError
from maillab.lab import Lab
from maillab.loadreport import Report
from maillab.maillog import Delivery

pytestmark = pytest.mark.xdist_group("labs")

# More than any of these tests waits for.
ENDLESS = ("--messages", "100000", "--rate", "50", "--sessions", "5")


@pytest.fixture(scope="module")
def by_hand(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lab as ``maillab up`` leaves it."""
    version = request.config.option.postfix
    running = labs.start(topology.load("standalone"), version, by_hand=True)
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
def test_an_interrupted_load_tells_what_was_done(by_hand: Lab, number: int) -> None:
    """Every message that was taken is accounted for, and no worker is left."""
    seen = by_hand.stream.position
    with load_by_hand(by_hand, *ENDLESS) as process:
        try:
            by_hand.stream.wait(
                lambda: any(isinstance(event, Delivery) for event in by_hand.stream.since(seen)),
                within_s=60,
                what="the load's first delivery",
            )
            process.send_signal(number)
            out, err = process.communicate(timeout=120)
        finally:
            # Else leaving the block would wait for one that does not end.
            process.kill()

    told = json.loads(out)
    assert process.returncode == 130, err
    assert told["outcomes"]["acknowledged"] > 0
    assert told["complaints"][-1].startswith("ended before ")
    assert told["ledger"].endswith("conserved")
    assert workers(by_hand) == []


def test_a_block_that_fails_leaves_a_report_and_no_worker(by_hand: Lab) -> None:
    """What was attempted is on record, for the ledger that judges it."""
    by_hand.record.begin()
    load = by_hand.loading(by_hand.mail, by_hand.client, sessions=5, messages=100_000)

    load.wait_until(acknowledged=20)

    with pytest.raises(ZeroDivisionError), load:
        _ = 1 / 0

    assert isinstance(load.report, Report)
    assert load.report.acknowledged >= 20
    assert load.report.text().endswith("messages were sent")
    assert workers(by_hand) == []
    by_hand.drain()
    assert by_hand.accounts().conserved


def workers(lab: Lab) -> list[str]:
    """The generator's processes on the client."""
    script = "grep -al loadgen /proc/[0-9]*/cmdline 2>/dev/null | grep -v /self/"
    found = lab.client.run("sh", "-c", script, check=False).stdout.split()
    shell = {line for line in found if "loadgen.py" in (lab.client.read(line) or "")}
    return sorted(shell)


def test_a_host_that_does_not_listen_is_named(by_hand: Lab) -> None:
    """Before anything is sent."""
    with pytest.raises(LabError, match="mail does not answer on port 2525"):
        by_hand.load(by_hand.mail, by_hand.client, sessions=2, messages=2, port=2525)


def test_more_sessions_than_files_are_refused_with_the_limit(by_hand: Lab) -> None:
    """And how to raise it."""
    limit = int(by_hand.client.run("sh", "-c", "ulimit -Hn").stdout)
    if limit > 20_000:
        # The most that one address can have at one port comes first.
        with pytest.raises(BadInput, match="sessions: at most 20000"):
            by_hand.load(by_hand.mail, by_hand.client, sessions=limit, messages=1)
        return
    with pytest.raises(BadInput, match=f"the limit is {limit}: take fewer sessions"):
        by_hand.load(by_hand.mail, by_hand.client, sessions=limit, messages=1)


def test_a_rate_that_cannot_be_reached_is_said(by_hand: Lab) -> None:
    """With what was reached, and what to do."""
    by_hand.record.begin()
    report = by_hand.load(
        by_hand.mail, by_hand.client, sessions=1, messages=400, rate_per_s=100_000.0
    )
    by_hand.drain()

    assert report.outcomes == {"acknowledged": 400}
    (complaint,) = report.complaints
    assert complaint.startswith("the rate of 100000 a second was not reached: ")
    assert complaint.endswith("take more sessions, or a lower rate")
