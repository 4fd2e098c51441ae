"""Sendmail compared: seven of the FAQ's answers contrast it with Postfix; both are tested.

The same mail goes through Sendmail 8.18 and through Postfix. Four of the FAQ's
statements about Sendmail still hold: it removes duplicates across all recipients of a
message (24), sends list mail in the owner's name (26), shows the SMTP dialogue for -v
(7), and notifies senders of delayed mail (8). Two do not: since 8.10 Sendmail also sends
a list's mail to the member who wrote it (25), and it pipelines RCPT TO and DATA, which
the FAQ says it cannot (21). In two cases Postfix has changed and the contrast is gone:
both skip an MX host with an unfriendly greeting (22), and with both a list's owner gets a
program's failure, since Postfix 2.8 (26).
"""

import pytest

from maillab import Lab, MailServer
from maillab.faults import Greeting

pytestmark = pytest.mark.topology("sendmail")

BOTH = pytest.mark.parametrize("name", ["postfix", "sendmail"])
MEMBERS = "/etc/members"
NESTED = {"all": "alice, bob, staff", "staff": "bob, carol"}


def copies(host: MailServer, *users: str) -> dict[str, int]:
    """Return the number of messages that each user has."""
    return {user: len(host.mailbox(user)) for user in users}


@pytest.mark.faq("duplicate-mail", "24-S1")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("postfix", {"alice": 1, "bob": 3, "carol": 2}),
        ("sendmail", {"alice": 1, "bob": 1, "carol": 1}),
    ],
)
def test_behaviour_sendmail_removes_duplicates_over_all_recipients(
    lab: Lab, name: str, expected: dict[str, int]
) -> None:
    """For bob, on both lists and a recipient himself, Postfix stores three copies, Sendmail one."""
    host: MailServer = getattr(lab, name)
    host.aliases(NESTED)

    mail = lab.remote.smtp([f"{to}@{host.fqdn}" for to in ("all", "bob", "staff")], server=host)
    lab.settle(mail)

    assert copies(host, "alice", "bob", "carol") == expected
    assert mail.delivered_to(host, mailbox="bob")


@pytest.mark.faq("duplicate-mail", "24-S3")
@pytest.mark.parametrize(("name", "bobs"), [("postfix", 2), ("sendmail", 1)])
@pytest.mark.parametrize(
    "sublist",
    [{"staff": "bob, carol", "owner-staff": "joe"}, {"staff": f":include:{MEMBERS}"}],
    ids=["owner", "include"],
)
def test_behaviour_sendmail_expands_a_sublist_within_the_same_message(
    lab: Lab, name: str, bobs: int, sublist: dict[str, str]
) -> None:
    """Postfix queues the sublist as a new message without the filter; Sendmail does not."""
    host: MailServer = getattr(lab, name)
    host.write(MEMBERS, "bob\ncarol\n", mode=0o644)
    host.aliases({"all": "alice, bob, staff", **sublist})

    mail = lab.remote.smtp(f"all@{host.fqdn}", server=host)
    lab.settle(mail)

    assert copies(host, "alice", "bob", "carol") == {"alice": 1, "bob": bobs, "carol": 1}


@pytest.mark.faq("metoo", "25-S1")
@BOTH
def test_historic_both_send_a_lists_mail_to_its_author(lab: Lab, name: str) -> None:
    """The FAQ says that Sendmail omits the author; since 8.10 MeToo is on by default."""
    host: MailServer = getattr(lab, name)
    host.aliases({"all": "alice, bob"})

    mail = host.send(to="all", user="alice")
    lab.settle(mail)

    assert copies(host, "alice", "bob") == {"alice": 1, "bob": 1}


@pytest.mark.faq("metoo", "25-S1")
def test_behaviour_without_metoo_sendmail_leaves_the_author_out(lab: Lab) -> None:
    """Sendmail omits the author only with MeToo off."""
    lab.sendmail.aliases({"all": "alice, bob"})
    lab.sendmail.cure.configure(confME_TOO="False")

    mail = lab.sendmail.send(to="all", user="alice")
    lab.settle(mail)

    assert copies(lab.sendmail, "alice", "bob") == {"alice": 0, "bob": 1}


@pytest.mark.faq("owner-alias", "26-S2")
@pytest.mark.parametrize(
    ("name", "sender", "notices", "command"),
    [
        ("postfix", "owner-crew", 2, "Final-Recipient: rfc822; crew@postfix.example.com"),
        ("sendmail", "joe", 1, "X-Actual-Recipient: X-Unix; |exit 67"),
    ],
)
def test_behaviour_both_return_what_a_list_cannot_deliver_to_its_owner(
    lab: Lab, name: str, sender: str, notices: int, command: str
) -> None:
    """Sendmail uses the owner's own address as sender, and reports all failures in one notice.

    Sendmail names the command that failed; Postfix names the list.
    """
    host: MailServer = getattr(lab, name)
    host.aliases({"crew": 'alice, baduser@example.net, "|exit 67"', "owner-crew": "joe"})

    mail = lab.remote.send(to=f"crew@{host.fqdn}", user="carol")
    lab.settle(mail)

    (copy,) = host.mailbox("alice")
    assert copy["Return-Path"] == f"<{sender}@{host.fqdn}>"
    returned = host.mailbox("joe")
    assert len(returned) == notices
    text = "".join(str(notice) for notice in returned)
    assert "rfc822; baduser@example.net" in text
    assert command in text
    assert lab.remote.mailbox("carol") == []


@pytest.mark.faq("owner-alias", "26-S1")
@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("postfix", "Final-Recipient: rfc822; crew@postfix.example.com"),
        ("sendmail", "X-Actual-Recipient: X-Unix; |exit 67"),
    ],
)
def test_behaviour_without_an_owner_both_return_it_to_the_author(
    lab: Lab, name: str, command: str
) -> None:
    """Without an owner the author gets the notice."""
    host: MailServer = getattr(lab, name)
    host.aliases({"crew": 'alice, nosuch, "|exit 67"'})

    mail = lab.remote.send(to=f"crew@{host.fqdn}", user="carol")
    lab.settle(mail)

    (notice,) = lab.remote.mailbox("carol")
    assert f"rfc822; nosuch@{host.fqdn}" in str(notice)
    assert command in str(notice)
    (copy,) = host.mailbox("alice")
    assert copy["Return-Path"] == "<carol@example.net>"


@pytest.mark.faq("sendmail-v", "7a")
def test_behaviour_sendmail_shows_the_dialogue_and_postfix_mails_a_report(lab: Lab) -> None:
    """With -v Sendmail shows the delivery on the terminal; Postfix mails a report."""
    words = ("sendmail", "-v", "-i", "joe@example.net")
    text = "From: alice\nTo: joe@example.net\nSubject: probe\n\nhello\n"

    shown = lab.sendmail.run(*words, user="alice", stdin=text).stdout.splitlines()
    promised = lab.postfix.run(*words, user="alice", stdin=text).stdout
    lab.settle()

    # The first dialogue is with the local Sendmail, which repeats its own dialogue after 050.
    assert ">>> VERB" in shown
    assert "050 220 remote.example.net ESMTP Postfix" in shown
    assert "050 >>> RCPT To:<joe@example.net>" in shown
    (last,) = [line for line in shown if line.startswith("050 <joe@example.net>... Sent")]
    assert "Ok: queued as" in last
    assert lab.sendmail.mailbox("alice") == []
    assert promised == "Mail Delivery Status Report will be mailed to <alice>.\n"
    (report,) = lab.postfix.mailbox("alice")
    assert report["Subject"] == "Mail Delivery Status Report"
    assert copies(lab.remote, "joe") == {"joe": 2}


# Packets to an SMTP server whose data begins with a word (pcap-filter(7)).
BEGINS = "dst host {} and tcp dst port 25 and tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x{}"


def send_and_capture(lab: Lab, host: MailServer) -> dict[str, int]:
    """Send a message for two recipients; return how many packets begin with each command."""
    lab.capture()
    lab.settle(host.send(to=["joe@example.net", "alice@example.net"]))
    lab.captured()
    expressions = {
        word: BEGINS.format(lab.remote.address, word.encode().hex())
        for word in ("EHLO", "MAIL", "RCPT", "DATA")
    }
    return {word: len(host.network.packets(expression)) for word, expression in expressions.items()}


@pytest.mark.faq("path-mtu", "21a")
@BOTH
def test_behaviour_without_pipelining_each_command_has_a_packet(lab: Lab, name: str) -> None:
    """To a server that does not offer PIPELINING both send each command in a packet of its own."""
    lab.remote.mistake.configure(smtpd_discard_ehlo_keywords="pipelining, silent-discard")

    seen = send_and_capture(lab, getattr(lab, name))

    assert seen == {"EHLO": 1, "MAIL": 1, "RCPT": 2, "DATA": 1}


@pytest.mark.faq("path-mtu", "21a")
@BOTH
def test_historic_sendmail_pipelines_too(lab: Lab, name: str) -> None:
    """Contrary to the FAQ both send every RCPT TO and DATA before the first reply to RCPT TO."""
    host: MailServer = getattr(lab, name)
    # Delays the reply to RCPT TO by a second.
    lab.remote.configure(smtpd_recipient_restrictions="sleep 1")
    lab.capture()

    mail = host.send(to=["joe@example.net", "alice@example.net"])
    lab.settle(mail)

    before_the_reply = lab.captured()["remote"].partition(b"250 2.1.5 Ok")[0]
    assert before_the_reply.count(b"RCPT T") == 2
    assert before_the_reply.count(b"DATA\r\n") == 1
    assert mail.delivered_to(lab.remote, mailbox="joe")
    assert mail.delivered_to(lab.remote, mailbox="alice")


@pytest.mark.faq("delayed-mail", "8a")
def test_behaviour_only_sendmail_tells_of_a_delay_unasked(lab: Lab) -> None:
    """After four hours Sendmail warns the sender (Timeout.queuewarn); Postfix does not."""
    lab.remote.stop()
    lab.backup.stop()
    by_sendmail = lab.sendmail.send(to="joe@example.net", user="alice")
    by_postfix = lab.postfix.send(to="joe@example.net", user="alice")
    lab.settle(by_sendmail, by_postfix)

    lab.clock.advance(hours=3)
    lab.settle(by_sendmail, by_postfix)
    early = copies(lab.sendmail, "alice")
    lab.clock.advance(hours=2)
    lab.settle(by_sendmail, by_postfix)

    assert early == {"alice": 0}
    (warning,) = lab.sendmail.mailbox("alice")
    assert warning["Subject"] == "Warning: could not send message for past 4 hours"
    assert "Action: delayed" in str(warning)
    assert by_postfix.held_by(lab.postfix)
    assert lab.postfix.mailbox("alice") == []


@pytest.mark.faq("delayed-mail", "8b")
def test_cure_postfix_warns_like_sendmail_when_told_to(lab: Lab) -> None:
    """With delay_warning_time = 4h Postfix warns as Sendmail does by default."""
    lab.postfix.cure.configure(delay_warning_time="4h")
    lab.remote.stop()
    lab.backup.stop()
    mail = lab.postfix.send(to="joe@example.net", user="alice")
    lab.settle(mail)

    lab.clock.advance(hours=5)
    lab.settle(mail)

    warnings = [notice["Subject"] for notice in lab.postfix.mailbox("alice")]
    assert warnings == ["Delayed Mail (still being retried)"]


@pytest.mark.faq("mx-greetings", "22a")
@BOTH
@pytest.mark.parametrize("greeting", ["421 too busy", "554 no mail from outside"])
def test_historic_both_leave_an_unfriendly_server_for_the_next(
    lab: Lab, name: str, greeting: str
) -> None:
    """The FAQ's statement about Sendmail now also holds for Postfix."""
    host: MailServer = getattr(lab, name)

    with lab.remote.faulty(Greeting(greeting)):
        mail = host.send(to="joe@example.net", user="alice")
        lab.settle(mail, until=mail.held_by(lab.backup))
    lab.backup.flush()
    lab.settle(mail)

    assert mail.reached(lab.backup)
    assert mail.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("mx-greetings", "22b")
def test_symptom_postfix_as_the_faq_knew_it_gives_up_where_sendmail_does_not(lab: Lab) -> None:
    """With smtp_skip_5xx_greeting=no Postfix bounces mail that Sendmail delivers."""
    lab.postfix.misconfigure(smtp_skip_5xx_greeting="no")

    with lab.remote.faulty(Greeting("554 no mail from outside")):
        by_postfix = lab.postfix.send(to="joe@example.net", user="alice")
        by_sendmail = lab.sendmail.send(to="joe@example.net", user="alice")
        lab.settle(by_postfix, by_sendmail)

    assert by_postfix.bounced(dsn="5.0.0", saying="refused to talk to me: 554 no mail")
    assert not by_postfix.reached(lab.backup)
    assert by_sendmail.held_by(lab.backup)
