"""A queue whose disk is full, out of inodes, failing or slow."""

import pytest

from maillab import message
from maillab.faults import DiskFull, InodesGone, SlowFsync, SyscallFails
from maillab.lab import Lab
from maillab.maillog import Complaint, Delivery, Event, Rejected
from maillab.record import Mail
from maillab.session import Session

pytestmark = pytest.mark.topology("backup-mx")

# 1.5 times message_size_limit's default of 10240000 bytes.
NEEDED_BYTES = 15_360_000
PAGE_BYTES = 4096


def begun(lab: Lab) -> Session:
    """A session with the primary in which a recipient was just accepted."""
    session = lab.sender.session(lab.primary)
    session.ehlo()
    session.mail("bob@example.net")
    session.rcpt("alice@example.org")
    return session


def data(session: Session) -> Mail:
    """The message that follows."""
    to = ("alice@example.org",)
    probe = message.compose(
        sender="bob@example.net", recipients=to, subject="probe", body="", size_bytes=20_000
    )
    return session.data(probe)


def arrives(lab: Lab) -> bool:
    """Whether new mail is delivered."""
    mail = lab.sender.send("alice@example.org")
    lab.settle(mail)
    return bool(mail.delivered_to(lab.primary, "alice"))


def complaints(lab: Lab) -> list[str]:
    """What the primary's log warns of."""
    return [event.text for event in lab.events(Complaint, lab.primary)]


def test_symptom_a_server_without_room_takes_no_mail(lab: Lab) -> None:
    """MAIL FROM is refused while less is free than 1.5 times message_size_limit."""
    left = lab.primary.faulty(DiskFull(left_bytes=NEEDED_BYTES - PAGE_BYTES))
    with left, lab.sender.session(lab.primary) as session:
        session.ehlo()
        reply = session.mail("bob@example.net")

    assert str(reply) == "452 4.3.1 Insufficient system storage"
    (rejected,) = lab.events(Rejected, lab.primary)
    assert (rejected.stage, rejected.code, rejected.dsn) == ("MAIL", 452, "4.3.1")
    words = f"not enough free space in mail queue: {NEEDED_BYTES - PAGE_BYTES} bytes < "
    assert f"{words}1.5*message size limit" in complaints(lab)
    assert arrives(lab)


def test_a_server_with_just_enough_room_takes_mail(lab: Lab) -> None:
    """The room left is exact: one page more, and MAIL FROM is accepted."""
    left = lab.primary.faulty(DiskFull(left_bytes=NEEDED_BYTES + 2 * PAGE_BYTES))
    with left, lab.sender.session(lab.primary) as session:
        session.ehlo()
        accepted = session.mail("bob@example.net")
        with lab.primary.faulty(DiskFull(left_bytes=NEEDED_BYTES - PAGE_BYTES)):
            session.command("RSET")
            refused = session.mail("bob@example.net")

    assert (accepted.code, refused.code) == (250, 452)


def test_symptom_a_disk_that_fills_up_before_the_data_refuses_it(lab: Lab) -> None:
    """The client is told to try again; nothing of the message is left."""
    with begun(lab) as session, lab.primary.faulty(DiskFull()):
        mail = data(session)

    assert mail.rejected(451, "4.3.0", "Error: queue file write error")
    assert "write queue file: No space left on device" in complaints(lab)
    assert arrives(lab)


def test_symptom_sendmail_fails_when_the_disk_is_full(lab: Lab) -> None:
    """With the status of a temporary failure (sysexits.h: EX_TEMPFAIL), and the reason."""
    with lab.primary.faulty(DiskFull()):
        mail = lab.primary.send("alice")

    assert mail.submission.code == 75
    assert "No space left on device" in mail.submission.reply
    assert "queue file write error" in mail.submission.reply
    assert arrives(lab)


def test_symptom_mail_that_cannot_be_returned_for_lack_of_room_stays(lab: Lab) -> None:
    """The bounce fails, the message is deferred; with room again it is returned."""
    lab.primary.stop()
    lab.backup.stop()
    mail = lab.sender.send("nosuch@example.org")
    lab.settle(mail)
    lab.primary.start()

    def failed() -> bool:
        said = "status=deferred (bounce failed)"
        return any(event.text.endswith(said) for event in lab.events(Event, lab.sender))

    with lab.sender.faulty(DiskFull()):
        lab.sender.flush()
        lab.settle(mail, until=failed)
        told = lab.sender.mailbox("bob")
        waiting = [entry.queue for entry in lab.sender.queued()]
    lab.sender.flush()
    lab.settle(until=lambda: lab.sender.mailbox("bob"))

    assert failed()
    assert not told
    assert waiting == ["deferred"]
    assert mail.bounced(dsn="5.1.1")
    (notice,) = lab.sender.mailbox("bob")
    assert notice["Subject"] == "Undelivered Mail Returned to Sender"


def test_symptom_a_disk_without_inodes_keeps_clients_waiting(lab: Lab) -> None:
    """smtpd(8) sees free bytes and accepts MAIL FROM; cleanup(8) tries for a file every 10 s."""
    lab.settle(lab.sender.submit("alice@example.org", server=lab.primary))

    with lab.sender.session(lab.primary, timeout_s=1.0) as session:
        session.ehlo()
        with lab.primary.faulty(InodesGone()):
            accepted = session.mail("bob@example.net")
            waited_for = session.rcpt("alice@example.org")

    assert (accepted.code, waited_for.code) == (250, 0)
    (complaint, *_) = complaints(lab)
    assert complaint.startswith("mail_queue_enter: create file incoming/")
    assert complaint.endswith("No space left on device")
    assert arrives(lab)


@pytest.mark.parametrize(
    "fault",
    # The first four writes of cleanup(8) go into sockets, the fifth into the queue file.
    [SyscallFails("cleanup", "fsync"), SyscallFails("cleanup", "write", nth=5)],
    ids=["fsync", "write"],
)
def test_symptom_mail_that_the_disk_did_not_take_is_refused(lab: Lab, fault: SyscallFails) -> None:
    """The call fails once: the first message is refused, the next one taken."""
    with lab.primary.faulty(fault):
        mails = [
            lab.sender.submit("alice@example.org", server=lab.primary, size_bytes=20_000)
            for _ in range(2)
        ]
        lab.settle()

    assert mails[0].rejected(451, "4.3.0", "Error: queue file write error")
    assert mails[1].delivered_to(lab.primary, "alice")
    assert [witness.count for witness in lab.record.witnesses] == [1]
    assert arrives(lab)


def test_symptom_a_slow_disk_delays_mail_on_its_way_into_the_queue(lab: Lab) -> None:
    """The time before the queue manager sees it is the first of the logged delays."""
    with lab.primary.faulty(SlowFsync(delay_s=1.0)):
        slow = lab.sender.submit("alice@example.org", server=lab.primary)
        lab.settle(slow)
    quick = lab.sender.submit("alice@example.org", server=lab.primary)
    lab.settle(quick)

    first, second = (
        float(attempt.delays.partition("/")[0]) for attempt in lab.events(Delivery, lab.primary)
    )
    assert first >= 1.0
    assert second < first
