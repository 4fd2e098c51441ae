"""The lab's clock on Postfix's default settings: retries, the warning, the bounce."""

import pytest

from maillab import BadInput, Delivery, Lab

pytestmark = pytest.mark.topology("backup-mx")


@pytest.fixture
def unreachable(lab: Lab) -> Lab:
    """Stop every server that accepts mail for the domain."""
    lab.primary.stop()
    lab.backup.stop()
    return lab


def attempts(lab: Lab) -> int:
    """Return the number of the sender's attempts."""
    return len(
        [event for event in lab.events(Delivery, lab.sender) if event.to == "alice@example.org"]
    )


def test_retries_come_when_they_are_due_and_not_before(unreachable: Lab) -> None:
    """Retries start after minimal_backoff_time, 5 minutes; the wait grows with the mail's age."""
    lab = unreachable
    mail = lab.sender.send("alice@example.org")
    lab.settle(mail)
    made = [attempts(lab)]

    for minutes in (4, 2, 3, 7):
        lab.clock.advance(minutes=minutes)
        lab.settle(mail)
        made.append(attempts(lab))

    assert made == [1, 1, 2, 2, 3]


def test_the_warning_comes_after_four_hours_and_the_bounce_after_five_days(
    unreachable: Lab,
) -> None:
    """The warning follows delay_warning_time, the bounce maximal_queue_lifetime (5 days)."""
    lab = unreachable
    lab.sender.configure(delay_warning_time="4h")
    mail = lab.sender.send("alice@example.org", user="bob")
    lab.settle(mail)

    lab.clock.advance(hours=3)
    lab.settle(mail)
    before = lab.sender.mailbox("bob")
    lab.clock.advance(hours=2)
    lab.settle(mail)
    (warning,) = lab.sender.mailbox("bob")
    lab.clock.advance(days=5)
    lab.settle(mail)

    assert not before
    assert warning["Subject"] == "Delayed Mail (still being retried)"
    assert mail.bounced(dsn="4.4.1", saying="Connection refused")
    _, bounce = lab.sender.mailbox("bob")
    assert bounce["Subject"] == "Undelivered Mail Returned to Sender"


def test_everything_on_a_host_sees_the_same_time(lab: Lab) -> None:
    """Daemons in and out of the chroot, set-gid commands and a user's shell agree."""
    lab.sender.configure(delay_warning_time="4h")
    lab.sender.run("postconf", "-F", "qmgr/unix/chroot=y", "cleanup/unix/chroot=y")
    lab.clock.advance(days=400)

    mail = lab.sender.send("alice@example.org")
    lab.settle(mail)

    assert mail.delivered_to(lab.primary, "alice")
    (attempt,) = lab.events(Delivery, lab.sender)
    assert attempt.delay < 60
    (copy,) = lab.primary.mailbox("alice")
    year = lab.sender.run("date", "+%Y").stdout.strip()
    assert year in str(copy["Received"])
    assert not lab.sender.mailbox("bob")


def test_the_clock_does_not_go_back(lab: Lab) -> None:
    """A step back is refused with a reason; a reset restores the real time."""
    with pytest.raises(BadInput, match="reset the lab"):
        lab.clock.advance(hours=-1)

    lab.clock.advance(days=40)
    warped = lab.sender.run("date", "+%F").stdout
    lab.reset()

    assert lab.sender.run("date", "+%F").stdout != warped
