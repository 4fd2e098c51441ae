"""Daemons and whole hosts that die, hang or run out of processes and files."""

import pytest

from maillab.faults import Crashed, Killed, OpenFilesLimit, Paused, ProcessLimit, Stopped
from maillab.host import Fault
from maillab.lab import Lab
from maillab.maillog import Complaint, HopFailed
from maillab.postfix import UNDER_WAY, MailHost
from maillab.record import Mail

pytestmark = pytest.mark.topology("backup-mx")

MANY = 20


@pytest.fixture
def persistent(lab: Lab) -> Lab:
    """A lab that goes on soon after a crash.

    master(8) starts again at once what died before it was of use; in a maildir a
    crash leaves neither half a message nor a lock. Nobody is told of the errors.
    """
    for host in lab.mail_hosts:
        host.configure(service_throttle_time="1s", home_mailbox="Maildir/", notify_classes="")
    return lab


@pytest.fixture
def impatient(persistent: Lab) -> Lab:
    """One whose clients do not wait long for a greeting, besides."""
    for host in (persistent.sender, persistent.backup):
        host.configure(smtp_helo_timeout="2s")
    return persistent


def use(lab: Lab) -> None:
    """Have mail go through the primary, so that its daemons run and have been of use."""
    lab.settle(lab.sender.submit("joe@example.org", server=lab.primary))


def complaints(lab: Lab) -> list[str]:
    """What the primary's log warns of."""
    return [event.text for event in lab.events(Complaint, lab.primary)]


def queued(*hosts: MailHost) -> set[str]:
    """The queues in which the hosts have mail."""
    return {entry.queue for host in hosts for entry in host.queued()}


def all_arrive(lab: Lab, mails: list[Mail]) -> None:
    """Everything accepted reaches alice; the ledger knows which second copies are due."""
    # No log line tells that mail was deferred because its delivery agent died.
    for host in (lab.sender, lab.backup):
        lab.settle(until=lambda: not queued(lab.sender, lab.backup) & UNDER_WAY)
        host.flush()
    # A killed cleanup(8) leaves half a file in incoming, which nobody was told is accepted.
    sent = {mail.message_id for mail in mails}
    lab.settle(until=lambda: sent <= {copy.message_id for copy in lab.primary.stored()})
    assert all(mail.delivered_to(lab.primary, "alice") for mail in mails)


def allow_second_copies(lab: Lab, because: str, most: int = MANY) -> None:
    """How many there are is up to the instant of death; none is as well."""
    if twice := lab.accounts().duplicated:
        assert twice <= most
        lab.expects(duplicated=twice, because=because)


def test_symptom_a_session_breaks_when_its_smtpd_is_killed(persistent: Lab) -> None:
    """The client gets no reply; master(8) says what became of the daemon."""
    lab = persistent
    use(lab)
    with lab.sender.session(lab.primary) as session:
        session.ehlo()
        with lab.primary.faulty(Killed("smtpd")):
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
    """Mail goes to the backup; lifted, it comes from there."""
    with lab.primary.faulty(Killed(daemon)):
        mail = lab.sender.send("alice@example.org")
        lab.settle(mail, until=mail.held_by(lab.backup))
        held = bool(mail.held_by(lab.backup))
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
    """Three of them die at random instants, with mail under way, which may then come twice."""
    lab = persistent
    use(lab)

    with lab.hosts[role].faulty(Killed(daemon, times=3, within_s=0.2, seed=7)):
        mails = [lab.sender.send("alice@example.org", size_bytes=20_000) for _ in range(MANY)]

    all_arrive(lab, mails)
    allow_second_copies(lab, "it dies between a 250 and the record of it (RFC 5321 section 6.1)")


@pytest.mark.parametrize(
    "fault", [Stopped("smtpd"), Stopped("postfix"), Paused()], ids=["smtpd", "postfix", "container"]
)
def test_symptom_a_hanging_host_takes_connections_and_says_nothing(
    impatient: Lab, fault: Fault
) -> None:
    """The greeting times out, the backup takes the mail; lifted, it comes from there."""
    lab = impatient
    use(lab)

    with lab.primary.faulty(fault):
        mail = lab.sender.send("alice@example.org")
        lab.settle(mail, until=mail.held_by(lab.backup))
        held = bool(mail.held_by(lab.backup))
    use(lab)
    lab.backup.flush()
    lab.settle(mail)

    assert held
    (failed, *_) = lab.events(HopFailed, lab.sender)
    assert failed.text.endswith("timed out while receiving the initial server greeting")
    assert mail.delivered_to(lab.primary, "alice")


def test_mail_waits_in_incoming_while_the_queue_manager_hangs(lab: Lab) -> None:
    """What cleanup(8) wrote is accepted, and nobody looks at it."""
    with lab.primary.faulty(Stopped("qmgr")):
        mail = lab.sender.send("alice@example.org")
        lab.settle(mail, until=lambda: mail.reached(lab.primary) and lab.primary.queued())
        lab.primary.mark()
        waiting = [entry.queue for entry in lab.primary.queued()]
    lab.settle(mail)

    assert waiting == ["incoming"]
    assert mail.delivered_to(lab.primary, "alice")


def test_symptom_a_crashed_host_refuses_connections(lab: Lab) -> None:
    """Mail goes to the backup, local mail survives in the queue; lifted, both are delivered."""
    lab.primary.configure(defer_transports="local")
    queued = lab.primary.send("alice")
    lab.settle(queued)

    with lab.primary.faulty(Crashed()):
        mail = lab.sender.send("alice@example.org")
        lab.settle(mail, until=mail.held_by(lab.backup))
        held = bool(mail.held_by(lab.backup))
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
    """At a random instant, with mail under way, which may then come twice."""
    lab = persistent
    mails = [lab.sender.send("alice@example.org", size_bytes=20_000) for _ in range(MANY)]

    with lab.primary.faulty(Crashed(within_s=0.3, seed=seed)):
        mails += [lab.sender.send("alice@example.org") for _ in range(3)]

    all_arrive(lab, mails)
    died = "local(8) dies between its delivery and the queue's record of it"
    # So many deliver to one user at a time (postconf(5), local_destination_concurrency_limit).
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
    """master(8) cannot fork, or proxymap(8) gives up; lifted, mail comes from the backup."""
    lab = impatient

    with lab.primary.faulty(limit):
        mail = lab.sender.send("alice@example.org")
        lab.settle(mail, until=mail.held_by(lab.backup))
        held = bool(mail.held_by(lab.backup))
    # Takes as long as master(8) needs to try again.
    use(lab)
    lab.backup.flush()
    lab.settle(mail)

    assert held
    assert complaint in complaints(lab)
    assert mail.delivered_to(lab.primary, "alice")
