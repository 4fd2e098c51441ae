r"""Receiving mail for a whole domain in one mailbox.

With "@domain joe" in a virtual map all of it goes to joe, and in the FAQ's days the
address it was sent to was lost where no header told it: hence the trick with a
regular expression that puts it into joe's address extension. Since 2.0 local(8)
writes X-Original-To: and the trick is optional; two recipients are two copies then.
Either way the whole domain exists: unknown users are not refused any more.
"""

import pytest

from maillab.lab import Lab

pytestmark = pytest.mark.topology("standalone")

LOCAL_PARTS = ("sales", "Info.X")
TRICK = "/^virtual\\.example$/ whatever\n/^(.*)@virtual\\.example$/ joe+$1\n"


def copies(lab: Lab) -> list[tuple[str, str]]:
    """Send to two addresses of the domain: joe's copies, whom they say they are for."""
    mail = lab.client.submit(
        [f"{name}@virtual.example" for name in LOCAL_PARTS],
        server=lab.mail,
        headers={"To": "undisclosed-recipients:;"},
    )
    lab.settle(mail)
    found = [copy for copy in lab.mail.mailbox("joe") if copy["Message-ID"] == mail.message_id]
    assert [copy["Return-Path"] for copy in found] == ["<bob@client.example.net>"] * len(found)
    return sorted((copy["Delivered-To"], copy.get("X-Original-To", "")) for copy in found)


def catch_all(lab: Lab) -> dict[str, str]:
    """The domain goes to joe."""
    return {
        "virtual_alias_domains": "virtual.example",
        "virtual_alias_maps": lab.mail.table("virtual", {"@virtual.example": "joe"}),
    }


@pytest.mark.faq("domain-in-a-mailbox", "43-S1")
def test_symptom_the_original_address_is_lost(lab: Lab) -> None:
    """As it was before 2.0: one copy, and nothing tells for whom."""
    lab.mail.configure(**catch_all(lab))
    lab.mail.misconfigure(enable_original_recipient="no")

    assert copies(lab) == [("joe@mail.example.com", "")]


@pytest.mark.faq("domain-in-a-mailbox", "43-S2")
@pytest.mark.parametrize("kind", ["pcre", "regexp"])
def test_cure_the_address_becomes_an_extension(lab: Lab, kind: str) -> None:
    """joe+$1 makes a copy for each address and keeps its capitals."""
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

    mail = lab.client.submit("sales@virtual.example", server=lab.mail)
    lab.settle(mail)

    assert mail.bounced(dsn="5.1.1", saying='unknown user: "joe+sales"')


@pytest.mark.faq("domain-in-a-mailbox", "43-S3")
def test_cure_x_original_to_tells_today(lab: Lab) -> None:
    """enable_original_recipient, on by default, makes the plain map enough."""
    lab.mail.configure(enable_original_recipient="no", **catch_all(lab))
    lab.mail.cure.configure(enable_original_recipient="yes")

    assert copies(lab) == [
        ("joe@mail.example.com", "Info.X@virtual.example"),
        ("joe@mail.example.com", "sales@virtual.example"),
    ]


@pytest.mark.faq("domain-in-a-mailbox")
def test_symptom_the_whole_domain_exists(lab: Lab) -> None:
    """A catch-all takes what anybody makes up; nothing is refused as unknown."""
    lab.mail.configure(
        virtual_alias_domains="virtual.example",
        virtual_alias_maps=lab.mail.table("listed", {"sales@virtual.example": "joe"}),
    )
    lab.mail.misconfigure(**catch_all(lab))

    mail = lab.client.submit("made-up@virtual.example", server=lab.mail)
    lab.settle(mail)

    assert mail.delivered_to(lab.mail, mailbox="joe")
