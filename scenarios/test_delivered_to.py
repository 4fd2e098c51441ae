"""Getting rid of the Delivered-To: header.

Set prepend_delivered_header to the deliveries that should have the header: command, file,
forward. Leave "forward" in: local(8) uses the header to detect mail that returns to an
address that it was delivered to before. Without it a loop ends only when the message has
too many Received headers (hopcount_limit).

Since the FAQ:
- 2.0: X-Original-To is added.
- 2.1: enable_original_recipient=no leaves it out.
"""

import pytest

from maillab import Complaint, Delivery, Lab, Stored

pytestmark = pytest.mark.topology("standalone")

COMMAND, FILE = "/var/vmail/command", "/var/vmail/file"


def deliver_everywhere(lab: Lab) -> dict[str, bool]:
    """Deliver to a command, file, mailbox and forward; return which copies have the header."""
    lab.mail.run("install", "-d", "-m", "1777", "/var/vmail")
    lab.mail.aliases({"command": f'"|cat >{COMMAND}"', "file": FILE, "forward": "joe@example.net"})
    names = ("command", "file", "alice", "forward")
    mail = lab.client.smtp([f"{name}@example.com" for name in names], server=lab.mail)
    lab.settle(mail)
    places = {
        "command": lab.mail.read(COMMAND),
        "file": lab.mail.read(FILE),
        "mailbox": lab.mail.read("/var/mail/alice"),
        "forwarded": lab.remote.read("/var/mail/joe"),
    }
    of_ours = "@example.com"
    return {
        place: any(
            line.startswith("Delivered-To:") and line.endswith(of_ours)
            for line in (text or "").splitlines()
        )
        for place, text in places.items()
    }


@pytest.mark.faq("delivered-to", "37-S1")
def test_symptom_the_header_is_in_every_copy(lab: Lab) -> None:
    """By default a command, a file, a mailbox and a forwarding address all get the header."""
    lab.mail.configure(prepend_delivered_header="")
    lab.mail.misconfigure(prepend_delivered_header="command, file, forward")

    seen = deliver_everywhere(lab)

    assert seen == {"command": True, "file": True, "mailbox": True, "forwarded": True}


@pytest.mark.faq("delivered-to", "37-S2")
@pytest.mark.parametrize(
    ("kinds", "with_header"),
    [
        ("forward", {"forwarded"}),
        ("command, forward", {"command", "forwarded"}),
        ("file, forward", {"file", "mailbox", "forwarded"}),
        ("", set()),
    ],
)
def test_cure_the_header_is_left_out_where_the_setting_says_so(
    lab: Lab, kinds: str, with_header: set[str]
) -> None:
    """A mailbox counts as a file; forwarded mail should keep the header."""
    lab.mail.configure(prepend_delivered_header="command, file, forward")
    lab.mail.cure.configure(prepend_delivered_header=kinds)

    seen = deliver_everywhere(lab)

    assert {place for place, present in seen.items() if present} == with_header


def forward_to_each_other(lab: Lab) -> None:
    """Create an alias on each of the two hosts that points to the other."""
    lab.mail.aliases({"loop": "loop@example.net"})
    lab.remote.aliases({"loop": "loop@example.com"})


@pytest.mark.faq("delivered-to", "37-S3")
def test_behaviour_the_header_stops_a_loop_at_once(lab: Lab) -> None:
    """The second delivery to the same alias stops the loop."""
    forward_to_each_other(lab)

    mail = lab.client.smtp("loop@example.com", server=lab.mail, sender="dave@example.net")
    lab.settle(mail)

    assert mail.bounced(dsn="5.4.6", saying="mail forwarding loop for loop@example.com")
    visits = [event for event in lab.events(Delivery, lab.mail) if event.forwarded_as]
    assert len(visits) == 1
    (notice,) = lab.remote.mailbox("dave")
    assert "Status: 5.4.6" in str(notice)


@pytest.mark.faq("delivered-to", "37-S3")
def test_symptom_without_the_header_a_loop_goes_on_until_the_hops_are_too_many(lab: Lab) -> None:
    """Two hosts without the header bounce the message back and forth up to hopcount_limit."""
    forward_to_each_other(lab)
    lab.mail.configure(hopcount_limit="10")
    for host in (lab.mail, lab.remote):
        host.misconfigure(prepend_delivered_header="")

    mail = lab.client.smtp("loop@example.com", server=lab.mail, sender="dave@example.net")
    lab.settle(mail)

    assert mail.bounced(dsn="5.4.0", saying="too many hops")
    visits = [event for event in lab.events(Delivery, lab.mail) if event.forwarded_as]
    assert len(visits) > 2
    assert [
        event.text for event in lab.events(Complaint, lab.mail) if "hopcount exceeded" in event.text
    ]


@pytest.mark.faq("delivered-to", "37-S4")
def test_behaviour_a_forward_file_that_names_its_owner_is_no_loop(lab: Lab) -> None:
    """A .forward that names its owner delivers to the mailbox; so does a backslash name."""
    lab.mail.cure.write("/home/alice/.forward", "alice@example.com\n", owner="alice")
    lab.mail.cure.write("/home/carol/.forward", "\\carol, dave@example.com\n", owner="carol")

    mail = lab.client.smtp(["alice@example.com", "carol@example.com"], server=lab.mail)
    lab.settle(mail)

    for user in ("alice", "carol", "dave"):
        assert mail.delivered_to(lab.mail, mailbox=user)
    stored: list[Stored] = lab.mail.stored()
    assert sorted(copy.mailbox for copy in stored) == ["alice", "carol", "dave"]
