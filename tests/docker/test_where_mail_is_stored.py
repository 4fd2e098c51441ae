"""The harness finds mail that Postfix stores, wherever its configuration puts it."""

from __future__ import annotations

import pytest

from maillab.lab.lab import Lab
from maillab.lab.pool import Labs
from maillab.site import topology

VMAIL = {
    "virtual_mailbox_domains": "example.org, example.net",
    "virtual_uid_maps": "static:5000",
    "virtual_gid_maps": "static:5000",
}


@pytest.fixture
def lab(some_labs: Labs, request: pytest.FixtureRequest) -> Lab:
    return some_labs.get(topology.load("standalone"), request.config.option.postfix)


@pytest.mark.parametrize(
    ("base", "where"),
    [
        ("/var/vmail", "{domain}/{user}/"),
        ("/var/vmail", "{domain}/{user}"),
        ("/srv/mail/virtual", "{user}@{domain}/Maildir/"),
        ("/home/vmail", "{domain}/{user}/Maildir/"),
        ("/", "srv/boxes/{domain}/{user}/"),
    ],
)
def test_virtual_mailboxes_at_any_depth(lab: Lab, base: str, where: str) -> None:
    """No mail is lost, and two users with one name are kept apart."""
    messages = {
        f"{user}@{domain}": where.format(user=user, domain=domain)
        for domain in ("example.org", "example.net")
        for user in ("info", "sales")
    }
    folder = "/srv/boxes" if base == "/" else base
    lab.mail.run("useradd", "--uid", "5000", "--home-dir", "/home/vmail", "vmail")
    for domain in ("example.org", "example.net"):
        lab.mail.run("install", "-d", "-o", "vmail", folder, f"{folder}/{domain}")
    lab.mail.configure(
        **VMAIL,
        virtual_mailbox_base=base,
        virtual_mailbox_maps=lab.mail.table("vmailbox", messages),
    )

    mail = lab.client.smtp(["info@example.org", "sales@example.org"], server=lab.mail)
    lab.settle(mail)

    assert mail.delivered_to(lab.mail, mailbox="info@example.org")
    assert mail.delivered_to(lab.mail, mailbox="sales")
    assert not mail.delivered_to(lab.mail, mailbox="info@example.net")
    verdict = lab.conclude()[1]
    assert (verdict.delivered, verdict.conserved) == (2, True), verdict.text()


@pytest.mark.parametrize(
    "settings",
    [
        {"home_mailbox": "mail/in/Maildir/"},
        {"home_mailbox": ".mail"},
        {"mail_spool_directory": "/srv/spool/"},
        {"mail_spool_directory": "/srv/spool"},
    ],
)
def test_local_mailboxes(lab: Lab, settings: dict[str, str]) -> None:
    lab.mail.run("install", "-d", "-m", "1777", "/srv/spool")
    lab.mail.run("install", "-d", "-o", "alice", "/home/alice/mail/in")
    lab.mail.configure(**settings)

    mail = lab.client.smtp("alice@example.com", server=lab.mail)
    lab.settle(mail)

    assert mail.delivered_to(lab.mail, mailbox="alice")
    verdict = lab.conclude()[1]
    assert (verdict.delivered, verdict.unexpected, verdict.conserved) == (1, 0, True)


def test_an_alias_to_a_maildir(lab: Lab) -> None:
    lab.mail.run("install", "-d", "-o", "nobody", "/srv/keep")
    lab.mail.aliases({"archive": "/srv/keep/2026/"})
    lab.mail.run("install", "-d", "-o", "nobody", "/srv/keep/2026")

    mail = lab.client.smtp("archive@example.com", server=lab.mail)
    lab.settle(mail)

    assert mail.delivered_to(lab.mail, mailbox="2026")
    assert lab.conclude()[1].conserved
