"""sendmail has set-uid root file permissions, or is run from a set-uid root process.

Remove the bit: "chmod u-s /usr/sbin/sendmail", or "postfix set-permissions". Postfix's
sendmail(1) needs no privileges and warns when it has them; it still sends the mail. If
users can neither send mail nor see the queue, postdrop(1) and postqueue(1) have lost their
set-gid bit, and the same command restores it.

Since the FAQ:
- 1.1: postdrop(1) and postqueue(1) need set-gid.
"""

import pytest

from maillab import Complaint, Lab

pytestmark = pytest.mark.topology("standalone")

SENDMAIL = "/usr/sbin/sendmail"
WRAPPER = "/usr/local/bin/wrapper"
WRAPS = "#!/bin/sh\nexec setpriv {} --clear-groups sendmail bob\n"
SET_GID = ("/usr/sbin/postdrop", "/usr/sbin/postqueue")


def warned(command: str) -> str:
    """Return the command's warning about its privileges."""
    return (
        f"{command}: warning: the Postfix sendmail command has set-uid root file permissions\n"
        f"{command}: warning: or the command is run from a set-uid root process\n"
        f"{command}: warning: the Postfix sendmail command must be installed without"
        " set-uid root file permissions\n"
    )


def mode(lab: Lab, *paths: str) -> list[str]:
    """Return the mode, owner and group of programs."""
    return lab.mail.run("stat", "-c", "%a %U %G", *paths).stdout.splitlines()


@pytest.mark.faq("sendmail-setuid-root", "28-S1")
def test_symptom_a_set_uid_sendmail_complains_and_sends(lab: Lab) -> None:
    """Each use by a user prints three warnings, under any name; root's use prints none."""
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


@pytest.mark.faq("sendmail-setuid-root", "28-S2", "28-S3")
def test_behaviour_sendmail_is_installed_without_privileges(lab: Lab) -> None:
    """The package installs sendmail(1) without set-uid or set-gid; two commands are set-gid."""
    assert mode(lab, SENDMAIL) == ["755 root root"]
    assert mode(lab, *SET_GID) == ["2555 root postdrop"] * 2
    links = lab.mail.run("stat", "-c", "%N", "/usr/bin/mailq", "/usr/bin/newaliases").stdout
    assert links.count("sendmail'") == 2


@pytest.mark.faq("sendmail-setuid-root", "28-S1")
def test_symptom_a_set_uid_program_runs_sendmail(lab: Lab) -> None:
    """A user's process with root's effective id causes the same warning."""
    lab.mail.write(WRAPPER, WRAPS.format("--reuid alice"), mode=0o755)
    lab.mail.mistake.write(WRAPPER, WRAPS.format("--ruid alice --euid root"))

    done = lab.mail.run(WRAPPER, stdin="Subject: by a wrapper\n\nhello\n")
    lab.settle()

    assert (done.status, done.stderr) == (0, warned("sendmail"))
    (copy,) = lab.mail.mailbox("bob")
    assert copy["Return-Path"] == "<alice@mail.example.com>"


@pytest.mark.faq("sendmail-setuid-root", "28-S1")
def test_behaviour_postfix_check_does_not_see_it(lab: Lab) -> None:
    """The command "postfix check" looks for missing set-gid bits, not for a set-uid bit.

    The test takes seconds, because "postfix check" does.
    """
    lab.mail.run("chmod", "u+s", SENDMAIL)

    lab.mail.run("postfix", "check")

    assert not lab.events(Complaint, lab.mail)


@pytest.mark.faq("sendmail-setuid-root", "28-S2")
@pytest.mark.parametrize(
    "command", [["postfix", "set-permissions"], ["chmod", "u-s", SENDMAIL]], ids=lambda c: c[0]
)
def test_cure_the_bit_is_taken_away(lab: Lab, command: list[str]) -> None:
    """Without the bit there is no warning."""
    lab.mail.run("chmod", "u+s", SENDMAIL)
    # The command exits with 1 here: the image has no manual pages.
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
    """A user's sendmail retries forever and mailq fails; "postfix check" reports the cause.

    The test waits one second to see that sendmail does not exit, and for "postfix check".
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
    events = lab.events(Complaint, lab.mail)
    warnings = {event.text for event in events if event.level == "warning"}
    reason = "not set-gid or not owner+group+world executable"
    assert {f"{reason}: {path}" for path in SET_GID} <= warnings


@pytest.mark.faq("sendmail-setuid-root", "28-S3")
def test_cure_set_permissions_gives_set_gid_back(lab: Lab) -> None:
    """With the bit restored users send mail and see the queue."""
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
    """authorized_submit_users refuses a user with a clear message."""
    lab.mail.cure.configure(authorized_submit_users="!alice, static:all")

    refused = lab.mail.send(to="bob", user="alice")
    mail = lab.mail.send(to="bob", user="carol")
    lab.settle(refused, mail)

    uid = lab.mail.run("id", "-u", "alice").stdout.strip()
    words = f"sendmail: fatal: User alice({uid}) is not allowed to submit mail"
    assert refused.rejected(75, saying=words)
    assert mail.delivered_to(lab.mail, mailbox="bob")
