"""Maildir support: each message a file of its own.

The FAQ's answer is one character: local(8) writes a maildir where the mailbox it
is told of ends in a slash, and an mbox file where it does not. That holds for
home_mailbox, mail_spool_directory, alias entries and .forward files alike, and
for the virtual(8) delivery agent since 2.0. Nothing about it has changed.
"""

import re

import pytest

from maillab.lab import Lab
from maillab.maillog import Delivery

pytestmark = pytest.mark.topology("standalone")


def replies(lab: Lab) -> list[str]:
    """How the mail server says it stored what came."""
    return [line.reply for line in lab.events(Delivery, lab.mail)]


def about(lab: Lab, form: str, *paths: str) -> list[str]:
    """What stat(1) says of files."""
    return lab.mail.run("stat", "-c", form, *paths).stdout.splitlines()


@pytest.mark.faq("maildir", "35-S1")
def test_symptom_without_the_slash_it_is_a_file(lab: Lab) -> None:
    """home_mailbox=Maildir makes an mbox that happens to be called Maildir."""
    lab.mail.configure(home_mailbox="Maildir/")
    lab.mail.misconfigure(home_mailbox="Maildir")

    mail = lab.remote.send(to="alice@example.com")
    lab.settle(mail)

    assert replies(lab) == ["delivered to mailbox"]
    assert about(lab, "%F %U %a", "/home/alice/Maildir") == ["regular file alice 600"]
    assert mail.delivered_to(lab.mail, mailbox="alice")


@pytest.mark.faq("maildir", "35-S1")
def test_symptom_without_the_slash_a_maildir_takes_no_mail(lab: Lab) -> None:
    """Where the user has a maildir already, each message bounces."""
    lab.mail.run("mkdir", "/home/alice/Maildir", user="alice")
    lab.mail.configure(home_mailbox="Maildir/")
    lab.mail.misconfigure(home_mailbox="Maildir")

    mail = lab.remote.send(to="alice@example.com", user="bob")
    lab.settle(mail)

    assert mail.bounced(
        dsn="5.2.0",
        saying="cannot update mailbox /home/alice/Maildir for user alice. "
        "cannot open file: Is a directory",
    )
    (notice,) = lab.remote.mailbox("bob")
    assert "Action: failed" in str(notice)


@pytest.mark.faq("maildir", "35-S2")
def test_cure_with_the_slash_it_is_a_maildir(lab: Lab) -> None:
    """Postfix makes the three folders, the user's alone, and one file a message."""
    lab.mail.configure(home_mailbox="Maildir")
    lab.mail.cure.configure(home_mailbox="Maildir/")

    mail = lab.remote.send(to="alice@example.com")
    lab.settle(mail)

    assert replies(lab) == ["delivered to maildir"]
    folders = [f"/home/alice/Maildir/{name}" for name in ("tmp", "new", "cur")]
    assert about(lab, "%F %U %a", *folders) == ["directory alice 700"] * 3
    names = lab.mail.run("ls", "/home/alice/Maildir/new").stdout.split()
    assert [bool(re.fullmatch(r"\d+\.V\w+I\w+M\d+\.mail\.example\.com", n)) for n in names] == [
        True
    ]
    assert mail.delivered_to(lab.mail, mailbox="alice")
    (copy,) = lab.mail.mailbox("alice")
    # No "From " line, which only an mbox needs.
    assert copy.keys()[:3] == ["Return-Path", "X-Original-To", "Delivered-To"]


@pytest.mark.faq("maildir", "35-S3")
@pytest.mark.parametrize(
    ("place", "reply", "kind"),
    [
        ("/var/vmail/archive/", "delivered to maildir", "directory"),
        ("/var/vmail/archive", "delivered to file: /var/vmail/archive", "regular file"),
    ],
    ids=["slash", "no-slash"],
)
def test_behaviour_an_alias_names_a_maildir_or_a_file(
    lab: Lab, place: str, reply: str, kind: str
) -> None:
    """In /etc/aliases, too, the slash decides; the owner is default_privs, nobody."""
    lab.mail.run("install", "-d", "-o", "nobody", "/var/vmail")
    lab.mail.aliases({"archive": place})

    mail = lab.remote.send(to="archive@example.com")
    lab.settle(mail)

    assert replies(lab) == [reply]
    assert about(lab, "%F %U", "/var/vmail/archive") == [f"{kind} nobody"]
    assert mail.delivered_to(lab.mail, mailbox="archive")


@pytest.mark.faq("maildir", "35-S3")
def test_behaviour_a_forward_file_names_a_maildir(lab: Lab) -> None:
    """What a user's own .forward names belongs to the user."""
    lab.mail.write("/home/carol/.forward", "/home/carol/Forwarded/\n", owner="carol")

    mail = lab.remote.send(to="carol@example.com")
    lab.settle(mail)

    assert replies(lab) == ["delivered to maildir"]
    assert about(lab, "%F %U", "/home/carol/Forwarded/new") == ["directory carol"]
    assert mail.delivered_to(lab.mail, mailbox="carol")


@pytest.mark.faq("maildir", "35-S3")
def test_behaviour_the_mail_spool_may_hold_maildirs(lab: Lab) -> None:
    """mail_spool_directory with a slash makes a maildir for each user."""
    lab.mail.run("install", "-d", "-m", "1777", "/var/vspool")
    lab.mail.configure(mail_spool_directory="/var/vspool/")

    mail = lab.remote.send(to=["alice@example.com", "carol@example.com"])
    lab.settle(mail)

    assert replies(lab) == ["delivered to maildir"] * 2
    folders = [f"/var/vspool/{user}/new" for user in ("alice", "carol")]
    assert about(lab, "%F %U", *folders) == ["directory alice", "directory carol"]
    assert mail.delivered_to(lab.mail, mailbox="alice")
    assert mail.delivered_to(lab.mail, mailbox="carol")


@pytest.mark.faq("maildir")
@pytest.mark.parametrize(
    ("place", "reply", "kind"),
    [
        ("virtual.example/joe/", "delivered to maildir", "directory"),
        ("virtual.example/joe", "delivered to mailbox", "regular file"),
    ],
    ids=["slash", "no-slash"],
)
def test_behaviour_virtual_mailboxes_follow_the_same_rule(
    lab: Lab, place: str, reply: str, kind: str
) -> None:
    """virtual(8) stores by the slash, for users who have no account."""
    lab.mail.run("install", "-d", "-o", "nobody", "/var/vmail", "/var/vmail/virtual.example")
    (nobody,) = about(lab, "%u", "/var/vmail")
    lab.mail.configure(
        virtual_mailbox_domains="virtual.example",
        virtual_mailbox_base="/var/vmail",
        virtual_mailbox_maps=lab.mail.table("vmailbox", {"joe@virtual.example": place}),
        virtual_uid_maps=f"static:{nobody}",
        virtual_gid_maps=f"static:{nobody}",
    )

    mail = lab.remote.send(to="joe@virtual.example")
    lab.settle(mail)

    assert replies(lab) == [reply]
    assert about(lab, "%F %U", "/var/vmail/virtual.example/joe") == [f"{kind} nobody"]
    assert mail.delivered_to(lab.mail, mailbox="joe")
