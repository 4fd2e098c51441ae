"""Root's mail is delivered to nobody.

Postfix runs no command as root: a mailbox_command for mail to root is run as
default_privs, which is nobody. The answer stands: an alias that gives root's
mail to a person. Where Postfix itself writes the mailbox, root gets mail as
everybody else does. default_privs may name another unprivileged user, but
neither root nor the owner of the mail system.
"""

import pytest

from maillab.lab import Lab
from maillab.maillog import Delivery

pytestmark = pytest.mark.topology("standalone")

COMMAND = "/usr/local/bin/deliver"
TO_TMP = """#!/bin/sh
# Stores mail in a file of the user's, and says who it was.
{ id -un; cat; } >"/tmp/box.$USER"
"""
TO_HOME = """#!/bin/sh
mkdir -p "$HOME/mail" && exec cat >"$HOME/mail/new"
"""
ALIAS = {"root": "alice"}


def boxes(lab: Lab) -> dict[str, str]:
    """Who owns the files that the command wrote, by whom they are for."""
    found = lab.mail.run("sh", "-c", "stat -c '%n %U:%G' /tmp/box.*").stdout
    pairs = (line.split() for line in found.splitlines())
    return {path.removeprefix("/tmp/box."): owner for path, owner in pairs}  # noqa: S108


def to_root(lab: Lab) -> Delivery:
    """Have somebody elsewhere write to root; what became of it."""
    mail = lab.remote.send(to="root@example.com")
    lab.settle(mail)
    return [one for one in lab.events(Delivery, lab.mail) if "root@example.com" in one.text][-1]


@pytest.mark.faq("root-mail-to-nobody", "30-S1")
def test_symptom_a_mailbox_command_runs_as_nobody(lab: Lab) -> None:
    """Alice's mail is stored as hers, root's as nobody's."""
    lab.mail.write(COMMAND, TO_TMP, mode=0o755)
    lab.mail.configure(mailbox_command=COMMAND)
    lab.mail.aliases(ALIAS)
    lab.mail.mistake.aliases({})

    mail = lab.remote.send(to="alice@example.com")
    lab.settle(mail)
    last = to_root(lab)

    assert (last.to, last.status, last.dsn) == ("root@example.com", "sent", "2.0.0")
    assert last.reply == f"delivered to command: {COMMAND}"
    assert boxes(lab) == {"alice": "alice:alice", "root": "nobody:nogroup"}
    assert (lab.mail.read("/tmp/box.root") or "").splitlines()[0] == "nobody"  # noqa: S108


@pytest.mark.faq("root-mail-to-nobody", "30-S1")
def test_symptom_procmail_stores_roots_mail_for_nobody(lab: Lab) -> None:
    """It goes to the mailbox of whom it runs as."""
    lab.mail.configure(mailbox_command="/usr/bin/procmail")
    lab.mail.aliases(ALIAS)
    lab.mail.mistake.aliases({})

    to_root(lab)

    copies = lab.mail.mailbox("nobody")
    assert [copy["Delivered-To"] for copy in copies] == ["root@example.com"]
    assert not lab.mail.mailbox("root")


@pytest.mark.faq("root-mail-to-nobody", "30-S1")
def test_symptom_a_command_that_writes_at_home_fails(lab: Lab) -> None:
    """Root's home is closed to nobody, and the mail is returned."""
    lab.mail.write(COMMAND, TO_HOME, mode=0o755)
    lab.mail.configure(mailbox_command=COMMAND)
    lab.mail.aliases(ALIAS)
    lab.mail.mistake.aliases({})

    last = to_root(lab)

    assert (last.status, last.dsn) == ("bounced", "5.3.0")
    assert "Permission denied" in last.reply
    (notice,) = lab.remote.mailbox("bob")
    assert "Final-Recipient: rfc822; root@example.com" in str(notice)


@pytest.mark.faq("root-mail-to-nobody", "30-S2")
def test_cure_an_alias_gives_roots_mail_to_a_person(lab: Lab) -> None:
    """The command runs as that person."""
    lab.mail.write(COMMAND, TO_TMP, mode=0o755)
    lab.mail.configure(mailbox_command=COMMAND)
    lab.mail.cure.aliases(ALIAS)

    last = to_root(lab)

    assert (last.to, last.orig_to) == ("alice@mail.example.com", "root@example.com")
    assert last.reply == f"delivered to command: {COMMAND}"
    assert boxes(lab) == {"alice": "alice:alice"}


@pytest.mark.faq("root-mail-to-nobody", "30-S3")
@pytest.mark.parametrize(
    ("home_mailbox", "form", "file"),
    [("", "mailbox", "/var/mail/root"), ("Maildir/", "maildir", "/root/Maildir/new")],
    ids=["mailbox", "maildir"],
)
def test_behaviour_postfix_itself_delivers_to_root(
    lab: Lab, home_mailbox: str, form: str, file: str
) -> None:
    """Without a command root has a mailbox of its own."""
    lab.mail.configure(home_mailbox=home_mailbox)

    last = to_root(lab)

    assert (last.status, last.dsn, last.reply) == ("sent", "2.0.0", f"delivered to {form}")
    assert lab.mail.run("stat", "-c", "%U", file).stdout == "root\n"
    assert len(lab.mail.mailbox("root")) == 1


@pytest.mark.faq("root-mail-to-nobody", "30-S3")
def test_behaviour_default_privs_says_who_nobody_is(lab: Lab) -> None:
    """Commands for root run as the user it names."""
    lab.mail.write(COMMAND, TO_TMP, mode=0o755)
    lab.mail.configure(mailbox_command=COMMAND, default_privs="mail")

    to_root(lab)

    assert boxes(lab) == {"root": "mail:mail"}


@pytest.mark.faq("root-mail-to-nobody", "30-S3")
@pytest.mark.parametrize(
    ("privileged", "words"),
    [
        ("root", "parameter default_privs: user root has privileged user ID"),
        ("postfix", "parameters default_privs and mail_owner specify the same user postfix"),
    ],
    ids=["root", "postfix"],
)
def test_behaviour_default_privs_must_be_unprivileged(
    lab: Lab, privileged: str, words: str
) -> None:
    """Root and Postfix's own user are refused; daemons that run keep what they knew.

    Up to 3.7 with not a word on the terminal.
    """
    lab.mail.write(COMMAND, TO_TMP, mode=0o755)
    lab.mail.configure(mailbox_command=COMMAND)
    to_root(lab)
    lab.mail.run("postconf", "-e", f"default_privs = {privileged}")

    checked = lab.mail.run("postfix", "reload", check=False)
    to_root(lab)

    assert checked.status == 1
    if lab.version in ("3.5", "3.7"):
        assert checked.stderr == ""
    else:
        assert checked.stderr == f"postfix: fatal: file /etc/postfix/main.cf: {words}\n"
    assert boxes(lab) == {"root": "nobody:nogroup"}
