r"""Using procmail for system-wide delivery: mailbox_command.

The answer still holds: mailbox_command runs a program as the user for each local
delivery. Two things go with it. Mail for root is delivered by a user without
rights, so root needs an alias. And the command is not safe because it is trusted
but because Postfix censors what it tells it: every character outside
command_expansion_filter becomes "_" in the environment and in the command line.
ORIGINAL_RECIPIENT, CLIENT_* and SASL_* joined the variables since the FAQ.
Sendmail censors nothing and relies on smrsh.
"""

import pytest

from maillab.lab import Lab
from maillab.maillog import Delivery

pytestmark = pytest.mark.topology("standalone")

PROCMAIL = '/usr/bin/procmail -a "$EXTENSION" DEFAULT=$HOME/Maildir/ MAILDIR=$HOME/Maildir'
PROGRAM = "/usr/local/bin/deliver"


def delivery(lab: Lab) -> Delivery:
    """The last attempt that the mail server made."""
    return lab.events(Delivery, lab.mail)[-1]


def program(lab: Lab, script: str) -> str:
    """A delivery program of our own."""
    lab.mail.write(PROGRAM, f"#!/bin/sh\n{script}\n", mode=0o755)
    return PROGRAM


@pytest.mark.faq("procmail-systemwide", "36-S1")
def test_cure_procmail_delivers_for_everybody(lab: Lab) -> None:
    """With mailbox_command the mail goes where procmail puts it, here a maildir."""
    lab.mail.configure(mailbox_command="", recipient_delimiter="+")
    lab.mail.cure.configure(mailbox_command=PROCMAIL)

    mail = lab.remote.send(to="alice+ext@example.com")
    lab.settle(mail)

    assert delivery(lab).reply == f"delivered to command: {PROCMAIL}"
    assert mail.delivered_to(lab.mail, mailbox="alice")
    (name,) = lab.mail.run("ls", "/home/alice/Maildir/new").stdout.split()
    owner = lab.mail.run("stat", "-c", "%U", f"/home/alice/Maildir/new/{name}").stdout
    assert owner == "alice\n"


@pytest.mark.faq("procmail-systemwide", "36-S1")
def test_symptom_roots_mail_is_delivered_by_nobody(lab: Lab) -> None:
    """Without an alias for root the program runs with the rights of default_privs."""
    lab.mail.configure(mailbox_command=program(lab, "id -un >/tmp/who; exit 77"))
    lab.mail.aliases({"root": "alice"})
    lab.mail.mistake.aliases({})

    mail = lab.remote.send(to="root@example.com")
    lab.settle(mail)

    assert lab.mail.read("/tmp/who") == "nobody\n"
    assert mail.bounced(dsn="5.7.0", saying="permission denied")


@pytest.mark.faq("procmail-systemwide", "36-S1")
def test_cure_an_alias_gives_roots_mail_to_a_person(lab: Lab) -> None:
    """The program then runs as that person."""
    lab.mail.configure(mailbox_command=program(lab, "id -un >/tmp/who"))
    lab.mail.aliases({})
    lab.mail.cure.aliases({"root": "alice"})

    mail = lab.remote.send(to="root@example.com")
    lab.settle(mail)

    assert lab.mail.read("/tmp/who") == "alice\n"
    assert delivery(lab).reply == f"delivered to command: {PROGRAM}"


def environment(lab: Lab, to: str, sender: str) -> dict[str, str]:
    """What the delivery program was told about a message from outside."""
    script = 'env >/tmp/told; echo "CWD=$(pwd -P)" >>/tmp/told; echo "ARGS=$*" >>/tmp/told'
    command = program(lab, script)
    arguments = '"$SENDER" "$EXTENSION" "$RECIPIENT"'
    lab.mail.configure(mailbox_command=f"{command} {arguments}", recipient_delimiter="+")
    mail = lab.client.submit(to, server=lab.mail, sender=sender)
    lab.settle(mail)
    lines = (lab.mail.read("/tmp/told") or "").splitlines()
    told = dict(line.split("=", 1) for line in lines)
    # The shell's own.
    return {
        name: value for name, value in told.items() if name not in ("PWD", "OLDPWD", "_", "SHLVL")
    }


@pytest.mark.faq("procmail-systemwide", "36-S2")
def test_behaviour_the_program_is_told_who_and_from_where(lab: Lab) -> None:
    """User, recipient and client stand in the environment, which is otherwise bare."""
    told = environment(lab, "alice+Ext@example.com", "bob@client.example.net")

    # Those of export_environment are told where they are set: by postfix(1), by the machine.
    exported = ("PATH", "MAIL_CONFIG", "TZ", "LANG")
    assert {name: value for name, value in told.items() if name not in exported} == {
        "USER": "alice",
        "LOGNAME": "alice",
        "HOME": "/home/alice",
        "SHELL": "/bin/sh",
        "LOCAL": "alice+ext",
        "DOMAIN": "example.com",
        "RECIPIENT": "alice+Ext@example.com",
        "ORIGINAL_RECIPIENT": "alice+Ext@example.com",
        "EXTENSION": "ext",
        "SENDER": "bob@client.example.net",
        "CLIENT_ADDRESS": lab.client.address,
        "CLIENT_HOSTNAME": "client.example.net",
        "CLIENT_HELO": "client.example.net",
        "CLIENT_PROTOCOL": "ESMTP",
        "CWD": "/var/spool/postfix",
        "ARGS": "bob@client.example.net ext alice+Ext@example.com",
    }


@pytest.mark.faq("procmail-systemwide", "36-S3")
def test_behaviour_what_a_shell_would_obey_is_censored(lab: Lab) -> None:
    """Each character outside command_expansion_filter becomes "_", wherever it is told."""
    told = environment(lab, '"alice+e x;t|`id`$H"@example.com', '"a b;$(id)`x`|y"@example.net')

    names = ("SENDER", "EXTENSION", "RECIPIENT", "ARGS")
    assert {name: told[name] for name in names} == {
        "SENDER": "a_b___id__x__y@example.net",
        "EXTENSION": "e_x_t__id__h",
        "RECIPIENT": "alice+e_x_t__id__H@example.com",
        "ARGS": "a_b___id__x__y@example.net e_x_t__id__h alice+e_x_t__id__H@example.com",
    }


@pytest.mark.faq("procmail-systemwide", "36-S3")
def test_behaviour_harmless_characters_pass(lab: Lab) -> None:
    """What ordinary addresses are made of is told as it is."""
    told = environment(lab, "alice@example.com", "x=y+z-1_2@example.net")

    assert told["SENDER"] == "x=y+z-1_2@example.net"


@pytest.mark.faq("procmail-systemwide", "36-S3")
def test_behaviour_the_headers_are_not_censored(lab: Lab) -> None:
    """Return-Path: in what the program reads is the sender's address as it came."""
    lab.mail.configure(mailbox_command=program(lab, "cat >/tmp/message"))

    mail = lab.client.submit(
        "alice@example.com", server=lab.mail, sender='"a b;$(id)`x`|y"@example.net'
    )
    lab.settle(mail)

    lines = (lab.mail.read("/tmp/message") or "").splitlines()
    assert 'Return-Path: <"a b;$(id)`x`|y"@example.net>' in lines


@pytest.mark.faq("procmail-systemwide", "36-S4")
@pytest.mark.parametrize(
    ("script", "status", "dsn", "reply"),
    [
        ("exit 75", "deferred", "4.3.0", "temporary failure"),
        (
            "echo sorry no room; exit 69",
            "bounced",
            "5.3.0",
            "service unavailable. Command output: sorry no room ",
        ),
        ("exit 77", "bounced", "5.7.0", "permission denied"),
        (
            "echo 5.2.2 over quota; exit 77",
            "bounced",
            "5.2.2",
            "over quota ",
        ),
    ],
    ids=["tempfail", "unavailable", "no-permission", "dsn-in-output"],
)
def test_behaviour_the_exit_status_decides(
    lab: Lab, script: str, status: str, dsn: str, reply: str
) -> None:
    """sysexits(3) say what becomes of the message, the output why."""
    lab.mail.configure(mailbox_command=program(lab, script))

    mail = lab.client.submit("alice@example.com", server=lab.mail)
    lab.settle(mail)

    last = [one for one in mail.journey.deliveries if one.to == "alice@example.com"][-1]
    assert (last.status, last.dsn, last.reply) == (status, dsn, reply)


@pytest.mark.faq("procmail-systemwide", "36-S4")
def test_behaviour_a_missing_program_defers(lab: Lab) -> None:
    """Mail waits until somebody puts the program there."""
    lab.mail.configure(mailbox_command="/usr/local/bin/missing")

    mail = lab.client.submit("alice@example.com", server=lab.mail)
    lab.settle(mail)

    assert mail.deferred(
        dsn="4.3.0", saying="temporary failure. Command output: local: fatal: execvp"
    )
    assert mail.held_by(lab.mail)


@pytest.mark.faq("procmail-systemwide")
def test_behaviour_some_users_may_have_a_program_of_their_own(lab: Lab) -> None:
    """mailbox_command_maps goes before mailbox_command, for those it lists."""
    own = program(lab, "cat >/dev/null")
    lab.mail.configure(mailbox_command_maps=lab.mail.table("commands", {"alice": own}))

    mail = lab.client.submit(["alice@example.com", "carol@example.com"], server=lab.mail)
    lab.settle(mail)

    assert {line.to: line.reply for line in lab.events(Delivery, lab.mail)} == {
        "alice@example.com": f"delivered to command: {PROGRAM}",
        "carol@example.com": "delivered to mailbox",
    }
