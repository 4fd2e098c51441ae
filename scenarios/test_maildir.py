"""Support for maildir-style mailboxes.

End the name of a mailbox with a slash: home_mailbox = Maildir/. The slash alone makes the
difference, wherever a mailbox is named: in home_mailbox, in mail_spool_directory, in an
alias, in a .forward file. Without the slash the same name is a file in mbox format.

Maildirs of aliases belong to default_privs (nobody), those of a user to the user.

Since the FAQ:
- The answer is unchanged.
"""

import pytest

from maillab import Lab

pytestmark = pytest.mark.topology("standalone")


def kind_of_file(lab: Lab, path: str) -> str:
    """Return a path's file type and owner as stat(1) prints them."""
    return lab.mail.run("stat", "-c", "%F, %U", path, check=False).stdout.strip()


@pytest.mark.faq("maildir", "35-S1")
def test_symptom_without_the_slash_it_is_a_file(lab: Lab) -> None:
    """home_mailbox=Maildir, without the slash, is an mbox file of that name."""
    lab.mail.configure(home_mailbox="Maildir/")
    lab.mail.misconfigure(home_mailbox="Maildir")

    mail = lab.remote.send(to="alice@example.com")
    lab.settle(mail)

    assert mail.delivered_to(lab.mail, mailbox="alice")
    assert kind_of_file(lab, "/home/alice/Maildir") == "regular file, alice"
    assert (lab.mail.read("/home/alice/Maildir") or "").startswith("From bob@remote.example.net ")


@pytest.mark.faq("maildir", "35-S1")
def test_symptom_without_the_slash_a_folder_of_that_name_is_in_the_way(lab: Lab) -> None:
    """If the maildir already exists, Postfix cannot open the file and returns the mail."""
    lab.mail.configure(home_mailbox="Maildir/")
    lab.mail.misconfigure(home_mailbox="Maildir")
    lab.mail.run("mkdir", "-p", "/home/alice/Maildir/new", user="alice")

    mail = lab.remote.send(to="alice@example.com")
    lab.settle(mail)

    reason = "cannot update mailbox /home/alice/Maildir for user alice. cannot open file: Is a dir"
    assert mail.bounced(dsn="5.2.0", saying=reason)
    (notice,) = lab.remote.mailbox("bob")
    assert "Status: 5.2.0" in str(notice)


@pytest.mark.faq("maildir", "35-S2")
def test_cure_the_slash_makes_a_maildir(lab: Lab) -> None:
    """With the slash each message is a file of its own, without a From_ line."""
    lab.mail.configure(home_mailbox="Maildir")
    lab.mail.cure.configure(home_mailbox="Maildir/")

    mail = lab.remote.send(to="alice@example.com")
    lab.settle(mail)

    assert mail.delivered_to(lab.mail, mailbox="alice")
    assert kind_of_file(lab, "/home/alice/Maildir") == "directory, alice"
    folders = lab.mail.run("find", "/home/alice/Maildir", "-type", "d", "-printf", "%f %m\n")
    assert sorted(folders.stdout.split("\n")[:-1]) == [
        "Maildir 700", "cur 700", "new 700", "tmp 700",
    ]  # fmt: skip
    (name,) = lab.mail.run("ls", "/home/alice/Maildir/new").stdout.split()
    head = (lab.mail.read(f"/home/alice/Maildir/new/{name}") or "").splitlines()[:3]
    assert head == [
        "Return-Path: <bob@remote.example.net>",
        "X-Original-To: alice@example.com",
        "Delivered-To: alice@example.com",
    ]
    assert name.endswith(".mail.example.com")


@pytest.mark.faq("maildir", "35-S3")
@pytest.mark.parametrize(
    ("slash", "made"), [("/", "directory, nobody"), ("", "regular file, nobody")]
)
def test_behaviour_an_alias_names_a_maildir_or_a_file(lab: Lab, slash: str, made: str) -> None:
    """The slash decides in an alias, too; the mailbox belongs to default_privs."""
    lab.mail.run("install", "-d", "-o", "nobody", "/var/vmail")
    lab.mail.cure.aliases({"archive": f"/var/vmail/archive{slash}"})

    mail = lab.remote.send(to="archive@example.com")
    lab.settle(mail)

    assert mail.delivered_to(lab.mail, mailbox="archive")
    assert kind_of_file(lab, "/var/vmail/archive") == made


@pytest.mark.faq("maildir", "35-S3")
def test_behaviour_a_forward_file_names_a_maildir_of_the_user(lab: Lab) -> None:
    """A maildir named in a .forward file belongs to the user."""
    lab.mail.cure.write("/home/carol/.forward", "/home/carol/Forwarded/\n", owner="carol")

    mail = lab.remote.send(to="carol@example.com")
    lab.settle(mail)

    assert mail.delivered_to(lab.mail, mailbox="carol")
    assert kind_of_file(lab, "/home/carol/Forwarded/new") == "directory, carol"


@pytest.mark.faq("maildir", "35-S3")
def test_behaviour_the_spool_may_hold_maildirs(lab: Lab) -> None:
    """With a slash after mail_spool_directory every user has a maildir there."""
    lab.mail.cure.configure(mail_spool_directory="/var/vmail/")
    lab.mail.run("install", "-d", "-m", "1777", "/var/vmail")

    mail = lab.remote.send(to="dave@example.com")
    lab.settle(mail)

    assert mail.delivered_to(lab.mail, mailbox="dave")
    assert kind_of_file(lab, "/var/vmail/dave/new") == "directory, dave"
