"""Postfix breaks "majordomo approve".

Who approves a message sends the copy that he got from the list to it once more,
and this copy has a Delivered-To header with the list's name: to local(8) it is
mail that came back. The FAQ's answer: strip the header before approving, or have
Postfix add none for commands (prepend_delivered_header). Both still work.
Majordomo itself is gone from Debian; the list here is a command that keeps what
it gets, and approving is what its script did.
"""

import pytest

from maillab import message
from maillab.lab import Lab
from maillab.record import Mail

pytestmark = pytest.mark.topology("standalone")

ARCHIVE = "/var/vmail/list"
LOOP = "mail forwarding loop for list@example.com"
HEADER_CHECKS = "/^Delivered-To:/ IGNORE\n"


def with_a_list(lab: Lab) -> None:
    """A list whose program keeps every post."""
    lab.mail.run("install", "-d", "-m", "1777", "/var/vmail")
    lab.mail.aliases({"list": f'"|(cat; echo) >>{ARCHIVE}"'})


def approve(lab: Lab, *, stripped: bool = False) -> Mail:
    """Post, and send the list's own copy to the list again, as the moderator does.

    Of the copy's headers those that its program got are kept, unless stripped.
    """
    post = lab.remote.send(to="list@example.com", body="please approve")
    lab.settle(post)
    copy = message.parse((lab.mail.read(ARCHIVE) or "").partition("\n")[2].encode())
    kept = "" if stripped else copy.get("Delivered-To", "")
    headers = {"Approved": "secret", "Delivered-To": str(kept)}
    mail = lab.mail.send(to="list@example.com", user="joe", headers=headers)
    lab.settle(mail)
    return mail


def posts(lab: Lab) -> int:
    """How many posts the list's program has got."""
    return (lab.mail.read(ARCHIVE) or "").count("\nMessage-ID: ")


@pytest.mark.faq("majordomo-approve", "38-S1")
def test_symptom_an_approved_post_is_taken_for_a_loop(lab: Lab) -> None:
    """The copy says that it was delivered to the list before, so it is returned."""
    with_a_list(lab)
    lab.mail.configure(prepend_delivered_header="file, forward")
    lab.mail.misconfigure(prepend_delivered_header="command, file, forward")

    mail = approve(lab)

    assert mail.bounced(dsn="5.4.6", saying=LOOP)
    (notice,) = lab.mail.mailbox("joe")
    assert LOOP in str(notice)


@pytest.mark.faq("majordomo-approve", "38-S2")
def test_behaviour_stripping_the_header_first_is_what_the_faq_recommends(lab: Lab) -> None:
    """Whoever takes the header out of the copy may send it again."""
    with_a_list(lab)

    mail = approve(lab, stripped=True)

    assert not mail.bounced()
    assert posts(lab) == 2


@pytest.mark.faq("majordomo-approve", "38-S3")
def test_cure_commands_get_no_such_header(lab: Lab) -> None:
    """Then the list's copy has none, and can be sent as it is."""
    with_a_list(lab)
    lab.mail.cure.configure(prepend_delivered_header="file, forward")

    mail = approve(lab)

    assert not mail.bounced()
    assert posts(lab) == 2


@pytest.mark.faq("majordomo-approve", "38-S4")
def test_cure_the_header_is_dropped_on_arrival(lab: Lab) -> None:
    """header_checks takes it out of all mail that arrives: blunt, but it helps."""
    with_a_list(lab)
    table = lab.mail.cure.table("header_checks", HEADER_CHECKS, kind="regexp")
    lab.mail.cure.configure(header_checks=table)

    mail = approve(lab)

    assert not mail.bounced()
    assert posts(lab) == 2


@pytest.mark.faq("majordomo-approve", "38-S4")
def test_symptom_where_the_header_is_dropped_a_loop_goes_unnoticed(lab: Lab) -> None:
    """The price: mail that comes back from elsewhere is not recognised any more."""
    lab.mail.aliases({"loop": "loop@example.net"})
    lab.remote.aliases({"loop": "loop@example.com"})
    for host in (lab.mail, lab.remote):
        host.configure(hopcount_limit="10")
        table = host.table("header_checks", HEADER_CHECKS, kind="regexp")
        host.misconfigure(header_checks=table)

    mail = lab.client.submit("loop@example.com", server=lab.mail, sender="dave@example.net")
    lab.settle(mail)

    assert mail.bounced(dsn="5.4.0", saying="too many hops")
