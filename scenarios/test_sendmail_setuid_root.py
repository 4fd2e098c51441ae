"""sendmail has set-uid root file permissions, or is run from a set-uid root process.

Postfix's sendmail(1) needs no privileges and complains when it has them; mail
is sent nevertheless. The FAQ's answer was to take the bit away, or to have
"postfix set-permissions" do it. Since 1.1 the programs that do need a
privilege are postdrop(1) and postqueue(1), by set-gid: where a copied file
tree has lost that bit, users cannot send mail nor see the queue, and the same
command puts it back.
"""

import pytest

from maillab.lab import Lab
from maillab.maillog import Complaint

pytestmark = pytest.mark.topology("standalone")

SENDMAIL = "/usr/sbin/sendmail"
WRAPPER = "/usr/local/bin/wrapper"
WRAPS = "#!/bin/sh\nexec setpriv {} --clear-groups sendmail bob\n"
SET_GID = ("/usr/sbin/postdrop", "/usr/sbin/postqueue")


def warned(command: str) -> str:
    """What the command prints about its privileges."""
    return (
        f"{command}: warning: the Postfix sendmail command has set-uid root file permissions\n"
        f"{command}: warning: or the command is run from a set-uid root process\n"
        f"{command}: warning: the Postfix sendmail command must be installed without"
        " set-uid root file permissions\n"
    )


def mode(lab: Lab, *paths: str) -> list[str]:
    """Rights and owners of programs."""
    return lab.mail.run("stat", "-c", "%a %U %G", *paths).stdout.splitlines()


@pytest.mark.faq("sendmail-setuid-root", "28-S1")
def test_symptom_a_set_uid_sendmail_complains_and_sends(lab: Lab) -> None:
    """Users are warned thrice at each use, by any name it has; root is not."""
    lab.mail.mistake.run("chmod", "u+s", SENDMAIL)

    mail = lab.mail.send(to="bob", user="alice")
    roots = lab.mail.send(to="bob", user="root")
    queue = lab.mail.run("mailq", user="alice")
    lab.settle(mail, roots)

    assert mail.submission.reply == warned("sendmail").strip()
    assert mail.submission.code == 0
    assert mail.delivered_to(lab.mail, mailbox="bob")
    assert (queue.status, queue.stderr) == (0, warned("mailq"))
    assert roots.submission.reply == ""


@pytest.mark.faq("sendmail-setuid-root", "28-S1")
def test_symptom_a_set_uid_program_runs_sendmail(lab: Lab) -> None:
    """A user's process with root's effective id is taken for the same mistake."""
    lab.mail.write(WRAPPER, WRAPS.format("--reuid alice"), mode=0o755)
    lab.mail.mistake.write(WRAPPER, WRAPS.format("--ruid alice --euid root"))

    done = lab.mail.run(WRAPPER, stdin="Subject: by a wrapper\n\nhello\n")
    lab.settle()

    assert (done.status, done.stderr) == (0, warned("sendmail"))
    (copy,) = lab.mail.mailbox("bob")
    assert copy["Return-Path"] == "<alice@mail.example.com>"


@pytest.mark.faq("sendmail-setuid-root", "28-S1")
def test_behaviour_postfix_check_does_not_see_it(lab: Lab) -> None:
    """It looks for set-gid bits that are missing, not for a set-uid bit too many.

    Takes some seconds, as postfix check does.
    """
    lab.mail.run("chmod", "u+s", SENDMAIL)

    lab.mail.run("postfix", "check")

    assert not lab.events(Complaint, lab.mail)


@pytest.mark.faq("sendmail-setuid-root", "28-S2")
@pytest.mark.parametrize(
    "command", [["postfix", "set-permissions"], ["chmod", "u-s", SENDMAIL]], ids=lambda c: c[0]
)
def test_cure_the_bit_is_taken_away(lab: Lab, command: list[str]) -> None:
    """Then nobody is warned."""
    lab.mail.run("chmod", "u+s", SENDMAIL)
    # It ends with 1 here, at a manual page: the image has none.
    lab.mail.cure.run(*command, check=False)

    mail = lab.mail.send(to="bob", user="alice")
    queue = lab.mail.run("mailq", user="alice")
    lab.settle(mail)

    assert mode(lab, SENDMAIL) == ["755 root root"]
    assert mail.submission.reply == ""
    assert queue.stderr == ""
    assert mail.delivered_to(lab.mail, mailbox="bob")


@pytest.mark.faq("sendmail-setuid-root", "28-S3")
def test_symptom_without_set_gid_only_root_can_use_the_queue(lab: Lab) -> None:
    """A user's sendmail tries for ever, the user's mailq fails; check says why.

    It takes a second to see that sendmail does not end, and postfix check some more.
    """
    lab.mail.mistake.run("chmod", "g-s", *SET_GID)

    hangs = lab.mail.run(
        *("timeout", "1", "sendmail", "bob"), user="alice", stdin="\nhello\n", check=False
    )
    queue = lab.mail.run("mailq", user="alice", check=False)
    roots = lab.mail.send(to="bob", user="root")
    lab.settle(roots)
    lab.mail.run("postfix", "check")

    assert hangs.status == 124
    first = hangs.stderr.splitlines()[0]
    assert first.startswith("postdrop: warning: mail_queue_enter: create file maildrop/")
    assert first.endswith(": Permission denied")
    assert queue.status == 69
    assert queue.stderr == (
        "postqueue: fatal: Connect to the Postfix showq service: Permission denied\n"
    )
    assert roots.delivered_to(lab.mail, mailbox="bob")
    said = {one.text for one in lab.events(Complaint, lab.mail) if one.level == "warning"}
    assert {f"not set-gid or not owner+group+world executable: {path}" for path in SET_GID} <= said


@pytest.mark.faq("sendmail-setuid-root", "28-S3")
def test_cure_set_permissions_gives_set_gid_back(lab: Lab) -> None:
    """Then users send mail and see the queue."""
    lab.mail.run("chmod", "g-s", *SET_GID)
    lab.mail.cure.run("postfix", "set-permissions", check=False)

    assert mode(lab, *SET_GID) == ["2755 root postdrop"] * 2
    mail = lab.mail.send(to="bob", user="alice")
    lab.settle(mail)
    queue = lab.mail.run("mailq", user="alice")

    assert mail.delivered_to(lab.mail, mailbox="bob")
    assert queue.stdout == "Mail queue is empty\n"


@pytest.mark.faq("sendmail-setuid-root", "28-S3")
def test_behaviour_who_may_submit_is_a_setting(lab: Lab) -> None:
    """authorized_submit_users keeps a user from sending, in plain words."""
    lab.mail.configure(authorized_submit_users="!alice, static:all")

    refused = lab.mail.send(to="bob", user="alice")
    mail = lab.mail.send(to="bob", user="carol")
    lab.settle(refused, mail)

    uid = lab.mail.run("id", "-u", "alice").stdout.strip()
    words = f"sendmail: fatal: User alice({uid}) is not allowed to submit mail"
    assert refused.rejected(75, saying=words)
    assert mail.delivered_to(lab.mail, mailbox="bob")
