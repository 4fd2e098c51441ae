"""Receiving mail for a whole domain in one mailbox.

"@domain joe" in virtual_alias_maps sends all of the domain's mail to joe, and local(8)
writes the original address into X-Original-To:. To have the address in joe's address
extension, use a regular expression and recipient_delimiter; two recipients then make two
copies. Either way every address in the domain exists: Postfix no longer refuses unknown
users.

Since the FAQ:
- 2.0: X-Original-To; before that, the original recipient was lost.
"""

import pytest

from maillab import Lab

pytestmark = pytest.mark.topology("standalone")

LOCAL_PARTS = ("sales", "Info.X")
TRICK = "/^virtual\\.example$/ whatever\n/^(.*)@virtual\\.example$/ joe+$1\n"


def copies(lab: Lab) -> list[tuple[str, str]]:
    """Send to two addresses of the domain; return the recipient headers of joe's copies."""
    mail = lab.client.smtp(
        [f"{name}@virtual.example" for name in LOCAL_PARTS],
        server=lab.mail,
        headers={"To": "undisclosed-recipients:;"},
    )
    lab.settle(mail)
    found = [copy for copy in lab.mail.mailbox("joe") if copy["Message-ID"] == mail.message_id]
    assert [copy["Return-Path"] for copy in found] == ["<bob@client.example.net>"] * len(found)
    return sorted((copy["Delivered-To"], copy.get("X-Original-To", "")) for copy in found)


def catch_all(lab: Lab) -> dict[str, str]:
    """Return the settings that send the whole domain to joe."""
    return {
        "virtual_alias_domains": "virtual.example",
        "virtual_alias_maps": lab.mail.table("virtual", {"@virtual.example": "joe"}),
    }


@pytest.mark.faq("domain-in-a-mailbox", "43-S1")
def test_symptom_the_original_address_is_lost(lab: Lab) -> None:
    """As before 2.0, one copy arrives, and no header names the recipient."""
    lab.mail.configure(**catch_all(lab))
    lab.mail.misconfigure(enable_original_recipient="no")

    assert copies(lab) == [("joe@mail.example.com", "")]


@pytest.mark.faq("domain-in-a-mailbox", "43-S2")
@pytest.mark.parametrize("kind", ["pcre", "regexp"])
def test_cure_the_address_becomes_an_extension(lab: Lab, kind: str) -> None:
    """joe+$1 makes one copy for each address and preserves upper case."""
    lab.mail.configure(enable_original_recipient="no", recipient_delimiter="+", **catch_all(lab))
    lab.mail.cure.configure(virtual_alias_maps=lab.mail.table("trick", TRICK, kind=kind))

    assert copies(lab) == [("joe+Info.X@mail.example.com", ""), ("joe+sales@mail.example.com", "")]


@pytest.mark.faq("domain-in-a-mailbox", "43-S2")
def test_symptom_the_trick_needs_the_delimiter(lab: Lab) -> None:
    """Without recipient_delimiter joe+sales is an unknown user."""
    lab.mail.configure(
        virtual_alias_domains="virtual.example",
        virtual_alias_maps=lab.mail.table("trick", TRICK, kind="regexp"),
        recipient_delimiter="+",
    )
    lab.mail.misconfigure(recipient_delimiter="")

    mail = lab.client.smtp("sales@virtual.example", server=lab.mail)
    lab.settle(mail)

    assert mail.bounced(dsn="5.1.1", saying='unknown user: "joe+sales"')


@pytest.mark.faq("domain-in-a-mailbox", "43-S3")
def test_cure_x_original_to_tells_today(lab: Lab) -> None:
    """enable_original_recipient, on by default, makes the plain map sufficient."""
    lab.mail.configure(enable_original_recipient="no", **catch_all(lab))
    lab.mail.cure.configure(enable_original_recipient="yes")

    assert copies(lab) == [
        ("joe@mail.example.com", "Info.X@virtual.example"),
        ("joe@mail.example.com", "sales@virtual.example"),
    ]


@pytest.mark.faq("domain-in-a-mailbox")
def test_symptom_the_whole_domain_exists(lab: Lab) -> None:
    """A catch-all accepts invented addresses; Postfix refuses none as unknown."""
    lab.mail.configure(
        virtual_alias_domains="virtual.example",
        virtual_alias_maps=lab.mail.table("listed", {"sales@virtual.example": "joe"}),
    )
    lab.mail.misconfigure(**catch_all(lab))

    mail = lab.client.smtp("made-up@virtual.example", server=lab.mail)
    lab.settle(mail)

    assert mail.delivered_to(lab.mail, mailbox="joe")
