"""Postfix accepts MAIL FROM and RCPT TO "| command".

It does, and executes nothing: only aliases(5), .forward and :include: files may
name commands and files, an address from the network is always an address. Such a
recipient is an unknown user like another and has been refused as such since
2.0 (local_recipient_maps). Who does not want to see it at all, say to protect
other machines behind this one, refuses it by pattern; the FAQ's pattern also
refuses the slashes of X.400 addresses.
"""

import pytest

from maillab.lab import Lab
from maillab.maillog import Delivery

pytestmark = pytest.mark.topology("standalone")

SENDER = '"|touch /tmp/pwned"@example.net'
COMMAND = '"|touch /tmp/pwned"@example.com'
FILE = '"/tmp/pwned"@example.com'
INCLUDE = '":include:/etc/passwd"@example.com'
ODD = pytest.mark.parametrize(
    "recipient", [COMMAND, FILE, INCLUDE], ids=["command", "file", "include"]
)
REASON = "pipe or slash in address"


def filtered(lab: Lab) -> dict[str, str]:
    """Settings that refuse a pipe or a slash in either address."""
    table = lab.mail.table("pipe_reject", f"/[\\/|]/ REJECT {REASON}\n", kind="regexp")
    return {
        "smtpd_sender_restrictions": f"check_sender_access {table}",
        "smtpd_recipient_restrictions": f"check_recipient_access {table}",
    }


@ODD
@pytest.mark.faq("pipe-command-addresses", "39-S1")
def test_symptom_commands_and_files_are_accepted(lab: Lab, recipient: str) -> None:
    """Without local_recipient_maps they get a 250, then bounce as unknown users."""
    lab.mail.misconfigure(local_recipient_maps="")

    mail = lab.client.submit(recipient, server=lab.mail, sender="joe@example.net")
    lab.settle(mail)

    local_part = recipient.rpartition("@")[0]
    assert mail.bounced(dsn="5.1.1", saying=f"unknown user: {local_part}")
    assert lab.mail.read("/tmp/pwned") is None
    (notice,) = lab.remote.mailbox("joe")
    assert "Status: 5.1.1" in str(notice)


@pytest.mark.faq("pipe-command-addresses", "39-S1")
def test_symptom_the_notice_travels_to_the_odd_sender(lab: Lab) -> None:
    """A command as sender is where the bounce is sent, and nobody runs it there, either."""
    lab.mail.misconfigure(local_recipient_maps="")
    lab.remote.configure(local_recipient_maps="")

    mail = lab.client.submit(COMMAND, server=lab.mail, sender=SENDER)
    lab.settle(mail)

    assert mail.bounced(dsn="5.1.1", saying='unknown user: "|touch /tmp/pwned"')
    (notice,) = lab.events(Delivery, lab.remote)
    assert (notice.to, notice.status, notice.dsn) == (SENDER, "bounced", "5.1.1")
    assert [host.read("/tmp/pwned") for host in (lab.mail, lab.remote)] == [None, None]


@ODD
@pytest.mark.faq("pipe-command-addresses", "39-S1")
def test_cure_by_default_they_are_unknown_users(lab: Lab, recipient: str) -> None:
    """local_recipient_maps, set since 2.0, has them refused at RCPT TO."""
    lab.mail.configure(local_recipient_maps="")
    lab.mail.cure.configure(local_recipient_maps="proxy:unix:passwd.byname $alias_maps")

    mail = lab.client.submit(recipient, server=lab.mail, sender=SENDER)
    lab.settle(mail)

    assert mail.rejected(
        550, "5.1.1", saying="Recipient address rejected: User unknown in local recipient table"
    )
    assert not mail.reached(lab.mail)
    assert lab.mail.read("/tmp/pwned") is None


@pytest.mark.faq("pipe-command-addresses", "39-S1")
def test_behaviour_an_unquoted_pipe_is_an_atom(lab: Lab) -> None:
    """A "|" needs no quotes (RFC 5322 atext), and means nothing without them, either."""
    lab.mail.configure(local_recipient_maps="")

    mail = lab.client.submit("|id@example.com", server=lab.mail, sender="joe@example.net")
    lab.settle(mail)

    assert mail.bounced(dsn="5.1.1", saying='unknown user: "|id"')


@pytest.mark.faq("pipe-command-addresses", "39-S2", "39-S3")
@pytest.mark.parametrize(
    ("sender", "recipient", "refused"),
    [
        (SENDER, "alice@example.com", "Sender"),
        ("joe@example.net", COMMAND, "Recipient"),
        ("joe@example.net", FILE, "Recipient"),
        # X.400 addresses are full of slashes; they go down with the rest.
        ("joe@example.net", "/C=us/ADMD=x/@example.com", "Recipient"),
    ],
    ids=["sender", "command", "file", "x400"],
)
def test_cure_a_pattern_refuses_them(lab: Lab, sender: str, recipient: str, refused: str) -> None:
    """check_sender_access and check_recipient_access refuse whatever has a "|" or "/"."""
    lab.mail.configure(local_recipient_maps="")
    lab.mail.cure.configure(**filtered(lab))

    mail = lab.client.submit(recipient, server=lab.mail, sender=sender)
    lab.settle(mail)

    assert mail.rejected(554, "5.7.1", saying=f"{refused} address rejected: {REASON}")
    assert not mail.reached(lab.mail)


@pytest.mark.faq("pipe-command-addresses", "39-S2")
def test_behaviour_ordinary_mail_passes_the_pattern(lab: Lab) -> None:
    """Relaying is judged by smtpd_relay_restrictions all the same."""
    lab.mail.configure(**filtered(lab))

    mail = lab.client.submit("alice@example.com", server=lab.mail)
    away = lab.client.submit("joe@example.net", server=lab.mail)
    lab.settle(mail, away)

    assert mail.delivered_to(lab.mail, mailbox="alice")
    assert away.rejected(454, "4.7.1", saying="Relay access denied")


@pytest.mark.faq("pipe-command-addresses", "39-S4")
@pytest.mark.parametrize(
    "header", ["Errors-To", "Return-Receipt-To", "Disposition-Notification-To"]
)
def test_cure_a_pattern_refuses_them_in_headers(lab: Lab, header: str) -> None:
    """header_checks answers the end of the data with a 550."""
    reason = "command or file destination in header"
    pattern = (
        f"/^(Errors-To|Return-Receipt-To|Disposition-Notification-To):.*[|\\/]/ REJECT {reason}"
    )
    lab.mail.cure.configure(
        header_checks=lab.mail.table("odd_headers", f"{pattern}\n", kind="regexp")
    )

    mail = lab.client.submit(
        "alice@example.com", server=lab.mail, headers={header: '"|id"@example.com'}
    )
    lab.settle(mail)

    assert mail.rejected(550, "5.7.1", saying=reason)
    assert lab.mail.mailbox("alice") == []
