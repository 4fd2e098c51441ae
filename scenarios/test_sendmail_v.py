"""Postfix breaks "sendmail -v".

Use "sendmail -v" to get a mailed report of each recipient's delivery, and "sendmail -bv" for
a report without delivery. Postfix's sendmail command only queues the message, so it has no
SMTP dialogue to show on the terminal. The standard way is a delivery status notification:
"sendmail -N success", or NOTIFY=SUCCESS in RCPT TO (RFC 3461).

Two or more -v make the command itself verbose, not the delivery.

Since the FAQ:
- 2.1: -v and -bv request a report; before that, -v did nothing.
- 2.3: delivery status notifications.
"""

import json

import pytest

from maillab import Delivery, Lab, Notified, message

pytestmark = pytest.mark.topology("standalone")

ON_ITS_WAY = "Mail Delivery Status Report will be mailed to <bob>."


def subjects(lab: Lab, user: str = "bob") -> list[str]:
    """Return the subjects of a user's mail on the mail server."""
    return [notice["Subject"] for notice in lab.mail.mailbox(user)]


def report_on(lab: Lab, recipient: str) -> dict[str, str]:
    """Return all reports' fields for a recipient in bob's mailbox; the last report wins."""
    fields: dict[str, str] = {}
    for report in lab.mail.mailbox("bob"):
        fields |= message.dsn_fields(report).get(recipient, {})
    return fields


@pytest.mark.faq("sendmail-v", "7a")
def test_symptom_no_dialogue_is_shown(lab: Lab) -> None:
    """The command prints only that a report will be mailed, and exits with 0."""
    mail = lab.mail.send(to="joe@example.net", options=lab.mail.mistake.words("-v"))
    lab.settle(mail)

    assert mail.submission.reply == ON_ITS_WAY
    assert mail.submission.code == 0
    assert mail.delivered_to(lab.remote, mailbox="joe")


# Writes its user, the environment and its ancestors' names to /tmp/trace.
TRACE = """#!/usr/bin/env python3
import json, os, pathlib, sys
sys.stdin.read()
pid, ancestors = os.getppid(), []
while pid > 1:
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    ancestors.append(fields["Name"].strip())
    pid = int(fields["PPid"])
found = {"uid": os.getuid(), "environment": dict(os.environ), "ancestors": ancestors}
pathlib.Path("/tmp/trace").write_text(json.dumps(found))
"""


@pytest.mark.faq("sendmail-v", "7a")
def test_behaviour_no_delivery_runs_under_a_users_process(lab: Lab) -> None:
    """A delivery's ancestors are Postfix's daemons; it has no environment of the user's."""
    lab.mail.write("/usr/local/bin/trace", TRACE, mode=0o755)
    lab.mail.aliases({"probe": '"|/usr/local/bin/trace"'})
    words = ("env", "LD_LIBRARY_PATH=/home/alice/evil", "SECRET=of-alice", "sendmail", "probe")
    lab.expects(consumed=1, because="the command writes what it finds to a file")

    lab.mail.run(*words, user="alice", stdin="Subject: probe\n\nhello\n")
    lab.wait_for(Delivery, host=lab.mail, saying="delivered to command")
    lab.settle()

    found = json.loads(lab.mail.read("/tmp/trace") or "")  # noqa: S108  # on a host of the lab
    assert found["ancestors"] == ["local", "master"]
    assert not {"LD_LIBRARY_PATH", "SECRET"} & set(found["environment"])
    assert found["environment"]["SENDER"] == "alice@mail.example.com"
    assert str(found["uid"]) == lab.mail.run("id", "-u", "nobody").stdout.strip()


@pytest.mark.faq("sendmail-v", "7a")
def test_behaviour_the_command_is_over_before_the_delivery_begins(lab: Lab) -> None:
    """While Postfix is stopped sendmail(1) succeeds; the delivery follows without it."""
    lab.mail.stop()

    mail = lab.mail.send(to="joe@example.net", options=["-v"])
    exited = mail.submission.code
    lab.mail.start()
    lab.settle(mail)

    assert exited == 0
    assert mail.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("sendmail-v", "7a")
def test_symptom_success_is_reported_although_nobody_takes_the_mail(lab: Lab) -> None:
    """The exit status covers queueing only; the mailed report alone shows the delay."""
    lab.remote.stop()

    mail = lab.mail.send(to="joe@example.net", options=lab.mail.mistake.words("-v"))
    lab.settle(mail)

    assert (mail.submission.code, mail.submission.reply) == (0, ON_ITS_WAY)
    assert mail.held_by(lab.mail)
    assert report_on(lab, "joe@example.net")["Action"] == "delayed"
    assert report_on(lab, "joe@example.net")["Status"] == "4.4.1"


@pytest.mark.faq("sendmail-v", "7a")
def test_cure_the_report_tells_what_the_next_server_said(lab: Lab) -> None:
    """The mailed report has the outcome: the server's reply to the end of data."""
    mail = lab.mail.send(to="joe@example.net", options=lab.mail.cure.words("-v"))
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    assert subjects(lab) == ["Mail Delivery Status Report"]
    (report,) = lab.mail.mailbox("bob")
    assert report["Auto-Submitted"] == "auto-replied"
    assert report.get_content_type() == "multipart/report"
    (taken,) = lab.events(Delivery, lab.remote)
    fields = report_on(lab, "joe@example.net")
    assert fields["Action"] == "relayed"
    assert fields["Status"] == "2.0.0"
    assert fields["Remote-MTA"] == "dns; remote.example.net"
    assert fields["Diagnostic-Code"] == f"smtp; 250 2.0.0 Ok: queued as {taken.queue_id}"
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
    assert report_on(lab, "joe@example.net")["Action"] == "deliverable"
    assert report_on(lab, "joe@example.net")["Status"] == "2.1.5"
    assert report_on(lab, "joe@example.net")["Diagnostic-Code"] == "smtp; 250 2.1.5 Ok"
    (report,) = lab.mail.mailbox("bob")
    assert "\nSubject: probe\n" in str(report)


@pytest.mark.faq("sendmail-v", "7b")
def test_behaviour_a_probe_of_local_addresses_follows_aliases(lab: Lab) -> None:
    """Postfix probes each member of the list, and the report names the alias."""
    lab.mail.aliases({"sales": "alice, nosuch"})

    mail = lab.mail.send(to="sales@example.com", options=lab.mail.cure.words("-bv"))
    lab.settle(mail)

    assert not lab.mail.mailbox("alice")
    alice, nosuch = (report_on(lab, f"{who}@mail.example.com") for who in ("alice", "nosuch"))
    assert alice["Diagnostic-Code"] == "X-Postfix; delivery via local: delivers to mailbox"
    assert (alice["Action"], alice["Status"]) == ("deliverable", "2.0.0")
    assert (nosuch["Action"], nosuch["Status"]) == ("undeliverable", "5.1.1")
    assert alice["Original-Recipient"] == nosuch["Original-Recipient"] == "rfc822;sales@example.com"


@pytest.mark.faq("sendmail-v", "7b")
def test_symptom_a_relay_that_takes_everything_answers_for_everybody(lab: Lab) -> None:
    """A probe through a relay shows the relay's answer, not the last host's."""
    lab.remote.configure(local_recipient_maps="proxy:unix:passwd.byname $alias_maps")
    lab.remote.misconfigure(local_recipient_maps="")

    mail = lab.mail.send(to="nosuch@example.net", options=["-bv"])
    lab.settle(mail)

    assert report_on(lab, "nosuch@example.net")["Action"] == "deliverable"
    assert report_on(lab, "nosuch@example.net")["Diagnostic-Code"] == "smtp; 250 2.1.5 Ok"


@pytest.mark.faq("sendmail-v", "7c")
def test_cure_a_probe_finds_the_unknown_recipient(lab: Lab) -> None:
    """The report quotes the reply of a server that checks recipients, and nothing bounces."""
    options = lab.mail.cure.words("-bv")

    mail = lab.mail.send(to=["joe@example.net", "nosuch@example.net"], options=options)
    lab.settle(mail)

    assert subjects(lab) == ["Mail Delivery Status Report"]
    assert report_on(lab, "joe@example.net")["Action"] == "deliverable"
    fields = report_on(lab, "nosuch@example.net")
    refusal = (
        "550 5.1.1 <nosuch@example.net>: Recipient address rejected: "
        "User unknown in local recipient table"
    )
    assert (fields["Action"], fields["Status"]) == ("undeliverable", "5.1.1")
    assert fields["Diagnostic-Code"] == f"smtp; {refusal}"
    asked = [event for event in lab.events(Delivery, lab.mail) if event.to == "nosuch@example.net"]
    assert [event.status for event in asked] == ["undeliverable"]
    assert asked[0].reply.endswith(f"said: {refusal} (in reply to RCPT TO command)")


@pytest.mark.faq("sendmail-v", "7c")
def test_behaviour_a_probe_of_a_dead_host_is_not_tried_again(lab: Lab) -> None:
    """Postfix does not retry a probe: a host that is down makes it undeliverable at once."""
    lab.remote.stop()

    mail = lab.mail.send(to="joe@example.net", options=lab.mail.cure.words("-bv"))
    lab.settle(mail)

    assert not lab.mail.queue()
    assert report_on(lab, "joe@example.net")["Action"] == "undeliverable"
    assert report_on(lab, "joe@example.net")["Status"] == "4.4.1"


@pytest.mark.faq("sendmail-v", "7d")
def test_behaviour_twice_v_shows_the_command_at_work_and_no_delivery(lab: Lab) -> None:
    """With -v -v sendmail logs its exchange with postdrop: no SMTP dialogue, no report."""
    mail = lab.mail.send(to="joe@example.net", options=lab.mail.cure.words("-v", "-v"))
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    lines = mail.submission.reply.splitlines()
    assert all(line.startswith(("sendmail: ", "postdrop: ")) for line in lines)
    assert "sendmail: input attribute name: queue_id" in lines
    assert "250" not in mail.submission.reply
    assert not lab.mail.mailbox("bob")


@pytest.mark.faq("sendmail-v")
def test_cure_notification_of_success_is_asked_for_by_option(lab: Lab) -> None:
    """With -N success -V id local delivery is confirmed under the given id."""
    options = lab.mail.cure.words("-N", "success,delay", "-V", "order-4711")

    mail = lab.mail.send(to="joe@example.com", options=options)
    lab.settle(mail)

    assert mail.delivered_to(lab.mail, mailbox="joe")
    assert subjects(lab) == ["Successful Mail Delivery Report"]
    (report,) = lab.mail.mailbox("bob")
    assert message.dsn_fields(report)[""]["Original-Envelope-Id"] == "order-4711"
    fields = report_on(lab, "joe@example.com")
    assert (fields["Action"], fields["Status"]) == ("delivered", "2.0.0")
    diagnosis = "X-Postfix; delivery via local: delivered to mailbox"
    assert fields["Diagnostic-Code"] == diagnosis


@pytest.mark.faq("sendmail-v")
def test_behaviour_the_last_host_that_knows_dsn_confirms(lab: Lab) -> None:
    """The request travels with the mail: the remote host's Postfix sends the report."""
    mail = lab.mail.send(to="joe@example.net", options=lab.mail.cure.words("-N", "success"))
    lab.settle(mail)

    assert subjects(lab) == ["Successful Mail Delivery Report"]
    (report,) = lab.mail.mailbox("bob")
    assert "MAILER-DAEMON@remote.example.net" in report["From"]
    assert message.dsn_fields(report)[""]["Reporting-MTA"] == "dns; remote.example.net"
    assert report_on(lab, "joe@example.net")["Action"] == "delivered"


@pytest.mark.faq("sendmail-v")
def test_behaviour_a_next_host_without_dsn_makes_the_first_confirm(lab: Lab) -> None:
    """For mail relayed to a host without DSN the first host reports "relayed"."""
    lab.remote.misconfigure(smtpd_discard_ehlo_keywords="dsn, silent-discard")

    mail = lab.mail.send(to="joe@example.net", options=["-N", "success"])
    lab.settle(mail)

    (report,) = lab.mail.mailbox("bob")
    assert message.dsn_fields(report)[""]["Reporting-MTA"] == "dns; mail.example.com"
    assert report_on(lab, "joe@example.net")["Action"] == "relayed"


@pytest.mark.faq("sendmail-v")
def test_cure_notification_of_success_is_asked_for_in_rcpt(lab: Lab) -> None:
    """With NOTIFY=SUCCESS for one of two recipients the report omits the other."""
    notify = " ".join(lab.mail.cure.words("NOTIFY=SUCCESS ORCPT=rfc822;alice@example.com"))
    recipients = ["alice@example.com", "carol@example.com"]
    probe = message.compose(sender="bob@example.net", recipients=recipients)

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
    about = message.dsn_fields(reports[0])
    assert list(about) == ["", "alice@example.com"]
    assert about[""]["Original-Envelope-Id"] == "order-4711"
    assert about["alice@example.com"]["Action"] == "delivered"
    assert probe.raw.decode().splitlines()[-1] not in str(reports[0])
