"""Help! Postfix is an open relay.

Postfix relays for strangers only when configured to: all five forms of an address within an
address are refused with "Relay access denied" by default. Keep allow_untrusted_routing =
no, also on a backup MX host. On a backup that a primary trusts, reject such addresses with
the FAQ's regular expression, before any restriction that permits.

The forms are user%elsewhere@here, elsewhere!user@here, "user@elsewhere"@here and two more.
Trusted clients remain: for them a host that rewrites these forms to plain addresses relays
the mail. The FAQ's expression does nothing there, because access tables look up the
rewritten address; it works on a backup, which leaves foreign domains unchanged.

Since the FAQ:
- 2.10: smtpd_relay_restrictions decides.
"""

import pytest

from maillab import Lab, PostfixHost

pytestmark = pytest.mark.topology("backup-mx")

# Each routes mail for alice at the bystander through the primary's and backup's domain.
FORMS = {
    "at": "alice@example.com@example.org",
    "quoted": '"alice@example.com"@example.org',
    "percent": "alice%example.com@example.org",
    "bang": "example.com!alice@example.org",
    "route": "@example.org:alice@example.com",
}
every_form = pytest.mark.parametrize("address", FORMS.values(), ids=FORMS)
# Postfix strips a source route (RFC 5321 appendix C), so it routes nothing.
routing_form = pytest.mark.parametrize(
    "address", [FORMS[name] for name in FORMS if name != "route"], ids=list(FORMS)[:-1]
)

FORBIDDEN = "550 Sender-specified routing rejected here"
# The FAQ's expression: one routing character after another.
BY_THE_FAQ = f"/[%!@].*[%!@]/ {FORBIDDEN}\n"
# Leave the local part unchanged.
PLAIN = {"allow_percent_hack": "no", "swap_bangpath": "no", "resolve_dequoted_address": "no"}
TRUSTING_ALL_ITS_CLIENTS = "permit_mynetworks, reject_unauth_destination"


def by_the_faq(host: PostfixHost) -> dict[str, str]:
    """Build the FAQ's table and return its restriction."""
    routed = host.table("routed", BY_THE_FAQ, "regexp")
    return {"smtpd_recipient_restrictions": f"check_recipient_access {routed}"}


@pytest.mark.topology("as-installed")
@pytest.mark.faq("open-relay", "14a")
def test_behaviour_as_installed_a_stranger_gets_nothing_through(lab: Lab) -> None:
    """Postfix as Debian installs it refuses all five forms, and a plain foreign address."""
    here, there = lab.mail.fqdn, lab.remote.fqdn
    addresses = [
        form.replace("example.com", there).replace("example.org", here) for form in FORMS.values()
    ]

    mails = [lab.client.smtp(to, server=lab.mail) for to in (*addresses, f"alice@{there}")]
    lab.settle(*mails)

    assert all(mail.rejected(454, "4.7.1", saying="Relay access denied") for mail in mails)
    assert not any(mail.reached(lab.remote) for mail in mails)


@pytest.mark.faq("open-relay", "14a")
@every_form
def test_historic_a_stranger_gets_nothing_through(lab: Lab, address: str) -> None:
    """By default neither the primary nor the backup accepts any of the five forms."""
    at_primary = lab.sender.smtp(address, server=lab.primary)
    at_backup = lab.sender.smtp(address, server=lab.backup)
    lab.settle(at_primary, at_backup)

    shown = address.rpartition(":")[2].replace('"', "")
    for mail in (at_primary, at_backup):
        assert mail.rejected(454, "4.7.1", saying=f"<{shown}>: Relay access denied")
        assert not mail.reached(lab.victim)


@pytest.mark.faq("open-relay", "14a")
def test_behaviour_plain_addresses_of_the_domain_are_welcome(lab: Lab) -> None:
    """Only routing is refused: mail for the domain's own alice arrives either way."""
    at_primary = lab.sender.smtp("alice@example.org", server=lab.primary)
    at_backup = lab.sender.smtp("alice@example.org", server=lab.backup)
    lab.settle(at_primary, at_backup)

    assert at_primary.delivered_to(lab.primary, mailbox="alice")
    assert at_backup.reached(lab.backup)
    assert at_backup.delivered_to(lab.primary, mailbox="alice")


@pytest.mark.faq("open-relay", "14a")
def test_behaviour_an_internationalized_local_part_is_no_way_round(lab: Lab) -> None:
    """SMTPUTF8 (RFC 6531) allows other letters, and does not change who may relay."""
    # The agent sends each character as one byte.
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
    """The old loophole: the backup accepts its own domain, and the primary trusts it."""
    lab.primary.configure(mynetworks=lab.backup.address)
    lab.backup.misconfigure(allow_untrusted_routing="yes")

    mail = lab.sender.smtp(address, server=lab.backup)
    lab.settle(mail)

    assert mail.reached(lab.primary)
    assert mail.delivered_to(lab.victim, mailbox="alice")


@pytest.mark.faq("open-relay", "14b")
@routing_form
def test_cure_untrusted_routing_is_off(lab: Lab, address: str) -> None:
    """With allow_untrusted_routing=no, the default, Postfix checks the inner domain."""
    lab.backup.configure(allow_untrusted_routing="yes")
    lab.backup.cure.configure(allow_untrusted_routing="no")

    mail = lab.sender.smtp(address, server=lab.backup)
    lab.settle(mail)

    assert mail.rejected(454, "4.7.1", saying="Relay access denied")
    assert not mail.reached(lab.backup)


@pytest.mark.faq("open-relay", "14b")
@every_form
def test_behaviour_a_primary_has_no_such_loophole(lab: Lab, address: str) -> None:
    """For a local domain Postfix resolves the routing first, whatever the setting."""
    lab.primary.configure(allow_untrusted_routing="yes")

    mail = lab.sender.smtp(address, server=lab.primary)
    lab.settle(mail)

    assert mail.rejected(454, "4.7.1", saying="Relay access denied")


@pytest.mark.faq("open-relay", "14c")
@every_form
def test_symptom_the_primary_forwards_for_a_client_it_trusts(lab: Lab, address: str) -> None:
    """From a trusted client all five forms mean alice@example.com."""
    lab.primary.misconfigure(mynetworks=lab.sender.address)

    mail = lab.sender.smtp(address, server=lab.primary)
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
    """The backup accepts the mail for its own domain; the primary refuses to relay it."""
    lab.backup.misconfigure(mynetworks=lab.sender.address)

    mail = lab.sender.smtp(address, server=lab.backup)
    lab.settle(mail)

    assert mail.held_by(lab.backup)
    assert mail.deferred(dsn="4.7.1", saying="said: 454 4.7.1")
    assert mail.deferred(saying="Relay access denied (in reply to RCPT TO command)")
    assert not mail.reached(lab.victim)


@pytest.mark.faq("open-relay", "14d")
@routing_form
def test_cure_the_expression_of_the_faq_works_on_a_backup(lab: Lab, address: str) -> None:
    """A host without local users of the domain looks up the address as sent."""
    lab.backup.configure(allow_untrusted_routing="yes", mynetworks=lab.sender.address)
    lab.backup.cure.configure(**by_the_faq(lab.backup))

    mail = lab.sender.smtp(address, server=lab.backup)
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
    """Even with related settings the table never sees the address as sent."""
    lab.primary.configure(**by_the_faq(lab.primary), **settings)
    lab.primary.misconfigure(mynetworks=lab.sender.address)

    mail = lab.sender.smtp(address, server=lab.primary)
    lab.settle(mail)

    assert mail.delivered_to(lab.victim, mailbox="alice")


@pytest.mark.faq("open-relay", "14d")
@every_form
def test_behaviour_a_primary_asks_for_the_address_it_will_send_to(lab: Lab, address: str) -> None:
    """An entry for plain alice@example.com matches all five forms."""
    table = lab.primary.table("routed", {"alice@example.com": "550 seen through"})
    lab.primary.cure.configure(
        mynetworks=lab.sender.address,
        smtpd_recipient_restrictions=f"check_recipient_access {table}",
    )

    mail = lab.sender.smtp(address, server=lab.primary)
    lab.settle(mail)

    assert mail.rejected(550, "5.7.1", saying="Recipient address rejected: seen through")


@pytest.mark.faq("open-relay", "14e")
@routing_form
def test_cure_addresses_are_left_alone_and_the_expression_sees_them(lab: Lab, address: str) -> None:
    """Three settings stop the rewriting; the FAQ's table then works on a primary, too."""
    lab.primary.configure(mynetworks=lab.sender.address)
    lab.primary.cure.configure(**by_the_faq(lab.primary), **PLAIN)

    mail = lab.sender.smtp(address, server=lab.primary)
    lab.settle(mail)

    assert mail.rejected(550, "5.7.1", saying=f"Recipient address rejected: {FORBIDDEN[4:]}")
    assert not mail.reached(lab.victim)


@pytest.mark.faq("open-relay", "14e")
@routing_form
def test_cure_addresses_are_left_alone_and_nobody_has_such_a_name(lab: Lab, address: str) -> None:
    """Without a table the same settings make the address an unknown local user."""
    lab.primary.configure(mynetworks=lab.sender.address)
    lab.primary.cure.configure(**PLAIN)

    mail = lab.sender.smtp(address, server=lab.primary)
    lab.settle(mail)

    assert mail.rejected(550, "5.1.1", saying="User unknown in local recipient table")
    assert not mail.reached(lab.victim)


@pytest.mark.faq("open-relay", "14e")
@every_form
def test_cure_a_command_filter_sees_what_the_client_said(lab: Lab, address: str) -> None:
    """smtpd_command_filter reads the RCPT command before the address is parsed."""
    lab.primary.configure(mynetworks=lab.sender.address)
    routed = r"/^(RCPT\s+TO:\s*<[^>]*[%!@][^>]*[%!@].*)/ X-ROUTED $1" + "\n"
    commands = lab.primary.table("commands", routed, "pcre")
    lab.primary.cure.configure(smtpd_command_filter=commands)

    mail = lab.sender.smtp(address, server=lab.primary)
    lab.settle(mail)

    code = 500 if lab.has("500 for unknown commands") else 502
    assert mail.rejected(code, "5.5.2", saying="Error: command not recognized")
    assert not mail.reached(lab.victim)


@pytest.mark.faq("open-relay", "14e")
@every_form
def test_cure_nobody_is_trusted(lab: Lab, address: str) -> None:
    """A host that need not relay at all can refuse every routed address."""
    lab.primary.configure(
        mynetworks=lab.sender.address, smtpd_relay_restrictions=TRUSTING_ALL_ITS_CLIENTS
    )
    lab.primary.cure.configure(smtpd_relay_restrictions="reject_unauth_destination")

    mail = lab.sender.smtp(address, server=lab.primary)
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
    """The first match decides: a trusted client never reaches the table."""
    (asking,) = by_the_faq(lab.backup).values()
    lab.backup.misconfigure(
        mynetworks=lab.sender.address, smtpd_recipient_restrictions=f"{before}{asking}"
    )

    with lab.sender.session(lab.backup) as session:
        session.ehlo()
        session.mail("bob@sender.example.net")
        reply = session.rcpt(FORMS["percent"])

    assert reply.code == code
