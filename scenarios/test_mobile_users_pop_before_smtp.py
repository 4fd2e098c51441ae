"""Relaying mail for mobile users: POP before SMTP.

Who reads mail with a password is known for a while by the address they did it
from. It still works, with today's Dovecot and a table that Postfix asks where
relaying is decided: since 2.10 that is smtpd_relay_restrictions, and a table in
smtpd_recipient_restrictions grants nothing. The other ways, and the login that
has won, are in test_mobile_users.py.
"""

import pytest

from maillab import pop3
from maillab.lab import Lab

pytestmark = pytest.mark.topology("standalone")

PASSWORDS = {"joe": "secret"}
JOE = ("joe", "secret")
NO_RELAY = "<joe@example.net>: Relay access denied"

# Dovecot runs it after each login, before the user hears of it, and it ends as the
# POP3 server that Dovecot would have run without it.
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
    """Users read mail by POP3, and a table learns from where; returns the table."""
    # One that a login can add to. Debian's 3.11 comes without Berkeley DB.
    table = lab.mail.table("pop", {}, "lmdb" if lab.version == "3.11" else "btree")
    script = AFTER_LOGIN.replace("TABLE", table)
    lab.mail.write("/usr/local/bin/pop-before-smtp", script, mode=0o755)
    pop3.serve(lab.mail, PASSWORDS, settings=POP_OPENS_THE_WAY)
    return table


def trusting(table: str) -> dict[str, str]:
    """Relaying for networks as ever, and for whom a table of clients has."""
    return {
        "smtpd_relay_restrictions": f"permit_mynetworks, check_client_access {table}, "
        "reject_unauth_destination"
    }


@pytest.mark.faq("mobile-users", "15c")
def test_cure_reading_mail_opens_the_way(lab: Lab) -> None:
    """A login by POP3 puts the client's address into a table; nothing is reloaded for it."""
    table = pop_before_smtp(lab)
    lab.mail.cure.configure(**trusting(table))

    before = lab.client.submit("joe@example.net", server=lab.mail)
    inbox = pop3.read(lab.client, lab.mail, *JOE)
    after = lab.client.submit("joe@example.net", server=lab.mail)
    elsewhere = lab.remote.submit("joe@example.net", server=lab.mail)
    lab.settle(before, after, elsewhere)

    assert inbox.logged_in
    assert after.delivered_to(lab.remote, mailbox="joe")
    for stranger in (before, elsewhere):
        assert stranger.rejected(554, "5.7.1", saying=NO_RELAY)


@pytest.mark.faq("mobile-users", "15c")
def test_behaviour_the_way_is_open_until_the_entry_goes(lab: Lab) -> None:
    """Nothing but its removal ends the trust, and who has the address next inherits it."""
    table = pop_before_smtp(lab)
    lab.mail.configure(**trusting(table))
    pop3.read(lab.client, lab.mail, *JOE)

    anybody = lab.client.submit("joe@example.net", server=lab.mail, sender="x@y.example")
    lab.mail.table("pop", {}, table.partition(":")[0])
    late = lab.client.submit("joe@example.net", server=lab.mail)
    lab.settle(anybody, late)

    assert anybody.delivered_to(lab.remote, mailbox="joe")
    assert late.rejected(554, "5.7.1", saying=NO_RELAY)


@pytest.mark.faq("mobile-users", "15c")
def test_behaviour_a_wrong_password_opens_nothing(lab: Lab) -> None:
    """The table learns of logins only, not of attempts."""
    table = pop_before_smtp(lab)
    lab.mail.configure(**trusting(table))

    inbox = pop3.read(lab.client, lab.mail, "joe", "guess")
    mail = lab.client.submit("joe@example.net", server=lab.mail)
    lab.settle(mail)

    assert inbox.login.startswith("-ERR")
    assert mail.rejected(554, "5.7.1", saying=NO_RELAY)


@pytest.mark.faq("mobile-users", "15c")
def test_symptom_where_the_faq_put_the_table_it_grants_nothing(lab: Lab) -> None:
    """Since 2.10 an OK in smtpd_recipient_restrictions does not let anybody relay."""
    table = pop_before_smtp(lab)
    lab.mail.configure(**trusting(table))
    lab.mail.misconfigure(
        smtpd_relay_restrictions="permit_mynetworks, defer_unauth_destination",
        smtpd_recipient_restrictions=f"permit_mynetworks, check_client_access {table}, reject",
    )

    inbox = pop3.read(lab.client, lab.mail, *JOE)
    mail = lab.client.submit("joe@example.net", server=lab.mail)
    lab.settle(mail)

    assert inbox.logged_in
    assert mail.rejected(454, "4.7.1", saying=NO_RELAY)
