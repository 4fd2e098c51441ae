"""Postfix sends no delayed mail notices.

Sendmail warns the sender after four hours (Timeout.queuewarn); Postfix does not
unless delay_warning_time says when. A bare number still means hours; since 2.0
it takes s, m, h, d and w. The time is written into the queue file on arrival, so
that a change concerns only mail that comes later. The notice is sent once, with
the first attempt after that time. What the sender asked for (RFC 3461, NOTIFY,
since 2.3) goes before. New since 3.0: confirm_delay_cleared tells senders that
were warned of the happy end.
"""

from datetime import datetime, timedelta

import pytest

from maillab.lab import Lab
from maillab.maillog import Complaint, Delivery, Event, Notified
from maillab.message import told_of
from maillab.record import Mail

pytestmark = pytest.mark.topology("standalone")

WARNING = "Delayed Mail (still being retried)"
CLEARED = "Successful Mail Delivery Report"

IN_MINUTES = """\
delay_template = <<END
Subject: Delayed Mail (still being retried)
From: MAILER-DAEMON (Mail Delivery System)
Postmaster-Subject: Postmaster Warning: Delayed Mail

Not delivered for $delay_warning_time_minutes minutes.
END
"""


def send_to_a_dead_host(lab: Lab, *options: str) -> Mail:
    """Send a message that stays in the mail server's queue."""
    lab.remote.stop()
    mail = lab.mail.send(to="joe@example.net", options=options)
    lab.settle(mail)
    return mail


def pass_time(lab: Lab, **units: float) -> None:
    """Let time pass and whatever is due by then happen."""
    lab.clock.advance(**units)
    lab.settle()


def notices(lab: Lab, user: str = "bob") -> list[str]:
    """The subjects of what a user was told."""
    return [notice["Subject"] for notice in lab.mail.mailbox(user)]


def warning_time(lab: Lab) -> timedelta | None:
    """How long after its arrival the only queue file has the warning due (postcat(1) -e)."""
    (entry,) = lab.mail.queue()
    records = dict(
        line.split(": ", 1)
        for line in lab.mail.run("postcat", "-e", "-q", entry.queue_id).stdout.splitlines()
        if ": " in line
    )
    if "warning_message_time" not in records:
        return None
    arrived, due = (
        datetime.strptime(records[name], "%a %b %d %H:%M:%S %Y")  # noqa: DTZ007  # a difference
        for name in ("message_arrival_time", "warning_message_time")
    )
    return due - arrived


def logged_after(earlier: Event, later: Event) -> float:
    """The seconds between two lines of a log."""
    first, second = (
        datetime.strptime(f"2000 {event.stamp}", "%Y %b %d %H:%M:%S")  # noqa: DTZ007  # a difference
        for event in (earlier, later)
    )
    return (second - first).total_seconds()


@pytest.mark.faq("delayed-mail", "8a")
def test_symptom_nobody_is_told_of_delayed_mail(lab: Lab) -> None:
    """With the default, 0h, the sender hears nothing for five days, and then it is returned."""
    lab.mail.configure(delay_warning_time="4h")
    lab.mail.misconfigure(delay_warning_time="0h")
    mail = send_to_a_dead_host(lab)

    due = warning_time(lab)
    pass_time(lab, hours=5)
    after_hours = notices(lab)
    pass_time(lab, days=5)

    assert due is None
    assert after_hours == []
    assert notices(lab) == ["Undelivered Mail Returned to Sender"]
    assert mail.bounced(dsn="4.4.1", saying="Connection refused")


@pytest.mark.faq("delayed-mail", "8a")
def test_behaviour_out_of_the_box_there_is_no_warning(lab: Lab) -> None:
    """The default is what the FAQ says it is."""
    send_to_a_dead_host(lab)

    assert lab.mail.postconf("delay_warning_time") == "0h"
    assert warning_time(lab) is None


@pytest.mark.faq("delayed-mail", "8b")
def test_cure_the_sender_is_warned_after_four_hours(lab: Lab) -> None:
    """One notice, with the reason and the date until which it will be tried."""
    lab.mail.cure.configure(delay_warning_time="4h")
    mail = send_to_a_dead_host(lab)

    pass_time(lab, hours=3.5)
    too_early = notices(lab)
    pass_time(lab, hours=1.5)

    assert too_early == []
    assert notices(lab) == [WARNING]
    (warning,) = lab.mail.mailbox("bob")
    said = told_of(warning)
    assert said["joe@example.net"]["Action"] == "delayed"
    assert said["joe@example.net"]["Status"] == "4.4.1"
    assert said["joe@example.net"]["Diagnostic-Code"] == (
        f"X-Postfix; connect to remote.example.net[{lab.remote.address}]:25: Connection refused"
    )
    arrived, until = (
        datetime.strptime(text, "%a, %d %b %Y %H:%M:%S %z (UTC)")
        for text in (said[""]["Arrival-Date"], said["joe@example.net"]["Will-Retry-Until"])
    )
    assert until - arrived == timedelta(days=5)
    assert "could not be delivered for more than 4 hour(s)" in str(warning)
    assert mail.held_by(lab.mail)


@pytest.mark.faq("delayed-mail", "8b")
@pytest.mark.parametrize(
    ("value", "due"),
    [
        ("4", timedelta(hours=4)),
        ("4h", timedelta(hours=4)),
        ("90m", timedelta(minutes=90)),
        ("8s", timedelta(seconds=8)),
        ("2d", timedelta(days=2)),
        ("1w", timedelta(weeks=1)),
    ],
)
def test_behaviour_a_bare_number_is_hours(lab: Lab, value: str, due: timedelta) -> None:
    """The queue file has the time of the warning, to the second."""
    lab.mail.configure(delay_warning_time=value)

    send_to_a_dead_host(lab)

    assert warning_time(lab) == due


@pytest.mark.faq("delayed-mail", "8c")
def test_behaviour_one_warning_is_enough(lab: Lab) -> None:
    """Five more attempts fail without another notice."""
    lab.mail.configure(delay_warning_time="4h")
    send_to_a_dead_host(lab)
    pass_time(lab, hours=5)
    attempts = len(lab.events(Delivery, lab.mail))

    for _ in range(5):
        pass_time(lab, hours=2)

    assert len(lab.events(Delivery, lab.mail)) - attempts == 5
    assert notices(lab) == [WARNING]
    (notified,) = lab.events(Notified, lab.mail)
    assert notified.kind == "delay"


@pytest.mark.faq("delayed-mail", "8c")
def test_symptom_a_warning_within_the_hour_speaks_of_zero_hours(lab: Lab) -> None:
    """The built-in text counts in hours, and the log says so."""
    lab.mail.configure(delay_warning_time="2h")
    lab.mail.misconfigure(delay_warning_time="20m")
    send_to_a_dead_host(lab)

    pass_time(lab, hours=3)

    assert notices(lab) == [WARNING]
    assert "for more than 0 hour(s)" in str(lab.mail.mailbox("bob")[0])
    assert [
        complaint.text
        for complaint in lab.events(Complaint, lab.mail)
        if complaint.service == "bounce"
    ] == [
        (
            "[built-in]: zero result in delay template conversion of parameter "
            '"delay_warning_time_hours"'
        ),
        'please reduce time unit "hours" of "delay_warning_time_hours" in delay template',
        "for instructions see the bounce(5) manual",
    ]


@pytest.mark.faq("delayed-mail", "8c")
def test_cure_a_template_of_ones_own_counts_in_minutes(lab: Lab) -> None:
    """bounce_template_file (since 2.3) may use another unit of the same parameter."""
    lab.mail.configure(delay_warning_time="20m")
    lab.mail.write("/etc/postfix/bounce.cf", IN_MINUTES)
    lab.mail.cure.configure(bounce_template_file="/etc/postfix/bounce.cf")
    send_to_a_dead_host(lab)

    pass_time(lab, hours=1)

    assert notices(lab) == [WARNING]
    assert "Not delivered for 20 minutes." in str(lab.mail.mailbox("bob")[0])
    assert not [one for one in lab.events(Complaint, lab.mail) if one.service == "bounce"]


@pytest.mark.faq("delayed-mail", "8c")
def test_behaviour_short_timers_show_it_without_moving_the_clock(lab: Lab) -> None:
    """On a real clock: tried every few seconds, the sender is warned with a try when it is due.

    qmgr(8) counts in whole seconds, from the one in which the mail arrived, and
    takes a warning as due one second early. The times are those of the log, so
    that a machine that stalls changes how many tries there are and nothing else.

    A backoff of one second is none: the queue run that begins in the same moment
    takes the mail up, and while smtp(8) has its file locked that means "skipped,
    still being delivered" and a minute's wait. Three seconds leave it one at least.
    """
    lab.mail.configure(
        delay_warning_time="4s",
        minimal_backoff_time="3s",
        maximal_backoff_time="3s",
        queue_run_delay="1s",
    )
    lab.remote.stop()

    mail = lab.mail.send(to="joe@example.net")
    notified = lab.wait_for(Notified, host=lab.mail)

    tried = [
        one for one in lab.events(Delivery, lab.mail)
        if one.queue_id == notified.queue_id and one.seq < notified.seq
    ]  # fmt: skip
    assert notified.kind == "delay"
    assert logged_after(tried[0], notified) + tried[0].delay > 2
    assert all(one.delay < 3 for one in tried[:-1])
    assert mail.deferred(dsn="4.4.1")


@pytest.mark.faq("delayed-mail", "8d")
@pytest.mark.parametrize(("value", "told"), [("yes", [WARNING, CLEARED]), ("no", [WARNING])])
def test_behaviour_the_happy_end_is_told_on_request(lab: Lab, value: str, told: list[str]) -> None:
    """confirm_delay_cleared, off by default: who was warned learns that it went through."""
    lab.mail.configure(delay_warning_time="4h", confirm_delay_cleared=value)
    mail = send_to_a_dead_host(lab)
    pass_time(lab, hours=5)

    lab.remote.start()
    lab.mail.flush()
    lab.settle()

    assert mail.delivered_to(lab.remote, mailbox="joe")
    assert notices(lab) == told


@pytest.mark.faq("delayed-mail", "8d")
def test_cure_whoever_was_warned_is_told_of_the_happy_end(lab: Lab) -> None:
    """The report says "relayed" and what the next server answered."""
    lab.mail.configure(delay_warning_time="4h")
    lab.mail.cure.configure(confirm_delay_cleared="yes")
    mail = send_to_a_dead_host(lab)
    pass_time(lab, hours=5)

    lab.remote.start()
    lab.mail.flush()
    lab.settle()

    assert mail.delivered_to(lab.remote, mailbox="joe")
    assert notices(lab) == [WARNING, CLEARED]
    _, cleared = lab.mail.mailbox("bob")
    said = told_of(cleared)["joe@example.net"]
    assert (said["Action"], said["Status"]) == ("relayed", "2.0.0")


@pytest.mark.faq("delayed-mail", "8d")
def test_behaviour_mail_that_was_not_late_needs_no_all_clear(lab: Lab) -> None:
    """Without a warning before, there is nothing to clear."""
    lab.mail.configure(delay_warning_time="4h", confirm_delay_cleared="yes")

    mail = lab.mail.send(to="joe@example.net")
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    assert notices(lab) == []


@pytest.mark.faq("delayed-mail", "8b")
@pytest.mark.parametrize(("before", "after", "told"), [("0h", "4h", []), ("4h", "0h", [WARNING])])
def test_behaviour_mail_that_is_queued_keeps_its_time(
    lab: Lab, before: str, after: str, told: list[str]
) -> None:
    """cleanup(8) writes the time on arrival: neither on nor off works back."""
    lab.mail.configure(delay_warning_time=before)
    send_to_a_dead_host(lab)
    lab.mail.configure(delay_warning_time=after)

    pass_time(lab, hours=5)

    assert notices(lab) == told


@pytest.mark.faq("delayed-mail", "8b")
def test_cure_queued_mail_gets_the_time_when_it_is_requeued(lab: Lab) -> None:
    """Postsuper -r has cleanup(8) write the queue file anew, four hours from the arrival on."""
    send_to_a_dead_host(lab)
    lab.mail.configure(delay_warning_time="4h")
    lab.mail.cure.run("postsuper", "-r", "ALL")
    lab.mail.pick_up()
    lab.settle()

    pass_time(lab, hours=5)

    assert notices(lab) == [WARNING]


@pytest.mark.faq("delayed-mail")
@pytest.mark.parametrize(
    ("notify", "told"),
    [("delay", [WARNING]), ("failure", []), ("success,failure,delay", [WARNING]), ("never", [])],
)
def test_behaviour_the_sender_may_ask_for_no_warning(
    lab: Lab, notify: str, told: list[str]
) -> None:
    """Sendmail -N, as NOTIFY in RCPT TO, without the word "delay" silences the warning."""
    lab.mail.configure(delay_warning_time="4h")
    send_to_a_dead_host(lab, "-N", notify)

    pass_time(lab, hours=5)

    assert notices(lab) == told


@pytest.mark.faq("delayed-mail")
def test_behaviour_asking_for_a_warning_does_not_set_its_time(lab: Lab) -> None:
    """NOTIFY=DELAY is a wish; without delay_warning_time there is nothing to grant."""
    send_to_a_dead_host(lab, "-N", "delay")

    pass_time(lab, hours=5)

    assert notices(lab) == []


@pytest.mark.faq("delayed-mail")
def test_cure_postmaster_gets_a_copy(lab: Lab) -> None:
    """With "delay" in notify_classes delay_notice_recipient learns of it, too."""
    lab.mail.configure(delay_warning_time="4h", delay_notice_recipient="carol")
    lab.mail.cure.configure(notify_classes="resource, software, delay")
    send_to_a_dead_host(lab)

    pass_time(lab, hours=5)

    assert notices(lab) == [WARNING]
    assert notices(lab, "carol") == ["Postmaster Warning: Delayed Mail"]
