"""Postfix breaks "sendmail -v".

Sendmail's -v delivers at once and shows the SMTP dialogue on the terminal.
Postfix's sendmail command only hands the message to the queue, so there is no
dialogue to show. In the FAQ's days -v did nothing; since 2.1 it asks for a
report by mail of what became of each recipient, and -bv for one without any
delivery. Two or more -v make the command itself verbose, not the delivery.
Since 2.3 the standard way, for clients of other make, too, is a delivery status
notification (RFC 3461): "sendmail -N success", or NOTIFY=SUCCESS in RCPT TO.
"""

import pytest

from maillab.lab import Lab
from maillab.maillog import Delivery, Notified
from maillab.message import compose, told_of

pytestmark = pytest.mark.topology("standalone")

ON_ITS_WAY = "Mail Delivery Status Report will be mailed to <bob>."


def subjects(lab: Lab, user: str = "bob") -> list[str]:
    """What a user of the mail server has mail about."""
    return [notice["Subject"] for notice in lab.mail.mailbox(user)]


def told(lab: Lab, recipient: str) -> dict[str, str]:
    """What all reports in bob's mailbox say of a recipient, the last one winning."""
    said: dict[str, str] = {}
    for report in lab.mail.mailbox("bob"):
        said |= told_of(report).get(recipient, {})
    return said


@pytest.mark.faq("sendmail-v", "7a")
def test_symptom_no_dialogue_is_shown(lab: Lab) -> None:
    """The command says only that a report will come by mail, and succeeds."""
    mail = lab.mail.send(to="joe@example.net", options=lab.mail.mistake.words("-v"))
    lab.settle(mail)

    assert mail.submission.reply == ON_ITS_WAY
    assert mail.submission.code == 0
    assert mail.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("sendmail-v", "7a")
def test_symptom_success_is_reported_although_nobody_takes_the_mail(lab: Lab) -> None:
    """The exit status is that of queuing; that the mail waits stands in the report alone."""
    lab.remote.stop()

    mail = lab.mail.send(to="joe@example.net", options=lab.mail.mistake.words("-v"))
    lab.settle(mail)

    assert (mail.submission.code, mail.submission.reply) == (0, ON_ITS_WAY)
    assert mail.held_by(lab.mail)
    assert told(lab, "joe@example.net")["Action"] == "delayed"
    assert told(lab, "joe@example.net")["Status"] == "4.4.1"


@pytest.mark.faq("sendmail-v", "7a")
def test_cure_the_report_tells_what_the_next_server_said(lab: Lab) -> None:
    """The dialogue's outcome arrives by mail: the server's reply to the end of data."""
    mail = lab.mail.send(to="joe@example.net", options=lab.mail.cure.words("-v"))
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    assert subjects(lab) == ["Mail Delivery Status Report"]
    (report,) = lab.mail.mailbox("bob")
    assert report["Auto-Submitted"] == "auto-replied"
    assert report.get_content_type() == "multipart/report"
    (taken,) = lab.events(Delivery, lab.remote)
    said = told(lab, "joe@example.net")
    assert said["Action"] == "relayed"
    assert said["Status"] == "2.0.0"
    assert said["Remote-MTA"] == "dns; remote.example.net"
    assert said["Diagnostic-Code"] == f"smtp; 250 2.0.0 Ok: queued as {taken.queue_id}"
    (notified,) = lab.events(Notified, lab.mail)
    assert notified.text.startswith("sender delivery status notification: ")


@pytest.mark.faq("sendmail-v", "7b")
def test_cure_a_probe_asks_without_delivering(lab: Lab) -> None:
    """With -bv the session ends after RCPT TO; the report says "deliverable"."""
    mail = lab.mail.send(to="joe@example.net", options=lab.mail.cure.words("-bv"))
    lab.settle(mail)

    assert not lab.remote.mailbox("joe")
    assert mail.submission.reply == ON_ITS_WAY
    assert subjects(lab) == ["Mail Delivery Status Report"]
    assert told(lab, "joe@example.net")["Action"] == "deliverable"
    assert told(lab, "joe@example.net")["Status"] == "2.1.5"
    assert told(lab, "joe@example.net")["Diagnostic-Code"] == "smtp; 250 2.1.5 Ok"
    (report,) = lab.mail.mailbox("bob")
    assert "\nSubject: probe\n" in str(report)


@pytest.mark.faq("sendmail-v", "7b")
def test_behaviour_a_probe_of_local_addresses_follows_aliases(lab: Lab) -> None:
    """Each member of the list is probed, and the report says through which alias."""
    lab.mail.aliases({"sales": "alice, nosuch"})

    mail = lab.mail.send(to="sales@example.com", options=["-bv"])
    lab.settle(mail)

    assert not lab.mail.mailbox("alice")
    alice, nosuch = (told(lab, f"{who}@mail.example.com") for who in ("alice", "nosuch"))
    assert alice["Diagnostic-Code"] == "X-Postfix; delivery via local: delivers to mailbox"
    assert (alice["Action"], alice["Status"]) == ("deliverable", "2.0.0")
    assert (nosuch["Action"], nosuch["Status"]) == ("undeliverable", "5.1.1")
    assert alice["Original-Recipient"] == nosuch["Original-Recipient"] == "rfc822;sales@example.com"


@pytest.mark.faq("sendmail-v", "7b")
def test_symptom_a_relay_that_takes_everything_answers_for_everybody(lab: Lab) -> None:
    """Whoever probes through a relay learns what the relay thinks, not the last host."""
    lab.remote.configure(local_recipient_maps="proxy:unix:passwd.byname $alias_maps")
    lab.remote.misconfigure(local_recipient_maps="")

    mail = lab.mail.send(to="nosuch@example.net", options=["-bv"])
    lab.settle(mail)

    assert told(lab, "nosuch@example.net")["Action"] == "deliverable"
    assert told(lab, "nosuch@example.net")["Diagnostic-Code"] == "smtp; 250 2.1.5 Ok"


@pytest.mark.faq("sendmail-v", "7c")
def test_cure_a_probe_finds_the_unknown_recipient(lab: Lab) -> None:
    """The report quotes the reply of a server that checks, and nothing bounces."""
    options = lab.mail.cure.words("-bv")

    mail = lab.mail.send(to=["joe@example.net", "nosuch@example.net"], options=options)
    lab.settle(mail)

    assert subjects(lab) == ["Mail Delivery Status Report"]
    assert told(lab, "joe@example.net")["Action"] == "deliverable"
    said = told(lab, "nosuch@example.net")
    refusal = (
        "550 5.1.1 <nosuch@example.net>: Recipient address rejected: "
        "User unknown in local recipient table"
    )
    assert (said["Action"], said["Status"]) == ("undeliverable", "5.1.1")
    assert said["Diagnostic-Code"] == f"smtp; {refusal}"
    asked = [one for one in lab.events(Delivery, lab.mail) if one.to == "nosuch@example.net"]
    assert [one.status for one in asked] == ["undeliverable"]
    assert asked[0].reply.endswith(f"said: {refusal} (in reply to RCPT TO command)")


@pytest.mark.faq("sendmail-v", "7c")
def test_behaviour_a_probe_of_a_dead_host_is_not_tried_again(lab: Lab) -> None:
    """Nobody waits for a probe: a host that is down makes it undeliverable at once."""
    lab.remote.stop()

    mail = lab.mail.send(to="joe@example.net", options=["-bv"])
    lab.settle(mail)

    assert not lab.mail.queue()
    assert told(lab, "joe@example.net")["Action"] == "undeliverable"
    assert told(lab, "joe@example.net")["Status"] == "4.4.1"


@pytest.mark.faq("sendmail-v", "7d")
def test_behaviour_twice_v_shows_the_command_at_work_and_no_delivery(lab: Lab) -> None:
    """-v -v logs how sendmail talks to postdrop; neither a dialogue nor a report comes."""
    mail = lab.mail.send(to="joe@example.net", options=["-v", "-v"])
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    lines = mail.submission.reply.splitlines()
    assert all(line.startswith(("sendmail: ", "postdrop: ")) for line in lines)
    assert "sendmail: input attribute name: queue_id" in lines
    assert "250" not in mail.submission.reply
    assert not lab.mail.mailbox("bob")


@pytest.mark.faq("sendmail-v")
def test_cure_notification_of_success_is_asked_for_by_option(lab: Lab) -> None:
    """Sendmail -N success -V id: local delivery is confirmed under the id given."""
    options = lab.mail.cure.words("-N", "success,delay", "-V", "order-4711")

    mail = lab.mail.send(to="joe@example.com", options=options)
    lab.settle(mail)

    assert mail.delivered_to(lab.mail, mailbox="joe")
    assert subjects(lab) == ["Successful Mail Delivery Report"]
    (report,) = lab.mail.mailbox("bob")
    assert told_of(report)[""]["Original-Envelope-Id"] == "order-4711"
    said = told(lab, "joe@example.com")
    assert (said["Action"], said["Status"]) == ("delivered", "2.0.0")
    diagnosis = "X-Postfix; delivery via local: delivered to mailbox"
    assert said["Diagnostic-Code"] == diagnosis


@pytest.mark.faq("sendmail-v")
def test_behaviour_the_last_host_that_knows_dsn_confirms(lab: Lab) -> None:
    """The wish travels with the mail: the remote host's Postfix confirms, not the first."""
    mail = lab.mail.send(to="joe@example.net", options=["-N", "success"])
    lab.settle(mail)

    assert subjects(lab) == ["Successful Mail Delivery Report"]
    (report,) = lab.mail.mailbox("bob")
    assert "MAILER-DAEMON@remote.example.net" in report["From"]
    assert told_of(report)[""]["Reporting-MTA"] == "dns; remote.example.net"
    assert told(lab, "joe@example.net")["Action"] == "delivered"


@pytest.mark.faq("sendmail-v")
def test_behaviour_a_next_host_without_dsn_makes_the_first_confirm(lab: Lab) -> None:
    """What was handed to a host that does not know of DSN is "relayed", and that is all."""
    lab.remote.configure(smtpd_discard_ehlo_keywords="dsn, silent-discard")

    mail = lab.mail.send(to="joe@example.net", options=["-N", "success"])
    lab.settle(mail)

    (report,) = lab.mail.mailbox("bob")
    assert told_of(report)[""]["Reporting-MTA"] == "dns; mail.example.com"
    assert told(lab, "joe@example.net")["Action"] == "relayed"


@pytest.mark.faq("sendmail-v")
def test_cure_notification_of_success_is_asked_for_in_rcpt(lab: Lab) -> None:
    """NOTIFY=SUCCESS for one recipient of two: the other one is not spoken of."""
    notify = " ".join(lab.mail.cure.words("NOTIFY=SUCCESS ORCPT=rfc822;alice@example.com"))
    recipients = ["alice@example.com", "carol@example.com"]
    probe = compose(sender="bob@example.net", recipients=recipients)

    with lab.remote.session(lab.mail) as session:
        session.ehlo()
        session.mail("bob@example.net", "RET=HDRS ENVID=order-4711")
        session.rcpt("alice@example.com", notify)
        session.rcpt("carol@example.com", "NOTIFY=NEVER")
        mail = session.data(probe)
        session.quit()
    lab.settle(mail)

    assert mail.delivered_to(lab.mail, mailbox="alice")
    assert mail.delivered_to(lab.mail, mailbox="carol")
    reports = lab.remote.mailbox("bob")
    assert [report["Subject"] for report in reports] == ["Successful Mail Delivery Report"]
    about = told_of(reports[0])
    assert list(about) == ["", "alice@example.com"]
    assert about[""]["Original-Envelope-Id"] == "order-4711"
    assert about["alice@example.com"]["Action"] == "delivered"
    assert probe.raw.decode().splitlines()[-1] not in str(reports[0])
