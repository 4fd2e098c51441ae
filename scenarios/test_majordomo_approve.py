"""Majordomo's approve gives a Delivered-To: loop.

The list's owner gets a message for approval with the Delivered-To: header that
local(8) wrote when it gave the message to the list manager. approve sends it to
the list again, header and all, and Postfix takes that for a loop. The FAQ's cures
all work still: strip the header before sending (best), write none for commands,
or, bluntly, drop the header from all mail that comes in, which takes the
protection from loops with it. Majordomo is gone from Debian; what stands in for
it here keeps an unapproved message and takes an approved one.
"""

import pytest

from maillab.lab import Lab

pytestmark = pytest.mark.topology("standalone")

LIST = "/usr/local/bin/list"
APPROVE = "/usr/local/bin/approve"
HELD, POSTED = "/tmp/held", "/tmp/posted"
_LIST = f"""#!/bin/sh
umask 022
cat >/tmp/message.$$
if grep -q '^Approved: secret$' /tmp/message.$$
then mv /tmp/message.$$ {POSTED}
else mv /tmp/message.$$ {HELD}
fi
"""
# Without the "From " line that local(8) writes for a command.
_UNCHANGED = f"tail -n +2 {HELD}"
_STRIPPED = f"tail -n +2 {HELD} | sed '/^Delivered-To:/Id'"
DEFAULT = "command, file, forward"


def approve_as(content: str) -> str:
    """The approve program, which sends ``content``."""
    return f"#!/bin/sh\n(echo 'Approved: secret'; {content}) | sendmail -i list@example.com\n"


def approved(lab: Lab) -> tuple[bool, list[str]]:
    """Have a message approved: whether it was posted, and what bounced meanwhile.

    Nothing can be approved that was not held.
    """
    lab.mail.write(LIST, _LIST, mode=0o755)
    lab.mail.aliases({"list": f'"|{LIST}"'})
    mail = lab.remote.send(to="list@example.com")
    lab.settle(mail)
    assert (lab.mail.read(HELD) or "").count(mail.message_id) == 1
    lab.mail.run(APPROVE, user="carol")
    lab.settle(mail)
    bounces = [f"{a.dsn} {a.reply}" for a in mail.journey.deliveries if a.status == "bounced"]
    return mail.message_id in (lab.mail.read(POSTED) or ""), bounces


@pytest.mark.faq("majordomo-approve", "38-S1")
def test_symptom_an_approved_message_is_taken_for_a_loop(lab: Lab) -> None:
    """The header of the first delivery brings the second to an end."""
    lab.mail.write(APPROVE, approve_as(_UNCHANGED), mode=0o755)
    lab.mail.configure(prepend_delivered_header="file, forward")
    lab.mail.misconfigure(prepend_delivered_header=DEFAULT)

    assert approved(lab) == (False, ["5.4.6 mail forwarding loop for list@example.com"])
    (notice,) = lab.mail.mailbox("carol")
    assert "mail forwarding loop for list@example.com" in str(notice)


@pytest.mark.faq("majordomo-approve", "38-S2")
def test_cure_approve_strips_the_header(lab: Lab) -> None:
    """What the owner sends is then a new message to the list."""
    lab.mail.write(APPROVE, approve_as(_UNCHANGED), mode=0o755)
    lab.mail.cure.write(APPROVE, approve_as(_STRIPPED), mode=0o755)

    assert approved(lab) == (True, [])


@pytest.mark.faq("majordomo-approve", "38-S3")
def test_cure_commands_get_no_header(lab: Lab) -> None:
    """With "file, forward" what a command gets may be sent to it again."""
    lab.mail.write(APPROVE, approve_as(_UNCHANGED), mode=0o755)
    lab.mail.configure(prepend_delivered_header=DEFAULT)
    lab.mail.cure.configure(prepend_delivered_header="file, forward")

    assert approved(lab) == (True, [])


def without_the_header(lab: Lab) -> str:
    """The table that takes Delivered-To: out of all mail coming in."""
    return lab.mail.table("no_delivered_to", "/^Delivered-To:/ IGNORE\n", kind="regexp")


@pytest.mark.faq("majordomo-approve", "38-S4")
def test_cure_the_header_is_dropped_at_the_door(lab: Lab) -> None:
    """header_checks with IGNORE: cleanup(8) takes it out of what is sent again."""
    lab.mail.write(APPROVE, approve_as(_UNCHANGED), mode=0o755)
    lab.mail.cure.configure(header_checks=without_the_header(lab))

    assert approved(lab) == (True, [])


@pytest.mark.faq("majordomo-approve", "38-S4")
def test_symptom_the_header_dropped_is_the_protection_lost(lab: Lab) -> None:
    """Two hosts that forward to each other then do so until there are too many hops."""
    lab.mail.aliases({"loop": "loop@example.net"})
    lab.remote.aliases({"loop": "loop@example.com"})
    for host in (lab.mail, lab.remote):
        # The default is 50; 12 rounds show as much as 25.
        host.configure(hopcount_limit="24")
    lab.mail.misconfigure(header_checks=without_the_header(lab))

    mail = lab.client.submit("loop@example.com", server=lab.mail, sender="joe@example.net")
    lab.settle(mail)

    assert mail.bounced(dsn="5.4.0", saying="too many hops")
