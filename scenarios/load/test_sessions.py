"""Hundreds and thousands of simultaneous sessions: no acknowledged mail is lost."""

import pytest

from maillab import Lab, PostfixHost, Report
from maillab.faults import DaemonKilled, DiskFull, DnsDelay, SmtpStage

# The default limits are 100 processes, 50 connections per client, and 300 s without a
# command: the last session may open later than that after the first, on a busy machine.
MANY = {
    "default_process_limit": "2500",
    "smtpd_client_connection_count_limit": "0",
    "smtpd_timeout": "3600s",
}
# Thousands of deliveries on a busy machine.
DRAIN_S = 600.0
# Each smtpd(8) maps some thirty files. On fuse-overlayfs one process holds all of them
# open, and reaches its file limit at six hundred smtpd(8). The queue is on another file
# system, in memory.
LIBRARIES_IN_MEMORY = """
folder=/var/spool/postfix/libraries
mkdir $folder
ldd /usr/lib/postfix/sbin/smtpd | awk '$3 ~ "^(/usr)?/lib/[^/]*-linux-gnu/" {print $3}' |
  xargs cp -L -t $folder
echo $folder >/etc/ld.so.conf.d/00-in-memory.conf
ldconfig
"""


def take_many(server: PostfixHost) -> None:
    """Lift Postfix's limits (see linux-processes)."""
    server.configure(**MANY)


def take_thousands(server: PostfixHost) -> None:
    """Also lift the limit of the engine's storage."""
    server.run("sh", "-ec", LIBRARIES_IN_MEMORY)
    take_many(server)


def all_acknowledged(report: Report, messages: int) -> bool:
    """Return True if every message was acknowledged; the ledger checks its delivery."""
    return dict(report.outcomes) == {"acknowledged": messages}


@pytest.mark.topology("firewall")
def test_three_hundred_sessions_at_once_through_the_firewall(lab: Lab) -> None:
    """All sessions connect before any sends, and the inside gateway stores every message."""
    take_many(lab.firewall)
    take_many(lab.inside)
    recipients = [f"{user}@example.com" for user in ("alice", "bob", "carol", "dave", "joe")]

    report = lab.load(
        lab.firewall, lab.outside, sessions=300, messages=300, held=True, recipients=recipients
    )
    lab.drain(within_s=DRAIN_S)

    assert report.open_max == 300
    assert all_acknowledged(report, 300)
    assert sum(len(lab.inside.mailbox(user)) for user in ("alice", "bob")) > 60


@pytest.mark.heavy
@pytest.mark.topology("backup-mx")
def test_the_primary_dies_and_comes_back_under_five_hundred_sessions(lab: Lab) -> None:
    """Acknowledged mail is on the primary's disk; the clients still have the rest.

    The primary delivers only afterwards, because a killed delivery may be repeated.
    """
    lab.primary.configure(**MANY, defer_transports="local")

    # A client of a server that died silently needs its own timeout.
    patient = {"retries": 200, "timeout_s": 20.0}
    with lab.loading(lab.primary, lab.sender, sessions=500, messages=2000, **patient) as load:
        load.wait_until(acknowledged=500)
        with lab.primary.faulty(DaemonKilled("postfix")):
            load.wait_until(acknowledged=500)
        load.wait_until(acknowledged=1000)
    lab.primary.configure(defer_transports="")
    lab.primary.flush()
    lab.drain(within_s=DRAIN_S)

    assert load.report is not None
    assert load.report.counts["broken"] > 0
    assert load.report.outcomes["acknowledged"] + load.report.outcomes["unknown"] == 2000


@pytest.mark.heavy
@pytest.mark.topology("standalone")
def test_a_thousand_sessions_while_names_are_slow(lab: Lab) -> None:
    """Every session waits for the client's name, and none is dropped."""
    take_thousands(lab.mail)

    with lab.mail.faulty(DnsDelay("*", delay_s=1.0)):
        report = lab.load(lab.mail, lab.client, sessions=1000, messages=1000, held=True)
    lab.drain(within_s=DRAIN_S)

    assert report.open_max == 1000
    assert all_acknowledged(report, 1000)


@pytest.mark.heavy
@pytest.mark.topology("backup-mx")
def test_three_hundred_sessions_where_the_server_greets_421_beyond_a_hundred(lab: Lab) -> None:
    """Refused clients retry, and each message is accepted once."""
    take_many(lab.primary)

    with lab.primary.faulty(SmtpStage("greeting", reply="421 too many", sessions_max=100)):
        report = lab.load(lab.primary, lab.sender, sessions=300, messages=600, retries=10_000)
    lab.drain(within_s=DRAIN_S)

    assert all_acknowledged(report, 600)
    assert report.replies["421"] > 0


@pytest.mark.heavy
@pytest.mark.topology("standalone")
def test_the_queues_disk_fills_up_under_load_and_recovers(lab: Lab) -> None:
    """While the disk is full Postfix replies 452; it accepts and loses no mail."""
    take_many(lab.mail)

    with lab.loading(lab.mail, lab.client, sessions=50, messages=1000, retries=10_000) as load:
        load.wait_until(acknowledged=200)
        with lab.mail.faulty(DiskFull()):
            load.wait_until(replies={"452": 20})
    lab.drain(within_s=DRAIN_S)

    assert load.report is not None
    assert all_acknowledged(load.report, 1000)
    assert load.report.replies["452"] >= 20


@pytest.mark.heavy
@pytest.mark.topology("standalone")
def test_two_thousand_sessions_held_at_once(lab: Lab) -> None:
    """One Postfix greets and serves two thousand simultaneous clients.

    Each client has its own process, which takes time to start.
    """
    take_thousands(lab.mail)

    report = lab.load(lab.mail, lab.client, sessions=2000, messages=2000, held=True, workers=2)
    lab.drain(within_s=DRAIN_S)

    assert report.open_max == 2000
    assert all_acknowledged(report, 2000)
