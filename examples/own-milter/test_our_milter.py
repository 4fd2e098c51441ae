"""Promises of our Milter, tested with real Postfix on both sides.

The topology "authenticated" has a mail server that can run filters (``lab.receiver``,
mx.example.net), a sender and an outside client (``lab.other``).
"""

from pathlib import Path

import pytest

from maillab import Event, Lab
from maillab.faults import FilterDown, FilterFrozen

pytestmark = pytest.mark.topology("authenticated")
MILTER = (Path(__file__).parent / "milter.py").read_text()


@pytest.fixture
def ours(lab: Lab) -> Lab:
    """The lab, its receiver with our Milter instead of its own."""
    own = lab.receiver.filter("own")
    own.write("/etc/own/filter", MILTER, mode=0o755)
    own.start()
    lab.receiver.configure(smtpd_milters="inet:127.0.0.1:8897", milter_command_timeout="2s")
    lab.receiver.configure(milter_default_action="tempfail")
    lab.rewrites("X-Attachments", because="our Milter marks what it has passed")
    return lab


def test_a_program_is_refused_while_the_client_waits(ours: Lab) -> None:
    """And so no bounce goes to a forged sender."""
    mail = ours.other.smtp(
        "alice@example.net",
        server=ours.receiver,
        headers={"Content-Disposition": 'attachment; filename="Invoice.EXE"'},
    )
    ours.settle(mail)

    assert mail.rejected(550, "5.7.1", saying="We accept no programs such as invoice.exe")


def test_other_mail_is_marked_and_delivered(ours: Lab) -> None:
    """The mail server's log has the lines that the Milter prints."""
    mail = ours.sender.send(to="alice@example.net")
    ours.settle(mail)

    assert mail.delivered_to(ours.receiver, mailbox="alice")
    (copy,) = ours.receiver.mailbox("alice")
    assert copy["X-Attachments"] == "checked"
    (line,) = [event for event in ours.events(Event, ours.receiver) if event.program == "own"]
    assert line.text == "1 parts, refused: none"


@pytest.mark.parametrize("fault", [FilterDown("own"), FilterFrozen("own")], ids=["down", "hangs"])
def test_no_mail_is_lost_while_our_milter_does_not_answer(
    ours: Lab, fault: FilterDown | FilterFrozen
) -> None:
    """It waits at the sender."""
    with ours.receiver.faulty(fault):
        mail = ours.sender.send(to="alice@example.net")
        ours.settle(mail)
        assert mail.deferred(saying="Service unavailable - try again later")
    ours.sender.flush()
    ours.settle(mail)

    assert mail.delivered_to(ours.receiver, mailbox="alice")
