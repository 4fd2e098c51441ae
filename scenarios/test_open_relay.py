"""Help! Postfix is an open relay.

Mail testers say so of a machine that takes an address with another address in
it: somebody%elsewhere@here, elsewhere!somebody@here, "somebody@elsewhere"@here.
The FAQ's answer was that Postfix relays for strangers only when told to, and a
regular expression against such addresses for those who pass them on. It still
refuses strangers all five forms; allow_untrusted_routing is off, and since 2.10
smtpd_relay_restrictions decides. What remains is the friend: for a client that
is trusted, the host that rewrites these forms to plain addresses forwards them.
There the FAQ's expression does nothing, since access tables are asked for the
rewritten address; it works on a backup, which leaves foreign domains alone.
"""

import pytest

from maillab.lab import Lab
from maillab.postfix import MailHost

pytestmark = pytest.mark.topology("backup-mx")

# Each names alice at the bystander by way of example.org, which is for primary and backup.
FORMS = {
    "at": "alice@example.com@example.org",
    "quoted": '"alice@example.com"@example.org',
    "percent": "alice%example.com@example.org",
    "bang": "example.com!alice@example.org",
    "route": "@example.org:alice@example.com",
}
every_form = pytest.mark.parametrize("address", FORMS.values(), ids=FORMS)
# A source route is dropped where it stands (RFC 5321 appendix C), so it routes nothing.
routing_form = pytest.mark.parametrize(
    "address", [FORMS[name] for name in FORMS if name != "route"], ids=list(FORMS)[:-1]
)

FORBIDDEN = "550 Sender-specified routing rejected here"
# As the FAQ has it: one routing character after another.
BY_THE_FAQ = f"/[%!@].*[%!@]/ {FORBIDDEN}\n"
# The host leaves the local part as it is, whatever is in it.
PLAIN = {"allow_percent_hack": "no", "swap_bangpath": "no", "resolve_dequoted_address": "no"}
TRUSTING_ALL_ITS_CLIENTS = "permit_mynetworks, reject_unauth_destination"


def by_the_faq(host: MailHost) -> dict[str, str]:
    """The FAQ's restriction, its table made."""
    routed = host.table("routed", BY_THE_FAQ, "regexp")
    return {"smtpd_recipient_restrictions": f"check_recipient_access {routed}"}


@pytest.mark.faq("open-relay", "14a")
@every_form
def test_historic_a_stranger_gets_nothing_through(lab: Lab, address: str) -> None:
    """Out of the box neither the primary nor the backup takes any of the five forms."""
    at_primary = lab.sender.submit(address, server=lab.primary)
    at_backup = lab.sender.submit(address, server=lab.backup)
    lab.settle(at_primary, at_backup)

    shown = address.rpartition(":")[2].replace('"', "")
    for mail in (at_primary, at_backup):
        assert mail.rejected(454, "4.7.1", saying=f"<{shown}>: Relay access denied")
        assert not mail.reached(lab.victim)


@pytest.mark.faq("open-relay", "14a")
def test_behaviour_plain_addresses_of_the_domain_are_welcome(lab: Lab) -> None:
    """What is refused is the routing: alice of the domain herself gets mail either way."""
    at_primary = lab.sender.submit("alice@example.org", server=lab.primary)
    at_backup = lab.sender.submit("alice@example.org", server=lab.backup)
    lab.settle(at_primary, at_backup)

    assert at_primary.delivered_to(lab.primary, mailbox="alice")
    assert at_backup.reached(lab.backup)
    assert at_backup.delivered_to(lab.primary, mailbox="alice")


@pytest.mark.faq("open-relay", "14a")
def test_behaviour_an_internationalized_local_part_is_no_way_round(lab: Lab) -> None:
    """SMTPUTF8 (RFC 6531) changes the letters, not who may relay."""
    # The agent sends what it is given byte by byte.
    address = "j\u00fcrgen%example.com@example.org".encode().decode("latin-1")

    with lab.sender.session(lab.primary) as session:
        session.ehlo()
        session.mail("bob@sender.example.net", "SMTPUTF8")
        reply = session.rcpt(address)

    assert (reply.code, reply.dsn) == (454, "4.7.1")
    assert reply.text.endswith(": Relay access denied")


@pytest.mark.faq("open-relay", "14b")
@routing_form
def test_symptom_a_stranger_relays_by_a_backup_that_its_primary_trusts(
    lab: Lab, address: str
) -> None:
    """The old loophole: the backup sees its own domain, the primary sees a friend."""
    lab.primary.configure(mynetworks=lab.backup.address)
    lab.backup.misconfigure(allow_untrusted_routing="yes")

    mail = lab.sender.submit(address, server=lab.backup)
    lab.settle(mail)

    assert mail.reached(lab.primary)
    assert mail.delivered_to(lab.victim, mailbox="alice")


@pytest.mark.faq("open-relay", "14b")
@routing_form
def test_cure_untrusted_routing_is_off(lab: Lab, address: str) -> None:
    """With allow_untrusted_routing=no, the default, a foreign domain inside counts."""
    lab.backup.configure(allow_untrusted_routing="yes")
    lab.backup.cure.configure(allow_untrusted_routing="no")

    mail = lab.sender.submit(address, server=lab.backup)
    lab.settle(mail)

    assert mail.rejected(454, "4.7.1", saying="Relay access denied")
    assert not mail.reached(lab.backup)


@pytest.mark.faq("open-relay", "14b")
@every_form
def test_behaviour_a_primary_has_no_such_loophole(lab: Lab, address: str) -> None:
    """Where the domain is local the routing is undone first, whatever the setting says."""
    lab.primary.configure(allow_untrusted_routing="yes")

    mail = lab.sender.submit(address, server=lab.primary)
    lab.settle(mail)

    assert mail.rejected(454, "4.7.1", saying="Relay access denied")


@pytest.mark.faq("open-relay", "14c")
@every_form
def test_symptom_the_primary_forwards_for_a_client_it_trusts(lab: Lab, address: str) -> None:
    """For a friend each of the five forms is one more way to write alice@example.com."""
    lab.primary.misconfigure(mynetworks=lab.sender.address)

    mail = lab.sender.submit(address, server=lab.primary)
    lab.settle(mail)

    assert mail.delivered_to(lab.victim, mailbox="alice")
    (copy,) = lab.victim.mailbox("alice")
    assert copy["Delivered-To"] == "alice@example.com"
    assert "by primary.example.org (Postfix) with ESMTP" in str(copy)


@pytest.mark.faq("open-relay", "14c")
@routing_form
def test_behaviour_what_a_trusted_client_routes_by_the_backup_is_stuck_there(
    lab: Lab, address: str
) -> None:
    """The backup takes it for its domain; the primary does not trust the backup."""
    lab.backup.configure(mynetworks=lab.sender.address)

    mail = lab.sender.submit(address, server=lab.backup)
    lab.settle(mail)

    assert mail.held_by(lab.backup)
    assert mail.deferred(dsn="4.7.1", saying="said: 454 4.7.1")
    assert mail.deferred(saying="Relay access denied (in reply to RCPT TO command)")
    assert not mail.reached(lab.victim)


@pytest.mark.faq("open-relay", "14d")
@routing_form
def test_cure_the_expression_of_the_faq_works_on_a_backup(lab: Lab, address: str) -> None:
    """A host that stores nothing of the domain asks the table for the address as it came."""
    lab.backup.configure(allow_untrusted_routing="yes", mynetworks=lab.sender.address)
    lab.backup.cure.configure(**by_the_faq(lab.backup))

    mail = lab.sender.submit(address, server=lab.backup)
    lab.settle(mail)

    assert mail.rejected(550, "5.7.1", saying=f"Recipient address rejected: {FORBIDDEN[4:]}")
    assert not mail.reached(lab.backup)


@pytest.mark.faq("open-relay", "14d", "14e")
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"strict_rfc821_envelopes": "yes"},
        {"allow_percent_hack": "no", "swap_bangpath": "no"},
    ],
    ids=["alone", "strict-envelopes", "two-settings-of-three"],
)
@pytest.mark.parametrize("address", [FORMS["at"], FORMS["quoted"]], ids=["at", "quoted"])
def test_symptom_the_expression_of_the_faq_does_nothing_on_a_primary(
    lab: Lab, address: str, settings: dict[str, str]
) -> None:
    """Even with its neighbours' help: the table never sees the address that was sent."""
    lab.primary.configure(**by_the_faq(lab.primary), **settings)
    lab.primary.misconfigure(mynetworks=lab.sender.address)

    mail = lab.sender.submit(address, server=lab.primary)
    lab.settle(mail)

    assert mail.delivered_to(lab.victim, mailbox="alice")


@pytest.mark.faq("open-relay", "14d")
@every_form
def test_behaviour_a_primary_asks_for_the_address_it_will_send_to(lab: Lab, address: str) -> None:
    """An entry for plain alice@example.com catches all five forms; the reply shows what came."""
    table = lab.primary.table("routed", {"alice@example.com": "550 seen through"})
    lab.primary.configure(
        mynetworks=lab.sender.address,
        smtpd_recipient_restrictions=f"check_recipient_access {table}",
    )

    mail = lab.sender.submit(address, server=lab.primary)
    lab.settle(mail)

    assert mail.rejected(550, "5.7.1", saying="Recipient address rejected: seen through")


@pytest.mark.faq("open-relay", "14e")
@routing_form
def test_cure_addresses_are_left_alone_and_the_expression_sees_them(lab: Lab, address: str) -> None:
    """Three settings stop the rewriting; then the FAQ's table works on a primary, too."""
    lab.primary.configure(mynetworks=lab.sender.address)
    lab.primary.cure.configure(**by_the_faq(lab.primary), **PLAIN)

    mail = lab.sender.submit(address, server=lab.primary)
    lab.settle(mail)

    assert mail.rejected(550, "5.7.1", saying=f"Recipient address rejected: {FORBIDDEN[4:]}")
    assert not mail.reached(lab.victim)


@pytest.mark.faq("open-relay", "14e")
@routing_form
def test_cure_addresses_are_left_alone_and_nobody_has_such_a_name(lab: Lab, address: str) -> None:
    """Without a table the same three settings make it the name of an unknown user."""
    lab.primary.configure(mynetworks=lab.sender.address)
    lab.primary.cure.configure(**PLAIN)

    mail = lab.sender.submit(address, server=lab.primary)
    lab.settle(mail)

    assert mail.rejected(550, "5.1.1", saying="User unknown in local recipient table")
    assert not mail.reached(lab.victim)


@pytest.mark.faq("open-relay", "14e")
@every_form
def test_cure_a_command_filter_sees_what_the_client_said(lab: Lab, address: str) -> None:
    """smtpd_command_filter reads the RCPT command before anybody reads the address."""
    lab.primary.configure(mynetworks=lab.sender.address)
    routed = r"/^(RCPT\s+TO:\s*<[^>]*[%!@][^>]*[%!@].*)/ X-ROUTED $1" + "\n"
    commands = lab.primary.table("commands", routed, "pcre")
    lab.primary.cure.configure(smtpd_command_filter=commands)

    mail = lab.sender.submit(address, server=lab.primary)
    lab.settle(mail)

    code = 502 if lab.version == "3.5" else 500
    assert mail.rejected(code, "5.5.2", saying="Error: command not recognized")
    assert not mail.reached(lab.victim)


@pytest.mark.faq("open-relay", "14e")
@every_form
def test_cure_nobody_is_trusted(lab: Lab, address: str) -> None:
    """A host that need not relay for anybody says so, and has no friends to fool it."""
    lab.primary.configure(
        mynetworks=lab.sender.address, smtpd_relay_restrictions=TRUSTING_ALL_ITS_CLIENTS
    )
    lab.primary.cure.configure(smtpd_relay_restrictions="reject_unauth_destination")

    mail = lab.sender.submit(address, server=lab.primary)
    lab.settle(mail)

    assert mail.rejected(554, "5.7.1", saying="Relay access denied")
    assert not mail.reached(lab.victim)


@pytest.mark.faq("open-relay", "14e")
@pytest.mark.parametrize(
    ("before", "code"), [("", 550), ("permit_mynetworks, ", 250)], ids=["first", "after-permit"]
)
def test_behaviour_a_permit_before_the_expression_defeats_it(
    lab: Lab, before: str, code: int
) -> None:
    """The first restriction that answers decides: a trusted client never meets the table."""
    (asking,) = by_the_faq(lab.backup).values()
    lab.backup.configure(
        mynetworks=lab.sender.address, smtpd_recipient_restrictions=f"{before}{asking}"
    )

    with lab.sender.session(lab.backup) as session:
        session.ehlo()
        session.mail("bob@sender.example.net")
        reply = session.rcpt(FORMS["percent"])

    assert reply.code == code
