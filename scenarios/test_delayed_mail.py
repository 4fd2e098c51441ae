"""Postfix sends no delayed mail notices.

Set delay_warning_time = 4h. Postfix then sends one notice, at the first attempt after that
time. cleanup(8) writes the time into the queue file on arrival, so the setting applies only
to mail that arrives later.

Sendmail warns the sender after four hours unasked (Timeout.queuewarn). A bare number means
hours. A sender's own request takes precedence (RFC 3461, NOTIFY).

Since the FAQ:
- 1.0: the setting takes s, m, h, d and w.
- 2.3: senders may request or refuse the notice (sendmail -N, NOTIFY).
- 3.0: confirm_delay_cleared notifies warned senders when the mail has been delivered.
"""

from datetime import datetime, timedelta

import pytest

from maillab import Complaint, Delivery, Event, Lab, Mail, Notified, message

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
    """Advance the clock and wait until everything due by then has happened."""
    lab.clock.advance(**units)
    lab.settle()


def notices(lab: Lab, user: str = "bob") -> list[str]:
    """Return the subjects of a user's notices."""
    return [notice["Subject"] for notice in lab.mail.mailbox(user)]


def warning_time(lab: Lab) -> timedelta | None:
    """Return the delay from arrival to warning in the only queue file (postcat(1) -e)."""
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
    """Return the seconds between two log lines."""
    first, second = (
        datetime.strptime(f"2000 {event.stamp}", "%Y %b %d %H:%M:%S")  # noqa: DTZ007  # a difference
        for event in (earlier, later)
    )
    return (second - first).total_seconds()


@pytest.mark.faq("delayed-mail", "8a")
def test_symptom_nobody_is_told_of_delayed_mail(lab: Lab) -> None:
    """With the default, 0h, the sender gets no notice until the bounce after five days."""
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
    """The default is the one that the FAQ names."""
    send_to_a_dead_host(lab)

    assert lab.mail.postconf("delay_warning_time") == "0h"
    assert warning_time(lab) is None


@pytest.mark.faq("delayed-mail", "8b")
def test_cure_the_sender_is_warned_after_four_hours(lab: Lab) -> None:
    """The sender gets one notice, with the reason and the date of the last retry."""
    lab.mail.cure.configure(delay_warning_time="4h")
    mail = send_to_a_dead_host(lab)

    pass_time(lab, hours=3.5)
    too_early = notices(lab)
    pass_time(lab, hours=1.5)

    assert too_early == []
    assert notices(lab) == [WARNING]
    (warning,) = lab.mail.mailbox("bob")
    report = message.dsn_fields(warning)
    assert report["joe@example.net"]["Action"] == "delayed"
    assert report["joe@example.net"]["Status"] == "4.4.1"
    assert report["joe@example.net"]["Diagnostic-Code"] == (
        f"X-Postfix; connect to remote.example.net[{lab.remote.address}]:25: Connection refused"
    )
    arrived, until = (
        datetime.strptime(text, "%a, %d %b %Y %H:%M:%S %z (UTC)")
        for text in (report[""]["Arrival-Date"], report["joe@example.net"]["Will-Retry-Until"])
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
    """The queue file holds the time of the warning, to the second."""
    lab.mail.cure.configure(delay_warning_time=value)

    send_to_a_dead_host(lab)

    assert warning_time(lab) == due


@pytest.mark.faq("delayed-mail", "8c")
def test_behaviour_one_warning_is_enough(lab: Lab) -> None:
    """Five more attempts fail without another notice."""
    lab.mail.cure.configure(delay_warning_time="4h")
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
    """The built-in text counts in hours, and the log recommends another unit."""
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
    """bounce_template_file (since 2.3) can use another unit of the same parameter."""
    lab.mail.configure(delay_warning_time="20m")
    lab.mail.write("/etc/postfix/bounce.cf", IN_MINUTES)
    lab.mail.cure.configure(bounce_template_file="/etc/postfix/bounce.cf")
    send_to_a_dead_host(lab)

    pass_time(lab, hours=1)

    assert notices(lab) == [WARNING]
    assert "Not delivered for 20 minutes." in str(lab.mail.mailbox("bob")[0])
    assert not [event for event in lab.events(Complaint, lab.mail) if event.service == "bounce"]


@pytest.mark.faq("delayed-mail", "8c")
def test_behaviour_short_timers_show_it_without_moving_the_clock(lab: Lab) -> None:
    """On a real clock with retries every few seconds, the sender is warned when due.

    qmgr(8) counts whole seconds, starting with the second in which the mail arrived,
    and treats a warning as due one second early. The times come from the log, so a
    machine that stalls changes only the number of attempts.

    A backoff of one second is too short: a queue run that starts at the same moment
    picks the mail up while smtp(8) still has the file locked. That means "skipped,
    still being delivered" and a minute's wait. Three seconds leave at least one.
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
        event for event in lab.events(Delivery, lab.mail)
        if event.queue_id == notified.queue_id and event.seq < notified.seq
    ]  # fmt: skip
    assert notified.kind == "delay"
    assert logged_after(tried[0], notified) + tried[0].delay > 2
    assert all(attempt.delay < 3 for attempt in tried[:-1])
    assert mail.deferred(dsn="4.4.1")


@pytest.mark.faq("delayed-mail", "8d")
@pytest.mark.parametrize(("value", "told"), [("yes", [WARNING, CLEARED]), ("no", [WARNING])])
def test_behaviour_the_happy_end_is_told_on_request(lab: Lab, value: str, told: list[str]) -> None:
    """With confirm_delay_cleared, off by default, warned senders are notified of delivery."""
    lab.mail.cure.configure(delay_warning_time="4h", confirm_delay_cleared=value)
    mail = send_to_a_dead_host(lab)
    pass_time(lab, hours=5)

    lab.remote.start()
    lab.mail.flush()
    lab.settle()

    assert mail.delivered_to(lab.remote, mailbox="joe")
    assert notices(lab) == told


@pytest.mark.faq("delayed-mail", "8d")
def test_cure_whoever_was_warned_is_told_of_the_happy_end(lab: Lab) -> None:
    """The report says "relayed" and includes the next server's status."""
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
    report = message.dsn_fields(cleared)["joe@example.net"]
    assert (report["Action"], report["Status"]) == ("relayed", "2.0.0")


@pytest.mark.faq("delayed-mail", "8d")
def test_behaviour_mail_that_was_not_late_needs_no_all_clear(lab: Lab) -> None:
    """Without an earlier warning Postfix sends no delivery notice."""
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
    """cleanup(8) writes the time on arrival: later changes do not apply to queued mail."""
    lab.mail.configure(delay_warning_time=before)
    send_to_a_dead_host(lab)
    lab.mail.configure(delay_warning_time=after)

    pass_time(lab, hours=5)

    assert notices(lab) == told


@pytest.mark.faq("delayed-mail", "8b")
def test_cure_queued_mail_gets_the_time_when_it_is_requeued(lab: Lab) -> None:
    """After postsuper -r cleanup(8) writes a new queue file, due four hours after arrival."""
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
    """The option -N sets NOTIFY in RCPT TO; without "delay" there is no warning."""
    lab.mail.configure(delay_warning_time="4h")
    send_to_a_dead_host(lab, "-N", notify)

    pass_time(lab, hours=5)

    assert notices(lab) == told


@pytest.mark.faq("delayed-mail")
def test_behaviour_asking_for_a_warning_does_not_set_its_time(lab: Lab) -> None:
    """NOTIFY=DELAY has no effect unless delay_warning_time is set."""
    send_to_a_dead_host(lab, "-N", "delay")

    pass_time(lab, hours=5)

    assert notices(lab) == []


@pytest.mark.faq("delayed-mail")
def test_cure_postmaster_gets_a_copy(lab: Lab) -> None:
    """With "delay" in notify_classes delay_notice_recipient gets a notice, too."""
    lab.mail.configure(delay_warning_time="4h", delay_notice_recipient="carol")
    lab.mail.cure.configure(notify_classes="resource, software, delay")
    send_to_a_dead_host(lab)

    pass_time(lab, hours=5)

    assert notices(lab) == [WARNING]
    assert notices(lab, "carol") == ["Postmaster Warning: Delayed Mail"]
