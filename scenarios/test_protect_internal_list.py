"""Protecting an internal e-mail list from outsiders.

Restrict the list's address with an access table in smtpd_recipient_restrictions: by client
(permit_mynetworks, reject), or by sender with a restriction class. A backup MX in
mynetworks defeats the first, because it relays mail from outside; the second trusts any
claimed sender. For insiders abroad use a login (permit_sasl_authenticated).

A list of all users is an alias, and by default anyone on the Internet can post to it.

Since the FAQ:
- 2.10: an OK in these lists no longer grants relaying.
"""

import pytest

from maillab import Complaint, Delivery, Lab, sasl

pytestmark = pytest.mark.topology("backup-mx")

# Insiders by address: the clients in mynetworks.
BY_CLIENT = {"all@": "permit_mynetworks, reject"}
BY_SENDER = {"all@example.org": "insiders_only", "all@primary.example.org": "insiders_only"}
DENIED = "Recipient address rejected: Access denied"
OUR_CLIENTS = "127.0.0.0/8"


def a_list(lab: Lab) -> None:
    """Create the list with alice and bob; trust the victim's host as an insider."""
    lab.primary.aliases({"all": "alice, bob"})
    lab.primary.configure(mynetworks=f"{OUR_CLIENTS}, {lab.victim.address}")


def by_client(lab: Lab, protected: dict[str, str] = BY_CLIENT) -> str:
    """Build the FAQ's first table; return its smtpd_recipient_restrictions."""
    table = lab.primary.table("protected", protected)
    return f"check_recipient_access {table}, permit_mynetworks, reject_unauth_destination"


def by_sender(lab: Lab) -> dict[str, str]:
    """Build the FAQ's second tables; return their settings."""
    table = lab.primary.table("protected", BY_SENDER)
    insiders = lab.primary.table("insiders", {"example.org": "OK", "another.example": "OK"})
    return {
        "smtpd_recipient_restrictions": f"check_recipient_access {table}",
        "smtpd_restriction_classes": "insiders_only",
        "insiders_only": f"check_sender_access {insiders}, reject",
    }


@pytest.mark.faq("protect-internal-list", "40-S1")
def test_symptom_everybody_writes_to_the_list(lab: Lab) -> None:
    """An alias is an address like any other."""
    a_list(lab)
    lab.primary.configure(smtpd_recipient_restrictions=by_client(lab))
    lab.primary.misconfigure(smtpd_recipient_restrictions="")

    mail = lab.sender.smtp("all@example.org", server=lab.primary)
    lab.settle(mail)

    assert mail.delivered_to(lab.primary, mailbox="alice")
    assert mail.delivered_to(lab.primary, mailbox="bob")


@pytest.mark.faq("protect-internal-list", "40-S2")
@pytest.mark.parametrize(
    "address",
    ["all@example.org", "All@primary.example.org", "all@[ADDRESS]", '"all"@example.org'],
    ids=["plain", "case-and-host", "literal", "quoted"],
)
def test_cure_only_known_clients_may_name_the_list(lab: Lab, address: str) -> None:
    """The key all@ covers the name in all of the machine's domains, however written."""
    a_list(lab)
    lab.primary.cure.configure(smtpd_recipient_restrictions=by_client(lab))
    recipient = address.replace("ADDRESS", lab.primary.address)

    mail = lab.sender.smtp(recipient, server=lab.primary)
    lab.settle(mail)

    shown = recipient.replace('"', "")
    assert mail.rejected(554, "5.7.1", saying=f"<{shown}>: {DENIED}")
    assert not mail.reached(lab.primary)


@pytest.mark.faq("protect-internal-list", "40-S2")
def test_cure_an_extension_of_the_list_is_the_list(lab: Lab) -> None:
    """With recipient_delimiter the key all@ also covers all+x."""
    a_list(lab)
    lab.primary.configure(recipient_delimiter="+")
    lab.primary.cure.configure(smtpd_recipient_restrictions=by_client(lab))

    mail = lab.sender.smtp("all+x@example.org", server=lab.primary)
    lab.settle(mail)

    assert mail.rejected(554, "5.7.1", saying=f"<all+x@example.org>: {DENIED}")


@pytest.mark.faq("protect-internal-list", "40-S2")
def test_behaviour_the_rest_is_as_before(lab: Lab) -> None:
    """An insider reaches the list, and an outsider reaches bob."""
    a_list(lab)
    lab.primary.cure.configure(smtpd_recipient_restrictions=by_client(lab))

    inside = lab.victim.smtp("all@example.org", server=lab.primary)
    outside = lab.sender.smtp("bob@example.org", server=lab.primary)
    away = lab.sender.smtp("all@example.org", server=lab.primary)
    lab.settle(inside, outside, away)

    assert away.rejected(554)
    assert inside.delivered_to(lab.primary, mailbox="alice")
    assert inside.delivered_to(lab.primary, mailbox="bob")
    assert outside.delivered_to(lab.primary, mailbox="bob")


@pytest.mark.faq("protect-internal-list", "40-S2")
def test_symptom_the_bare_name_protects_nothing(lab: Lab) -> None:
    """In access(5) a key without @ is a domain name."""
    a_list(lab)
    lab.primary.configure(smtpd_recipient_restrictions=by_client(lab))
    lab.primary.mistake.table("protected", {"all": "permit_mynetworks, reject"})
    lab.primary.mistake.restart()

    mail = lab.sender.smtp("all@example.org", server=lab.primary)
    lab.settle(mail)

    assert mail.delivered_to(lab.primary, mailbox="alice")


@pytest.mark.faq("protect-internal-list", "40-S2")
@pytest.mark.parametrize(
    "before",
    [
        "permit_auth_destination",
        "permit_mynetworks, check_client_access inline:{ sender.example.net=OK }",
    ],
    ids=["permit", "known-client"],
)
def test_behaviour_a_permit_before_the_table_defeats_it(lab: Lab, before: str) -> None:
    """A restriction that permits outsiders may not come before the table."""
    a_list(lab)
    lab.primary.configure(
        smtpd_recipient_restrictions=f"reject_unauth_destination, {by_client(lab)}"
    )
    lab.primary.misconfigure(smtpd_recipient_restrictions=f"{before}, {by_client(lab)}")

    mail = lab.sender.smtp("all@example.org", server=lab.primary)
    lab.settle(mail)

    assert mail.delivered_to(lab.primary, mailbox="alice")
    assert mail.delivered_to(lab.primary, mailbox="bob")


@pytest.mark.faq("protect-internal-list", "40-S2")
def test_behaviour_a_refusal_before_the_table_leaves_it_alone(lab: Lab) -> None:
    """With reject_unauth_destination first, outsiders are refused all the same."""
    a_list(lab)
    restrictions = f"reject_unauth_destination, {by_client(lab)}"
    lab.primary.cure.configure(smtpd_recipient_restrictions=restrictions)

    mail = lab.sender.smtp("all@example.org", server=lab.primary)
    lab.settle(mail)

    assert mail.rejected(554, "5.7.1", saying=f"<all@example.org>: {DENIED}")
    assert not mail.reached(lab.primary)


@pytest.mark.faq("protect-internal-list", "40-S3")
def test_symptom_the_backup_launders_mail_from_outside(lab: Lab) -> None:
    """A backup MX in mynetworks is an insider, wherever its mail comes from."""
    a_list(lab)
    lab.primary.configure(smtpd_recipient_restrictions=by_client(lab))
    lab.primary.misconfigure(mynetworks=f"{OUR_CLIENTS}, {lab.backup.address}")

    mail = lab.sender.smtp("all@example.org", server=lab.backup)
    lab.settle(mail)

    assert mail.reached(lab.backup)
    assert mail.delivered_to(lab.primary, mailbox="alice")
    assert mail.delivered_to(lab.primary, mailbox="bob")


@pytest.mark.faq("protect-internal-list", "40-S3")
def test_cure_the_backup_is_no_insider(lab: Lab) -> None:
    """Without the backup in mynetworks the primary refuses, and the backup bounces."""
    a_list(lab)
    lab.primary.configure(
        smtpd_recipient_restrictions=by_client(lab),
        mynetworks=f"{OUR_CLIENTS}, {lab.backup.address}",
    )
    lab.primary.cure.configure(mynetworks=OUR_CLIENTS)

    mail = lab.sender.smtp("all@example.org", server=lab.backup, sender="bob@example.net")
    lab.settle(mail)

    assert mail.bounced(dsn="5.7.1", saying=f"said: 554 5.7.1 <all@example.org>: {DENIED}")
    assert not mail.reached(lab.primary)
    (notice,) = lab.sender.mailbox("bob")
    assert "MAILER-DAEMON@backup.example.org" in notice["From"]


@pytest.mark.faq("protect-internal-list", "40-S4")
@pytest.mark.parametrize("sender", ["x@example.net", ""], ids=["stranger", "nobody"])
@pytest.mark.parametrize("recipient", ["all@example.org", "all@primary.example.org"])
def test_cure_only_known_senders_may_name_the_list(lab: Lab, sender: str, recipient: str) -> None:
    """A restriction class checks the sender when the recipient is the list."""
    a_list(lab)
    lab.primary.cure.configure(**by_sender(lab))

    mail = lab.sender.smtp(recipient, server=lab.primary, sender=sender)
    other = lab.sender.smtp("bob@example.org", server=lab.primary, sender=sender)
    lab.settle(mail, other)

    assert mail.rejected(554, "5.7.1", saying=f"<{recipient}>: {DENIED}")
    assert other.delivered_to(lab.primary, mailbox="bob")


@pytest.mark.faq("protect-internal-list", "40-S4")
def test_cure_known_senders_holds_for_mail_by_the_backup(lab: Lab) -> None:
    """The sender address is the same by any route, so the backup cannot bypass the check."""
    a_list(lab)
    lab.primary.configure(mynetworks=f"{OUR_CLIENTS}, {lab.backup.address}")
    lab.primary.cure.configure(**by_sender(lab))

    mail = lab.sender.smtp("all@example.org", server=lab.backup, sender="bob@example.net")
    lab.settle(mail)

    assert mail.bounced(dsn="5.7.1", saying=f"said: 554 5.7.1 <all@example.org>: {DENIED}")
    assert not mail.reached(lab.primary)


@pytest.mark.faq("protect-internal-list", "40-S4")
@pytest.mark.parametrize("sender", ["boss@example.org", "u@sub.example.org", "x@another.example"])
def test_behaviour_whoever_claims_to_be_an_insider_is_one(lab: Lab, sender: str) -> None:
    """From outside any sender in the domain, a subdomain or a friend's domain is accepted."""
    a_list(lab)
    lab.primary.cure.configure(**by_sender(lab))

    mail = lab.sender.smtp("all@example.org", server=lab.primary, sender=sender)
    honest = lab.sender.smtp("all@example.org", server=lab.primary)
    lab.settle(mail, honest)

    assert honest.rejected(554)
    assert mail.delivered_to(lab.primary, mailbox="alice")


@pytest.mark.faq("protect-internal-list", "40-S4")
def test_behaviour_the_machines_own_users_are_not_asked(lab: Lab) -> None:
    """sendmail(1) bypasses the restrictions, with any sender."""
    a_list(lab)
    lab.primary.cure.configure(**by_sender(lab))

    mail = lab.primary.send("all", user="joe", sender="x@example.net")
    by_smtp = lab.sender.smtp("all@example.org", server=lab.primary)
    lab.settle(mail, by_smtp)

    assert by_smtp.rejected(554)
    assert mail.delivered_to(lab.primary, mailbox="alice")


@pytest.mark.faq("protect-internal-list", "40-S4")
def test_symptom_a_class_that_is_not_declared_refuses_insiders_too(lab: Lab) -> None:
    """The list is closed to insiders, too, and the postmaster gets a notice."""
    a_list(lab)
    lab.primary.configure(**by_sender(lab))
    lab.primary.misconfigure(smtpd_restriction_classes="")

    mail = lab.sender.smtp("all@example.org", server=lab.primary, sender="boss@example.org")
    lab.settle(mail)

    assert mail.rejected(451, "4.3.5", saying="4.3.5 Server configuration error")
    complaints = {event.text for event in lab.events(Complaint, lab.primary)}
    assert complaints == {'unknown smtpd restriction: "insiders_only"'}
    lab.wait_for(Delivery, host=lab.primary, saying="orig_to=<postmaster>")
    (notice,) = lab.primary.mailbox("root")
    assert "errors from sender.example.net" in notice["Subject"]
    assert "Server configuration error" in str(notice)


@pytest.mark.faq("protect-internal-list", "40-S4")
def test_cure_the_class_is_declared(lab: Lab) -> None:
    """With the class declared insiders get through and outsiders do not."""
    a_list(lab)
    lab.primary.configure(**by_sender(lab))
    lab.primary.configure(smtpd_restriction_classes="")
    lab.primary.cure.configure(smtpd_restriction_classes="insiders_only")

    inside = lab.sender.smtp("all@example.org", server=lab.primary, sender="boss@example.org")
    outside = lab.sender.smtp("all@example.org", server=lab.primary, sender="x@example.net")
    lab.settle(inside, outside)

    assert inside.delivered_to(lab.primary, mailbox="alice")
    assert outside.rejected(554, "5.7.1", saying=f"<all@example.org>: {DENIED}")


@pytest.mark.faq("protect-internal-list")
def test_cure_insiders_log_in(lab: Lab) -> None:
    """A login admits an insider from anywhere, with the insider's own address only."""
    a_list(lab)
    owners = lab.primary.table("owners", {"bob@example.org": "bob", "boss@example.org": "boss"})
    lab.primary.configure(
        **by_sender(lab),
        **sasl.cyrus(lab.primary, {"bob": "secret"}),
        smtpd_sender_login_maps=owners,
    )
    lab.primary.cure.configure(
        smtpd_sender_restrictions="reject_sender_login_mismatch",
        insiders_only="permit_sasl_authenticated, reject",
    )

    insider = lab.sender.smtp(
        "all@example.org", server=lab.primary, sender="bob@example.org", login=("bob", "secret")
    )
    forged = lab.sender.smtp("all@example.org", server=lab.primary, sender="boss@example.org")
    friend = lab.sender.smtp("all@example.org", server=lab.primary, sender="x@another.example")
    lab.settle(insider, forged, friend)

    assert insider.delivered_to(lab.primary, mailbox="alice")
    refusal = "<boss@example.org>: Sender address rejected: not logged in"
    assert forged.rejected(553, "5.7.1", saying=refusal)
    assert friend.rejected(554, "5.7.1", saying=f"<all@example.org>: {DENIED}")
