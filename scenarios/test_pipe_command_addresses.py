"""Protecting against "| command" sender and recipient addresses.

Postfix never runs a command or opens a file because of an address in SMTP; only aliases and
.forward files can cause that. To protect programs after Postfix, refuse such addresses with
an access table. The table also rejects X.400 addresses, which are full of slashes.

Since the FAQ:
- 2.0: such a recipient is also unknown, and by default refused at RCPT TO.
"""

import pytest

from maillab import Delivery, Lab

pytestmark = pytest.mark.topology("standalone")

PWNED = "/var/tmp/pwned"  # noqa: S108  # on a host of the lab
SENDER = f'"|touch {PWNED}"@example.net'
REFUSE = "/[\\/|]/ REJECT pipe or slash in address\n"
RECIPIENTS = [
    f'"|touch {PWNED}"@example.com',
    f'"{PWNED}"@example.com',
    "|id@example.com",
    '":include:/etc/passwd"@example.com',
]


def refuse_such_addresses(host_table: str) -> dict[str, str]:
    """Return the FAQ's restrictions for the table."""
    return {
        "smtpd_sender_restrictions": f"check_sender_access {host_table}",
        "smtpd_recipient_restrictions": f"check_recipient_access {host_table}",
    }


@pytest.mark.faq("pipe-command-addresses", "39-S1")
@pytest.mark.parametrize("recipient", RECIPIENTS)
def test_behaviour_such_a_recipient_is_a_user_nobody_knows(lab: Lab, recipient: str) -> None:
    """Even if unknown users are accepted, Postfix runs and writes nothing, and bounces."""
    lab.mail.misconfigure(local_recipient_maps="")

    mail = lab.client.smtp(recipient, server=lab.mail, sender="dave@example.net")
    lab.settle(mail)

    assert mail.submission.code == 250
    name = recipient.rpartition("@")[0].strip('"')
    assert mail.bounced(dsn="5.1.1", saying=f'unknown user: "{name}"')
    assert lab.mail.read(PWNED) is None
    assert len(lab.remote.mailbox("dave")) == 1


@pytest.mark.faq("pipe-command-addresses", "39-S1")
@pytest.mark.parametrize("recipient", RECIPIENTS)
def test_behaviour_by_default_such_a_recipient_is_refused(lab: Lab, recipient: str) -> None:
    """Unknown users are refused at RCPT TO."""
    mail = lab.client.smtp(recipient, server=lab.mail)
    lab.settle(mail)

    assert mail.rejected(550, "5.1.1", saying="User unknown in local recipient table")


@pytest.mark.faq("pipe-command-addresses", "39-S1")
def test_behaviour_a_notice_to_such_a_sender_runs_nothing(lab: Lab) -> None:
    """The notice goes to the odd address on the host that it names."""
    lab.mail.misconfigure(local_recipient_maps="")

    mail = lab.client.smtp("nosuch@example.com", server=lab.mail, sender=SENDER)
    lab.settle(mail)

    assert mail.bounced(dsn="5.1.1", saying='unknown user: "nosuch"')
    (notice,) = [event for event in lab.events(Delivery, lab.mail) if event.service == "smtp"]
    assert notice.to == SENDER
    assert lab.mail.read(PWNED) is None
    assert lab.remote.read(PWNED) is None


@pytest.mark.faq("pipe-command-addresses", "39-S2")
@pytest.mark.parametrize(
    ("sender", "recipient"),
    [(SENDER, "alice@example.com"), ("dave@example.net", f'"{PWNED}"@example.com')],
    ids=["sender", "recipient"],
)
def test_symptom_such_an_address_is_let_in(lab: Lab, sender: str, recipient: str) -> None:
    """Without a table Postfix accepts such an address."""
    table = lab.mail.table("pipe_reject", REFUSE, kind="regexp")
    lab.mail.configure(local_recipient_maps="", **refuse_such_addresses(table))
    lab.mail.misconfigure(smtpd_sender_restrictions="", smtpd_recipient_restrictions="")

    mail = lab.client.smtp(recipient, server=lab.mail, sender=sender)
    lab.settle(mail)

    assert mail.reached(lab.mail)


@pytest.mark.faq("pipe-command-addresses", "39-S2")
@pytest.mark.parametrize(
    ("sender", "recipient", "whose"),
    [
        (SENDER, "alice@example.com", "Sender"),
        ("dave@example.net", RECIPIENTS[0], "Recipient"),
        ("dave@example.net", RECIPIENTS[1], "Recipient"),
    ],
)
def test_cure_an_access_table_refuses_it(lab: Lab, sender: str, recipient: str, whose: str) -> None:
    """The table refuses a sender and a recipient, both at RCPT TO (smtpd_delay_reject)."""
    lab.mail.configure(local_recipient_maps="")
    table = lab.mail.cure.table("pipe_reject", REFUSE, kind="regexp")
    lab.mail.cure.configure(**refuse_such_addresses(table))

    mail = lab.client.smtp(recipient, server=lab.mail, sender=sender)
    plain = lab.client.smtp("alice@example.com", server=lab.mail)
    lab.settle(mail, plain)

    reason = f"{whose} address rejected: pipe or slash in address"
    assert mail.rejected(554, "5.7.1", saying=reason)
    assert not mail.reached(lab.mail)
    assert plain.delivered_to(lab.mail, mailbox="alice")


@pytest.mark.faq("pipe-command-addresses", "39-S3")
def test_behaviour_x400_addresses_are_refused_along_with_them(lab: Lab) -> None:
    """The table cannot tell a command from an address with slashes."""
    table = lab.mail.table("pipe_reject", REFUSE, kind="regexp")
    lab.mail.configure(local_recipient_maps="")
    lab.mail.cure.configure(**refuse_such_addresses(table))

    mail = lab.client.smtp("/C=us/ADMD=x/@example.com", server=lab.mail)
    lab.settle(mail)

    assert mail.rejected(554, "5.7.1", saying="pipe or slash in address")


@pytest.mark.faq("pipe-command-addresses", "39-S4")
@pytest.mark.parametrize(
    "header", ["Errors-To", "Return-Receipt-To", "Disposition-Notification-To"]
)
def test_cure_headers_with_such_addresses_are_refused(lab: Lab, header: str) -> None:
    """header_checks rejects headers that programs after Postfix might act on."""
    rule = (
        "/^(Errors-To|Return-Receipt-To|Disposition-Notification-To):.*[|\\/]/ "
        "REJECT command or file destination in header\n"
    )
    table = lab.mail.cure.table("header_checks", rule, kind="regexp")
    lab.mail.cure.configure(header_checks=table)

    mail = lab.client.smtp(
        "alice@example.com", server=lab.mail, headers={header: '"|id"@example.com'}
    )
    lab.settle(mail)

    assert mail.rejected(550, "5.7.1", saying="command or file destination in header")
    assert not lab.mail.mailbox("alice")
