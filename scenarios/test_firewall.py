"""Running Postfix on a firewall: mail passes, nothing else does.

The firewall stores no mail; a transport map names the gateway inside, and relay_domains
lists the domain. Tell the firewall the users inside (relay_recipient_maps): otherwise it
accepts every recipient and returns the mail later. Remove relay_domains from
parent_domain_matches_subdomains, or mail for subdomains is accepted and loops.

Since the FAQ:
- 2.0: relay_recipient_maps.
- 3.0: relay_domains is empty by default, with compatibility_level 2 or later.
"""

import pytest

from maillab import Lab, Started

pytestmark = pytest.mark.topology("firewall")

# The default of parent_domain_matches_subdomains.
MATCH_SUBDOMAINS = (
    "debug_peer_list, fast_flush_domains, mynetworks, permit_mx_backup_networks, "
    "qmqpd_authorized_clients, relay_domains, smtpd_access_maps"
)
NO_RELAYING_BELOW = "debug_peer_list, smtpd_access_maps"
BELOW = "joe@sub.example.com"


@pytest.mark.faq("firewall", "5b")
def test_behaviour_mail_passes_in_both_directions(lab: Lab) -> None:
    """The firewall relays mail: inwards by transport map, outwards by MX."""
    incoming = lab.outside.send(to="alice@example.com", user="bob")
    outgoing = lab.inside.send(to="carol@example.net", user="dave")

    lab.settle(incoming, outgoing)

    assert incoming.delivered_to(lab.inside, mailbox="alice")
    assert incoming.reached(lab.firewall)
    assert outgoing.delivered_to(lab.outside, mailbox="carol")
    assert outgoing.reached(lab.firewall)
    (copy,) = lab.outside.mailbox("carol")
    assert copy["Return-Path"] == "<dave@example.com>"


@pytest.mark.faq("firewall", "5a")
def test_behaviour_postconf_tells_the_version(lab: Lab) -> None:
    """The answer depends on the version; "postconf mail_version" prints the one that runs."""
    lab.firewall.restart()
    started = lab.wait_for(Started, host=lab.firewall)

    printed = lab.firewall.run("postconf", "mail_version").stdout

    assert printed == f"mail_version = {started.version}\n"


@pytest.mark.faq("firewall", "5a")
@pytest.mark.parametrize("recipient", ["joe@example.net", "joe@notexample.com", BELOW])
def test_behaviour_strangers_get_no_other_mail_in(lab: Lab, recipient: str) -> None:
    """From outside the firewall accepts mail for its domain only."""
    mail = lab.outside.smtp(recipient, server=lab.firewall)

    lab.settle(mail)

    assert mail.rejected(454, "4.7.1", saying=f"<{recipient}>: Relay access denied")
    assert not mail.reached(lab.firewall)


@pytest.mark.faq("firewall", "5a")
def test_symptom_mail_for_subdomains_is_taken_and_loops(lab: Lab) -> None:
    """A domain in relay_domains includes its subdomains, which have no route inside."""
    lab.firewall.misconfigure(parent_domain_matches_subdomains=MATCH_SUBDOMAINS)

    mail = lab.outside.send(to=BELOW, user="bob")
    lab.settle(mail)

    assert mail.bounced(dsn="5.4.6", saying="mail for sub.example.com loops back to myself")
    (notice,) = lab.outside.mailbox("bob")
    assert "MAILER-DAEMON@example.com" in notice["From"]
    assert "Diagnostic-Code: X-Postfix; mail for sub.example.com loops back to myself" in str(
        notice
    )


@pytest.mark.faq("firewall", "5b")
def test_cure_subdomains_have_to_be_named(lab: Lab) -> None:
    """Subdomains are refused without relay_domains in parent_domain_matches_subdomains."""
    lab.firewall.configure(parent_domain_matches_subdomains=MATCH_SUBDOMAINS)
    lab.firewall.cure.configure(parent_domain_matches_subdomains=NO_RELAYING_BELOW)

    below = lab.outside.smtp(BELOW, server=lab.firewall)
    domain = lab.outside.smtp("joe@example.com", server=lab.firewall)
    lab.settle(below, domain)

    assert below.rejected(454, "4.7.1", saying=f"<{BELOW}>: Relay access denied")
    assert domain.delivered_to(lab.inside, mailbox="joe")


@pytest.mark.faq("firewall", "5c")
def test_cure_a_transport_map_refuses_subdomains(lab: Lab) -> None:
    """The FAQ's cure works: error: in the transport map is checked at RCPT TO."""
    lab.firewall.configure(parent_domain_matches_subdomains=MATCH_SUBDOMAINS)
    transport = lab.firewall.cure.table(
        "transport",
        {
            "example.com": "smtp:[inside.example.com]",
            ".example.com": "error:5.1.2 no mail to subdomains",
        },
    )
    lab.firewall.cure.configure(transport_maps=transport)

    below = lab.outside.smtp(BELOW, server=lab.firewall)
    domain = lab.outside.smtp("joe@example.com", server=lab.firewall)
    lab.settle(below, domain)

    refusal = f"<{BELOW}>: Recipient address rejected: no mail to subdomains"
    assert below.rejected(550, "5.1.2", saying=refusal)
    assert domain.delivered_to(lab.inside, mailbox="joe")


@pytest.mark.faq("firewall", "5a")
def test_symptom_mail_for_unknown_users_comes_back_to_bystanders(lab: Lab) -> None:
    """A firewall without a user list accepts every user and bounces to forged senders."""
    users = lab.firewall.table("relay_recipients", {"joe@example.com": "x"})
    lab.firewall.configure(relay_recipient_maps=users)
    lab.firewall.misconfigure(relay_recipient_maps="")

    mail = lab.outside.smtp("nosuch@example.com", server=lab.firewall, sender="carol@example.net")
    lab.settle(mail)

    assert mail.bounced(dsn="5.1.1", saying="said: 550 5.1.1 <nosuch@example.com>")
    (notice,) = lab.outside.mailbox("carol")
    assert notice["Subject"] == "Undelivered Mail Returned to Sender"


@pytest.mark.faq("firewall", "5d")
def test_cure_unknown_users_are_refused_at_the_firewall(lab: Lab) -> None:
    """With relay_recipient_maps mail for unknown users is refused and does not bounce."""
    users = lab.firewall.table("relay_recipients", {"joe@example.com": "x"})
    lab.firewall.cure.configure(relay_recipient_maps=users)

    nobody = lab.outside.smtp("nosuch@example.com", server=lab.firewall)
    joe = lab.outside.smtp("joe@example.com", server=lab.firewall)
    lab.settle(nobody, joe)

    refusal = (
        "<nosuch@example.com>: Recipient address rejected: User unknown in relay recipient table"
    )
    assert nobody.rejected(550, "5.1.1", saying=refusal)
    assert joe.delivered_to(lab.inside, mailbox="joe")


@pytest.mark.faq("firewall", "5e")
def test_symptom_mail_for_the_firewalls_own_postmaster_loops(lab: Lab) -> None:
    """A machine that stores no mail has no postmaster, and even its bounce loops back."""
    lab.firewall.misconfigure(virtual_alias_maps="", myorigin="$myhostname")

    mail = lab.firewall.send(to="postmaster@firewall.example.com", user="bob")
    lab.settle(mail)

    loops = "mail for firewall.example.com loops back to myself"
    assert mail.bounced(dsn="5.4.6", saying=loops)
    (notice,) = mail.journey.notices
    (attempt,) = notice.deliveries
    assert attempt.to == "bob@firewall.example.com"
    assert (attempt.status, attempt.reply) == ("bounced", loops)


@pytest.mark.faq("firewall", "5e")
@pytest.mark.parametrize("mailbox", ["postmaster", "root"])
def test_cure_virtual_aliases_lead_the_postmasters_mail_inside(lab: Lab, mailbox: str) -> None:
    """Virtual aliases send the machine's own mail to a person inside who reads it."""
    lab.firewall.configure(virtual_alias_maps="")
    aliases = lab.firewall.cure.table(
        "virtual", {f"{mailbox}@firewall.example.com": "dave@example.com"}
    )
    lab.firewall.cure.configure(virtual_alias_maps=aliases)

    mail = lab.firewall.send(to=f"{mailbox}@firewall.example.com", user="bob")
    lab.settle(mail)

    assert mail.delivered_to(lab.inside, mailbox="dave")
