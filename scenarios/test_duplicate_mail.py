"""Postfix sends duplicate mail.

A user whom a message reaches by several recipients, say a list and the user's
own address, gets a copy for each. local(8) knows only the recipient at hand:
it suppresses duplicates within the tree of one alias (duplicate_filter_limit),
and loses sight of a part of the tree as soon as that part becomes a message of
its own. The FAQ's answer holds: move lists to virtual aliases, which are
expanded before the message is queued, so that equal recipients are seen. Since
2.0 a recipient is told apart by what it was originally sent to, too, which
brought back duplicates; enable_original_recipient=no (2.1) turns that off.
"""

import pytest

from maillab.lab import Lab
from maillab.maillog import Delivery

pytestmark = pytest.mark.topology("standalone")

ALIASES = {"all": "alice, bob, staff", "staff": "bob, carol"}
VIRTUAL = {
    "all@example.com": "alice@example.com, bob@example.com, staff@example.com",
    "staff@example.com": "bob@example.com, carol@example.com",
}
SEPARATE = {
    "sales@example.com": "alice@example.com, bob@example.com",
    "support@example.com": "bob@example.com, carol@example.com",
}
ALL_BOB_STAFF = ["all@example.com", "bob@example.com", "staff@example.com"]


def copies(lab: Lab, user: str = "bob") -> list[tuple[str, str | None]]:
    """Delivered-To and X-Original-To of each copy in a mailbox, sorted."""
    return sorted((copy["Delivered-To"], copy["X-Original-To"]) for copy in lab.mail.mailbox(user))


@pytest.mark.faq("duplicate-mail", "24-S1")
def test_symptom_several_recipients_reach_one_user(lab: Lab) -> None:
    """One message to a list, a member and another of the member's lists comes thrice."""
    lab.mail.aliases(ALIASES)
    lab.mail.configure(
        virtual_alias_maps=lab.mail.table("virtual", VIRTUAL), enable_original_recipient="no"
    )
    lab.mail.misconfigure(virtual_alias_maps="", enable_original_recipient="yes")

    mail = lab.remote.send(to=ALL_BOB_STAFF)
    lab.settle(mail)

    assert copies(lab) == [(address, address) for address in ALL_BOB_STAFF]
    assert [len(copies(lab, user)) for user in ("alice", "carol")] == [1, 2]
    to_bob = [one for one in lab.events(Delivery, lab.mail) if one.to.startswith("bob@")]
    assert sorted(one.orig_to for one in to_bob) == ["", "all@example.com", "staff@example.com"]
    assert {(one.dsn, one.status, one.reply) for one in to_bob} == {
        ("2.0.0", "sent", "delivered to mailbox")
    }


@pytest.mark.faq("duplicate-mail", "24-S4")
def test_cure_virtual_aliases_that_forget_the_original_recipient(lab: Lab) -> None:
    """Expanded before the message is queued, equal recipients are one."""
    lab.mail.aliases(ALIASES)
    virtual = lab.mail.table("virtual", VIRTUAL)
    lab.mail.cure.configure(virtual_alias_maps=virtual, enable_original_recipient="no")

    mail = lab.remote.send(to=ALL_BOB_STAFF)
    lab.settle(mail)

    assert copies(lab) == [("bob@example.com", None)]
    assert copies(lab, "alice") == [("alice@example.com", None)]
    assert copies(lab, "carol") == [("carol@example.com", None)]


@pytest.mark.faq("duplicate-mail", "24-S4")
def test_symptom_virtual_aliases_alone_are_not_enough(lab: Lab) -> None:
    """By default a recipient is another one when it comes from another list."""
    lab.mail.configure(
        virtual_alias_maps=lab.mail.table("virtual", SEPARATE), enable_original_recipient="no"
    )
    lab.mail.misconfigure(enable_original_recipient="yes")

    mail = lab.remote.send(to=["sales@example.com", "support@example.com"])
    lab.settle(mail)

    assert copies(lab) == [
        ("bob@example.com", "sales@example.com"),
        ("bob@example.com", "support@example.com"),
    ]


@pytest.mark.faq("duplicate-mail", "24-S4")
def test_cure_the_original_recipient_is_forgotten(lab: Lab) -> None:
    """Without it the two lists' common member is one recipient, and X-Original-To is gone."""
    lab.mail.configure(virtual_alias_maps=lab.mail.table("virtual", SEPARATE))
    lab.mail.cure.configure(enable_original_recipient="no")

    mail = lab.remote.send(to=["sales@example.com", "support@example.com"])
    lab.settle(mail)

    assert copies(lab) == [("bob@example.com", None)]


@pytest.mark.faq("duplicate-mail", "24-S4")
def test_behaviour_nested_virtual_lists_make_no_duplicates(lab: Lab) -> None:
    """What one recipient expands to is free of duplicates by default."""
    lab.mail.configure(virtual_alias_maps=lab.mail.table("virtual", VIRTUAL))

    mail = lab.remote.send(to="all@example.com")
    lab.settle(mail)

    assert copies(lab) == [("bob@example.com", "all@example.com")]
    assert copies(lab, "carol") == [("carol@example.com", "all@example.com")]


@pytest.mark.faq("duplicate-mail", "24-S2")
@pytest.mark.parametrize(
    ("recipients", "delivered_to"),
    [
        (["all@example.com"], "all@example.com"),
        (["bob@example.com", "bob@example.com", "BOB@example.com"], "bob@example.com"),
    ],
    ids=["one-tree", "same-address"],
)
def test_behaviour_one_recipient_makes_one_copy(
    lab: Lab, recipients: list[str], delivered_to: str
) -> None:
    """Neither an alias that leads to a user twice nor an address given thrice repeats mail."""
    lab.mail.aliases(ALIASES)

    mail = lab.client.submit(recipients, server=lab.mail)
    lab.settle(mail)

    assert copies(lab) == [(delivered_to, recipients[0])]


@pytest.mark.faq("duplicate-mail", "24-S2")
def test_symptom_a_list_is_longer_than_local_remembers(lab: Lab) -> None:
    """Beyond duplicate_filter_limit local(8) forgets whom it has served."""
    lab.mail.aliases(ALIASES)
    lab.mail.misconfigure(duplicate_filter_limit="1")

    mail = lab.remote.send(to="all@example.com")
    lab.settle(mail)

    assert copies(lab) == [("all@example.com", "all@example.com")] * 2
    lab.expects(duplicated=1, because="the duplicate filter holds one recipient")


@pytest.mark.faq("duplicate-mail", "24-S3")
@pytest.mark.parametrize(
    ("aliases", "original"),
    [
        ({**ALIASES, "owner-staff": "joe"}, "bob@mail.example.com"),
        ({"all": ":include:/etc/postfix/list, bob"}, "all@example.com"),
    ],
    ids=["owner", "include"],
)
def test_symptom_a_sublist_becomes_a_message_of_its_own(
    lab: Lab, aliases: dict[str, str], original: str
) -> None:
    """A list with an owner, or in a file, is queued anew, and its members are forgotten."""
    lab.mail.aliases(ALIASES)
    lab.mail.write("/etc/postfix/list", "bob\ncarol\n")
    lab.mail.mistake.aliases(aliases)

    mail = lab.remote.send(to="all@example.com")
    lab.settle(mail)

    assert copies(lab) == [
        ("all@example.com", "all@example.com"),
        ("bob@mail.example.com", original),
    ]
    assert len(copies(lab, "carol")) == 1
    assert [one.forwarded_as for one in lab.events(Delivery, lab.mail) if one.forwarded_as]


REMOTE = {"first": "dave@example.net, second", "second": "dave@example.net, joe@example.net"}


@pytest.mark.faq("duplicate-mail", "24-S3")
def test_symptom_a_remote_member_of_two_lists_gets_two_copies(lab: Lab) -> None:
    """Each list is forwarded as a message of its own, by a transaction of its own."""
    virtual = {
        f"{name}@example.com": members.replace("second", "second@example.com")
        for name, members in REMOTE.items()
    }
    lab.mail.aliases(REMOTE)
    lab.mail.configure(
        virtual_alias_maps=lab.mail.table("virtual", virtual), enable_original_recipient="no"
    )
    lab.mail.misconfigure(virtual_alias_maps="", enable_original_recipient="yes")

    mail = lab.client.submit(["first@example.com", "second@example.com"], server=lab.mail)
    lab.settle(mail)

    assert [len(lab.remote.mailbox(user)) for user in ("dave", "joe")] == [2, 2]
    onward = [one for one in lab.events(Delivery, lab.mail) if one.service == "smtp"]
    assert len({one.next_queue_id for one in onward}) == 2


@pytest.mark.faq("duplicate-mail", "24-S3")
def test_behaviour_a_remote_member_of_one_tree_gets_one_copy(lab: Lab) -> None:
    """By one list that contains the other each gets the message once."""
    lab.mail.aliases(REMOTE)

    mail = lab.client.submit("first@example.com", server=lab.mail)
    lab.settle(mail)

    assert [len(lab.remote.mailbox(user)) for user in ("dave", "joe")] == [1, 1]


@pytest.mark.faq("duplicate-mail")
def test_cure_the_mailbox_knows_the_message(lab: Lab) -> None:
    """A delivery program that remembers Message-IDs (formail(1) -D) stores one of three."""
    lab.mail.aliases(ALIASES)
    lab.mail.configure(mailbox_command="/usr/bin/procmail")
    lab.mail.cure.write(
        "/home/bob/.procmailrc",
        ":0 Wh: msgid.lock\n| formail -D 8192 msgid.cache\n",
        owner="bob",
    )

    mail = lab.remote.send(to=ALL_BOB_STAFF)
    lab.settle(mail)

    assert len(copies(lab)) == 1
    assert len(copies(lab, "carol")) == 2
