"""Daemons and whole hosts that crash, hang or run out of processes and files."""

import pytest

from maillab import UNDER_WAY, Complaint, Fault, HopFailed, Lab, Mail, PostfixHost
from maillab.faults import (
    DaemonFrozen,
    DaemonKilled,
    HostCrashed,
    HostFrozen,
    OpenFilesLimit,
    ProcessLimit,
)

pytestmark = pytest.mark.topology("backup-mx")

MANY = 20


@pytest.fixture
def persistent(lab: Lab) -> Lab:
    """Make the lab's hosts recover soon after a crash.

    master(8) restarts daemons at once that died before they completed a request. In a
    maildir a crash leaves neither half a message nor a lock. Postmaster gets no notices.
    """
    for host in lab.mail_hosts:
        host.configure(service_throttle_time="1s", home_mailbox="Maildir/", notify_classes="")
    return lab


@pytest.fixture
def impatient(persistent: Lab) -> Lab:
    """Also shorten the clients' wait for a greeting."""
    for host in (persistent.sender, persistent.backup):
        host.configure(smtp_helo_timeout="2s")
    return persistent


def use(lab: Lab) -> None:
    """Send mail through the primary, so that its daemons run and have served a request."""
    lab.settle(lab.sender.smtp("joe@example.org", server=lab.primary))


def complaints(lab: Lab) -> list[str]:
    """Return the warnings in the primary's log."""
    return [event.text for event in lab.events(Complaint, lab.primary)]


def queued(*hosts: PostfixHost) -> set[str]:
    """Return the queues in which the hosts have mail."""
    return {entry.queue for host in hosts for entry in host.queued()}


def all_arrive(lab: Lab, mails: list[Mail]) -> None:
    """Check that alice gets all accepted mail; the ledger counts second copies."""
    # Postfix does not log a deferral after a delivery agent died.
    for host in (lab.sender, lab.backup):
        lab.settle(until=lambda: not queued(lab.sender, lab.backup) & UNDER_WAY)
        host.flush()
    # A killed cleanup(8) leaves half a file in incoming that was never acknowledged.
    sent = {mail.message_id for mail in mails}
    lab.settle(until=lambda: sent <= {copy.message_id for copy in lab.primary.stored()})
    assert all(mail.delivered_to(lab.primary, "alice") for mail in mails)


def allow_second_copies(lab: Lab, because: str, most: int = MANY) -> None:
    """Declare the actual number of second copies, at most `most`; it varies."""
    if twice := lab.verdict().duplicated:
        assert twice <= most
        lab.expects(duplicated=twice, because=because)


def test_symptom_a_session_breaks_when_its_smtpd_is_killed(persistent: Lab) -> None:
    """The client gets no reply; master(8) logs the daemon's death."""
    lab = persistent
    use(lab)
    with lab.sender.session(lab.primary) as session:
        session.ehlo()
        with lab.primary.faulty(DaemonKilled("smtpd")):
            reply = session.mail("bob@example.net")
    mail = lab.sender.send("alice@example.org")
    lab.settle(mail)

    assert reply.code == 0
    assert any(
        "smtpd pid" in text and text.endswith("killed by signal 9") for text in complaints(lab)
    )
    assert mail.delivered_to(lab.primary, "alice")


@pytest.mark.parametrize("daemon", ["master", "postfix"])
def test_symptom_nobody_listens_when_master_is_killed(lab: Lab, daemon: str) -> None:
    """Mail goes to the backup, which delivers it after the fault."""
    with lab.primary.faulty(DaemonKilled(daemon)):
        mail = lab.sender.send("alice@example.org")
        lab.settle(mail, until=mail.held_by(lab.backup))
        held = mail.held_by(lab.backup).now()
    lab.backup.flush()
    lab.settle(mail)

    assert held
    assert mail.delivered_to(lab.primary, "alice")


@pytest.mark.parametrize(
    ("role", "daemon"),
    [("primary", "smtpd"), ("primary", "cleanup"), ("primary", "qmgr"), ("sender", "smtp")],
    ids=["smtpd", "cleanup", "qmgr", "smtp"],
)
def test_nothing_accepted_is_lost_when_a_daemon_is_killed(
    persistent: Lab, role: str, daemon: str
) -> None:
    """Three daemons killed at random times lose no accepted mail; copies may repeat."""
    lab = persistent
    use(lab)

    with lab.hosts[role].faulty(DaemonKilled(daemon, times=3, within_s=0.2, seed=7)):
        mails = [lab.sender.send("alice@example.org", size_bytes=20_000) for _ in range(MANY)]

    all_arrive(lab, mails)
    allow_second_copies(lab, "the daemon dies between a 250 and its record (RFC 5321 section 6.1)")


@pytest.mark.parametrize(
    "fault",
    [DaemonFrozen("smtpd"), DaemonFrozen("postfix"), HostFrozen()],
    ids=["smtpd", "postfix", "container"],
)
def test_symptom_a_hanging_host_takes_connections_and_says_nothing(
    impatient: Lab, fault: Fault
) -> None:
    """The greeting times out and the backup accepts the mail, which it delivers later."""
    lab = impatient
    use(lab)

    with lab.primary.faulty(fault):
        mail = lab.sender.send("alice@example.org")
        lab.settle(mail, until=mail.held_by(lab.backup))
        held = mail.held_by(lab.backup).now()
    use(lab)
    lab.backup.flush()
    lab.settle(mail)

    assert held
    (failed, *_) = lab.events(HopFailed, lab.sender)
    assert failed.text.endswith("timed out while receiving the initial server greeting")
    assert mail.delivered_to(lab.primary, "alice")


def test_mail_waits_in_incoming_while_the_queue_manager_hangs(lab: Lab) -> None:
    """cleanup(8) accepts the mail, and no queue manager picks it up."""
    with lab.primary.faulty(DaemonFrozen("qmgr")):
        mail = lab.sender.send("alice@example.org")
        lab.settle(mail, until=lambda: mail.reached(lab.primary) and lab.primary.queued())
        lab.primary.catch_up()
        waiting = [entry.queue for entry in lab.primary.queued()]
    lab.settle(mail)

    assert waiting == ["incoming"]
    assert mail.delivered_to(lab.primary, "alice")


def test_symptom_a_crashed_host_refuses_connections(lab: Lab) -> None:
    """Mail goes to the backup, queued mail survives; after the fault both are delivered."""
    lab.primary.configure(defer_transports="local")
    queued = lab.primary.send("alice")
    lab.settle(queued)

    with lab.primary.faulty(HostCrashed()):
        mail = lab.sender.send("alice@example.org")
        lab.settle(mail, until=mail.held_by(lab.backup))
        held = mail.held_by(lab.backup).now()
    lab.primary.configure(defer_transports="")
    lab.primary.flush()
    lab.backup.flush()
    lab.settle()

    assert held
    (refused, *_) = lab.events(HopFailed, lab.sender)
    assert refused.text.endswith(":25: Connection refused")
    assert queued.delivered_to(lab.primary, "alice")
    assert mail.delivered_to(lab.primary, "alice")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_accepted_is_lost_when_a_host_crashes(persistent: Lab, seed: int) -> None:
    """A crash at a random time under load loses no accepted mail; copies may repeat."""
    lab = persistent
    mails = [lab.sender.send("alice@example.org", size_bytes=20_000) for _ in range(MANY)]

    with lab.primary.faulty(HostCrashed(within_s=0.3, seed=seed)):
        mails += [lab.sender.send("alice@example.org") for _ in range(3)]

    all_arrive(lab, mails)
    died = "local(8) dies between its delivery and the queue's record of it"
    # Parallel deliveries to one user (postconf(5), local_destination_concurrency_limit).
    allow_second_copies(lab, died, most=2)


@pytest.mark.parametrize(
    ("limit", "complaint"),
    [
        (ProcessLimit(), "master_spawn: fork: Resource temporarily unavailable -- throttling"),
        (OpenFilesLimit(files=120), "could allocate space for only 120 open files"),
    ],
    ids=["processes", "open-files"],
)
def test_symptom_no_daemon_starts_when_the_host_is_out_of(
    impatient: Lab, limit: Fault, complaint: str
) -> None:
    """master(8) cannot fork, or proxymap(8) exits; later the backup delivers the mail."""
    lab = impatient

    with lab.primary.faulty(limit):
        mail = lab.sender.send("alice@example.org")
        lab.settle(mail, until=mail.held_by(lab.backup))
        held = mail.held_by(lab.backup).now()
    # Waits until master(8) tries again.
    use(lab)
    lab.backup.flush()
    lab.settle(mail)

    assert held
    assert complaint in complaints(lab)
    assert mail.delivered_to(lab.primary, "alice")
