"""An SMTP server that misbehaves at one stage, and the Postfix client's log."""

from collections.abc import Iterator

import pytest

from maillab import Accepted, Delivery, Lab
from maillab.faults import Greeting, SmtpStage

pytestmark = pytest.mark.topology("standalone")

ALICE = "alice@example.net"
# Postfix's own text for each stage (smtp_proto.c), and the stage's timeout.
DOING = {
    "connect": ("receiving the initial server greeting", "smtp_helo_timeout"),
    "greeting": ("receiving the initial server greeting", "smtp_helo_timeout"),
    "EHLO": ("performing the EHLO handshake", "smtp_helo_timeout"),
    "MAIL": ("sending MAIL FROM", "smtp_mail_timeout"),
    "RCPT": ("sending RCPT TO", "smtp_rcpt_timeout"),
    "DATA": ("sending DATA command", "smtp_data_init_timeout"),
    "end of data": (
        "sending end of data -- message may be sent more than once",
        "smtp_data_done_timeout",
    ),
}


@pytest.fixture(autouse=True)
def _without_trace(lab: Lab) -> Iterator[None]:
    """Check that each fault leaves its host's network unchanged."""
    before = lab.remote.network.state()
    yield
    assert lab.remote.network.state() == before


def server(lab: Lab) -> str:
    """Return the faulty server as Postfix logs it."""
    return f"remote.example.net[{lab.remote.address}]"


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize("stage", DOING)
def test_symptom_the_server_goes_away(lab: Lab, stage: str, then: str) -> None:
    """At any stage, after FIN or RST, the mail waits and is delivered after the fault."""
    with lab.remote.faulty(SmtpStage(stage, then=then)):  # type: ignore[arg-type]  # parametrized
        mail = lab.mail.send(ALICE)
        lab.settle(mail)

    doing, _ = DOING[stage]
    saying = f"lost connection with {server(lab)} while {doing}"
    # The first RST may arrive before connect(2) returns.
    reset = f"connect to {server(lab)}:25: Connection reset by peer"
    early = then == "reset" and stage in ("connect", "greeting")
    assert mail.deferred(dsn="4.4.2", saying=saying) or (early and mail.deferred(saying=reset))
    lab.mail.flush()
    lab.settle(mail)
    assert mail.delivered_to(lab.remote, "alice")


@pytest.mark.parametrize("stage", DOING)
def test_symptom_the_server_falls_silent(lab: Lab, stage: str) -> None:
    """Postfix has a timeout for every stage."""
    doing, timeout = DOING[stage]
    lab.mail.configure(**{timeout: "1s"})

    with lab.remote.faulty(SmtpStage(stage, then="silence")):  # type: ignore[arg-type]  # parametrized
        mail = lab.mail.send(ALICE)
        lab.settle(mail)

    saying = f"conversation with {server(lab)} timed out while {doing}"
    assert mail.deferred(dsn="4.4.2", saying=saying)
    lab.mail.flush()
    lab.settle(mail)
    assert mail.delivered_to(lab.remote, "alice")


@pytest.mark.parametrize(
    ("stage", "logged"),
    [
        ("greeting", "refused to talk to me: 450 4.7.1 not today"),
        ("EHLO", "refused to talk to me: 450 4.7.1 not today"),
        ("MAIL", "said: 450 4.7.1 not today (in reply to MAIL FROM command)"),
        ("RCPT", "said: 450 4.7.1 not today (in reply to RCPT TO command)"),
        ("DATA", "said: 450 4.7.1 not today (in reply to DATA command)"),
        ("end of data", "said: 450 4.7.1 not today (in reply to end of DATA command)"),
    ],
)
def test_symptom_the_server_gives_another_reply(lab: Lab, stage: str, logged: str) -> None:
    """Postfix logs the reply, with the command it belongs to."""
    with lab.remote.faulty(SmtpStage(stage, reply="450 4.7.1 not today")):  # type: ignore[arg-type]  # parametrized
        mail = lab.mail.send(ALICE)
        lab.settle(mail)

    assert mail.deferred(dsn="4.7.1", saying=f"host {server(lab)} {logged}")
    lab.mail.flush()
    lab.settle(mail)
    assert mail.delivered_to(lab.remote, "alice")


@pytest.mark.parametrize("stage", DOING)
def test_symptom_the_server_is_late(lab: Lab, stage: str) -> None:
    """A delay within the timeouts does not stop the mail."""
    # Longer than a busy machine takes for a whole delivery.
    with lab.remote.faulty(SmtpStage(stage, delay_s=3)):  # type: ignore[arg-type]  # parametrized
        mail = lab.mail.send(ALICE)
        lab.settle(mail)

    assert mail.delivered_to(lab.remote, "alice")
    (attempt,) = lab.events(Delivery, lab.mail)
    assert attempt.delay >= 3


def test_symptom_a_greeting_comes_byte_by_byte(lab: Lab) -> None:
    """Each byte restarts the timeout unless smtp_per_record_deadline is set."""
    # The timeout also covers the reply to EHLO, which a busy machine may delay.
    lab.mail.configure(smtp_helo_timeout="3s", smtp_per_record_deadline="yes")
    greeting = "220 a server that takes its time to send its greeting"
    slowly = SmtpStage("greeting", byte_interval_s=0.1, reply=greeting)

    with lab.remote.faulty(slowly):
        mail = lab.mail.send(ALICE)
        lab.settle(mail)
        waited = mail.deferred(
            dsn="4.4.2", saying="timed out while receiving the initial server greeting"
        )
        assert waited
        lab.mail.configure(smtp_per_record_deadline="no")
        lab.mail.flush()
        lab.settle(mail)

    assert mail.delivered_to(lab.remote, "alice")


@pytest.mark.parametrize("then", ["close", "reset", "silence"])
def test_symptom_a_message_may_be_sent_more_than_once(lab: Lab, then: str) -> None:
    """A server that stored the message without a reply gets it again (RFC 1047)."""
    lab.mail.configure(smtp_data_done_timeout="1s")
    lab.expects(duplicated=1, because="the server stored the mail, and the client got no reply")
    fault = SmtpStage("end of data", then=then, stored=True)  # type: ignore[arg-type]  # parametrized

    with lab.remote.faulty(fault):
        mail = lab.mail.send(ALICE)
        lab.settle(mail)
    assert mail.deferred(saying="message may be sent more than once")
    lab.mail.flush()
    lab.settle(mail)

    copies = [copy["Message-ID"] for copy in lab.remote.mailbox("alice")]
    assert copies == [mail.message_id, mail.message_id]


@pytest.mark.parametrize("reply", ["421 4.3.2 too busy", "554 5.3.2 no mail here"])
def test_symptom_a_greeting_refuses_all_mail(lab: Lab, reply: str) -> None:
    """After a 4xx or 5xx greeting mail waits (postconf(5) smtp_skip_5xx_greeting)."""
    with lab.remote.faulty(Greeting(reply)):
        mail = lab.mail.send(ALICE)
        lab.settle(mail)

    assert mail.deferred(dsn="4.3.2", saying=f"host {server(lab)} refused to talk to me: {reply}")
    lab.mail.flush()
    lab.settle(mail)
    assert mail.delivered_to(lab.remote, "alice")


def test_symptom_quit_goes_unanswered(lab: Lab) -> None:
    """Mail is delivered although RFC 5321 section 4.1.1.10 requires a reply to QUIT."""
    lab.mail.configure(smtp_skip_quit_response="no")

    with lab.remote.faulty(SmtpStage("QUIT", then="close")):
        mail = lab.mail.send(ALICE)
        lab.settle(mail)
        with lab.client.session(lab.remote) as session:
            session.ehlo()
            farewell = session.quit()

    assert mail.delivered_to(lab.remote, "alice")
    assert farewell.code == 0


def test_symptom_a_session_too_many_is_greeted_with_421(lab: Lab) -> None:
    """Sessions that are already open continue."""
    full = SmtpStage("greeting", reply="421 4.7.0 too many sessions", sessions_max=2)

    with lab.remote.faulty(full):
        with lab.client.session(lab.remote), lab.client.session(lab.remote) as second:
            mail = lab.mail.send(ALICE)
            lab.settle(mail)
            served = second.ehlo()
        refused = mail.deferred(
            dsn="4.7.0", saying=f"host {server(lab)} refused to talk to me: 421 4.7.0 too many"
        )
        assert refused
        assert served.code == 250
        lab.mail.flush()
        lab.settle(mail)

    assert mail.delivered_to(lab.remote, "alice")


def test_symptom_the_first_two_attempts_fail_then_all_is_well(lab: Lab) -> None:
    """The fault acts like greylisting."""
    with lab.remote.faulty(SmtpStage("RCPT", reply="450 4.2.0 Greylisted", first=2)):
        mail = lab.mail.send(ALICE)
        for _ in range(2):
            lab.settle(mail)
            lab.mail.flush()
        lab.settle(mail)

    attempts = [attempt.status for attempt in lab.events(Delivery, lab.mail)]
    assert attempts == ["deferred", "deferred", "sent"]


def test_symptom_every_third_message_is_refused(lab: Lab) -> None:
    """The fourth and seventh messages are refused: every third after the first."""
    with lab.remote.faulty(SmtpStage("end of data", reply="554 5.6.0 no", every=3, after=1)):
        mails = []
        for _ in range(7):
            mails.append(lab.mail.send(ALICE))
            lab.settle()

    refused = [number for number, mail in enumerate(mails, 1) if mail.bounced(dsn="5.6.0")]
    assert refused == [4, 7]


def test_symptom_mail_for_one_recipient_is_refused(lab: Lab) -> None:
    """The message's other recipients get it."""
    fault = SmtpStage("RCPT", reply="452 4.2.2 mailbox full", recipient="carol@example.net")

    with lab.remote.faulty(fault):
        mail = lab.mail.send([ALICE, "carol@example.net"])
        lab.settle(mail)

    assert mail.deferred(dsn="4.2.2", saying="mailbox full", recipient="carol@example.net")
    assert mail.delivered_to(lab.remote, "alice")
    lab.mail.flush()
    lab.settle(mail)
    assert mail.delivered_to(lab.remote, "carol")


def test_symptom_one_client_is_refused(lab: Lab) -> None:
    """Other clients are served, and the real server sees each client's own address."""
    fault = SmtpStage("greeting", reply="554 not you", client=lab.client.address)

    with lab.remote.faulty(fault):
        with lab.client.session(lab.remote) as session:
            greeting = session.greeting
        mail = lab.mail.send(ALICE)
        lab.settle(mail)

    assert greeting.code == 554
    assert mail.delivered_to(lab.remote, "alice")
    (accepted,) = lab.events(Accepted, lab.remote)
    assert accepted.client_address == lab.mail.address


def test_symptom_strangers_are_strangers_behind_the_fault(lab: Lab) -> None:
    """Through the fault's proxy strangers still may not relay."""
    offered = []
    with (
        lab.remote.faulty(SmtpStage("EHLO", reply="250 a server of few words")),
        lab.client.session(lab.remote) as session,
    ):
        offered += session.ehlo().text.splitlines()
        session.mail("bob@client.example.net")
        reply = session.rcpt("joe@example.com")

    assert offered == ["a server of few words"]
    assert reply.code == 454
    assert "Relay access denied" in reply.text


@pytest.mark.parametrize("inner_first", [True, False])
def test_symptom_faults_of_two_stages_act_together(lab: Lab, inner_first: bool) -> None:  # noqa: FBT001
    """Nested faults act together and can be lifted in any order."""
    inner = lab.remote.faulty(SmtpStage("MAIL", reply="450 4.7.1 inner"))
    outer = lab.remote.faulty(SmtpStage("EHLO", delay_s=1, first=1))
    inner.__enter__()
    outer.__enter__()
    try:
        mail = lab.mail.send(ALICE)
        lab.settle(mail)
    finally:
        for fault in (inner, outer) if inner_first else (outer, inner):
            fault.__exit__(None, None, None)

    assert mail.deferred(saying="said: 450 4.7.1 inner")
    (attempt,) = lab.events(Delivery, lab.mail)
    assert attempt.delay >= 1
    lab.mail.flush()
    lab.settle(mail)
    assert mail.delivered_to(lab.remote, "alice")
