"""Mailboxes on a host of their own: Dovecot takes mail by LMTP and users read it by IMAP.

Each scenario shows Dovecot at work for Postfix, or one way in which they fail together.
"""

import pytest

from maillab import (
    Accepted,
    Complaint,
    Delivery,
    DovecotHost,
    Event,
    Lab,
    LoggedIn,
    LoginRefused,
    Mail,
    MailDiscarded,
    MailSaved,
    PasswordRefused,
    VacationSent,
    imap,
    pop3,
)
from maillab.faults import HostCrashed, HostFrozen, Refused, SilentDrop

pytestmark = pytest.mark.topology("submission")

PASSWORD = "secret"  # noqa: S105  # of no real account
ALICE = "alice@example.com"
BOB = "bob@example.com"
JOE = "joe@example.net"
CERTIFICATE = "/etc/ssl/maillab/mailbox.example.com.pem"
AUTHORITY = "/etc/ssl/maillab-authority/authority.pem"
QUOTA = """\
mail_plugins {
  quota = yes
}
quota "User quota" {
}
quota_storage_size = 10k
# By default a mailbox may exceed its limit by ten megabytes.
quota_storage_grace = 0
"""


def dovecot(lab: Lab) -> DovecotHost:
    """Return the mailbox server."""
    (host,) = lab.dovecot_hosts
    return host


def received(lab: Lab, to: str = ALICE, size_bytes: int = 0) -> Mail:
    """Send from everybody else to a user; settle."""
    mail = lab.remote.send(to=to, sender=JOE, size_bytes=size_bytes)
    lab.settle(mail)
    return mail


def submitted(lab: Lab, user: str = ALICE, *, sender: str = "", port: int = 465) -> Mail:
    """Send to everybody else by submission, with a login; settle."""
    mail = lab.client.smtp(
        JOE,
        server=lab.mail,
        port=port,
        tls=port == 465,
        starttls=port == 587,
        login=(user, PASSWORD),
        sender=sender or user,
    )
    lab.settle(mail)
    return mail


def read(lab: Lab, user: str = ALICE) -> imap.Account:
    """Read a user's mail by IMAP in verified TLS."""
    return imap.read(lab.client, lab.mailbox, user, PASSWORD, trust=lab.authority.pem)


def arrives_after_all(lab: Lab, mail: Mail) -> bool:
    """Return True if deferred mail is delivered after a flush."""
    lab.mail.flush()
    lab.settle(mail)
    return bool(mail.delivered_to(lab.mailbox, mailbox=ALICE))


def ten_years_later(lab: Lab) -> None:
    """Move the clock past the end of all certificates, but not of their authority's own."""
    lab.clock.advance(days=3650)
    lab.clock.advance(days=2)


def said(lab: Lab, reply: str, command: str) -> str:
    """Return how lmtp(8) logs what Dovecot replied."""
    server = f"mailbox.example.com[{lab.mailbox.address}]"
    return f"host {server} said: {reply} (in reply to {command})"


# Dovecot at work.


def test_behaviour_mail_arrives_by_lmtp_and_is_read_by_imap(lab: Lab) -> None:
    """Dovecot logs the delivery under the id of its reply, and IMAP has the text that was sent."""
    mail = lab.remote.send(to=ALICE, sender=JOE, body="As sent.\n.\nTo the last line.")
    lab.settle(mail)

    assert mail.delivered_to(lab.mailbox, mailbox=ALICE)
    (saved,) = lab.events(MailSaved, lab.mailbox)
    assert (saved.to, saved.relay) == (ALICE, "INBOX")
    (copy,) = read(lab).inbox
    assert copy["Message-ID"] == mail.message_id
    assert copy.get_content().splitlines() == ["As sent.", ".", "To the last line."]
    assert saved.queue_id in copy["Received"]


def test_behaviour_one_lmtp_transaction_serves_two_users(lab: Lab) -> None:
    """Dovecot answers, and logs, for each recipient of the transaction."""
    mail = lab.client.smtp([ALICE, BOB], server=lab.mail)
    lab.settle(mail)

    assert mail.delivered_to(lab.mailbox, mailbox=ALICE)
    assert mail.delivered_to(lab.mailbox, mailbox=BOB)
    alice, bob = lab.events(MailSaved, lab.mailbox)
    assert alice.queue_id == bob.queue_id


def test_behaviour_pop3_has_the_same_mail_as_imap(lab: Lab) -> None:
    """Both protocols log in in TLS, and read one mailbox."""
    mail = received(lab)

    inbox = pop3.read(lab.client, lab.mailbox, ALICE, PASSWORD, tls=True)
    account = imap.read(lab.client, lab.mailbox, ALICE, PASSWORD, security="tls")

    assert [copy["Message-ID"] for copy in inbox.messages] == [mail.message_id]
    assert [copy["Message-ID"] for copy in account.inbox] == [mail.message_id]
    logins = [(event.protocol, event.user) for event in lab.events(LoggedIn, lab.mailbox)]
    assert logins == [("pop3", ALICE), ("imap", ALICE)]


def test_behaviour_passwords_are_taken_only_in_tls(lab: Lab) -> None:
    """Without TLS, IMAP and POP3 refuse even the right password."""
    account = imap.read(lab.client, lab.mailbox, ALICE, PASSWORD, security="")
    inbox = pop3.read(lab.client, lab.mailbox, ALICE, PASSWORD)

    refused = "Cleartext authentication disallowed on non-secure (SSL/TLS) connections."
    assert account.login == f"[PRIVACYREQUIRED] {refused}"
    assert inbox.login == f"-ERR [AUTH] {refused}"


def test_symptom_a_wrong_password_is_refused_by_imap(lab: Lab) -> None:
    """The user learns nothing but the failure; Dovecot's log has the reason."""
    dovecot(lab).mistake.users({ALICE: "another"})

    account = read(lab)

    assert account.login == "[AUTHENTICATIONFAILED] Authentication failed."
    (reason,) = lab.events(PasswordRefused, lab.mailbox)
    assert (reason.user, reason.reason) == (ALICE, "Password mismatch")
    (refused,) = lab.events(LoginRefused, lab.mailbox)
    assert (refused.protocol, refused.user) == ("imap", ALICE)


def test_behaviour_users_of_the_system_have_mailboxes_too(lab: Lab) -> None:
    """Users from passwd(5), with passwords from PAM, beside those of the users' file."""
    lab.mailbox.run_tool("chpasswd", stdin=f"joe:{PASSWORD}\n")
    dovecot(lab).cure.configure(
        "auth_username_format = %{user | username | lower}\npassdb pam {\n}\nuserdb passwd {\n}\n"
    )
    lab.mail.configure(virtual_mailbox_maps="")

    mail = received(lab, to="joe@example.com")

    assert mail.delivered_to(lab.mailbox, mailbox="joe")
    (copy,) = read(lab, "joe").inbox
    assert copy["Message-ID"] == mail.message_id


# Users that do not exist.


def test_behaviour_an_unknown_user_is_refused_by_the_table_of_postfix(lab: Lab) -> None:
    """Postfix itself refuses an address that virtual_mailbox_maps does not have."""
    mail = lab.client.smtp("nosuch@example.com", server=lab.mail)
    lab.settle(mail)

    unknown = "Recipient address rejected: User unknown in virtual mailbox table"
    assert mail.rejected(550, "5.1.1", saying=unknown)


def test_symptom_without_a_table_mail_for_unknown_users_bounces(lab: Lab) -> None:
    """Postfix takes mail for every address of the domain, and Dovecot refuses it at RCPT."""
    lab.mail.misconfigure(virtual_mailbox_maps="")

    mail = lab.remote.send(to="nosuch@example.com", sender=JOE)
    lab.settle(mail)

    reply = "550 5.1.1 <nosuch@example.com> User doesn't exist: nosuch@example.com"
    assert mail.bounced(dsn="5.1.1", saying=said(lab, reply, "RCPT TO command"))
    assert mail.reached(lab.mail)


def test_cure_address_verification_asks_dovecot_before_the_mail_is_taken(lab: Lab) -> None:
    """reject_unverified_recipient probes by LMTP and needs no table of users."""
    lab.mail.configure(virtual_mailbox_maps="", address_verify_poll_delay="1s")
    lab.mail.cure.configure(
        smtpd_recipient_restrictions="reject_unverified_recipient",
        unverified_recipient_reject_code="550",
    )

    unknown = lab.client.smtp("nosuch@example.com", server=lab.mail)
    known = lab.client.smtp(ALICE, server=lab.mail)
    lab.settle(unknown, known)

    assert unknown.rejected(550, "5.1.1", saying="undeliverable address: host mailbox.example.com")
    assert known.delivered_to(lab.mailbox, mailbox=ALICE)


# Sieve.


def test_behaviour_sieve_files_mail_into_a_folder(lab: Lab) -> None:
    """Fileinto stores the message there, and not in INBOX."""
    dovecot(lab).sieve(ALICE, 'require ["fileinto", "mailbox"];\nfileinto :create "Lists";\n')

    mail = received(lab)

    assert mail.delivered_to(lab.mailbox, mailbox=ALICE)
    folders = read(lab).folders
    assert [copy["Message-ID"] for copy in folders["Lists"]] == [mail.message_id]
    assert folders["INBOX"] == []


def test_behaviour_sieve_redirects_mail_to_another_address(lab: Lab) -> None:
    """Dovecot submits the message to Postfix, which sends it on; no copy stays."""
    dovecot(lab).sieve(ALICE, f'redirect "{JOE}";\n')

    mail = lab.client.smtp(ALICE, server=lab.mail)
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    assert not mail.delivered_to(lab.mailbox, mailbox=ALICE)
    (copy,) = lab.remote.mailbox("joe")
    assert copy["X-Sieve-Redirected-From"] == ALICE


def test_behaviour_sieve_discards_mail_that_was_acknowledged(lab: Lab) -> None:
    """Postfix has logged "sent" and "Saved"; only Dovecot's log shows that the mail is gone."""
    dovecot(lab).sieve(ALICE, "discard;\n")

    mail = received(lab)

    assert not mail.delivered_to(lab.mailbox, mailbox=ALICE)
    (attempt,) = lab.events(Delivery, lab.mail)
    assert attempt.status == "sent"
    assert "Saved" in attempt.reply
    (discarded,) = lab.events(MailDiscarded, lab.mailbox)
    assert (discarded.to, discarded.message_id) == (ALICE, mail.message_id)


def test_behaviour_sieve_answers_while_a_user_is_away(lab: Lab) -> None:
    """The sender gets the answer, with an empty envelope sender so that nothing answers it."""
    dovecot(lab).sieve(ALICE, 'require ["vacation"];\nvacation "Back on Monday.";\n')

    mail = received(lab)

    assert mail.delivered_to(lab.mailbox, mailbox=ALICE)
    (sent,) = lab.events(VacationSent, lab.mailbox)
    assert (sent.user, sent.to) == (ALICE, JOE)
    (answer,) = lab.remote.mailbox("joe")
    assert (answer["Return-Path"], answer["In-Reply-To"]) == ("<>", mail.message_id)
    assert answer.get_content().strip() == "Back on Monday."


def test_behaviour_sieve_returns_mail_to_its_sender(lab: Lab) -> None:
    """The sender gets the refusal as a message from Dovecot."""
    dovecot(lab).sieve(ALICE, 'require ["reject"];\nreject "Not for me.";\n')

    mail = received(lab)

    assert mail.bounced(saying="rejected message from <joe@example.net>")
    (notice,) = lab.remote.mailbox("joe")
    assert notice["Subject"] == "Rejected: probe"


# Submission: Postfix asks Dovecot for its users' passwords.


@pytest.mark.parametrize(("port", "service"), [(587, "submission"), (465, "submissions")])
def test_behaviour_a_login_is_checked_by_dovecot_over_the_network(
    lab: Lab, port: int, service: str
) -> None:
    """A login on either port succeeds; Postfix logs its mechanism and user."""
    mail = submitted(lab, port=port)

    assert mail.delivered_to(lab.remote, mailbox="joe")
    (accepted,) = lab.events(Accepted, lab.mail)
    assert (accepted.program, accepted.sasl_method) == (f"postfix/{service}/smtpd", "PLAIN")
    assert accepted.sasl_username == ALICE


def test_symptom_a_wrong_password_is_refused_at_submission(lab: Lab) -> None:
    """Postfix replies 535, and Dovecot's log names the user, the client and the reason."""
    dovecot(lab).mistake.users({ALICE: "another"})

    mail = submitted(lab)

    assert mail.rejected(535, "5.7.8", saying="Error: authentication failed")
    (refused,) = lab.events(PasswordRefused, lab.mailbox)
    assert (refused.user, refused.address) == (ALICE, lab.client.address)
    assert (refused.method, refused.reason) == ("plain", "Password mismatch")


def test_cure_the_right_password_in_dovecots_file_lets_a_user_send(lab: Lab) -> None:
    """Postfix keeps no password: the next login is checked against the new one."""
    dovecot(lab).users({ALICE: "another"})
    assert submitted(lab).rejected(535)
    dovecot(lab).cure.users({ALICE: PASSWORD})

    mail = submitted(lab)

    assert mail.delivered_to(lab.remote, mailbox="joe")


def test_behaviour_a_login_may_send_from_its_own_address_only(lab: Lab) -> None:
    """reject_sender_login_mismatch compares the sender with the user whom Dovecot named."""
    mail = submitted(lab, sender=BOB)

    assert mail.rejected(553, "5.7.1", saying=f"not owned by user {ALICE}")


# Faults.


def test_symptom_mail_waits_for_a_mailbox_server_that_is_down(lab: Lab) -> None:
    """The host of the mailbox server refuses connections; after its restart a flush delivers."""
    with lab.mailbox.faulty(HostCrashed()):
        mail = received(lab)
        account = read(lab)

    refused = f"connect to mailbox.example.com[{lab.mailbox.address}]:24: Connection refused"
    assert mail.deferred(dsn="4.4.1", saying=refused)
    assert account.error == "ConnectionRefusedError: [Errno 111] Connection refused"
    assert arrives_after_all(lab, mail)
    (copy,) = read(lab).inbox
    assert copy["Message-ID"] == mail.message_id


def test_symptom_mail_waits_while_a_packet_filter_drops_port_24(lab: Lab) -> None:
    """Nothing answers on port 24, so mail waits; IMAP works meanwhile."""
    lab.mail.configure(lmtp_connect_timeout="1s")

    with lab.mailbox.faulty(SilentDrop(port=24)):
        mail = received(lab)
        account = read(lab)

    timed_out = f"connect to mailbox.example.com[{lab.mailbox.address}]:24: Connection timed out"
    assert mail.deferred(dsn="4.4.1", saying=timed_out)
    assert account.logged_in
    assert account.inbox == []
    assert arrives_after_all(lab, mail)


def test_symptom_mail_waits_for_a_mailbox_server_that_hangs(lab: Lab) -> None:
    """The kernel takes the connection, and Dovecot does not greet."""
    lab.mail.configure(lmtp_lhlo_timeout="2s")

    with lab.mailbox.faulty(HostFrozen()):
        mail = received(lab)

    hangs = "timed out while receiving the initial server greeting"
    server = f"mailbox.example.com[{lab.mailbox.address}]"
    assert mail.deferred(dsn="4.4.2", saying=f"conversation with {server} {hangs}")
    assert arrives_after_all(lab, mail)


def test_symptom_without_its_sasl_server_submission_does_not_start(lab: Lab) -> None:
    """smtpd(8) ends before it greets; mail from outside still arrives on port 25."""
    with (
        lab.mailbox.faulty(Refused(port=12345)),
        lab.client.session(lab.mail, port=465, tls=True) as session,
    ):
        assert session.greeting.code == 0
        mail = received(lab)

    complaints = [event.text for event in lab.events(Complaint, lab.mail)]
    assert "no SASL authentication mechanisms" in complaints
    connect, where = "SASL: Connect to ", "inet:mailbox.example.com:12345"
    (refused,) = [text for text in complaints if text.startswith(connect)]
    assert where in refused
    assert refused.endswith(" failed: Connection refused")
    assert mail.delivered_to(lab.mailbox, mailbox=ALICE)


def test_symptom_a_login_fails_for_now_when_the_sasl_server_goes_away(lab: Lab) -> None:
    """In a session that was offered AUTH the reply is 454, and the same session succeeds later."""
    with lab.client.session(lab.mail, port=465, tls=True) as session:
        session.ehlo()
        with lab.mailbox.faulty(HostCrashed()):
            failed = session.auth(ALICE, PASSWORD)
        after = session.auth(ALICE, PASSWORD)

    lost = "4.7.0 Temporary authentication failure: Connection lost to authentication server"
    assert (failed.code, failed.text) == (454, lost)
    assert after.code == 235


def test_symptom_a_full_mailbox_returns_mail(lab: Lab) -> None:
    """Dovecot refuses the data with 552."""
    dovecot(lab).misconfigure(QUOTA)

    mail = received(lab, size_bytes=20_000)

    reply = f"552 5.2.2 <{ALICE}> Quota exceeded (mailbox for user is full)"
    assert mail.bounced(dsn="5.2.2", saying=said(lab, reply, "end of DATA command"))


def test_cure_mail_waits_until_a_full_mailbox_has_room(lab: Lab) -> None:
    """With quota_full_tempfail Dovecot replies 452, and Postfix tries again."""
    dovecot(lab).configure(QUOTA)
    dovecot(lab).cure.configure("quota_full_tempfail = yes")
    mail = received(lab, size_bytes=20_000)

    reply = f"452 4.2.2 <{ALICE}> Quota exceeded (mailbox for user is full)"
    assert mail.deferred(dsn="4.2.2", saying=said(lab, reply, "end of DATA command"))
    dovecot(lab).configure("quota_storage_size = 1M")
    assert arrives_after_all(lab, mail)


def test_symptom_dovecot_may_not_read_its_users_file(lab: Lab) -> None:
    """The auth process is not root: mail waits, and every login fails for now."""
    lab.mailbox.mistake.run_tool("chmod", "600", "/etc/dovecot/users")

    mail = received(lab)
    account = read(lab)

    reply = f"451 4.3.0 <{ALICE}> Temporary internal error"
    assert mail.deferred(dsn="4.3.0", saying=said(lab, reply, "RCPT TO command"))
    assert account.login.startswith("[UNAVAILABLE] Temporary authentication failure.")
    denied = "open(/etc/dovecot/users) failed: Permission denied (euid="
    assert [event for event in lab.events(Event, lab.mailbox) if denied in event.text]


def test_cure_the_users_file_belongs_to_dovecots_group(lab: Lab) -> None:
    """Dovecot looks at the file again by itself, and the mail that waited is delivered."""
    lab.mailbox.run_tool("chmod", "600", "/etc/dovecot/users")
    mail = received(lab)
    lab.mailbox.cure.run_tool("chgrp", "dovecot", "/etc/dovecot/users")
    lab.mailbox.cure.run_tool("chmod", "640", "/etc/dovecot/users")

    assert arrives_after_all(lab, mail)


def test_symptom_the_mailboxes_belong_to_another_user(lab: Lab) -> None:
    """Dovecot takes the recipient, fails at the end of the data, and logs the missing right."""
    lab.mailbox.mistake.run_tool("chown", "root:root", "/var/vmail")

    mail = received(lab)

    assert mail.deferred(dsn="4.2.0", saying="Internal error occurred. Refer to server log")
    missing = "failed: Permission denied (euid=5000(vmail) egid=5000(vmail) missing +x perm"
    assert [event for event in lab.events(Event, lab.mailbox) if missing in event.text]


def test_symptom_the_certificate_of_the_mailbox_server_has_expired(lab: Lab) -> None:
    """Ten years later Dovecot still has the certificate of today, and Postfix does not deliver."""
    lab.mail.configure(lmtp_tls_security_level="secure", lmtp_tls_CAfile=AUTHORITY)
    today = lab.mailbox.read(CERTIFICATE) or ""
    ten_years_later(lab)
    lab.mailbox.run_tool("sh", "/opt/maillab/certify.sh")
    lab.mailbox.mistake.write(CERTIFICATE, today)
    dovecot(lab).restart()

    mail = received(lab)

    found = "verified" if lab.has("one text for a bad certificate") else "trusted"
    assert mail.deferred(dsn="4.7.5", saying=f"Server certificate not {found}")
    expired = "certificate has expired"
    assert [event for event in lab.events(Event, lab.mail) if expired in event.text]


def test_cure_a_new_certificate_is_served_after_a_restart(lab: Lab) -> None:
    """The mail that waited is delivered in verified TLS."""
    lab.mail.configure(lmtp_tls_security_level="secure", lmtp_tls_CAfile=AUTHORITY)
    ten_years_later(lab)
    mail = received(lab)
    lab.mailbox.cure.run_tool("sh", "/opt/maillab/certify.sh")
    dovecot(lab).cure.restart()

    assert arrives_after_all(lab, mail)
