"""Postfix accepts mail for non-existing local users.

Leave local_recipient_maps at its default, the password file and the aliases: the SMTP
server then refuses unknown users. Change it in three cases: for users that only the mail
store knows, for luser_relay, and for a server in a chroot that reads the password file
itself (use proxy:unix:passwd.byname). An empty value accepts mail for every name, and
returns it later to a sender that may be forged.

Since the FAQ:
- 2.0: the default lists the known users and reads them through proxymap(8); before that, it
  was empty.
"""

import pytest

from maillab import Complaint, Lab, PostfixHost

pytestmark = pytest.mark.topology("standalone")

# The default today, and the default before 2.0.
LISTED = "proxy:unix:passwd.byname $alias_maps"
ANYBODY = ""
# The SMTP server opens the password file itself, without proxymap(8).
READ_BY_ITSELF = "unix:passwd.byname $alias_maps"
UNKNOWN = "Recipient address rejected: User unknown in local recipient table"

OURS = "$myhostname, localhost.$mydomain, localhost, $mydomain"


@pytest.mark.faq("local-recipient-maps", "33-S1")
def test_symptom_mail_for_nobody_is_returned_to_a_bystander(lab: Lab) -> None:
    """Postfix accepts the mail and later bounces it to the claimed sender."""
    lab.mail.configure(local_recipient_maps=LISTED)
    lab.mail.misconfigure(local_recipient_maps=ANYBODY)

    mail = lab.client.smtp("nosuch@example.com", server=lab.mail, sender="joe@example.net")
    lab.settle(mail)

    assert mail.bounced(dsn="5.1.1", saying='unknown user: "nosuch"')
    (notice,) = lab.remote.mailbox("joe")
    assert notice["Return-Path"] == "<>"
    assert notice["Subject"] == "Undelivered Mail Returned to Sender"
    assert "Final-Recipient: rfc822; nosuch@example.com" in str(notice)


@pytest.mark.faq("local-recipient-maps", "33-S2")
@pytest.mark.parametrize("domain", ["example.com", "mail.example.com", "[ADDRESS]"])
def test_cure_the_server_knows_its_users(lab: Lab, domain: str) -> None:
    """With a user list the server refuses unknown users in every local domain."""
    lab.mail.configure(local_recipient_maps=ANYBODY)
    lab.mail.cure.configure(local_recipient_maps=LISTED)
    recipient = f"nosuch@{domain.replace('ADDRESS', lab.mail.address)}"

    mail = lab.client.smtp(recipient, server=lab.mail, sender="joe@example.net")
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
    """Names in any case, aliases, and postmaster without a domain are accepted."""
    lab.mail.aliases({"team": "carol", "postmaster": "dave"})

    mail = lab.client.smtp(recipient, server=lab.mail)
    lab.settle(mail)

    assert mail.delivered_to(lab.mail, mailbox=reader)


@pytest.mark.faq("local-recipient-maps", "33-S2")
def test_behaviour_an_extension_needs_its_delimiter(lab: Lab) -> None:
    """alice+news is alice only with recipient_delimiter set."""
    before = lab.client.smtp("alice+news@example.com", server=lab.mail)
    lab.mail.cure.configure(recipient_delimiter="+")

    after = lab.client.smtp("alice+news@example.com", server=lab.mail)
    lab.settle(before, after)

    assert before.rejected(550, "5.1.1", saying=f"<alice+news@example.com>: {UNKNOWN}")
    assert after.delivered_to(lab.mail, mailbox="alice")


@pytest.mark.faq("local-recipient-maps", "33-S2")
def test_behaviour_the_refusal_may_be_for_the_time_being(lab: Lab) -> None:
    """With unknown_local_recipient_reject_code=450 the client keeps the mail and retries."""
    lab.mail.cure.configure(unknown_local_recipient_reject_code="450")

    mail = lab.remote.send("nosuch@example.com")
    lab.settle(mail)

    assert mail.deferred(dsn="4.1.1", saying=f"said: 450 4.1.1 <nosuch@example.com>: {UNKNOWN}")
    assert mail.held_by(lab.remote)


@pytest.mark.faq("local-recipient-maps", "33-S2")
def test_behaviour_local_submission_is_not_checked(lab: Lab) -> None:
    """sendmail(1) accepts mail for an unknown user, and the sender gets a bounce."""
    mail = lab.mail.send("nosuch@example.com", user="bob")
    lab.settle(mail)

    assert mail.bounced(dsn="5.1.1", saying='unknown user: "nosuch"')
    (notice,) = lab.mail.mailbox("bob")
    assert notice["Subject"] == "Undelivered Mail Returned to Sender"


def in_a_chroot(lab: Lab) -> None:
    """Run the SMTP server in the queue directory, without a password file."""
    lab.mail.configure(local_recipient_maps=LISTED)
    lab.mail.service("smtp inet n - y - - smtpd")


def copy_the_password_file(lab: Lab, host: PostfixHost) -> None:
    """Copy the file into the jail, and libnss_files where glibc needs it to read the file."""
    host.jail.copy("/etc/passwd")
    if not lab.has("no libnss_dns needed"):
        host.jail.copy_library("libnss_files")


def assert_it_knows_its_users(lab: Lab) -> None:
    """Judge that the server accepts mail for alice, and refuses an unknown user."""
    alice = lab.client.smtp("alice@example.com", server=lab.mail)
    unknown = lab.client.smtp("nosuch@example.com", server=lab.mail)
    lab.settle(alice, unknown)

    assert alice.delivered_to(lab.mail, mailbox="alice")
    assert unknown.rejected(550, "5.1.1", saying=f"<nosuch@example.com>: {UNKNOWN}")


@pytest.mark.faq("local-recipient-maps", "33-S3")
def test_symptom_a_chrooted_server_finds_no_password_file(lab: Lab) -> None:
    """Without proxymap(8) a process's first lookup fails temporarily; later ones find no user."""
    in_a_chroot(lab)
    lab.mail.misconfigure(local_recipient_maps=READ_BY_ITSELF)

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
    """With proxy: before the table a chrooted server knows the users."""
    in_a_chroot(lab)
    lab.mail.configure(local_recipient_maps=READ_BY_ITSELF)
    lab.mail.cure.configure(local_recipient_maps=LISTED)

    assert_it_knows_its_users(lab)


@pytest.mark.faq("local-recipient-maps", "33-S3")
def test_cure_the_jail_has_a_copy_of_the_password_file(lab: Lab) -> None:
    """The FAQ's cure still works: with etc/passwd in the jail the server knows the users."""
    in_a_chroot(lab)
    lab.mail.configure(local_recipient_maps=READ_BY_ITSELF)
    copy_the_password_file(lab, lab.mail.cure)
    lab.mail.restart()

    assert_it_knows_its_users(lab)


@pytest.mark.faq("local-recipient-maps", "33-S3")
def test_symptom_a_new_user_is_not_in_the_copy(lab: Lab) -> None:
    """A copied password file gets stale: the server refuses a user that the host has."""
    in_a_chroot(lab)
    copy_the_password_file(lab, lab.mail)
    lab.mail.misconfigure(local_recipient_maps=READ_BY_ITSELF)
    lab.mail.user("zoe")

    mail = lab.client.smtp("zoe@example.com", server=lab.mail)
    lab.settle(mail)

    assert mail.rejected(550, "5.1.1", saying=f"<zoe@example.com>: {UNKNOWN}")


@pytest.mark.faq("local-recipient-maps", "33-S4")
def test_symptom_the_catch_all_catches_nothing(lab: Lab) -> None:
    """luser_relay is for unknown users, and the SMTP server refuses them."""
    lab.mail.configure(luser_relay="joe", local_recipient_maps=ANYBODY)
    lab.mail.misconfigure(local_recipient_maps=LISTED)

    mail = lab.client.smtp("nosuch@example.com", server=lab.mail)
    lab.settle(mail)

    assert mail.rejected(550, "5.1.1", saying=f"<nosuch@example.com>: {UNKNOWN}")
    assert not lab.mail.mailbox("joe")


@pytest.mark.faq("local-recipient-maps", "33-S4")
def test_cure_a_catch_all_wants_no_list(lab: Lab) -> None:
    """With local_recipient_maps empty joe gets the unknown users' mail."""
    lab.mail.configure(luser_relay="joe", local_recipient_maps=LISTED)
    lab.mail.cure.configure(local_recipient_maps=ANYBODY)

    mail = lab.client.smtp("nosuch@example.com", server=lab.mail)
    lab.settle(mail)

    assert mail.delivered_to(lab.mail, mailbox="joe")
    (copy,) = lab.mail.mailbox("joe")
    assert copy["X-Original-To"] == "nosuch@example.com"


def with_a_store(lab: Lab) -> None:
    """Keep mailboxes on another machine, the only one with the user zoe."""
    lab.remote.user("zoe")
    lab.remote.configure(mydestination=f"{OURS}, example.com")
    lab.mail.configure(mailbox_transport="smtp:[remote.example.net]")


@pytest.mark.faq("local-recipient-maps", "33-S4")
def test_symptom_users_of_the_store_are_unknown_to_the_server(lab: Lab) -> None:
    """mailbox_transport delivers to users without an account if RCPT TO accepts them."""
    with_a_store(lab)
    lab.mail.configure(local_recipient_maps=ANYBODY)
    lab.mail.misconfigure(local_recipient_maps=LISTED)

    mail = lab.client.smtp("zoe@example.com", server=lab.mail)
    lab.settle(mail)

    assert mail.rejected(550, "5.1.1", saying=f"<zoe@example.com>: {UNKNOWN}")


@pytest.mark.faq("local-recipient-maps", "33-S4")
def test_cure_users_of_the_store_are_listed(lab: Lab) -> None:
    """One more table lists the store's users; other unknown users are still refused."""
    with_a_store(lab)
    store = lab.mail.table("store", {"zoe": "x"})
    lab.mail.cure.configure(local_recipient_maps=f"{LISTED} {store}")

    zoe = lab.client.smtp("zoe@example.com", server=lab.mail)
    nobody = lab.client.smtp("nosuch@example.com", server=lab.mail)
    lab.settle(zoe, nobody)

    assert zoe.delivered_to(lab.remote, mailbox="zoe")
    assert nobody.rejected(550, "5.1.1", saying=f"<nosuch@example.com>: {UNKNOWN}")


@pytest.mark.faq("local-recipient-maps", "33-S4")
def test_cure_the_store_is_asked(lab: Lab) -> None:
    """Without a list reject_unverified_recipient trusts the store's reply."""
    with_a_store(lab)
    # Wait for the store's reply: the default gives up after three polls.
    lab.mail.configure(address_verify_poll_count="20", address_verify_poll_delay="1s")
    lab.mail.cure.configure(
        local_recipient_maps=ANYBODY, smtpd_recipient_restrictions="reject_unverified_recipient"
    )

    zoe = lab.client.smtp("zoe@example.com", server=lab.mail)
    nobody = lab.client.smtp("nosuch@example.com", server=lab.mail)
    lab.settle(zoe, nobody)

    assert zoe.delivered_to(lab.remote, mailbox="zoe")
    refusal = f"host remote.example.net[{lab.remote.address}] said: 550 5.1.1"
    assert nobody.rejected(450, "4.1.1", saying=refusal)


@pytest.mark.faq("local-recipient-maps", "33-S4")
def test_cure_senders_who_do_not_exist_are_refused_too(lab: Lab) -> None:
    """smtpd_reject_unlisted_sender refuses local sender addresses that do not exist."""
    lab.mail.cure.configure(smtpd_reject_unlisted_sender="yes")

    forged = lab.client.smtp("alice@example.com", server=lab.mail, sender="nosuch@example.com")
    real = lab.client.smtp("alice@example.com", server=lab.mail, sender="joe@example.net")
    lab.settle(forged, real)

    refusal = "<nosuch@example.com>: Sender address rejected: User unknown in local recipient table"
    assert forged.rejected(550, "5.1.0", saying=refusal)
    assert real.delivered_to(lab.mail, mailbox="alice")
