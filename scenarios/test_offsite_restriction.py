"""Restricting what users can send off-site.

Define a restriction class (smtpd_restriction_classes), and apply it to some senders by an
access table. It is not safe, because it trusts the sender address: a user with another
sender address, or an empty one, is not restricted, and mail submitted with sendmail(1)
bypasses the SMTP server. To close these gaps use a login that binds the address (see
mobile-users) and authorized_submit_users.

Since the FAQ:
- 2.2: authorized_submit_users.
- Tables in a database: shown here with SQLite. MySQL, PostgreSQL and LDAP need a server that
  the lab lacks.
- The refusal names the sender, where the FAQ's sample named the recipient.
"""

import pytest

from maillab import Complaint, Lab, PostfixHost

pytestmark = pytest.mark.topology("standalone")

LOCAL_ONLY = ("example.com", "OK")
NOT_ALLOWED = "Sender address rejected: Access denied"

POLICY = """#!/usr/bin/env python3
import sys
asked = dict(line.rstrip("\\n").partition("=")[::2] for line in iter(sys.stdin.readline, "\\n"))
joe = asked["sender"] == "joe@example.com"
offsite = not asked["recipient"].endswith("@example.com")
print("action=REJECT off-site mail not allowed\\n" if joe and offsite else "action=DUNNO\\n")
"""


def restrict(lab: Lab, senders: dict[str, str], *, cure: bool = False) -> None:
    """Install the FAQ's class and tables; let the trusted client relay."""
    mail = lab.mail
    mail.configure(
        mynetworks=lab.client.address,
        mydestination="$myhostname, localhost, $mydomain, sub.$mydomain",
        smtpd_restriction_classes="local_only",
        local_only=f"check_recipient_access {mail.table('local', dict([LOCAL_ONLY]))}, reject",
    )
    asking = f"check_sender_access {mail.table('restricted', senders)}"
    (mail.cure if cure else mail).configure(smtpd_recipient_restrictions=asking)


JOE = {"joe@example.com": "local_only"}
ALL_BUT_ALICE = {"alice@example.com": "OK", "example.com": "local_only"}


@pytest.mark.faq("offsite-restriction", "16a")
def test_symptom_whoever_is_trusted_sends_anywhere(lab: Lab) -> None:
    """Relaying is granted per client; the user does not matter."""
    restrict(lab, JOE)
    lab.mail.misconfigure(smtpd_recipient_restrictions="")

    mail = lab.client.smtp("joe@example.net", server=lab.mail, sender="joe@example.com")
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("offsite-restriction", "16a")
@pytest.mark.parametrize("sender", ["joe@example.com", "JOE@Example.COM"])
def test_cure_a_class_keeps_a_user_from_sending_off_site(lab: Lab, sender: str) -> None:
    """A sender in the table can send to the machine's own domain only."""
    restrict(lab, JOE, cure=True)

    offsite = lab.client.smtp("joe@example.net", server=lab.mail, sender=sender)
    local = lab.client.smtp("alice@example.com", server=lab.mail, sender=sender)
    lab.settle(offsite, local)

    assert offsite.rejected(554, "5.7.1", saying=f"<{sender}>: {NOT_ALLOWED}")
    assert not offsite.reached(lab.remote)
    assert local.delivered_to(lab.mail, mailbox="alice")


DATABASE = "/etc/postfix/restricted.sqlite"
# Postfix replaces %s, with quoting (sqlite_table(5)).
LOOKUP = "SELECT class FROM senders WHERE sender = '%s'"
MAKE = "CREATE TABLE senders (sender TEXT, class TEXT)"
RESTRICT = "INSERT INTO senders VALUES ('joe@example.com', 'local_only')"
FREE = "DELETE FROM senders WHERE sender = 'joe@example.com'"


def sql(host: PostfixHost, *statements: str) -> None:
    """Run SQL statements on the host's database, and create the database if necessary."""
    script = "import sqlite3, sys\nwith sqlite3.connect(sys.argv[1]) as database:\n"
    script += "    for statement in sys.argv[2:]: database.execute(statement)\n"
    host.run("python3", "-c", script, DATABASE, *statements)


@pytest.mark.faq("offsite-restriction", "16a")
def test_cure_the_users_are_in_a_database(lab: Lab) -> None:
    """With an SQL query in place of the table a change counts at once, without postmap."""
    restrict(lab, {})
    sql(lab.mail, MAKE)
    table = lab.mail.table("restricted.cf", f"dbpath = {DATABASE}\nquery = {LOOKUP}\n", "sqlite")
    asking = f"check_sender_access {table}"
    lab.mail.configure(smtpd_recipient_restrictions=asking)

    before = lab.client.smtp("joe@example.net", server=lab.mail, sender="joe@example.com")
    sql(lab.mail.cure, RESTRICT)
    kept = lab.client.smtp("joe@example.net", server=lab.mail, sender="joe@example.com")
    local = lab.client.smtp("alice@example.com", server=lab.mail, sender="joe@example.com")
    sql(lab.mail, FREE)
    free = lab.client.smtp("joe@example.net", server=lab.mail, sender="joe@example.com")
    lab.settle(before, kept, local, free)

    assert before.delivered_to(lab.remote, mailbox="joe")
    assert kept.rejected(554, "5.7.1", saying=f"<joe@example.com>: {NOT_ALLOWED}")
    assert local.delivered_to(lab.mail, mailbox="alice")
    assert free.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("offsite-restriction", "16a")
def test_behaviour_subdomains_are_local_and_others_are_free(lab: Lab) -> None:
    """A domain in an access table includes its subdomains (parent_domain_matches_…)."""
    restrict(lab, JOE, cure=True)

    below = lab.client.smtp("alice@sub.example.com", server=lab.mail, sender="joe@example.com")
    other = lab.client.smtp("joe@example.net", server=lab.mail, sender="alice@example.com")
    away = lab.client.smtp("joe@example.net", server=lab.mail, sender="joe@example.com")
    lab.settle(below, other, away)

    assert away.rejected(554)
    assert below.delivered_to(lab.mail, mailbox="alice")
    assert other.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("offsite-restriction", "16b")
def test_cure_all_but_some_are_kept(lab: Lab) -> None:
    """The inverse: the table restricts the domain and exempts one user."""
    restrict(lab, ALL_BUT_ALICE, cure=True)

    offsite = lab.client.smtp("joe@example.net", server=lab.mail, sender="joe@example.com")
    local = lab.client.smtp("bob@example.com", server=lab.mail, sender="joe@example.com")
    free = lab.client.smtp("joe@example.net", server=lab.mail, sender="alice@example.com")
    lab.settle(offsite, local, free)

    assert offsite.rejected(554, "5.7.1", saying=f"<joe@example.com>: {NOT_ALLOWED}")
    assert local.delivered_to(lab.mail, mailbox="bob")
    assert free.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("offsite-restriction", "16c")
@pytest.mark.parametrize("sender", ["", "joe+ext@example.com", "bob@example.com", "x@y.example"])
def test_behaviour_who_says_another_name_is_not_restricted(lab: Lab, sender: str) -> None:
    """An empty sender, an extension, a colleague and a stranger are not in the table."""
    restrict(lab, JOE, cure=True)

    mail = lab.client.smtp("joe@example.net", server=lab.mail, sender=sender)
    by_name = lab.client.smtp("joe@example.net", server=lab.mail, sender="joe@example.com")
    lab.settle(mail, by_name)

    assert by_name.rejected(554)
    assert mail.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("offsite-restriction", "16c")
def test_cure_the_extension_is_known_as_such(lab: Lab) -> None:
    """With recipient_delimiter Postfix looks up joe for the sender joe+ext."""
    restrict(lab, JOE)
    lab.mail.cure.configure(recipient_delimiter="+")

    mail = lab.client.smtp("joe@example.net", server=lab.mail, sender="joe+ext@example.com")
    lab.settle(mail)

    assert mail.rejected(554, "5.7.1", saying=f"<joe+ext@example.com>: {NOT_ALLOWED}")


@pytest.mark.faq("offsite-restriction", "16c")
def test_symptom_mail_from_a_users_own_shell_is_not_restricted(lab: Lab) -> None:
    """Only the SMTP server applies the restrictions; sendmail(1) bypasses it."""
    restrict(lab, JOE)
    lab.mail.configure(authorized_submit_users="!joe, static:all")
    lab.mail.misconfigure(authorized_submit_users="static:all")

    mail = lab.mail.send("joe@example.net", user="joe", sender="joe@example.com")
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("offsite-restriction", "16c")
def test_cure_a_user_may_not_submit_at_all(lab: Lab) -> None:
    """authorized_submit_users checks the login name, not the sender address."""
    restrict(lab, JOE)
    lab.mail.cure.configure(authorized_submit_users="!joe, static:all")

    as_joe = lab.mail.send("joe@example.net", user="joe")
    as_alice = lab.mail.send("joe@example.net", user="joe", sender="alice@example.com")
    alice = lab.mail.send("joe@example.net", user="alice")
    lab.settle(as_joe, as_alice, alice)

    for mail in (as_joe, as_alice):
        assert mail.rejected(75, saying="is not allowed to submit mail")
        assert "sendmail: fatal: User joe(" in mail.submission.reply
    assert alice.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("offsite-restriction", "16d")
def test_symptom_a_class_that_is_not_declared_refuses_all(lab: Lab) -> None:
    """Without an entry in smtpd_restriction_classes Postfix rejects the class as unknown."""
    restrict(lab, JOE)
    lab.mail.misconfigure(smtpd_restriction_classes="")

    offsite = lab.client.smtp("joe@example.net", server=lab.mail, sender="joe@example.com")
    local = lab.client.smtp("alice@example.com", server=lab.mail, sender="joe@example.com")
    free = lab.client.smtp("joe@example.net", server=lab.mail, sender="alice@example.com")
    lab.settle(offsite, local, free)

    for mail in (offsite, local):
        assert mail.rejected(451, "4.3.5", saying="4.3.5 Server configuration error")
    assert free.delivered_to(lab.remote, mailbox="joe")
    complaints = {event.text for event in lab.events(Complaint, lab.mail)}
    assert complaints == {'unknown smtpd restriction: "local_only"'}


@pytest.mark.faq("offsite-restriction", "16d")
def test_cure_the_class_is_declared(lab: Lab) -> None:
    """With the class declared, the same tables work as intended."""
    restrict(lab, JOE)
    lab.mail.configure(smtpd_restriction_classes="")
    lab.mail.cure.configure(smtpd_restriction_classes="local_only")

    offsite = lab.client.smtp("joe@example.net", server=lab.mail, sender="joe@example.com")
    local = lab.client.smtp("alice@example.com", server=lab.mail, sender="joe@example.com")
    lab.settle(offsite, local)

    assert offsite.rejected(554, "5.7.1", saying=f"<joe@example.com>: {NOT_ALLOWED}")
    assert local.delivered_to(lab.mail, mailbox="alice")


@pytest.mark.faq("offsite-restriction", "16d")
def test_behaviour_a_class_may_say_why(lab: Lab) -> None:
    """A table that always matches gives the refusal your own text."""
    restrict(lab, JOE, cure=True)
    table = lab.mail.table("local", dict([LOCAL_ONLY]))
    lab.mail.configure(
        local_only=f"check_recipient_access {table}, "
        "check_sender_access static:{REJECT off-site mail not allowed}"
    )

    mail = lab.client.smtp("joe@example.net", server=lab.mail, sender="joe@example.com")
    lab.settle(mail)

    refusal = "<joe@example.com>: Sender address rejected: off-site mail not allowed"
    assert mail.rejected(554, "5.7.1", saying=refusal)


@pytest.mark.faq("offsite-restriction")
def test_cure_a_policy_service_decides(lab: Lab) -> None:
    """A policy program can decide by sender and recipient together; a table cannot."""
    lab.mail.configure(mynetworks=lab.client.address)
    lab.mail.write("/usr/local/bin/policy", POLICY, mode=0o755)
    lab.mail.service("policy unix - n n - 0 spawn user=nobody argv=/usr/local/bin/policy")
    lab.mail.cure.configure(smtpd_recipient_restrictions="check_policy_service unix:private/policy")

    offsite = lab.client.smtp("joe@example.net", server=lab.mail, sender="joe@example.com")
    local = lab.client.smtp("alice@example.com", server=lab.mail, sender="joe@example.com")
    lab.settle(offsite, local)

    refusal = "<joe@example.net>: Recipient address rejected: off-site mail not allowed"
    assert offsite.rejected(554, "5.7.1", saying=refusal)
    assert local.delivered_to(lab.mail, mailbox="alice")
