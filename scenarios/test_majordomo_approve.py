"""Postfix breaks "majordomo approve".

To approve a message the moderator sends the list's copy back to the list. That copy has a
Delivered-To header with the list's name, so local(8) treats it as a mail loop. Strip the
header before approving, or stop Postfix from adding it for commands:
prepend_delivered_header = file, forward.

Majordomo itself is gone from Debian: the list here is a command that stores each message.
formail(1) sends the stored copy to the list again, as majordomo's approve script did:
unchanged except for the password in an Approved header.

Since the FAQ:
- The answer is unchanged.
"""

import pytest

from maillab import Lab, Mail

pytestmark = pytest.mark.topology("standalone")

LIST = "list@example.com"
ARCHIVE = "/var/vmail/list"
LOOP = f"mail forwarding loop for {LIST}"
HEADER_CHECKS = "/^Delivered-To:/ IGNORE\n"


def approve(lab: Lab, *words: str) -> Mail:
    """Post to the list, and send the copy that its program stored to the list again.

    The words are further options of formail(1), which edits the copy.
    """
    lab.rewrites("Approved", because="the moderator adds the password")
    lab.mail.run("install", "-d", "-m", "1777", "/var/vmail")
    lab.mail.aliases({"list": f'"|(cat; echo) >>{ARCHIVE}"'})
    mail = lab.remote.send(to=LIST, body="please approve")
    lab.settle(mail)
    copy = lab.mail.read(ARCHIVE) or ""
    resend = ("-A", "Approved: secret", *words, "-s", "sendmail", "-i", LIST)
    lab.mail.run("formail", *resend, user="joe", stdin=copy)
    lab.settle(mail)
    return mail


def posts(lab: Lab, mail: Mail) -> list[str]:
    """Return the Approved header, "" without one, of each copy that the list's program received."""
    received = [post for post in lab.mail.mailbox("list") if post["Message-ID"] == mail.message_id]
    return [str(post.get("Approved", "")) for post in received]


@pytest.mark.faq("majordomo-approve", "38-S1")
def test_symptom_an_approved_post_is_taken_for_a_loop(lab: Lab) -> None:
    """Delivered-To says that the list already received the copy, so it bounces."""
    lab.mail.configure(prepend_delivered_header="file, forward")
    lab.mail.misconfigure(prepend_delivered_header="command, file, forward")

    mail = approve(lab)

    assert mail.bounced(dsn="5.4.6", saying=LOOP)
    (notice,) = lab.mail.mailbox("joe")
    assert LOOP in str(notice)


@pytest.mark.faq("majordomo-approve", "38-S2")
def test_cure_the_moderator_strips_the_header(lab: Lab) -> None:
    """Without its Delivered-To header the copy reaches the list again."""
    mail = approve(lab, *lab.mail.cure.words("-I", "Delivered-To:"))

    assert not mail.bounced()
    assert posts(lab, mail) == ["", "secret"]


@pytest.mark.faq("majordomo-approve", "38-S3")
def test_cure_commands_get_no_such_header(lab: Lab) -> None:
    """Without the header for commands the list's copy can be sent as it is."""
    lab.mail.cure.configure(prepend_delivered_header="file, forward")

    mail = approve(lab)

    assert not mail.bounced()
    assert posts(lab, mail) == ["", "secret"]


@pytest.mark.faq("majordomo-approve", "38-S4")
def test_cure_the_header_is_dropped_on_arrival(lab: Lab) -> None:
    """header_checks strips the header from all incoming mail: crude, but it works."""
    table = lab.mail.cure.table("header_checks", HEADER_CHECKS, kind="regexp")
    lab.mail.cure.configure(header_checks=table)

    mail = approve(lab)

    assert not mail.bounced()
    assert posts(lab, mail) == ["", "secret"]


@pytest.mark.faq("majordomo-approve", "38-S4")
def test_symptom_where_the_header_is_dropped_a_loop_goes_unnoticed(lab: Lab) -> None:
    """The price: Postfix no longer recognizes mail that loops through another host."""
    lab.mail.aliases({"loop": "loop@example.net"})
    lab.remote.aliases({"loop": "loop@example.com"})
    for host in (lab.mail, lab.remote):
        host.configure(hopcount_limit="10")
        table = host.table("header_checks", HEADER_CHECKS, kind="regexp")
        host.misconfigure(header_checks=table)

    mail = lab.client.smtp("loop@example.com", server=lab.mail, sender="dave@example.net")
    lab.settle(mail)

    assert mail.bounced(dsn="5.4.0", saying="too many hops")
