"""Using Procmail system-wide.

Set mailbox_command = /usr/bin/procmail, and alias root's mail to a user, since Postfix runs
no command as root. The command gets message information from its environment; Postfix
censors values that a sender controls. The exit status decides the delivery as in
sysexits.h, and an enhanced status code in the output goes into the notice.

Every character outside command_expansion_filter becomes an underscore.

Since the FAQ:
- CLIENT_*, ORIGINAL_RECIPIENT and SASL_* were added to the environment.
"""

import pytest

from maillab import Lab

pytestmark = pytest.mark.topology("standalone")

PROCMAIL = '/usr/bin/procmail -a "$EXTENSION" DEFAULT=$HOME/Maildir/ MAILDIR=$HOME/Maildir'
# Alice sorts her mail by address extension.
RECIPE = "ARGUMENT=$1\n:0\n* ARGUMENT ?? ^^lists^^\n.lists/\n"


def with_a_recipe(lab: Lab) -> None:
    """Give alice a maildir, and a .procmailrc that files alice+lists into a folder."""
    lab.mail.run("mkdir", "/home/alice/Maildir", user="alice")
    lab.mail.configure(recipient_delimiter="+")
    lab.mail.write("/home/alice/.procmailrc", RECIPE, owner="alice", mode=0o644)


def folder(lab: Lab, name: str) -> list[str]:
    """Return the messages in one of alice's folders."""
    found = lab.mail.run("find", f"/home/alice/{name}", "-type", "f", check=False)
    return found.stdout.split()


@pytest.mark.faq("procmail-systemwide", "36-S1")
def test_symptom_nobody_asks_procmail(lab: Lab) -> None:
    """Without mailbox_command nothing reads a user's .procmailrc."""
    with_a_recipe(lab)
    lab.mail.configure(mailbox_command=PROCMAIL)
    lab.mail.misconfigure(mailbox_command="")

    mail = lab.remote.send(to="alice+lists@example.com")
    lab.settle(mail)

    assert mail.delivered_to(lab.mail, mailbox="alice")
    assert not folder(lab, "Maildir")


@pytest.mark.faq("procmail-systemwide", "36-S1")
@pytest.mark.parametrize(
    ("extension", "where"), [("+lists", "Maildir/.lists/new"), ("+else", "Maildir/new")]
)
def test_cure_procmail_files_by_the_users_recipe(lab: Lab, extension: str, where: str) -> None:
    """As mailbox_command procmail gets the address extension and files mail by it."""
    with_a_recipe(lab)
    lab.mail.cure.configure(mailbox_command=PROCMAIL)

    mail = lab.remote.send(to=f"alice{extension}@example.com")
    lab.settle(mail)

    assert len(folder(lab, where)) == 1
    (attempt,) = [attempt for attempt in mail.journey.deliveries if attempt.service == "local"]
    assert attempt.reply.startswith("delivered to command: /usr/bin/procmail -a")


SHOW = "/usr/local/bin/show"
SEEN = "/tmp/seen"  # noqa: S108  # on a host of the lab


def show_environment(lab: Lab, arguments: str = "") -> None:
    """Install a mailbox command that records its environment and arguments."""
    lab.expects(consumed=1, because="the command records its environment and drops the mail")
    script = (
        f'#!/bin/sh\n{{ echo "ARGUMENTS=$*"; echo "CWD=$(pwd)"; env; }} >{SEEN}\ncat >/dev/null\n'
    )
    lab.mail.write(SHOW, script, mode=0o755)
    lab.mail.configure(mailbox_command=f"{SHOW} {arguments}", recipient_delimiter="+")


def seen(lab: Lab) -> dict[str, str]:
    """Return the recorded variables, without the shell's own."""
    lines = (lab.mail.read(SEEN) or "").splitlines()
    variables = dict(line.split("=", 1) for line in lines if "=" in line)
    return {
        name: variables[name] for name in variables if name not in ("PWD", "OLDPWD", "SHLVL", "_")
    }


@pytest.mark.faq("procmail-systemwide", "36-S2")
def test_behaviour_the_command_learns_from_its_environment(lab: Lab) -> None:
    """The environment names recipient, sender and client, and no other Postfix variable."""
    show_environment(lab)

    lab.settle(lab.client.smtp("alice+Ext@example.com", server=lab.mail, sender="Joe@example.net"))

    # MAIL_CONFIG is there only where postfix(1) started Postfix.
    variables = seen(lab)
    assert {name: variables[name] for name in variables if name not in ("PATH", "LANG", "TZ")} == {
        "ARGUMENTS": "",
        "CWD": "/var/spool/postfix",
        "USER": "alice",
        "LOGNAME": "alice",
        "HOME": "/home/alice",
        "SHELL": "/bin/sh",
        "LOCAL": "alice+ext",
        "DOMAIN": "example.com",
        "RECIPIENT": "alice+Ext@example.com",
        "ORIGINAL_RECIPIENT": "alice+Ext@example.com",
        "EXTENSION": "ext",
        "SENDER": "Joe@example.net",
        "CLIENT_ADDRESS": lab.client.address,
        "CLIENT_HOSTNAME": "client.example.net",
        "CLIENT_HELO": "client.example.net",
        "CLIENT_PROTOCOL": "ESMTP",
    }


@pytest.mark.faq("procmail-systemwide", "36-S3")
def test_behaviour_what_a_stranger_writes_is_censored(lab: Lab) -> None:
    """Shell metacharacters become underscores, in variables and arguments."""
    show_environment(lab, "$SENDER $EXTENSION")
    lab.mail.configure(local_recipient_maps="")

    with lab.client.session(lab.mail) as session:
        session.ehlo()
        session.command('MAIL FROM:<"a b;$(id)`x`|y"@example.net>')
        session.command('RCPT TO:<"alice+e x;t|`id`$H"@example.com>')
        session.command("DATA")
        session.command("Subject: odd\r\n\r\nodd\r\n.")
        session.quit()
    lab.drain()

    variables = seen(lab)
    assert variables["SENDER"] == "a_b___id__x__y@example.net"
    assert variables["EXTENSION"] == "e_x_t__id__h"
    assert variables["RECIPIENT"] == "alice+e_x_t__id__H@example.com"
    assert variables["ARGUMENTS"] == "a_b___id__x__y@example.net e_x_t__id__h"


@pytest.mark.faq("procmail-systemwide", "36-S3")
def test_behaviour_ordinary_odd_addresses_pass_as_they_are(lab: Lab) -> None:
    """Letters, digits and common address characters pass unchanged."""
    show_environment(lab)

    mail = lab.client.smtp("alice@example.com", server=lab.mail, sender="x=y+z-1_2@example.net")
    lab.settle(mail)

    assert seen(lab)["SENDER"] == "x=y+z-1_2@example.net"


@pytest.mark.faq("procmail-systemwide", "36-S4")
@pytest.mark.parametrize(
    ("command", "dsn", "reason"),
    [
        ("exit 75", "4.3.0", "temporary failure"),
        ("exit 69", "5.3.0", "service unavailable"),
        ("exit 77", "5.7.0", "permission denied"),
        ("exit 67", "5.1.1", "user unknown"),
        ("echo sorry no room; exit 69", "5.3.0", "service unavailable. Command output: sorry no"),
        ("echo 5.2.2 mailbox is full; exit 69", "5.2.2", "mailbox is full"),
        ("exit 1", "5.3.0", "Command died with status 1"),
    ],
)
def test_behaviour_the_exit_status_decides(lab: Lab, command: str, dsn: str, reason: str) -> None:
    """The exit status defers or bounces as in sysexits.h; output goes into the notice."""
    lab.mail.write("/usr/local/bin/decide", f"#!/bin/sh\ncat >/dev/null\n{command}\n", mode=0o755)
    lab.mail.misconfigure(mailbox_command="/usr/local/bin/decide")

    mail = lab.remote.send(to="alice@example.com")
    lab.settle(mail)

    judged = mail.deferred if dsn.startswith("4") else mail.bounced
    assert judged(dsn=dsn, saying=reason)


@pytest.mark.faq("procmail-systemwide", "36-S4")
def test_behaviour_a_command_that_is_not_there_is_waited_for(lab: Lab) -> None:
    """Mail waits for a missing program, and the log shows the failed exec."""
    lab.mail.misconfigure(mailbox_command="/usr/local/bin/nothing -x")

    mail = lab.remote.send(to="alice@example.com")
    lab.settle(mail)

    assert mail.deferred(
        dsn="4.3.0", saying="temporary failure. Command output: local: fatal: exec"
    )
    assert mail.held_by(lab.mail)
