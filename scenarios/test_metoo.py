"""Postfix sends mail to every member of a distribution list.

Including the one who sent it. The FAQ's answer stands: sendmail's MeToo option
has no counterpart, "sendmail -om" is taken and ignored. Who does not want his
own posts leaves that to a list manager, or to a program of his own that
receives his mail. Nothing has changed since.
"""

import pytest

from maillab.lab import Lab
from maillab.maillog import Delivery

pytestmark = pytest.mark.topology("standalone")

LIST = {"all": "alice, bob"}
FORWARD = '"|/usr/local/bin/drop-own"\n'
DROP_OWN = """#!/bin/sh
# What the user posted himself is not stored; local(8) tells who the sender is.
[ "$SENDER" = "$USER@mail.example.com" ] && exit 0
exec procmail -d "$USER"
"""


@pytest.mark.faq("metoo", "25-S1")
@pytest.mark.parametrize("options", [[], ["-om"]], ids=["plain", "-om"])
def test_symptom_the_poster_gets_a_copy(lab: Lab, options: list[str]) -> None:
    """Whoever is on a list gets what he sends to it, whether he asks for it or not."""
    lab.mail.aliases(LIST)
    lab.mail.write("/usr/local/bin/drop-own", DROP_OWN, mode=0o755)
    lab.mail.write("/home/alice/.forward", FORWARD, owner="alice")
    lab.mail.mistake.run("rm", "/home/alice/.forward")

    mail = lab.mail.send(to="all", user="alice", options=options)
    lab.settle(mail)

    assert mail.delivered_to(lab.mail, mailbox="alice")
    assert mail.delivered_to(lab.mail, mailbox="bob")
    assert mail.submission.reply == ""
    sent = [(one.to, one.orig_to, one.dsn, one.reply) for one in lab.events(Delivery, lab.mail)]
    assert sorted(sent) == [
        (f"{user}@mail.example.com", "all", "2.0.0", "delivered to mailbox")
        for user in ("alice", "bob")
    ]


@pytest.mark.faq("metoo", "25-S2")
def test_cure_a_program_of_the_users_own_drops_his_posts(lab: Lab) -> None:
    """It stores nothing of what alice sends, everything else, and nobody loses mail by it."""
    lab.mail.aliases(LIST)
    lab.mail.write("/usr/local/bin/drop-own", DROP_OWN, mode=0o755)
    lab.mail.cure.write("/home/alice/.forward", FORWARD, owner="alice")

    own = lab.mail.send(to="all", user="alice")
    others = lab.mail.send(to="all", user="bob")
    lab.settle(own, others)

    assert not own.delivered_to(lab.mail, mailbox="alice")
    assert own.delivered_to(lab.mail, mailbox="bob")
    assert others.delivered_to(lab.mail, mailbox="alice")
    assert others.delivered_to(lab.mail, mailbox="bob")
    to_alice = [one for one in lab.events(Delivery, lab.mail) if one.to.startswith("alice@")]
    assert [(one.status, one.dsn, one.reply) for one in to_alice] == [
        ("sent", "2.0.0", "delivered to command: /usr/local/bin/drop-own")
    ] * 2
