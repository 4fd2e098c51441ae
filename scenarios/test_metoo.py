"""Postfix sends mail to every member of a distribution list.

That includes the sender. sendmail's MeToo option has no counterpart: Postfix accepts
"sendmail -om" and ignores it. Users who do not want their own posts need a list manager,
or a program of their own that filters their mail.

Since the FAQ:
- The answer is unchanged.
"""

import pytest

from maillab import Delivery, Lab

pytestmark = pytest.mark.topology("standalone")

LIST = {"all": "alice, bob"}
FORWARD = '"|/usr/local/bin/drop-own"\n'
DROP_OWN = """#!/bin/sh
# Drop the user's own posts: local(8) sets SENDER.
[ "$SENDER" = "$USER@mail.example.com" ] && exit 0
exec procmail -d "$USER"
"""


@pytest.mark.faq("metoo", "25-S1")
@pytest.mark.parametrize("options", [[], ["-om"]], ids=["plain", "-om"])
def test_symptom_the_poster_gets_a_copy(lab: Lab, options: list[str]) -> None:
    """A list member always gets their own posts, with or without -om."""
    lab.mail.aliases(LIST)
    lab.mail.write("/usr/local/bin/drop-own", DROP_OWN, mode=0o755)
    lab.mail.write("/home/alice/.forward", FORWARD, owner="alice")
    lab.mail.mistake.run("rm", "/home/alice/.forward")

    mail = lab.mail.send(to="all", user="alice", options=options)
    lab.settle(mail)

    assert mail.delivered_to(lab.mail, mailbox="alice")
    assert mail.delivered_to(lab.mail, mailbox="bob")
    assert mail.submission.reply == ""
    sent = [
        (event.to, event.orig_to, event.dsn, event.reply)
        for event in lab.events(Delivery, lab.mail)
    ]
    assert sorted(sent) == [
        (f"{user}@mail.example.com", "all", "2.0.0", "delivered to mailbox")
        for user in ("alice", "bob")
    ]


@pytest.mark.faq("metoo", "25-S2")
def test_cure_a_program_of_the_users_own_drops_his_posts(lab: Lab) -> None:
    """The program drops alice's own posts and stores other mail; bob still gets both."""
    lab.mail.aliases(LIST)
    lab.mail.write("/usr/local/bin/drop-own", DROP_OWN, mode=0o755)
    lab.mail.cure.write("/home/alice/.forward", FORWARD, owner="alice")
    lab.expects(consumed=1, because="alice wants no copy of her own post")

    own = lab.mail.send(to="all", user="alice")
    others = lab.mail.send(to="all", user="bob")
    lab.settle(own, others)

    assert not own.delivered_to(lab.mail, mailbox="alice")
    assert own.delivered_to(lab.mail, mailbox="bob")
    assert others.delivered_to(lab.mail, mailbox="alice")
    assert others.delivered_to(lab.mail, mailbox="bob")
    to_alice = [event for event in lab.events(Delivery, lab.mail) if event.to.startswith("alice@")]
    assert [(event.status, event.dsn, event.reply) for event in to_alice] == [
        ("sent", "2.0.0", "delivered to command: /usr/local/bin/drop-own")
    ] * 2
