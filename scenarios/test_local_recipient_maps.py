"""Postfix accepts mail for non-existing local users.

In the FAQ's days the SMTP server took mail for whoever was @here and left it to
the delivery agent to find nobody; the answer was to set local_recipient_maps.
That is the default since 2.0: the password file and the aliases, read by way of
proxymap(8), so that a chrooted server needs no copy of the password file. What
is left of the entry is to know when the default is wrong: for users whom only
the mail store knows, for luser_relay, and for a server in a chroot that reads
the password file itself.
"""

import pytest

from maillab.lab import Lab
from maillab.maillog import Complaint

pytestmark = pytest.mark.topology("standalone")

# The default, and what it was before 2.0.
LISTED = "proxy:unix:passwd.byname $alias_maps"
ANYBODY = ""
UNKNOWN = "Recipient address rejected: User unknown in local recipient table"

OURS = "$myhostname, localhost.$mydomain, localhost, $mydomain"


@pytest.mark.faq("local-recipient-maps", "33-S1")
def test_symptom_mail_for_nobody_is_returned_to_a_bystander(lab: Lab) -> None:
    """Accepted first and bounced later, it goes to whoever the sender claimed to be."""
    lab.mail.configure(local_recipient_maps=LISTED)
    lab.mail.misconfigure(local_recipient_maps=ANYBODY)

    mail = lab.client.submit("nosuch@example.com", server=lab.mail, sender="joe@example.net")
    lab.settle(mail)

    assert mail.bounced(dsn="5.1.1", saying='unknown user: "nosuch"')
    (notice,) = lab.remote.mailbox("joe")
    assert notice["Return-Path"] == "<>"
    assert notice["Subject"] == "Undelivered Mail Returned to Sender"
    assert "Final-Recipient: rfc822; nosuch@example.com" in str(notice)


@pytest.mark.faq("local-recipient-maps", "33-S2")
@pytest.mark.parametrize("domain", ["example.com", "mail.example.com", "[ADDRESS]"])
def test_cure_the_server_knows_its_users(lab: Lab, domain: str) -> None:
    """With the users listed it refuses the others, by whatever name of the machine."""
    lab.mail.configure(local_recipient_maps=ANYBODY)
    lab.mail.cure.configure(local_recipient_maps=LISTED)
    recipient = f"nosuch@{domain.replace('ADDRESS', lab.mail.address)}"

    mail = lab.client.submit(recipient, server=lab.mail, sender="joe@example.net")
    lab.settle(mail)

    assert mail.rejected(550, "5.1.1", saying=f"<{recipient}>: {UNKNOWN}")
    assert not mail.reached(lab.remote)


@pytest.mark.faq("local-recipient-maps", "33-S2")
@pytest.mark.parametrize(
    ("recipient", "reader"),
    [
        ("alice@example.com", "alice"),
        ("team@example.com", "carol"),
        ("postmaster", "dave"),
        ("Alice@example.com", "alice"),
    ],
)
def test_behaviour_users_aliases_and_the_postmaster_are_known(
    lab: Lab, recipient: str, reader: str
) -> None:
    """Names in any case, aliases, and postmaster even without a domain."""
    lab.mail.aliases({"team": "carol", "postmaster": "dave"})

    mail = lab.client.submit(recipient, server=lab.mail)
    lab.settle(mail)

    assert mail.delivered_to(lab.mail, mailbox=reader)


@pytest.mark.faq("local-recipient-maps", "33-S2")
def test_behaviour_an_extension_needs_its_delimiter(lab: Lab) -> None:
    """alice+news is alice only where recipient_delimiter says so."""
    before = lab.client.submit("alice+news@example.com", server=lab.mail)
    lab.mail.configure(recipient_delimiter="+")

    after = lab.client.submit("alice+news@example.com", server=lab.mail)
    lab.settle(before, after)

    assert before.rejected(550, "5.1.1", saying=f"<alice+news@example.com>: {UNKNOWN}")
    assert after.delivered_to(lab.mail, mailbox="alice")


@pytest.mark.faq("local-recipient-maps", "33-S2")
def test_behaviour_the_refusal_may_be_for_the_time_being(lab: Lab) -> None:
    """With unknown_local_recipient_reject_code=450 the client keeps the mail and retries."""
    lab.mail.configure(unknown_local_recipient_reject_code="450")

    mail = lab.remote.send("nosuch@example.com")
    lab.settle(mail)

    assert mail.deferred(dsn="4.1.1", saying=f"said: 450 4.1.1 <nosuch@example.com>: {UNKNOWN}")
    assert mail.held_by(lab.remote)


@pytest.mark.faq("local-recipient-maps", "33-S2")
def test_behaviour_local_submission_is_not_checked(lab: Lab) -> None:
    """What a user hands to sendmail(1) for nobody is taken, and comes back to the user."""
    mail = lab.mail.send("nosuch@example.com", user="bob")
    lab.settle(mail)

    assert mail.bounced(dsn="5.1.1", saying='unknown user: "nosuch"')
    (notice,) = lab.mail.mailbox("bob")
    assert notice["Subject"] == "Undelivered Mail Returned to Sender"


def in_a_chroot(lab: Lab) -> None:
    """The SMTP server runs in the queue directory, where there is no password file."""
    lab.mail.configure(local_recipient_maps=LISTED)
    lab.mail.service("smtp inet n - y - - smtpd")


@pytest.mark.faq("local-recipient-maps", "33-S3")
def test_symptom_a_chrooted_server_finds_no_password_file(lab: Lab) -> None:
    """Read without proxymap(8), users are first in doubt and then, to that process, nobody."""
    in_a_chroot(lab)
    lab.mail.misconfigure(local_recipient_maps="unix:passwd.byname $alias_maps")

    with lab.client.session(lab.mail) as session:
        session.ehlo()
        session.mail("bob@client.example.net")
        first, second = session.rcpt("alice@example.com"), session.rcpt("alice@example.com")
        alias = session.rcpt("postmaster@example.com")

    assert str(first) == "451 4.3.0 <alice@example.com>: Temporary lookup failure"
    assert str(second) == f"550 5.1.1 <alice@example.com>: {UNKNOWN}"
    assert alias.code == 250
    (complaint, _) = lab.events(Complaint, lab.mail)
    assert complaint.text.startswith("cannot access UNIX password database: No such file")


@pytest.mark.faq("local-recipient-maps", "33-S3")
def test_cure_proxymap_reads_it_outside(lab: Lab) -> None:
    """With proxy: before the table a server in the chroot knows who is who."""
    in_a_chroot(lab)
    lab.mail.configure(local_recipient_maps="unix:passwd.byname $alias_maps")
    lab.mail.cure.configure(local_recipient_maps=LISTED)

    alice = lab.client.submit("alice@example.com", server=lab.mail)
    nobody = lab.client.submit("nosuch@example.com", server=lab.mail)
    lab.settle(alice, nobody)

    assert alice.delivered_to(lab.mail, mailbox="alice")
    assert nobody.rejected(550, "5.1.1", saying=f"<nosuch@example.com>: {UNKNOWN}")


@pytest.mark.faq("local-recipient-maps", "33-S4")
def test_symptom_the_catch_all_catches_nothing(lab: Lab) -> None:
    """luser_relay is for unknown users, and those do not get past the server."""
    lab.mail.configure(luser_relay="joe", local_recipient_maps=ANYBODY)
    lab.mail.misconfigure(local_recipient_maps=LISTED)

    mail = lab.client.submit("nosuch@example.com", server=lab.mail)
    lab.settle(mail)

    assert mail.rejected(550, "5.1.1", saying=f"<nosuch@example.com>: {UNKNOWN}")
    assert not lab.mail.mailbox("joe")


@pytest.mark.faq("local-recipient-maps", "33-S4")
def test_cure_a_catch_all_wants_no_list(lab: Lab) -> None:
    """With local_recipient_maps empty the unknown users' mail is joe's."""
    lab.mail.configure(luser_relay="joe", local_recipient_maps=LISTED)
    lab.mail.cure.configure(local_recipient_maps=ANYBODY)

    mail = lab.client.submit("nosuch@example.com", server=lab.mail)
    lab.settle(mail)

    assert mail.delivered_to(lab.mail, mailbox="joe")
    (copy,) = lab.mail.mailbox("joe")
    assert copy["X-Original-To"] == "nosuch@example.com"


def with_a_store(lab: Lab) -> None:
    """Mailboxes are on another machine, and only there one knows zoe."""
    lab.remote.user("zoe")
    lab.remote.configure(mydestination=f"{OURS}, example.com")
    lab.mail.configure(mailbox_transport="smtp:[remote.example.net]")


@pytest.mark.faq("local-recipient-maps", "33-S4")
def test_symptom_users_of_the_store_are_unknown_to_the_server(lab: Lab) -> None:
    """mailbox_transport delivers to users without an account, if they get that far."""
    with_a_store(lab)
    lab.mail.configure(local_recipient_maps=ANYBODY)
    lab.mail.misconfigure(local_recipient_maps=LISTED)

    mail = lab.client.submit("zoe@example.com", server=lab.mail)
    lab.settle(mail)

    assert mail.rejected(550, "5.1.1", saying=f"<zoe@example.com>: {UNKNOWN}")


@pytest.mark.faq("local-recipient-maps", "33-S4")
def test_cure_users_of_the_store_are_listed(lab: Lab) -> None:
    """One more table names them; those whom nobody knows stay refused."""
    with_a_store(lab)
    store = lab.mail.table("store", {"zoe": "x"})
    lab.mail.cure.configure(local_recipient_maps=f"{LISTED} {store}")

    zoe = lab.client.submit("zoe@example.com", server=lab.mail)
    nobody = lab.client.submit("nosuch@example.com", server=lab.mail)
    lab.settle(zoe, nobody)

    assert zoe.delivered_to(lab.remote, mailbox="zoe")
    assert nobody.rejected(550, "5.1.1", saying=f"<nosuch@example.com>: {UNKNOWN}")


@pytest.mark.faq("local-recipient-maps", "33-S4")
def test_cure_the_store_is_asked(lab: Lab) -> None:
    """Where there is no list, reject_unverified_recipient believes the store itself."""
    with_a_store(lab)
    # The client is answered when the store was, not when Postfix has waited three times.
    lab.mail.configure(address_verify_poll_count="20", address_verify_poll_delay="1s")
    lab.mail.cure.configure(
        local_recipient_maps=ANYBODY, smtpd_recipient_restrictions="reject_unverified_recipient"
    )

    zoe = lab.client.submit("zoe@example.com", server=lab.mail)
    nobody = lab.client.submit("nosuch@example.com", server=lab.mail)
    lab.settle(zoe, nobody)

    assert zoe.delivered_to(lab.remote, mailbox="zoe")
    refusal = f"host remote.example.net[{lab.remote.address}] said: 550 5.1.1"
    assert nobody.rejected(450, "4.1.1", saying=refusal)


@pytest.mark.faq("local-recipient-maps", "33-S4")
def test_cure_senders_who_do_not_exist_are_refused_too(lab: Lab) -> None:
    """With smtpd_reject_unlisted_sender nobody claims to be a user that is not."""
    lab.mail.cure.configure(smtpd_reject_unlisted_sender="yes")

    forged = lab.client.submit("alice@example.com", server=lab.mail, sender="nosuch@example.com")
    real = lab.client.submit("alice@example.com", server=lab.mail, sender="joe@example.net")
    lab.settle(forged, real)

    refusal = "<nosuch@example.com>: Sender address rejected: User unknown in local recipient table"
    assert forged.rejected(550, "5.1.0", saying=refusal)
    assert real.delivered_to(lab.mail, mailbox="alice")
