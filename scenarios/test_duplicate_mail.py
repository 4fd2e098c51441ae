"""Postfix sends duplicate mail.

Move lists to virtual_alias_maps, and set enable_original_recipient = no. Postfix expands
virtual aliases before it queues the message, so that equal recipients are merged. local(8)
knows only the recipient at hand: a user reached through several recipients of one message
gets one copy for each.

local(8) suppresses duplicates within one alias tree (duplicate_filter_limit), and not
across parts of the tree that become separate messages. It serves recipients in parallel;
with virtual aliases all recipients wait until the last list is expanded, which is the price
that the FAQ names.

Since the FAQ:
- 2.0: Postfix tells recipients apart by their original address, which brought duplicates
  back in virtual aliases.
- 2.1: enable_original_recipient=no turns that off.
"""

import pytest

from maillab import Delivery, Lab, PickedUp

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
    """Return Delivered-To and X-Original-To of each copy in a mailbox, sorted."""
    return sorted((copy["Delivered-To"], copy["X-Original-To"]) for copy in lab.mail.mailbox(user))


@pytest.mark.faq("duplicate-mail", "24-S1")
def test_symptom_several_recipients_reach_one_user(lab: Lab) -> None:
    """A message to a list, a member and the member's other list arrives three times."""
    lab.mail.aliases(ALIASES)
    lab.mail.configure(
        virtual_alias_maps=lab.mail.table("virtual", VIRTUAL), enable_original_recipient="no"
    )
    lab.mail.misconfigure(virtual_alias_maps="", enable_original_recipient="yes")

    mail = lab.remote.send(to=ALL_BOB_STAFF)
    lab.settle(mail)

    assert copies(lab) == [(address, address) for address in ALL_BOB_STAFF]
    assert [len(copies(lab, user)) for user in ("alice", "carol")] == [1, 2]
    to_bob = [event for event in lab.events(Delivery, lab.mail) if event.to.startswith("bob@")]
    assert sorted(event.orig_to for event in to_bob) == ["", "all@example.com", "staff@example.com"]
    assert {(event.dsn, event.status, event.reply) for event in to_bob} == {
        ("2.0.0", "sent", "delivered to mailbox")
    }


@pytest.mark.faq("duplicate-mail", "24-S4")
def test_cure_virtual_aliases_that_forget_the_original_recipient(lab: Lab) -> None:
    """Virtual aliases are expanded before queueing, so equal recipients are merged."""
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
    """By default the same recipient from two lists counts as two."""
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
    """Without original recipients the lists' common member gets one copy."""
    lab.mail.configure(virtual_alias_maps=lab.mail.table("virtual", SEPARATE))
    lab.mail.cure.configure(enable_original_recipient="no")

    mail = lab.remote.send(to=["sales@example.com", "support@example.com"])
    lab.settle(mail)

    assert copies(lab) == [("bob@example.com", None)]


@pytest.mark.faq("duplicate-mail", "24-S4")
def test_behaviour_nested_virtual_lists_make_no_duplicates(lab: Lab) -> None:
    """One recipient's expansion contains no duplicates by default."""
    lab.mail.cure.configure(virtual_alias_maps=lab.mail.table("virtual", VIRTUAL))

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
    """Repeats in an alias tree or of the same address do not duplicate mail."""
    lab.mail.aliases(ALIASES)

    mail = lab.client.smtp(recipients, server=lab.mail)
    lab.settle(mail)

    assert copies(lab) == [(delivered_to, recipients[0])]


@pytest.mark.faq("duplicate-mail", "24-S2")
def test_symptom_a_list_is_longer_than_local_remembers(lab: Lab) -> None:
    """Beyond duplicate_filter_limit local(8) forgets recipients it has served."""
    lab.mail.aliases(ALIASES)
    lab.mail.misconfigure(duplicate_filter_limit="1")

    mail = lab.remote.send(to="all@example.com")
    lab.settle(mail)

    assert copies(lab) == [("all@example.com", "all@example.com")] * 2
    lab.expects(duplicated=1, because="the duplicate filter holds one recipient")


GATE = "/tmp/gate"  # noqa: S108  # on a host of the lab
# Two commands that can only end if both run at once: each opens its end of a FIFO.
MEETING = {
    "reader": f'"|cat >/dev/null; read -r line <{GATE}"',
    "writer": f'"|cat >/dev/null; echo met >{GATE}"',
}


@pytest.mark.faq("duplicate-mail", "24-S1")
@pytest.mark.parametrize(
    ("maxproc", "outcome"), [("-", "sent"), ("1", "bounced")], ids=["parallel", "one-by-one"]
)
def test_behaviour_local_recipients_are_served_in_parallel(
    lab: Lab, maxproc: str, outcome: str
) -> None:
    """Two recipients' commands run at once, unless master.cf allows a single local(8)."""
    lab.mail.run("mkfifo", "-m", "0666", GATE)
    lab.mail.aliases(MEETING)
    lab.mail.configure(command_time_limit="1000s" if maxproc == "-" else "1s")
    if maxproc != "-":
        lab.mail.mistake.service(f"local unix - n n - {maxproc} local")
    if outcome == "sent":
        lab.expects(consumed=2, because="the commands only wait for each other")

    mail = lab.client.smtp([f"{name}@example.com" for name in MEETING], server=lab.mail)
    lab.settle(mail)

    statuses = [
        event.status for event in lab.events(Delivery, lab.mail) if event.service == "local"
    ]
    assert statuses == [outcome] * 2


# Members that map to themselves need no lookup in the second table.
FIRST = {
    "first@example.com": "alice@example.com",
    "alice@example.com": "alice@example.com",
    "later@example.com": "later@example.com",
}
# A lookup server (tcp_table(5)) whose one list arrives when the gate opens.
TABLE = "/usr/local/bin/table"
PORT = "127.0.0.1:10111"
QUICK = """#!/usr/bin/env python3
import sys
for line in sys.stdin:
    found = line == "get second@example.com\\n"
    print("200 bob@example.com" if found else "500 none", flush=True)
"""
SLOW = QUICK.replace("    print", f"    found and open('{GATE}').read()\n    print")


@pytest.mark.faq("duplicate-mail", "24-S4")
def test_behaviour_expansion_before_the_queue_makes_all_recipients_wait(lab: Lab) -> None:
    """Until the second list has arrived, the first list's member gets nothing.

    A later message to a local alias overtakes the mail to the virtual lists.
    """
    lab.mail.run("mkfifo", "-m", "0666", GATE)
    lab.mail.write(TABLE, QUICK, mode=0o755)
    lab.mail.mistake.write(TABLE, SLOW, mode=0o755)
    lab.mail.service(f"{PORT} inet n n n - 0 spawn user=nobody argv={TABLE}")
    lab.mail.aliases({"later": "carol"})
    lab.mail.configure(
        virtual_alias_domains="",
        virtual_alias_maps=f"{lab.mail.table('first', FIRST)}, tcp:{PORT}",
    )

    virtual = lab.mail.send(to=["first@example.com", "second@example.com"])
    lab.wait_for(PickedUp, host=lab.mail)
    local = lab.client.smtp("later@example.com", server=lab.mail)
    lab.settle(local, until=local.delivered_to(lab.mail, mailbox="carol"))

    assert local.delivered_to(lab.mail, mailbox="carol")
    assert not virtual.delivered_to(lab.mail, mailbox="alice")
    lab.mail.run("sh", "-c", f"echo open >{GATE}")
    lab.settle(virtual)
    assert virtual.delivered_to(lab.mail, mailbox="alice")
    assert virtual.delivered_to(lab.mail, mailbox="bob")


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
    """A list with an owner or an :include: file becomes a new message without the filter."""
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
    assert [event.forwarded_as for event in lab.events(Delivery, lab.mail) if event.forwarded_as]


REMOTE = {"first": "dave@example.net, second", "second": "dave@example.net, joe@example.net"}


@pytest.mark.faq("duplicate-mail", "24-S3")
def test_symptom_a_remote_member_of_two_lists_gets_two_copies(lab: Lab) -> None:
    """Each list is forwarded as a separate message, in a separate transaction."""
    virtual = {
        f"{name}@example.com": members.replace("second", "second@example.com")
        for name, members in REMOTE.items()
    }
    lab.mail.aliases(REMOTE)
    lab.mail.configure(
        virtual_alias_maps=lab.mail.table("virtual", virtual), enable_original_recipient="no"
    )
    lab.mail.misconfigure(virtual_alias_maps="", enable_original_recipient="yes")

    mail = lab.client.smtp(["first@example.com", "second@example.com"], server=lab.mail)
    lab.settle(mail)

    assert [len(lab.remote.mailbox(user)) for user in ("dave", "joe")] == [2, 2]
    onward = [event for event in lab.events(Delivery, lab.mail) if event.service == "smtp"]
    assert len({event.next_queue_id for event in onward}) == 2


@pytest.mark.faq("duplicate-mail", "24-S3")
def test_behaviour_a_remote_member_of_one_tree_gets_one_copy(lab: Lab) -> None:
    """A list nested in another sends each remote member one copy."""
    lab.mail.aliases(REMOTE)

    mail = lab.client.smtp("first@example.com", server=lab.mail)
    lab.settle(mail)

    assert [len(lab.remote.mailbox(user)) for user in ("dave", "joe")] == [1, 1]


@pytest.mark.faq("duplicate-mail")
def test_cure_the_mailbox_knows_the_message(lab: Lab) -> None:
    """A delivery program that remembers Message-IDs (formail(1) -D) stores one copy of three."""
    lab.mail.aliases(ALIASES)
    lab.mail.configure(mailbox_command="/usr/bin/procmail")
    lab.mail.cure.write(
        "/home/bob/.procmailrc",
        ":0 Wh: msgid.lock\n| formail -D 8192 msgid.cache\n",
        owner="bob",
    )
    lab.expects(consumed=2, because="bob's recipe drops copies that he already has")

    mail = lab.remote.send(to=ALL_BOB_STAFF)
    lab.settle(mail)

    assert len(copies(lab)) == 1
    assert len(copies(lab, "carol")) == 2
