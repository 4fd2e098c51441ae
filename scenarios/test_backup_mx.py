"""Configuring Postfix as backup MX host.

Put the domain into relay_domains on the backup, and name the backup in DNS with a higher
MX preference. Give the backup a list of the domain's users (relay_recipient_maps):
otherwise it accepts mail for unknown users, and later returns it to a sender that may be
forged. If the backup itself is the best MX host that DNS names, a transport map has to
name the way on.

Since the FAQ:
- 2.0: relay_recipient_maps.
- 2.1: reject_unverified_recipient asks the primary, which works only while the primary is up.
- 3.0: relay_domains is empty by default, with compatibility_level 2 or later.
- 3.9: check_relay_domains, the FAQ's setting, is removed; permit_mx_backup is obsolete.
"""

import pytest

from maillab import Complaint, Lab

pytestmark = pytest.mark.topology("backup-mx")

KNOWN = {"alice@example.org": "x"}
TO_THE_PRIMARY = "inline:{ moved.example.org=relay:[primary.example.org] }"
ASKING = {
    "smtpd_recipient_restrictions": "reject_unverified_recipient",
    # Wait for the primary's reply: the default gives up after three polls.
    "address_verify_poll_count": "20",
    "address_verify_poll_delay": "1s",
}
BY_DNS_ALONE = {
    "relay_domains": "",
    "smtpd_relay_restrictions": "permit_mx_backup, reject_unauth_destination",
}
BY_THE_FAQ = {
    "smtpd_relay_restrictions": "",
    "smtpd_recipient_restrictions": "check_relay_domains",
}


@pytest.mark.faq("backup-mx", "17a")
def test_symptom_the_backup_refuses_what_it_should_keep(lab: Lab) -> None:
    """A DNS record is not enough: the backup still treats the domain as foreign."""
    lab.backup.misconfigure(relay_domains="")
    lab.primary.stop()

    mail = lab.sender.send(to="alice@example.org")
    lab.settle(mail)

    assert mail.deferred(dsn="4.7.1", saying="454 4.7.1 <alice@example.org>: Relay access denied")
    assert mail.held_by(lab.sender)
    assert not mail.reached(lab.backup)


@pytest.mark.faq("backup-mx", "17b")
@pytest.mark.parametrize("domains", ["example.org", "$mydestination, example.org"])
def test_cure_the_backup_keeps_mail_until_the_primary_is_back(lab: Lab, domains: str) -> None:
    """With the domain in relay_domains mail waits at the backup, not at its sender."""
    lab.backup.configure(relay_domains="")
    lab.backup.cure.configure(relay_domains=domains)
    lab.primary.stop()

    mail = lab.sender.send(to="alice@example.org")
    lab.settle(mail)
    waiting = lab.backup.queue()
    lab.primary.start()
    lab.backup.flush()
    lab.settle(mail)

    assert [entry.recipients for entry in waiting] == [("alice@example.org",)]
    assert waiting[0].reasons[0].endswith("Connection refused")
    assert mail.delivered_to(lab.primary, mailbox="alice")
    (copy,) = lab.primary.mailbox("alice")
    assert "by backup.example.org (Postfix) with ESMTP" in str(copy)


@pytest.mark.faq("backup-mx", "17b")
@pytest.mark.parametrize(
    ("recipient", "code", "dsn"),
    [("joe@example.com", 454, "4.7.1"), ("nosuch@backup.example.org", 550, "5.1.1")],
    ids=["elsewhere", "unknown-on-the-backup"],
)
def test_behaviour_a_backup_is_no_open_relay(lab: Lab, recipient: str, code: int, dsn: str) -> None:
    """The backup still refuses other domains and its own unknown users."""
    lab.backup.configure(relay_domains="$mydestination, example.org")

    mail = lab.sender.smtp(recipient, server=lab.backup)
    lab.settle(mail)

    assert mail.rejected(code, dsn)
    assert not mail.reached(lab.backup)
    assert not mail.reached(lab.victim)


@pytest.mark.faq("backup-mx", "17c")
def test_symptom_the_backup_returns_mail_to_bystanders(lab: Lab) -> None:
    """The backup accepts any recipient and bounces the refused mail to a forged sender."""
    lab.backup.configure(relay_recipient_maps=lab.backup.table("relay_recipients", KNOWN))
    lab.backup.misconfigure(relay_recipient_maps="")

    mail = lab.sender.smtp("nosuch@example.org", server=lab.backup, sender="dave@example.com")
    lab.settle(mail)

    assert mail.bounced(dsn="5.1.1", saying="said: 550 5.1.1 <nosuch@example.org>")
    (notice,) = lab.victim.mailbox("dave")
    assert notice["Subject"] == "Undelivered Mail Returned to Sender"
    assert "Diagnostic-Code: smtp; 550 5.1.1 <nosuch@example.org>" in str(notice)


@pytest.mark.faq("backup-mx", "17c")
def test_cure_a_list_of_recipients_refuses_the_rest(lab: Lab) -> None:
    """With relay_recipient_maps the backup knows the users, even while the primary is down."""
    recipients = lab.backup.cure.table("relay_recipients", KNOWN)
    lab.backup.cure.configure(relay_recipient_maps=recipients)
    lab.primary.stop()

    nobody = lab.sender.smtp("nosuch@example.org", server=lab.backup)
    alice = lab.sender.smtp("alice@example.org", server=lab.backup)
    lab.settle(nobody, alice)

    refusal = "<nosuch@example.org>: Recipient address rejected: User unknown in relay recipient"
    assert nobody.rejected(550, "5.1.1", saying=refusal)
    assert alice.held_by(lab.backup)


@pytest.mark.faq("backup-mx", "17c")
def test_cure_asking_the_primary_refuses_the_rest(lab: Lab) -> None:
    """With reject_unverified_recipient the backup trusts the primary's reply."""
    lab.backup.cure.configure(**ASKING)

    nobody = lab.sender.smtp("nosuch@example.org", server=lab.backup)
    alice = lab.sender.smtp("alice@example.org", server=lab.backup)
    lab.settle(nobody, alice)

    refusal = f"host primary.example.org[{lab.primary.address}] said: 550 5.1.1"
    assert nobody.rejected(450, "4.1.1", saying=refusal)
    assert alice.delivered_to(lab.primary, mailbox="alice")


@pytest.mark.faq("backup-mx", "17c")
def test_behaviour_asking_a_dead_primary_defeats_the_backup(lab: Lab) -> None:
    """While the primary is down no recipient can be verified, and no mail gets in."""
    lab.backup.misconfigure(**ASKING)
    lab.primary.stop()

    mail = lab.sender.smtp("alice@example.org", server=lab.backup)
    lab.settle(mail)

    assert mail.rejected(450, "4.1.1", saying="Connection refused")
    assert not mail.reached(lab.backup)


@pytest.mark.faq("backup-mx", "17c")
def test_behaviour_a_verified_recipient_is_remembered(lab: Lab) -> None:
    """After the primary goes down the backup still accepts recipients verified earlier."""
    lab.backup.cure.configure(**ASKING)
    before = lab.sender.smtp("alice@example.org", server=lab.backup)
    lab.settle(before)
    lab.primary.stop()

    mail = lab.sender.smtp("alice@example.org", server=lab.backup)
    new = lab.sender.smtp("postmaster@example.org", server=lab.backup)
    lab.settle(mail, new)

    assert before.delivered_to(lab.primary, mailbox="alice")
    assert mail.held_by(lab.backup)
    assert new.rejected(450, "4.1.1", saying="Connection refused")


@pytest.mark.faq("backup-mx", "17d")
def test_symptom_the_first_mx_does_not_find_the_way_on(lab: Lab) -> None:
    """A relay that is itself the domain's best MX host has no next hop."""
    lab.primary.configure(mydestination="$mydomain, moved.example.org")
    lab.backup.configure(transport_maps=TO_THE_PRIMARY)
    lab.backup.misconfigure(transport_maps="")

    mail = lab.sender.send(to="alice@moved.example.org", user="bob")
    lab.settle(mail)

    assert mail.bounced(dsn="5.4.6", saying="mail for moved.example.org loops back to myself")
    (notice,) = lab.sender.mailbox("bob")
    assert "MAILER-DAEMON@backup.example.org" in notice["From"]


@pytest.mark.faq("backup-mx", "17d")
def test_cure_a_transport_map_names_the_way_on(lab: Lab) -> None:
    """With the real host in transport_maps Postfix skips the domain's MX lookup."""
    lab.primary.configure(mydestination="$mydomain, moved.example.org")
    lab.backup.cure.configure(transport_maps=TO_THE_PRIMARY)

    mail = lab.sender.send(to="alice@moved.example.org")
    lab.settle(mail)

    assert mail.delivered_to(lab.primary, mailbox="alice")


@pytest.mark.faq("backup-mx", "17e")
def test_historic_check_relay_domains_works_up_to_3_8(lab: Lab) -> None:
    """The FAQ's setting logs a warning on 3.5 and 3.7, and refuses all mail since 3.9."""
    lab.backup.cure.configure(**BY_THE_FAQ)

    ours = lab.sender.smtp("alice@example.org", server=lab.backup)
    theirs = lab.sender.smtp("joe@example.com", server=lab.backup)
    lab.settle(ours, theirs)

    complaints = {event.text for event in lab.events(Complaint, lab.backup)}
    if lab.has("check_relay_domains removed"):
        assert ours.rejected(451, "4.3.5", saying="Server configuration error")
        assert theirs.rejected(451, "4.3.5", saying="Server configuration error")
        words = 'restriction "check_relay_domains" has been removed in Postfix 3.9'
    else:
        assert ours.delivered_to(lab.primary, mailbox="alice")
        refusal = "<joe@example.com>: Recipient address rejected: Relay access denied"
        assert theirs.rejected(554, "5.7.1", saying=refusal)
        words = 'restriction "check_relay_domains" will be removed from Postfix'
    assert [words in complaint for complaint in complaints] == [True]


@pytest.mark.faq("backup-mx", "17e")
def test_cure_reject_unauth_destination_takes_its_place(lab: Lab) -> None:
    """reject_unauth_destination works on every version and logs no warning."""
    lab.backup.configure(**BY_THE_FAQ)
    lab.backup.cure.configure(smtpd_recipient_restrictions="reject_unauth_destination")

    ours = lab.sender.smtp("alice@example.org", server=lab.backup)
    theirs = lab.sender.smtp("joe@example.com", server=lab.backup)
    lab.settle(ours, theirs)

    assert ours.delivered_to(lab.primary, mailbox="alice")
    assert theirs.rejected(554, "5.7.1", saying="<joe@example.com>: Relay access denied")
    assert not lab.events(Complaint, lab.backup)


@pytest.mark.faq("backup-mx", "17f")
def test_behaviour_the_dns_alone_makes_a_backup(lab: Lab) -> None:
    """permit_mx_backup accepts mail for domains whose MX is the backup; obsolete since 3.9."""
    lab.backup.cure.configure(**BY_DNS_ALONE)

    ours = lab.sender.smtp("alice@example.org", server=lab.backup)
    theirs = lab.sender.smtp("joe@example.com", server=lab.backup)
    lab.settle(ours, theirs)

    assert ours.delivered_to(lab.primary, mailbox="alice")
    assert theirs.rejected(554, "5.7.1", saying="<joe@example.com>: Relay access denied")
    warnings = lab.events(Complaint, lab.backup)
    obsolete = 'restriction "permit_mx_backup" will be removed from Postfix'
    assert [obsolete in warning.text for warning in warnings] == (
        [True] if lab.has("permit_mx_backup deprecated") else []
    )


@pytest.mark.faq("backup-mx", "17f")
def test_symptom_whoever_names_the_backup_as_mx_may_relay_by_it(lab: Lab) -> None:
    """With permit_mx_backup anyone's DNS decides which domains this machine relays for."""
    lab.victim.configure(mydestination="leech.example.com")
    lab.backup.configure(**BY_DNS_ALONE, permit_mx_backup_networks=lab.primary.address)
    lab.backup.misconfigure(permit_mx_backup_networks="")

    mail = lab.sender.smtp("joe@leech.example.com", server=lab.backup)
    lab.settle(mail)

    assert mail.reached(lab.backup)
    assert mail.delivered_to(lab.victim, mailbox="joe")


@pytest.mark.faq("backup-mx", "17f")
def test_cure_the_backup_names_the_primaries_it_serves(lab: Lab) -> None:
    """permit_mx_backup_networks requires a primary MX in a listed network."""
    lab.backup.configure(**BY_DNS_ALONE)
    lab.backup.cure.configure(permit_mx_backup_networks=lab.primary.address)

    leech = lab.sender.smtp("joe@leech.example.com", server=lab.backup)
    ours = lab.sender.smtp("alice@example.org", server=lab.backup)
    lab.settle(leech, ours)

    assert leech.rejected(554, "5.7.1", saying="<joe@leech.example.com>: Relay access denied")
    assert ours.delivered_to(lab.primary, mailbox="alice")
