"""Postfix ignores the owner-list alias when it delivers to a command or a file.

Define the alias owner-list: the owner gets the notices of every failure, of members, of
commands and of files. A list without an owner sends its bounces to the poster. If members
get copies repeated after a failure, set reset_owner_alias = no.

The FAQ confirmed the limitation: only mail that a list forwards was sent in the owner's
name.

Since the FAQ:
- 2.0: the owner gets notices about mail loops.
- 2.8: the owner gets notices about commands and files.
- 2.8: a list inside another keeps the outer list's owner (reset_owner_alias=no).
"""

import pytest

from maillab import Active, Delivery, Lab, Notified

pytestmark = pytest.mark.topology("standalone")

TROUBLE = 'alice, nosuch, baduser@example.net, "|exit 67", "|/bin/false", /nonexistent/dir/file'
BROKEN = 'alice, nosuch, "|exit 67"'


def post(lab: Lab, to: str = "list@example.com", headers: dict[str, str] | None = None) -> None:
    """Post to the list as carol on another host, and wait until mail has settled."""
    mail = lab.remote.send(to=to, user="carol", headers=headers)
    lab.settle(mail)


def senders(lab: Lab) -> list[str]:
    """Return the envelope senders of all queued mail except notices, in order."""
    return [event.sender for event in lab.events(Active, lab.mail) if event.sender]


@pytest.mark.faq("owner-alias", "26-S1")
def test_symptom_without_an_owner_the_poster_hears_of_it(lab: Lab) -> None:
    """The poster gets a notice about every undeliverable member."""
    lab.mail.aliases({"list": BROKEN, "owner-list": "joe"})
    lab.mail.mistake.aliases({"list": BROKEN})

    post(lab)

    notices = lab.remote.mailbox("carol")
    assert [notice["Return-Path"] for notice in notices] == ["<>"]
    assert "<nosuch@mail.example.com> (expanded from <list@example.com>): unknown user:\n" in str(
        notices[0]
    )
    failed = [event for event in lab.events(Delivery, lab.mail) if event.status == "bounced"]
    assert sorted((event.to, event.orig_to, event.dsn, event.reply) for event in failed) == [
        ("list@example.com", "", "5.1.1", "user unknown"),
        ("nosuch@mail.example.com", "list@example.com", "5.1.1", 'unknown user: "nosuch"'),
    ]
    assert not lab.mail.mailbox("joe")


@pytest.mark.faq("owner-alias", "26-S2")
def test_cure_the_owner_hears_of_it(lab: Lab) -> None:
    """With owner-list members get the mail from the owner, who gets the notices."""
    lab.mail.aliases({"list": BROKEN})
    lab.mail.cure.aliases({"list": BROKEN, "owner-list": "joe"})

    post(lab)

    assert not lab.remote.mailbox("carol")
    assert [copy["Return-Path"] for copy in lab.mail.mailbox("joe")] == ["<>"] * 2
    (copy,) = lab.mail.mailbox("alice")
    assert copy["Return-Path"] == "<owner-list@mail.example.com>"


@pytest.mark.faq("owner-alias", "26-S2")
def test_historic_commands_and_files_do_not_trouble_the_poster(lab: Lab) -> None:
    """The FAQ's symptom is gone: the owner gets every failure, whatever failed."""
    lab.mail.aliases({"list": TROUBLE})
    lab.mail.cure.aliases({"list": TROUBLE, "owner-list": "joe"})

    post(lab)

    assert not lab.remote.mailbox("carol")
    notices = [str(notice) for notice in lab.mail.mailbox("joe")]
    assert len(notices) == 4
    failed = [event for event in lab.events(Delivery, lab.mail) if event.status == "bounced"]
    assert sorted((event.to, event.dsn, event.reply.partition(":")[0]) for event in failed) == [
        (
            "baduser@example.net",
            "5.1.1",
            "host remote.example.net[" + lab.remote.address + "] said",
        ),
        ("list@example.com", "5.1.1", "user unknown"),
        ("list@example.com", "5.2.0", "cannot append message to file /nonexistent/dir/file"),
        ("list@example.com", "5.3.0", "Command died with status 1"),
        ("nosuch@mail.example.com", "5.1.1", "unknown user"),
    ]
    poster = "X-Postfix-Sender: rfc822; carol@remote.example.net"
    owner = "X-Postfix-Sender: rfc822; owner-list@mail.example.com"
    assert sorted((poster in notice, owner in notice) for notice in notices) == [
        (False, True),
        (True, False),
        (True, False),
        (True, False),
    ]
    (of_members,) = [notice for notice in notices if owner in notice]
    assert "Final-Recipient: rfc822; nosuch@mail.example.com" in of_members
    assert "Final-Recipient: rfc822; baduser@example.net" in of_members


@pytest.mark.faq("owner-alias", "26-S3")
def test_historic_a_mailing_loop_does_not_trouble_the_poster(lab: Lab) -> None:
    """The list's owner gets the bounce for a message that was at the list before."""
    lab.mail.aliases({"list": "alice"})
    lab.mail.cure.aliases({"list": "alice", "owner-list": "joe"})

    post(lab, headers={"Delivered-To": "list@example.com"})

    (failed,) = [event for event in lab.events(Delivery, lab.mail) if event.status == "bounced"]
    assert (failed.dsn, failed.reply) == (
        "5.4.6",
        "mail forwarding loop for list@example.com",
    )
    assert not lab.remote.mailbox("carol")
    (notice,) = lab.mail.mailbox("joe")
    assert notice["X-Original-To"] == "owner-list@mail.example.com"
    assert not lab.mail.mailbox("alice")


@pytest.mark.faq("owner-alias", "26-S4")
@pytest.mark.parametrize(
    ("settings", "sender", "joe", "carol"),
    [
        ({}, "owner-list@mail.example.com", 2, 0),
        ({"expand_owner_alias": "yes"}, "joe@mail.example.com", 2, 0),
        ({"owner_request_special": "no"}, "carol@remote.example.net", 0, 1),
    ],
    ids=["default", "expand_owner_alias", "owner_request_special"],
)
def test_behaviour_in_whose_name_members_get_mail(
    lab: Lab, settings: dict[str, str], sender: str, joe: int, carol: int
) -> None:
    """The sender is the owner alias, its target or the poster; notices go there."""
    lab.mail.configure(**settings)
    lab.mail.aliases({"list": BROKEN, "owner-list": "joe"})

    post(lab)

    (copy,) = lab.mail.mailbox("alice")
    assert copy["Return-Path"] == f"<{sender}>"
    assert [len(lab.mail.mailbox("joe")), len(lab.remote.mailbox("carol"))] == [joe, carol]
    assert len(lab.events(Notified)) == joe + carol


@pytest.mark.faq("owner-alias", "26-S4")
@pytest.mark.parametrize(("special", "members"), [("yes", 0), ("no", 1)])
def test_behaviour_a_hyphen_does_not_split_list_request(
    lab: Lab, special: str, members: int
) -> None:
    """With "-" as delimiter Postfix does not treat list-request as list with an extension."""
    lab.mail.configure(recipient_delimiter="-", owner_request_special=special)
    lab.mail.aliases({"list": "alice"})

    mail = lab.client.smtp("list-request@example.com", server=lab.mail)
    lab.settle(mail)

    assert len(lab.mail.mailbox("alice")) == members
    assert bool(mail.rejected(550, "5.1.1")) is (special == "yes")


CHILD = {"list": "alice, child", "owner-list": "joe", "child": 'bob, "|/usr/local/bin/later"'}


def attempts(lab: Lab) -> list[int]:
    """Return alice's and bob's copies after the first attempt, a retry, and the last one."""
    lab.mail.write("/usr/local/bin/later", "#!/bin/sh\nexit 75\n", mode=0o755)
    lab.expects(consumed=1, because="the inner list's program finally drops the mail")
    mail = lab.remote.send(to="list@example.com", user="carol")
    counts = []
    for status in (75, 0, None):
        lab.settle(mail)
        counts += [len(lab.mail.mailbox(user)) for user in ("alice", "bob")]
        if status is not None:
            lab.mail.write("/usr/local/bin/later", f"#!/bin/sh\nexit {status}\n", mode=0o755)
            lab.mail.flush()
    return counts


@pytest.mark.faq("owner-alias", "26-S4")
def test_symptom_copies_are_repeated_when_the_owner_is_reset(lab: Lab) -> None:
    """With reset_owner_alias the inner list's members get a copy at each attempt."""
    lab.mail.aliases(CHILD)
    lab.mail.misconfigure(reset_owner_alias="yes")

    counts = attempts(lab)

    assert counts == [0, 1, 0, 2, 1, 3]
    lab.expects(duplicated=2, because="two retries repeat the inner list's member")


@pytest.mark.faq("owner-alias", "26-S4")
def test_cure_an_inner_list_keeps_the_outer_ones_owner(lab: Lab) -> None:
    """By default all members wait until no delivery is deferred, and get one copy."""
    lab.mail.aliases(CHILD)
    lab.mail.configure(reset_owner_alias="yes")
    lab.mail.cure.configure(reset_owner_alias="no")

    counts = attempts(lab)

    assert counts == [0, 0, 0, 0, 1, 1]
    assert {copy["Return-Path"] for copy in lab.mail.mailbox("bob")} == {
        "<owner-list@mail.example.com>"
    }


@pytest.mark.faq("owner-alias")
def test_behaviour_verp_tells_the_owner_which_member_failed(lab: Lab) -> None:
    """With sendmail -XV each copy's return path names its recipient (VERP_README)."""
    mail = lab.mail.send(
        to=["alice@example.com", "joe@example.net"],
        sender="owner-list@example.com",
        options=lab.mail.cure.words("-XV"),
    )
    lab.settle(mail)

    (here,), (there,) = lab.mail.mailbox("alice"), lab.remote.mailbox("joe")
    assert here["Return-Path"] == "<owner-list+alice=example.com@example.com>"
    assert there["Return-Path"] == "<owner-list+joe=example.net@example.com>"
