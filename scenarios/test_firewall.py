"""Running Postfix on a firewall: mail passes, nothing else does.

The FAQ's answer: the firewall stores nothing, takes mail for the domain from
anywhere and for anywhere from the gateway inside, and a transport map names
that gateway. All of it stands; the domain goes into relay_domains, empty by
default since 3.0. The FAQ's trap stands, too: a domain in relay_domains brings
its subdomains along, as parent_domain_matches_subdomains says by default, and
the firewall is their MX. Today one can take relay_domains out of that list; the
FAQ had to name the subdomains in the transport map to refuse them. And since
2.0 the firewall can know who exists inside (relay_recipient_maps), where it
used to accept anybody and to return the mail later.
"""

import pytest

from maillab.lab import Lab

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
    """The firewall hands mail on, inwards by transport map, outwards by MX."""
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
@pytest.mark.parametrize("recipient", ["joe@example.net", "joe@notexample.com", BELOW])
def test_behaviour_strangers_get_no_other_mail_in(lab: Lab, recipient: str) -> None:
    """From outside the firewall takes mail for its domain alone."""
    mail = lab.outside.submit(recipient, server=lab.firewall)

    lab.settle(mail)

    assert mail.rejected(454, "4.7.1", saying=f"<{recipient}>: Relay access denied")
    assert not mail.reached(lab.firewall)


@pytest.mark.faq("firewall", "5a")
def test_symptom_mail_for_subdomains_is_taken_and_loops(lab: Lab) -> None:
    """A domain in relay_domains brings its subdomains, for which there is no way in."""
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
    """Without relay_domains in parent_domain_matches_subdomains they are refused."""
    lab.firewall.configure(parent_domain_matches_subdomains=MATCH_SUBDOMAINS)
    lab.firewall.cure.configure(parent_domain_matches_subdomains=NO_RELAYING_BELOW)

    below = lab.outside.submit(BELOW, server=lab.firewall)
    domain = lab.outside.submit("joe@example.com", server=lab.firewall)
    lab.settle(below, domain)

    assert below.rejected(454, "4.7.1", saying=f"<{BELOW}>: Relay access denied")
    assert domain.delivered_to(lab.inside, mailbox="joe")


@pytest.mark.faq("firewall", "5c")
def test_cure_a_transport_map_refuses_subdomains(lab: Lab) -> None:
    """The FAQ's own cure works: error: in the transport map, heeded at RCPT TO."""
    lab.firewall.configure(parent_domain_matches_subdomains=MATCH_SUBDOMAINS)
    transport = lab.firewall.cure.table(
        "transport",
        {
            "example.com": "smtp:[inside.example.com]",
            ".example.com": "error:5.1.2 no mail to subdomains",
        },
    )
    lab.firewall.cure.configure(transport_maps=transport)

    below = lab.outside.submit(BELOW, server=lab.firewall)
    domain = lab.outside.submit("joe@example.com", server=lab.firewall)
    lab.settle(below, domain)

    refusal = f"<{BELOW}>: Recipient address rejected: no mail to subdomains"
    assert below.rejected(550, "5.1.2", saying=refusal)
    assert domain.delivered_to(lab.inside, mailbox="joe")


@pytest.mark.faq("firewall", "5a")
def test_symptom_mail_for_unknown_users_comes_back_to_bystanders(lab: Lab) -> None:
    """A firewall that knows no users accepts all, and returns the rest to a forged sender."""
    users = lab.firewall.table("relay_recipients", {"joe@example.com": "x"})
    lab.firewall.configure(relay_recipient_maps=users)
    lab.firewall.misconfigure(relay_recipient_maps="")

    mail = lab.outside.submit("nosuch@example.com", server=lab.firewall, sender="carol@example.net")
    lab.settle(mail)

    assert mail.bounced(dsn="5.1.1", saying="said: 550 5.1.1 <nosuch@example.com>")
    (notice,) = lab.outside.mailbox("carol")
    assert notice["Subject"] == "Undelivered Mail Returned to Sender"


@pytest.mark.faq("firewall", "5d")
def test_cure_unknown_users_are_refused_at_the_firewall(lab: Lab) -> None:
    """With relay_recipient_maps mail for nobody never gets in, and nothing comes back."""
    users = lab.firewall.table("relay_recipients", {"joe@example.com": "x"})
    lab.firewall.cure.configure(relay_recipient_maps=users)

    nobody = lab.outside.submit("nosuch@example.com", server=lab.firewall)
    joe = lab.outside.submit("joe@example.com", server=lab.firewall)
    lab.settle(nobody, joe)

    refusal = (
        "<nosuch@example.com>: Recipient address rejected: User unknown in relay recipient table"
    )
    assert nobody.rejected(550, "5.1.1", saying=refusal)
    assert joe.delivered_to(lab.inside, mailbox="joe")


@pytest.mark.faq("firewall", "5e")
def test_symptom_mail_for_the_firewalls_own_postmaster_loops(lab: Lab) -> None:
    """A machine that stores nothing has no postmaster, and cannot even say so."""
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
    """Mail to the machine itself goes to somebody inside who reads it."""
    lab.firewall.configure(virtual_alias_maps="")
    aliases = lab.firewall.cure.table(
        "virtual", {f"{mailbox}@firewall.example.com": "dave@example.com"}
    )
    lab.firewall.cure.configure(virtual_alias_maps=aliases)

    mail = lab.firewall.send(to=f"{mailbox}@firewall.example.com", user="bob")
    lab.settle(mail)

    assert mail.delivered_to(lab.inside, mailbox="dave")
