"""Stand-alone machine: sends and receives its own mail and needs no other.

The FAQ's answer was: nothing to configure. It still is, as long as mail is
addressed to the machine's own name; a domain of its own has to be listed in
mydestination, today as then. What changed is whom the defaults trust. In the
FAQ's days a machine relayed for its whole class A, B or C network, later for
its subnet, since 3.0 only for itself (mynetworks_style); and it relayed for
whatever was below its own domains until relay_domains became empty in 3.0.
Unknown users are refused by the SMTP server since 2.0 (local_recipient_maps).
Since 2.10 relaying is judged by a list of its own, smtpd_relay_restrictions.
"""

import pytest

from maillab.lab import Lab
from maillab.maillog import Accepted, Disconnected

pytestmark = pytest.mark.topology("standalone")

# The default of mydestination: the machine's own names and no domain.
NO_DOMAIN = "$myhostname, localhost.$mydomain, localhost"


@pytest.mark.faq("stand-alone", "1a")
def test_behaviour_mail_for_a_local_user_is_stored(lab: Lab) -> None:
    """Mail from outside for the machine's own name needs no configuration."""
    lab.mail.configure(mydestination=NO_DOMAIN)

    mail = lab.remote.send(to="joe@mail.example.com")
    lab.settle(mail)

    assert mail.delivered_to(lab.mail, mailbox="joe")
    (copy,) = lab.mail.mailbox("joe")
    assert copy["Return-Path"] == "<bob@remote.example.net>"
    assert copy["Delivered-To"] == "joe@mail.example.com"


@pytest.mark.faq("stand-alone", "1a")
@pytest.mark.parametrize(
    ("recipient", "code", "dsn", "reason"),
    [
        (
            "nosuch@mail.example.com",
            550,
            "5.1.1",
            "Recipient address rejected: User unknown in local recipient table",
        ),
        ("joe@remote.example.net", 454, "4.7.1", "Relay access denied"),
        ("joe@below.mail.example.com", 454, "4.7.1", "Relay access denied"),
    ],
    ids=["unknown-user", "elsewhere", "subdomain"],
)
def test_behaviour_other_mail_from_outside_is_refused(
    lab: Lab, recipient: str, code: int, dsn: str, reason: str
) -> None:
    """Neither unknown users nor other people's domains get past RCPT TO."""
    mail = lab.client.submit(recipient, server=lab.mail)

    lab.settle(mail)

    assert mail.rejected(code, dsn, saying=f"<{recipient}>: {reason}")
    assert not mail.reached(lab.mail)
    assert not mail.reached(lab.remote)


@pytest.mark.faq("stand-alone", "1a")
def test_behaviour_a_user_sends_to_the_internet(lab: Lab) -> None:
    """A user's mail leaves by MX, in the name of user@machine."""
    mail = lab.mail.send(to="joe@example.net", user="alice")

    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    (copy,) = lab.remote.mailbox("joe")
    assert copy["Return-Path"] == "<alice@mail.example.com>"
    assert copy["From"] == "alice@mail.example.com"
    assert "by mail.example.com (Postfix, from userid " in str(copy)


@pytest.mark.faq("stand-alone", "1b")
def test_symptom_the_neighbours_relay(lab: Lab) -> None:
    """With the trust of old the machine relays for whoever is in its subnet."""
    lab.mail.misconfigure(mynetworks_style="subnet")

    mail = lab.client.submit("joe@example.net", server=lab.mail)
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("stand-alone", "1b")
def test_cure_the_machine_trusts_only_itself(lab: Lab) -> None:
    """With mynetworks_style=host, the default since 3.0, a neighbour is a stranger."""
    lab.mail.configure(mynetworks_style="subnet")
    lab.mail.cure.configure(mynetworks_style="host")

    mail = lab.client.submit("joe@example.net", server=lab.mail)
    own = lab.mail.send(to="joe@example.net")
    lab.settle(mail, own)

    assert mail.rejected(454, "4.7.1", saying="<joe@example.net>: Relay access denied")
    assert own.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("stand-alone", "1b")
@pytest.mark.topology("standalone", pool="10.198.0.0/16")
@pytest.mark.parametrize(
    ("style", "neighbour", "stranger"),
    [("host", 454, 454), ("subnet", 250, 454), ("class", 250, 250)],
)
def test_historic_trust_by_class_covers_millions(
    lab: Lab, style: str, neighbour: int, stranger: int
) -> None:
    """In 10/8, "subnet" trusts the /24 the machine is in and "class" all 16 million."""
    lab.mail.configure(mynetworks_style=style, smtpd_authorized_xclient_hosts=lab.client.address)

    replies = {}
    for address in (lab.remote.address, "10.77.0.22"):
        with lab.client.session(lab.mail) as session:
            session.ehlo()
            session.command(f"XCLIENT NAME=[UNAVAILABLE] ADDR={address}")
            session.ehlo()
            session.mail("bob@client.example.net")
            replies[address] = session.rcpt("joe@example.net").code

    assert replies == {lab.remote.address: neighbour, "10.77.0.22": stranger}


@pytest.mark.faq("stand-alone", "1c")
def test_symptom_a_domain_that_is_not_listed_is_not_ours(lab: Lab) -> None:
    """Being a domain's MX is not enough: its mail is refused as relaying."""
    lab.mail.misconfigure(mydestination=NO_DOMAIN)

    mail = lab.remote.send(to="joe@example.com")
    lab.settle(mail)

    assert mail.deferred(dsn="4.7.1", saying="said: 454 4.7.1 <joe@example.com>: Relay access")
    assert mail.held_by(lab.remote)
    assert not mail.reached(lab.mail)


@pytest.mark.faq("stand-alone", "1c")
def test_symptom_own_mail_for_a_domain_not_listed_loops_back(lab: Lab) -> None:
    """The machine looks for the domain's MX, finds itself and gives up."""
    lab.mail.misconfigure(mydestination=NO_DOMAIN)

    mail = lab.mail.send(to="joe@example.com", user="bob")
    lab.settle(mail)

    assert mail.bounced(dsn="5.4.6", saying="mail for example.com loops back to myself")
    (notice,) = lab.mail.mailbox("bob")
    assert "Diagnostic-Code: X-Postfix; mail for example.com loops back to myself" in str(notice)


@pytest.mark.faq("stand-alone", "1c")
def test_cure_the_domain_is_listed(lab: Lab) -> None:
    """With the domain in mydestination its mail is local, wherever it comes from."""
    lab.mail.configure(mydestination=NO_DOMAIN)
    lab.mail.cure.configure(mydestination=f"{NO_DOMAIN}, $mydomain")

    outside = lab.remote.send(to="joe@example.com")
    inside = lab.mail.send(to="alice@example.com")
    lab.settle(outside, inside)

    assert outside.delivered_to(lab.mail, mailbox="joe")
    assert inside.delivered_to(lab.mail, mailbox="alice")


def smuggle(lab: Lab) -> list[str]:
    """Hide a message to carol behind a dot between bare newlines in one to alice.

    Returns who got mail.
    """
    with lab.client.session(lab.mail) as session:
        session.ehlo()
        session.mail("bob@client.example.net")
        session.rcpt("alice@example.com")
        session.command("DATA")
        session.command(
            "Subject: outer\r\n\r\nHello\n.\n"
            "MAIL FROM:<ceo@example.com>\r\nRCPT TO:<carol@example.com>\r\nDATA\r\n"
            "Subject: inner\r\n\r\nsmuggled\r\n."
        )
        session.quit()
        lab.wait_for(Disconnected, host=lab.mail)
    lab.settle()
    return [user for user in ("alice", "carol") if lab.mail.mailbox(user)]


BARE_NEWLINES_PASS = {"smtpd_forbid_bare_newline": "no", "smtpd_forbid_unauth_pipelining": "no"}


@pytest.mark.faq("stand-alone")
def test_symptom_a_message_is_smuggled_in(lab: Lab) -> None:
    """Where a bare newline ends a line, one message may carry another in."""
    lab.mail.configure(smtpd_forbid_bare_newline="normalize")
    lab.mail.misconfigure(**BARE_NEWLINES_PASS)

    got_mail = smuggle(lab)

    assert got_mail == ["alice", "carol"]
    assert len(lab.events(Accepted, lab.mail)) == 2


@pytest.mark.faq("stand-alone")
@pytest.mark.parametrize(("value", "takers"), [("normalize", ["alice"]), ("reject", [])])
def test_cure_bare_newlines_end_no_message(lab: Lab, value: str, takers: list[str]) -> None:
    """The hidden message stays text of the outer one, or goes down with it."""
    lab.mail.configure(**BARE_NEWLINES_PASS)
    lab.mail.cure.configure(smtpd_forbid_bare_newline=value)

    got_mail = smuggle(lab)

    assert got_mail == takers


@pytest.mark.faq("stand-alone")
def test_behaviour_out_of_the_box_nothing_is_smuggled_in_since_3_9(lab: Lab) -> None:
    """Postfix 3.5 and 3.7 have the guard but must be told to use it."""
    got_mail = smuggle(lab)

    assert got_mail == (["alice", "carol"] if lab.version in ("3.5", "3.7") else ["alice"])
