"""Mail fails consistently with timeout or lost connection.

Now and then a connection breaks, and Postfix tries again. If connections always break,
something on the path is at fault: a PIX (see pix-fixup), a path with a small MTU (see
path-mtu), or a server slower than the client's timeout. Leave smtp_data_done_timeout at its
ten minutes (RFC 5321): a shorter timeout makes duplicates.

Postfix logs the stage. At the end of data it adds "message may be sent more than once", and
means it: the server may have stored a message that it could not acknowledge (RFC 1047).

Since the FAQ:
- A receiving Postfix logs how much of a message it received, in DATA and in BDAT
  (CHUNKING, 3.4).
- 3.7: smtp_per_request_deadline, a limit on each request and its reply, replaces
  smtp_per_record_deadline, a limit on each reply.
"""

import pytest

from maillab import Active, Delivery, Disconnected, Event, Lab
from maillab.faults import Netem, SmtpStage, Stage

pytestmark = pytest.mark.topology("standalone")

ALICE = "alice@example.net"
AT_THE_END = "while sending end of data -- message may be sent more than once"


def remote(lab: Lab) -> str:
    """Return the server as the client logs it."""
    return f"remote.example.net[{lab.remote.address}]"


def client(lab: Lab) -> str:
    """Return the client as the server logs it."""
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
    """Each attempt fails at the same stage, which the log names, and the mail stays queued."""
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
    """With default retry times the sender gets a bounce, although every attempt left a copy."""
    because = "the server stores the mail at each attempt and never acknowledges it"
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
    """Postfix's default timeouts allow for a slow server at every stage."""
    assert lab.mail.run("postconf", "-dh", parameter).stdout.strip() == default
    lab.mail.configure(**{parameter: "1s"})
    lab.mail.cure.configure(**{parameter: default})

    with lab.remote.faulty(SmtpStage(stage, delay_s=2)):
        mail = lab.mail.send(ALICE)
        lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="alice")


@pytest.mark.faq("timeout-lost-connection", "19c")
@pytest.mark.parametrize("then", ["close", "reset", "silence"])
def test_symptom_a_message_is_sent_more_than_once(lab: Lab, then: str) -> None:
    """A server that stored the message without a reply gets it again: two copies."""
    lab.mail.configure(smtp_data_done_timeout="1s")
    lab.expects(duplicated=1, because="the server stored the mail, and the client got no reply")
    fault = SmtpStage("end of data", then=then, stored=True)  # type: ignore[arg-type]  # parametrized

    with lab.remote.faulty(fault):
        mail = lab.mail.send(ALICE)
        lab.settle(mail)
    lab.mail.configure(smtp_data_done_timeout="600s")
    lab.mail.flush()
    lab.settle(mail)

    tried = lab.events(Delivery, lab.mail)
    assert [event.status for event in tried] == ["deferred", "sent"]
    assert tried[0].reply.endswith(AT_THE_END)
    copies = [copy["Message-ID"] for copy in lab.remote.mailbox("alice")]
    assert copies == [mail.message_id] * 2


@pytest.mark.faq("timeout-lost-connection", "19c")
def test_symptom_an_impatient_client_makes_duplicates(lab: Lab) -> None:
    """A slow server has already stored the mail when the client times out."""
    lab.expects(duplicated=1, because="the client timed out before the server's 250")
    lab.mail.configure(smtp_data_done_timeout="600s")
    lab.mail.misconfigure(smtp_data_done_timeout="1s")

    with lab.remote.faulty(SmtpStage("end of data", delay_s=3)):
        mail = lab.mail.send(ALICE)
        lab.settle(mail)
        waits = mail.held_by(lab.mail).now()
    lab.mail.configure(smtp_data_done_timeout="600s")
    lab.mail.flush()
    lab.settle(mail)

    assert waits
    copies = [copy["Message-ID"] for copy in lab.remote.mailbox("alice")]
    assert copies == [mail.message_id] * 2


@pytest.mark.faq("timeout-lost-connection", "19c")
def test_cure_ten_minutes_for_the_final_reply(lab: Lab) -> None:
    """With RFC 5321's timeout, Postfix's default, a slow server gets the message once."""
    default = lab.mail.run("postconf", "-dh", "smtp_data_done_timeout").stdout.strip()
    lab.mail.configure(smtp_data_done_timeout="1s")
    lab.mail.cure.configure(smtp_data_done_timeout=default)

    with lab.remote.faulty(SmtpStage("end of data", delay_s=3)):
        mail = lab.mail.send(ALICE)
        lab.settle(mail)

    assert default == "600s"
    assert [event.status for event in lab.events(Delivery, lab.mail)] == ["sent"]
    (copy,) = lab.remote.mailbox("alice")
    assert copy["Message-ID"] == mail.message_id


# The receiver's side.


@pytest.mark.faq("timeout-lost-connection", "19b")
@pytest.mark.parametrize(
    ("verb", "logged"), [("DATA", "DATA (14 bytes)"), ("BDAT 100", "BDAT (19 bytes)")]
)
def test_behaviour_a_client_vanishes_in_mid_message(lab: Lab, verb: str, logged: str) -> None:
    """The server logs the stage and the bytes received, in DATA whole lines; it queues nothing."""
    with lab.client.session(lab.mail) as session:
        session.ehlo()
        session.mail("bob@client.example.net")
        session.rcpt("alice@example.com")
        if verb == "DATA":
            # Data sent before the 354 would be refused as pipelining.
            assert session.command(verb).code == 354
        else:
            session.say(f"{verb}\r\n")
        session.say("Subject: x\r\n\r\nhello")
    lab.wait_for(Disconnected, host=lab.mail)

    broken = [
        event.text for event in lab.events(Event, lab.mail) if "lost connection" in event.text
    ]
    assert broken == [f"lost connection after {logged} from {client(lab)}"]
    assert not lab.events(Active, lab.mail)
    assert not lab.mail.queue()


@pytest.mark.faq("timeout-lost-connection", "19b")
def test_behaviour_a_client_falls_silent_in_mid_message(lab: Lab) -> None:
    """After smtpd_timeout the server replies 421 and hangs up; it queues nothing."""
    lab.mail.configure(smtpd_timeout="1s")

    with lab.client.session(lab.mail) as session:
        session.ehlo()
        session.mail("bob@client.example.net")
        session.rcpt("alice@example.com")
        session.command("DATA")
        last = session.command("Subject: x\r\n\r\nhello")
        lab.wait_for(Disconnected, host=lab.mail)

    assert (last.code, last.text) == (421, "4.4.2 mail.example.com Error: timeout exceeded")
    broken = [event.text for event in lab.events(Event, lab.mail) if "timeout after" in event.text]
    # The test's session ended the line.
    assert broken == [f"timeout after DATA (21 bytes) from {client(lab)}"]
    assert not lab.events(Active, lab.mail)
    assert not lab.mail.queue()


# New: limits on a whole reply, or a whole request.

# Four seconds for the greeting, with each byte in time.
BYTE_BY_BYTE = SmtpStage(
    "greeting", byte_interval_s=0.1, reply="220 a server that takes its time at all"
)


@pytest.mark.faq("timeout-lost-connection", "19a")
def test_symptom_each_byte_starts_the_clock_anew(lab: Lab) -> None:
    """A server can hold its client for any time by sending a little at a time.

    The greeting takes four seconds, far more than the timeout.
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
    """With the deadline (smtp_per_record_deadline before 3.7) two seconds limit the whole reply."""
    since_3_7 = lab.has("smtp_per_request_deadline")
    name = "smtp_per_request_deadline" if since_3_7 else "smtp_per_record_deadline"
    lab.mail.configure(smtp_helo_timeout="2s", **{name: "no"})
    lab.mail.cure.configure(**{name: "yes"})

    with lab.remote.faulty(BYTE_BY_BYTE):
        mail = lab.mail.send(ALICE)
        lab.settle(mail)

    saying = f"{remote(lab)} timed out while receiving the initial server greeting"
    assert mail.deferred(dsn="4.4.2", saying=saying)


@pytest.mark.faq("timeout-lost-connection", "19a")
def test_historic_the_old_name_of_the_deadline_counts(lab: Lab) -> None:
    """Since 3.7 the new parameter's default is the old parameter's value."""
    lab.mail.configure(smtp_helo_timeout="2s", smtp_per_record_deadline="yes")

    with lab.remote.faulty(BYTE_BY_BYTE):
        mail = lab.mail.send(ALICE)
        lab.settle(mail)

    assert mail.deferred(dsn="4.4.2", saying="timed out while receiving the initial server")


@pytest.mark.faq("timeout-lost-connection", "19b")
def test_behaviour_a_slow_client_of_a_server_under_stress(lab: Lab) -> None:
    """Under stress a message gets smtpd_timeout plus its size over smtpd_min_data_rate.

    3.5 limits each line instead, and accepts a slow client's mail. The test takes over
    ten seconds: the line is slow.
    """
    lab.mail.configure(smtpd_timeout="2s")
    slow = Netem(rate_bit_s=64_000, direction="in", peer=lab.client.address)
    mails = {}
    for stress, bytes_s in (("", "1000000"), ("yes", "500"), ("yes", "1000000")):
        if lab.has("smtpd_min_data_rate"):
            lab.mail.configure(smtpd_min_data_rate=bytes_s)
        lab.mail.service(f"smtp inet n - n - - smtpd -o stress={stress}")
        with lab.mail.faulty(slow):
            mail = lab.client.smtp("alice@example.com", server=lab.mail, size_bytes=32_000)
            lab.settle(mail)
        mails[stress, bytes_s] = mail

    too_slow = mails.pop(("yes", "1000000"))
    assert all(mail.delivered_to(lab.mail, mailbox="alice") for mail in mails.values())
    if not lab.has("smtpd_min_data_rate"):
        assert too_slow.delivered_to(lab.mail, mailbox="alice")
    else:
        assert too_slow.rejected(421, "4.4.2", saying="Error: timeout exceeded")
        assert not too_slow.reached(lab.mail)
