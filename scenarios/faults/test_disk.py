"""A queue disk that is full, out of inodes, failing or slow."""

import pytest

from maillab import Complaint, Delivery, Event, Lab, Mail, Rejected, Session, message
from maillab.faults import DiskFull, InodesGone, SlowDisk, SlowFsync, SyscallFails

pytestmark = pytest.mark.topology("backup-mx")

# 1.5 times message_size_limit's default of 10240000 bytes.
NEEDED_BYTES = 15_360_000
PAGE_BYTES = 4096


def begun(lab: Lab) -> Session:
    """Return a session in which the primary just accepted a recipient."""
    session = lab.sender.session(lab.primary)
    session.ehlo()
    session.mail("bob@example.net")
    session.rcpt("alice@example.org")
    return session


def data(session: Session) -> Mail:
    """Send the message data in a session."""
    to = ("alice@example.org",)
    probe = message.compose(
        sender="bob@example.net", recipients=to, subject="probe", body="", size_bytes=20_000
    )
    return session.data(probe)


def arrives(lab: Lab) -> bool:
    """Return True if new mail is delivered."""
    mail = lab.sender.send("alice@example.org")
    lab.settle(mail)
    return bool(mail.delivered_to(lab.primary, "alice"))


def complaints(lab: Lab) -> list[str]:
    """Return the warnings in the primary's log."""
    return [event.text for event in lab.events(Complaint, lab.primary)]


def test_symptom_a_server_without_room_takes_no_mail(lab: Lab) -> None:
    """Postfix refuses MAIL FROM if free space is below 1.5 times message_size_limit."""
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
    """The fault leaves exactly the configured space: with a little more mail is accepted."""
    left = lab.primary.faulty(DiskFull(left_bytes=NEEDED_BYTES + 2 * PAGE_BYTES))
    with left, lab.sender.session(lab.primary) as session:
        session.ehlo()
        accepted = session.mail("bob@example.net")
        with lab.primary.faulty(DiskFull(left_bytes=NEEDED_BYTES - PAGE_BYTES)):
            session.command("RSET")
            refused = session.mail("bob@example.net")

    assert (accepted.code, refused.code) == (250, 452)


def test_symptom_a_disk_that_fills_up_before_the_data_refuses_it(lab: Lab) -> None:
    """The client gets a 451 reply, and no part of the message remains."""
    with begun(lab) as session, lab.primary.faulty(DiskFull()):
        mail = data(session)

    assert mail.rejected(451, "4.3.0", "Error: queue file write error")
    assert "write queue file: No space left on device" in complaints(lab)
    assert arrives(lab)


def test_symptom_sendmail_fails_when_the_disk_is_full(lab: Lab) -> None:
    """sendmail(1) exits with EX_TEMPFAIL (sysexits.h), and prints the reason."""
    with lab.primary.faulty(DiskFull()):
        mail = lab.primary.send("alice")

    assert mail.submission.code == 75
    assert "No space left on device" in mail.submission.reply
    assert "queue file write error" in mail.submission.reply
    assert arrives(lab)


def test_symptom_mail_that_cannot_be_returned_for_lack_of_room_stays(lab: Lab) -> None:
    """The bounce fails and the message is deferred; with free space again it is returned."""
    lab.primary.stop()
    lab.backup.stop()
    mail = lab.sender.send("nosuch@example.org")
    lab.settle(mail)
    lab.primary.start()

    def failed() -> bool:
        status = "status=deferred (bounce failed)"
        return any(event.text.endswith(status) for event in lab.events(Event, lab.sender))

    with lab.sender.faulty(DiskFull()):
        lab.sender.flush()
        lab.settle(mail, until=failed)
        notices = lab.sender.mailbox("bob")
        waiting = [entry.queue for entry in lab.sender.queued()]
    lab.sender.flush()
    lab.settle(until=lambda: lab.sender.mailbox("bob"))

    assert failed()
    assert not notices
    assert waiting == ["deferred"]
    assert mail.bounced(dsn="5.1.1")
    (notice,) = lab.sender.mailbox("bob")
    assert notice["Subject"] == "Undelivered Mail Returned to Sender"


def test_symptom_a_disk_without_inodes_keeps_clients_waiting(lab: Lab) -> None:
    """smtpd(8) sees free bytes and accepts MAIL FROM; cleanup(8) retries every 10 s."""
    lab.settle(lab.sender.smtp("alice@example.org", server=lab.primary))

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
    """The call fails once: the first message is refused, the next one accepted."""
    with lab.primary.faulty(fault):
        mails = [
            lab.sender.smtp("alice@example.org", server=lab.primary, size_bytes=20_000)
            for _ in range(2)
        ]
        lab.settle()

    assert mails[0].rejected(451, "4.3.0", "Error: queue file write error")
    assert mails[1].delivered_to(lab.primary, "alice")
    assert [witness.count for witness in lab.witnesses] == [1]
    assert arrives(lab)


def test_symptom_mail_waits_in_incoming_while_the_disk_is_busy(lab: Lab) -> None:
    """qmgr(8) is one of many processes that write, so mail waits in incoming; it arrives later."""
    with lab.primary.faulty(SlowDisk(writes_per_s=50)):
        with lab.loading(
            lab.primary, lab.sender, sessions=20, messages=40, recipients=["alice@example.org"]
        ) as load:
            load.wait_until(acknowledged=25)
            lengths = lab.primary.queue_lengths()
        lab.drain()

    assert lengths["incoming"] > 10
    assert lengths["active"] < lengths["incoming"]
    assert arrives(lab)


def test_symptom_a_slow_disk_delays_mail_on_its_way_into_the_queue(lab: Lab) -> None:
    """The time before the queue manager is the first of the logged delays."""
    with lab.primary.faulty(SlowFsync(delay_s=1.0)):
        slow = lab.sender.smtp("alice@example.org", server=lab.primary)
        lab.settle(slow)
    quick = lab.sender.smtp("alice@example.org", server=lab.primary)
    lab.settle(quick)

    first, second = (
        float(attempt.delays.partition("/")[0]) for attempt in lab.events(Delivery, lab.primary)
    )
    assert first >= 1.0
    assert second < first
