"""Mail fails consistently with timeout or lost connection.

The FAQ's answer: now and then a connection breaks, and Postfix tries again;
where it always breaks, somebody on the way is at fault: a PIX (see there), a
path with a small MTU (see there), or a server that is slower than the client is
patient. Postfix says at which stage it was. At the end of data it says more,
"message may be sent more than once", and that is meant: the server may have
stored what it could not acknowledge any more (RFC 1047). Postfix has RFC 5321's
ten minutes for that reply, and less of them makes duplicates. Since then a
receiving Postfix logs how much of a message it got, in DATA and in BDAT alike
(CHUNKING, 3.4), and 3.7 made smtp_per_record_deadline, a bound on each reply,
into smtp_per_request_deadline, a bound on each request and its reply.
"""

import pytest

from maillab.faults import Netem, SmtpStage
from maillab.faults.smtp_stage import Stage
from maillab.lab import Lab
from maillab.maillog import Active, Delivery, Disconnected, Event

pytestmark = pytest.mark.topology("standalone")

ALICE = "alice@example.net"
AT_THE_END = "while sending end of data -- message may be sent more than once"


def remote(lab: Lab) -> str:
    """The server as its client logs it."""
    return f"remote.example.net[{lab.remote.address}]"


def client(lab: Lab) -> str:
    """The client as the server logs it."""
    return f"client.example.net[{lab.client.address}]"


@pytest.mark.faq("timeout-lost-connection", "19a")
@pytest.mark.parametrize(
    ("fault", "timeout", "saying"),
    [
        (SmtpStage("end of data", then="close"), "", f"lost connection with {{}} {AT_THE_END}"),
        (SmtpStage("DATA", then="close"), "", "lost connection with {} while sending DATA command"),
        (
            SmtpStage("end of data", then="silence"),
            "smtp_data_done_timeout",
            f"conversation with {{}} timed out {AT_THE_END}",
        ),
        (
            SmtpStage("greeting", then="silence"),
            "smtp_helo_timeout",
            "conversation with {} timed out while receiving the initial server greeting",
        ),
    ],
    ids=["closes-behind-the-dot", "closes-at-DATA", "silent-behind-the-dot", "no-greeting"],
)
def test_symptom_mail_fails_time_after_time(
    lab: Lab, fault: SmtpStage, timeout: str, saying: str
) -> None:
    """Each attempt ends at the same stage, which is named, and the mail waits on."""
    if timeout:
        # Minutes by default.
        lab.mail.configure(**{timeout: "1s"})

    with lab.remote.faulty(fault):
        mail = lab.mail.send(ALICE)
        lab.settle(mail)
        lab.mail.flush()
        lab.settle(mail)

    assert mail.deferred(dsn="4.4.2", saying=saying.format(remote(lab)))
    first, second = lab.events(Delivery, lab.mail)
    assert first.reply == second.reply
    assert mail.held_by(lab.mail)


@pytest.mark.faq("timeout-lost-connection", "19a", "19c")
def test_symptom_after_five_days_the_sender_is_told_it_failed(lab: Lab) -> None:
    """On default settings it is returned in the end, though a copy came with each attempt."""
    because = "the server stores the mail at each attempt and never says so"
    lab.expects(duplicated=3, because=because)

    with lab.remote.faulty(SmtpStage("end of data", then="close", stored=True)):
        mail = lab.mail.send(ALICE)
        lab.settle(mail)
        for minutes in (6, 11):
            lab.clock.advance(minutes=minutes)
            lab.settle(mail)
        lab.clock.advance(days=5)
        lab.settle(mail)

    assert mail.bounced(dsn="4.4.2", saying=f"lost connection with {remote(lab)} while sending end")
    (notice,) = lab.mail.mailbox("bob")
    assert notice["Subject"] == "Undelivered Mail Returned to Sender"
    assert AT_THE_END in " ".join(str(notice).split())
    copies = [copy["Message-ID"] for copy in lab.remote.mailbox("alice")]
    assert copies == [mail.message_id] * 4


@pytest.mark.faq("timeout-lost-connection", "19a")
@pytest.mark.parametrize(
    ("stage", "parameter", "default"),
    [("greeting", "smtp_helo_timeout", "300s"), ("DATA", "smtp_data_init_timeout", "120s")],
)
def test_cure_patience_with_a_slow_server(
    lab: Lab, stage: Stage, parameter: str, default: str
) -> None:
    """With Postfix's own timeouts a server may take its time at every stage."""
    lab.mail.configure(**{parameter: "1s"})
    lab.mail.cure.configure(**{parameter: default})

    with lab.remote.faulty(SmtpStage(stage, delay_s=2)):
        mail = lab.mail.send(ALICE)
        lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="alice")


@pytest.mark.faq("timeout-lost-connection", "19c")
@pytest.mark.parametrize("then", ["close", "reset", "silence"])
def test_symptom_a_message_is_sent_more_than_once(lab: Lab, then: str) -> None:
    """Who stored it and could not say so gets it again: two copies with one Message-ID."""
    lab.mail.configure(smtp_data_done_timeout="1s")
    lab.expects(duplicated=1, because="the server stored the mail, and its client never heard")
    fault = SmtpStage("end of data", then=then, stored=True)  # type: ignore[arg-type]  # parametrized

    with lab.remote.faulty(fault):
        mail = lab.mail.send(ALICE)
        lab.settle(mail)
    lab.mail.configure(smtp_data_done_timeout="600s")
    lab.mail.flush()
    lab.settle(mail)

    tried = lab.events(Delivery, lab.mail)
    assert [one.status for one in tried] == ["deferred", "sent"]
    assert tried[0].reply.endswith(AT_THE_END)
    copies = [copy["Message-ID"] for copy in lab.remote.mailbox("alice")]
    assert copies == [mail.message_id] * 2


@pytest.mark.faq("timeout-lost-connection", "19c")
def test_symptom_an_impatient_client_makes_duplicates(lab: Lab) -> None:
    """A server that is slow to acknowledge has stored the mail by the time the client goes."""
    lab.expects(duplicated=1, because="the client went before the server's 250 came")
    lab.mail.configure(smtp_data_done_timeout="600s")
    lab.mail.misconfigure(smtp_data_done_timeout="1s")

    with lab.remote.faulty(SmtpStage("end of data", delay_s=3)):
        mail = lab.mail.send(ALICE)
        lab.settle(mail)
        waits = mail.held_by(lab.mail)
        held = bool(waits)
    lab.mail.configure(smtp_data_done_timeout="600s")
    lab.mail.flush()
    lab.settle(mail)

    assert held, waits
    copies = [copy["Message-ID"] for copy in lab.remote.mailbox("alice")]
    assert copies == [mail.message_id] * 2


@pytest.mark.faq("timeout-lost-connection", "19c")
def test_cure_ten_minutes_for_the_final_reply(lab: Lab) -> None:
    """With RFC 5321's timeout, Postfix's own, a slow server gets the message once."""
    lab.mail.configure(smtp_data_done_timeout="1s")
    lab.mail.cure.configure(smtp_data_done_timeout="600s")

    with lab.remote.faulty(SmtpStage("end of data", delay_s=3)):
        mail = lab.mail.send(ALICE)
        lab.settle(mail)

    assert [one.status for one in lab.events(Delivery, lab.mail)] == ["sent"]
    (copy,) = lab.remote.mailbox("alice")
    assert copy["Message-ID"] == mail.message_id


# The receiver's side.


@pytest.mark.faq("timeout-lost-connection", "19b")
@pytest.mark.parametrize(
    ("verb", "logged"), [("DATA", "DATA (14 bytes)"), ("BDAT 100", "BDAT (19 bytes)")]
)
def test_behaviour_a_client_vanishes_in_mid_message(lab: Lab, verb: str, logged: str) -> None:
    """The server logs where, and how much it had, in DATA whole lines; nothing is queued."""
    with lab.client.session(lab.mail) as session:
        session.ehlo()
        session.mail("bob@client.example.net")
        session.rcpt("alice@example.com")
        if verb == "DATA":
            # What comes before the server asks for it is pipelining, and refused as that.
            assert session.command(verb).code == 354
        else:
            session.say(f"{verb}\r\n")
        session.say("Subject: x\r\n\r\nhello")
    lab.wait_for(Disconnected, host=lab.mail)

    broken = [one.text for one in lab.events(Event, lab.mail) if "lost connection" in one.text]
    assert broken == [f"lost connection after {logged} from {client(lab)}"]
    assert not lab.events(Active, lab.mail)
    assert not lab.mail.queue()


@pytest.mark.faq("timeout-lost-connection", "19b")
def test_behaviour_a_client_falls_silent_in_mid_message(lab: Lab) -> None:
    """After smtpd_timeout the server says so and hangs up; nothing is queued."""
    lab.mail.configure(smtpd_timeout="1s")

    with lab.client.session(lab.mail) as session:
        session.ehlo()
        session.mail("bob@client.example.net")
        session.rcpt("alice@example.com")
        session.command("DATA")
        last = session.command("Subject: x\r\n\r\nhello")
        lab.wait_for(Disconnected, host=lab.mail)

    assert (last.code, last.text) == (421, "4.4.2 mail.example.com Error: timeout exceeded")
    broken = [one.text for one in lab.events(Event, lab.mail) if "timeout after" in one.text]
    # The session ends the line.
    assert broken == [f"timeout after DATA (21 bytes) from {client(lab)}"]
    assert not lab.events(Active, lab.mail)
    assert not lab.mail.queue()


# What changed: bounds on the whole of a reply, or of a request.

# Four seconds for the greeting, where each byte comes in time.
BYTE_BY_BYTE = SmtpStage(
    "greeting", byte_interval_s=0.1, reply="220 a server that takes its time at all"
)


@pytest.mark.faq("timeout-lost-connection", "19a")
def test_symptom_each_byte_starts_the_clock_anew(lab: Lab) -> None:
    """A server holds its client as long as it likes, a little at a time.

    Four seconds, which is far more than the timeout.
    """
    lab.mail.configure(smtp_helo_timeout="2s", smtp_per_record_deadline="yes")
    lab.mail.misconfigure(smtp_per_record_deadline="no")

    with lab.remote.faulty(BYTE_BY_BYTE):
        mail = lab.mail.send(ALICE)
        lab.settle(mail)

    (attempt,) = lab.events(Delivery, lab.mail)
    assert attempt.delay > 3
    assert mail.delivered_to(lab.remote, mailbox="alice")


@pytest.mark.faq("timeout-lost-connection", "19a")
def test_cure_a_deadline_for_the_whole_reply(lab: Lab) -> None:
    """With smtp_per_request_deadline, before 3.7 smtp_per_record_deadline, two seconds are two."""
    name = "smtp_per_record_deadline" if lab.version == "3.5" else "smtp_per_request_deadline"
    lab.mail.configure(smtp_helo_timeout="2s", **{name: "no"})
    lab.mail.cure.configure(**{name: "yes"})

    with lab.remote.faulty(BYTE_BY_BYTE):
        mail = lab.mail.send(ALICE)
        lab.settle(mail)

    saying = f"{remote(lab)} timed out while receiving the initial server greeting"
    assert mail.deferred(dsn="4.4.2", saying=saying)


@pytest.mark.faq("timeout-lost-connection", "19a")
def test_historic_the_old_name_of_the_deadline_counts(lab: Lab) -> None:
    """3.7 and later take the default of the new parameter from the old one."""
    lab.mail.configure(smtp_helo_timeout="2s", smtp_per_record_deadline="yes")

    with lab.remote.faulty(BYTE_BY_BYTE):
        mail = lab.mail.send(ALICE)
        lab.settle(mail)

    assert mail.deferred(dsn="4.4.2", saying="timed out while receiving the initial server")


@pytest.mark.faq("timeout-lost-connection", "19b")
@pytest.mark.parametrize(
    ("stress", "bytes_s", "in_time"),
    [("", "1000000", True), ("yes", "500", True), ("yes", "1000000", False)],
    ids=["no-stress", "stress-and-fast-enough", "stress-and-too-slow"],
)
def test_behaviour_a_slow_client_of_a_server_under_stress(
    lab: Lab,
    stress: str,
    bytes_s: str,
    in_time: bool,  # noqa: FBT001
) -> None:
    """Under stress a message has smtpd_timeout, and more for each smtpd_min_data_rate of it.

    3.5 bounds each line instead, so that a slow client is served there. Four
    seconds and more: the line is slow.
    """
    lab.mail.configure(smtpd_timeout="2s")
    if lab.version != "3.5":
        lab.mail.configure(smtpd_min_data_rate=bytes_s)
    lab.mail.service(f"smtp inet n - n - - smtpd -o stress={stress}")

    slow = Netem(rate_bit_s=64_000, direction="in", peer=lab.client.address)
    with lab.mail.faulty(slow):
        mail = lab.client.submit("alice@example.com", server=lab.mail, size_bytes=32_000)
        lab.settle(mail)

    if in_time or lab.version == "3.5":
        assert mail.delivered_to(lab.mail, mailbox="alice")
    else:
        assert mail.rejected(421, "4.4.2", saying="Error: timeout exceeded")
        assert not lab.events(Active, lab.mail)
