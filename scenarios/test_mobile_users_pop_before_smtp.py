"""Relaying mail for mobile users: POP before SMTP.

After a user reads mail with a password the server trusts the client address for a while.
The method still works, with today's Dovecot and a table in smtpd_relay_restrictions. A
login has replaced it (see test_mobile_users.py).

Since the FAQ:
- 2.10: a table in smtpd_recipient_restrictions grants no relaying.
"""

import pytest

from maillab import Lab, pop3

pytestmark = pytest.mark.topology("standalone")

PASSWORDS = {"joe": "secret"}
JOE = ("joe", "secret")
NO_RELAY = "<joe@example.net>: Relay access denied"

# Dovecot runs this script after each login, before it replies to the user. The script
# then executes the POP3 server that Dovecot would have run.
AFTER_LOGIN = """\
#!/bin/sh
echo "$IP OK" | postmap -i -r TABLE
exec "$@"
"""
POP_OPENS_THE_WAY = """\
service pop3 {
  executable = pop3 pop-before-smtp
}
service pop-before-smtp {
  executable = script-login /usr/local/bin/pop-before-smtp
  user = root
  unix_listener pop-before-smtp {
  }
}
"""


def pop_before_smtp(lab: Lab) -> str:
    """Serve POP3, record each login's client address in a table, and return the table."""
    # A type that a script can update.
    table = lab.mail.table("pop", {}, "lmdb")
    script = AFTER_LOGIN.replace("TABLE", table)
    lab.mail.write("/usr/local/bin/pop-before-smtp", script, mode=0o755)
    pop3.serve(lab.mail, PASSWORDS, settings=POP_OPENS_THE_WAY)
    return table


def trusting(table: str) -> dict[str, str]:
    """Return relay restrictions for mynetworks and for the clients in a table."""
    return {
        "smtpd_relay_restrictions": f"permit_mynetworks, check_client_access {table}, "
        "reject_unauth_destination"
    }


@pytest.mark.faq("mobile-users", "15c")
def test_cure_reading_mail_opens_the_way(lab: Lab) -> None:
    """A POP3 login adds the client's address to a table; no reload is needed."""
    table = pop_before_smtp(lab)
    lab.mail.cure.configure(**trusting(table))

    before = lab.client.smtp("joe@example.net", server=lab.mail)
    inbox = pop3.read(lab.client, lab.mail, *JOE)
    after = lab.client.smtp("joe@example.net", server=lab.mail)
    elsewhere = lab.remote.smtp("joe@example.net", server=lab.mail)
    lab.settle(before, after, elsewhere)

    assert inbox.logged_in
    assert after.delivered_to(lab.remote, mailbox="joe")
    for stranger in (before, elsewhere):
        assert stranger.rejected(554, "5.7.1", saying=NO_RELAY)


@pytest.mark.faq("mobile-users", "15c")
def test_behaviour_the_way_is_open_until_the_entry_goes(lab: Lab) -> None:
    """Only removing the entry ends the trust; the address's next user inherits it."""
    table = pop_before_smtp(lab)
    lab.mail.cure.configure(**trusting(table))
    pop3.read(lab.client, lab.mail, *JOE)

    anybody = lab.client.smtp("joe@example.net", server=lab.mail, sender="x@y.example")
    lab.mail.table("pop", {}, table.partition(":")[0])
    late = lab.client.smtp("joe@example.net", server=lab.mail)
    lab.settle(anybody, late)

    assert anybody.delivered_to(lab.remote, mailbox="joe")
    assert late.rejected(554, "5.7.1", saying=NO_RELAY)


@pytest.mark.faq("mobile-users", "15c")
def test_behaviour_a_wrong_password_opens_nothing(lab: Lab) -> None:
    """The table records successful logins only."""
    table = pop_before_smtp(lab)
    lab.mail.configure(**trusting(table))

    inbox = pop3.read(lab.client, lab.mail, "joe", "guess")
    mail = lab.client.smtp("joe@example.net", server=lab.mail)
    lab.settle(mail)

    assert inbox.login.startswith("-ERR")
    assert mail.rejected(554, "5.7.1", saying=NO_RELAY)


@pytest.mark.faq("mobile-users", "15c")
def test_symptom_where_the_faq_put_the_table_it_grants_nothing(lab: Lab) -> None:
    """Since 2.10 an OK in smtpd_recipient_restrictions grants no relaying."""
    table = pop_before_smtp(lab)
    lab.mail.configure(**trusting(table))
    lab.mail.misconfigure(
        smtpd_relay_restrictions="permit_mynetworks, defer_unauth_destination",
        smtpd_recipient_restrictions=f"permit_mynetworks, check_client_access {table}, reject",
    )

    inbox = pop3.read(lab.client, lab.mail, *JOE)
    mail = lab.client.smtp("joe@example.net", server=lab.mail)
    lab.settle(mail)

    assert inbox.logged_in
    assert mail.rejected(454, "4.7.1", saying=NO_RELAY)
