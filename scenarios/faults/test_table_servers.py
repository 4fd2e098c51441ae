"""Servers of lookup tables that are down, hang, or refuse Postfix's login."""

from __future__ import annotations

import pytest

from maillab import Complaint, Fault, Lab, Mail, TableLoginRefused
from maillab.faults import TableDown, TableFrozen, TablePassword

pytestmark = pytest.mark.topology("hosting")

LOOKUP_FAILS = "<alice@example.com>: Temporary lookup failure"


def received(lab: Lab) -> Mail:
    """Send to a user of the site; settle."""
    mail = lab.client.smtp("alice@example.com", server=lab.mail)
    lab.settle(mail)
    return mail


def put_off(lab: Lab, fault: Fault) -> bool:
    """Return True if mail is put off during the fault, and arrives after it and a reload."""
    with lab.tables.faulty(fault):
        during = received(lab)
    lab.mail.reload()
    afterwards = received(lab)
    failed = during.rejected(451, "4.3.0", saying=LOOKUP_FAILS)
    return bool(failed and afterwards.delivered_to(lab.mailbox, mailbox="alice@example.com"))


def complaints(lab: Lab) -> str:
    """Return the warnings of the mail server."""
    return "\n".join(event.text for event in lab.events(Complaint, lab.mail))


def test_symptom_mail_is_put_off_while_the_database_is_down(lab: Lab) -> None:
    """The connection is refused, so that Postfix cannot tell whether the address exists."""
    assert put_off(lab, TableDown("postgresql"))
    assert "connect to pgsql server tables.example.com:" in complaints(lab)
    assert "Connection refused" in complaints(lab)


def test_symptom_mail_is_put_off_while_the_directory_hangs(lab: Lab) -> None:
    """The kernel takes the connection, and the table's own time limit ends the wait."""
    (tables,) = lab.table_hosts
    tables.server("openldap").start()
    lab.mail.run_tool("sh", "-c", "echo timeout = 1 >>/etc/postfix/ldap-users.cf")
    lab.mail.configure(virtual_mailbox_maps="proxy:ldap:/etc/postfix/ldap-users.cf")

    assert put_off(lab, TableFrozen("openldap"))
    assert "-5 (Timed out)" in complaints(lab)


def test_symptom_mail_is_put_off_while_a_login_is_refused(lab: Lab) -> None:
    """The refused login is in the logs of the database and of Postfix."""
    assert put_off(lab, TablePassword("postgresql"))
    assert lab.events(TableLoginRefused, lab.tables)
    assert "password authentication failed for user" in complaints(lab)
