"""Root's mail is delivered to nobody.

Alias root's mail to a person, and run newaliases. Postfix runs no command as root: a
mailbox_command for root's mail runs as default_privs, the user nobody. default_privs can
name another unprivileged user, but neither root nor the owner of the mail system.

If Postfix itself writes the mailbox, root gets mail like any other user.

Since the FAQ:
- The answer is unchanged.
"""

import pytest

from maillab import Delivery, Lab

pytestmark = pytest.mark.topology("standalone")

COMMAND = "/usr/local/bin/deliver"
TO_TMP = """#!/bin/sh
# Store mail in a file named after the recipient, and record the user that ran this.
{ id -un; cat; } >"/tmp/box.$USER"
"""
TO_HOME = """#!/bin/sh
mkdir -p "$HOME/mail" && exec cat >"$HOME/mail/new"
"""
ALIAS = {"root": "alice"}
ELSEWHERE = "the command stores the message in /tmp, outside any mailbox"


def boxes(lab: Lab) -> dict[str, str]:
    """Return the owner of each file that the command wrote, by recipient."""
    found = lab.mail.run("sh", "-c", "stat -c '%n %U:%G' /tmp/box.*").stdout
    pairs = (line.split() for line in found.splitlines())
    return {path.removeprefix("/tmp/box."): owner for path, owner in pairs}  # noqa: S108


def to_root(lab: Lab) -> Delivery:
    """Send mail to root from another host and return its delivery."""
    mail = lab.remote.send(to="root@example.com")
    lab.settle(mail)
    return [event for event in lab.events(Delivery, lab.mail) if "root@example.com" in event.text][
        -1
    ]


@pytest.mark.faq("root-mail-to-nobody", "30-S1")
def test_symptom_a_mailbox_command_runs_as_nobody(lab: Lab) -> None:
    """Alice's mail is stored as user alice, root's as user nobody."""
    lab.mail.write(COMMAND, TO_TMP, mode=0o755)
    lab.expects(consumed=2, because=ELSEWHERE)
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
    """Procmail delivers to the mailbox of the user that it runs as."""
    lab.mail.configure(mailbox_command="/usr/bin/procmail")
    lab.mail.aliases(ALIAS)
    lab.mail.mistake.aliases({})

    to_root(lab)

    copies = lab.mail.mailbox("nobody")
    assert [copy["Delivered-To"] for copy in copies] == ["root@example.com"]
    assert not lab.mail.mailbox("root")


@pytest.mark.faq("root-mail-to-nobody", "30-S1")
def test_symptom_a_command_that_writes_at_home_fails(lab: Lab) -> None:
    """The user nobody may not write to root's home, and the mail bounces."""
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
    """The command runs as the person that the alias names."""
    lab.mail.write(COMMAND, TO_TMP, mode=0o755)
    lab.expects(consumed=1, because=ELSEWHERE)
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
    """Without a command root has a mailbox like any other user."""
    if home_mailbox:
        lab.mail.cure.configure(home_mailbox=home_mailbox)

    last = to_root(lab)

    assert (last.status, last.dsn, last.reply) == ("sent", "2.0.0", f"delivered to {form}")
    assert lab.mail.run("stat", "-c", "%U", file).stdout == "root\n"
    assert len(lab.mail.mailbox("root")) == 1


@pytest.mark.faq("root-mail-to-nobody", "30-S3")
def test_behaviour_default_privs_says_who_nobody_is(lab: Lab) -> None:
    """Commands for root run as the user in default_privs."""
    lab.mail.write(COMMAND, TO_TMP, mode=0o755)
    lab.expects(consumed=1, because=ELSEWHERE)
    lab.mail.configure(mailbox_command=COMMAND)
    lab.mail.cure.configure(default_privs="mail")

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
    """Postfix refuses root and its own user; running daemons keep the old setting.

    Before 3.8 "postfix reload" prints nothing unless standard error is a terminal.
    """
    lab.mail.write(COMMAND, TO_TMP, mode=0o755)
    lab.expects(consumed=2, because=ELSEWHERE)
    lab.mail.configure(mailbox_command=COMMAND)
    to_root(lab)
    lab.mail.mistake.run("postconf", "-e", f"default_privs = {privileged}")

    checked = lab.mail.run("postfix", "reload", check=False)
    to_root(lab)

    assert checked.status == 1
    if lab.has("postfix reports without a terminal"):
        assert checked.stderr == f"postfix: fatal: file /etc/postfix/main.cf: {words}\n"
    else:
        assert checked.stderr == ""
    assert boxes(lab) == {"root": "nobody:nogroup"}
