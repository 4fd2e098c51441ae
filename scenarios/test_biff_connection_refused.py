"""biff_notify: Connection refused.

After each delivery to a mailbox local(8) tells the comsat service, by UDP, so
that biff(1) users hear of new mail. Where nobody listens the FAQ's systems
logged the refusal. On Linux the socket never hears of it, and the line is gone;
what is left is a warning where the service has no name in /etc/services. The
answer stands: biff=no. Postfix's default is still yes, Debian ships no.
"""

import pytest

from maillab.datagrams import Datagrams
from maillab.lab import Lab
from maillab.maillog import Complaint, Delivery

pytestmark = pytest.mark.topology("standalone")

BIFF_PORT = 512
SERVICES = "smtp 25/tcp\nbiff 512/udp comsat\n"
WITHOUT_BIFF = "smtp 25/tcp\n"


def deliver(lab: Lab, times: int = 1) -> list[tuple[str, str]]:
    """Send bob mail, one after another; returns what daemons complained of."""
    for _ in range(times):
        mail = lab.remote.send(to="bob@example.com")
        lab.settle(mail)
    return [(one.service, f"{one.level}: {one.text}") for one in lab.events(Complaint, lab.mail)]


@pytest.mark.faq("biff-connection-refused", "31-S1")
def test_historic_nobody_hears_of_the_refusal(lab: Lab) -> None:
    """Without a listener mail is delivered and nothing else is logged."""
    lab.mail.configure(biff="yes")

    complaints = deliver(lab, times=4)

    assert complaints == []
    replies = [(one.status, one.reply) for one in lab.events(Delivery, lab.mail)]
    assert replies == [("sent", "delivered to mailbox")] * 4


@pytest.mark.faq("biff-connection-refused", "31-S1")
def test_symptom_the_service_has_no_name(lab: Lab) -> None:
    """Without a line in /etc/services there is a warning, and the mail all the same."""
    lab.mail.configure(biff="yes")
    lab.mail.write("/etc/services", SERVICES)
    lab.mail.mistake.write("/etc/services", WITHOUT_BIFF)

    complaints = deliver(lab)

    assert complaints == [("local", "warning: service not found: biff/udp")]
    assert len(lab.mail.mailbox("bob")) == 1


@pytest.mark.faq("biff-connection-refused", "31-S1", "31-S2")
def test_cure_biff_is_turned_off(lab: Lab) -> None:
    """With biff=no nothing is looked up, nothing sent and nothing logged."""
    lab.mail.write("/etc/services", WITHOUT_BIFF)
    lab.mail.configure(biff="yes")
    lab.mail.cure.configure(biff="no")

    with Datagrams(lab.mail, BIFF_PORT) as comsat:
        complaints = deliver(lab)
        received = comsat.received()

    assert complaints == []
    assert received == []
    assert len(lab.mail.mailbox("bob")) == 1


@pytest.mark.faq("biff-connection-refused", "31-S2")
def test_symptom_each_delivery_sends_a_datagram(lab: Lab) -> None:
    """It names the user and where in the mailbox the new message begins."""
    lab.mail.configure(biff="no")
    lab.mail.misconfigure(biff="yes")

    with Datagrams(lab.mail, BIFF_PORT) as comsat:
        deliver(lab)
        size = len(lab.mail.read("/var/mail/bob") or "")
        deliver(lab)
        received = comsat.received()

    assert received == ["bob@0\0", f"bob@{size}\0"]


@pytest.mark.faq("biff-connection-refused", "31-S2")
@pytest.mark.parametrize(
    "settings",
    [
        {"home_mailbox": "Maildir/"},
        {"mailbox_command": "/usr/bin/procmail COMSAT=no"},
        {"biff": "no"},
    ],
    ids=["maildir", "command", "off"],
)
def test_behaviour_only_mailbox_files_are_announced(lab: Lab, settings: dict[str, str]) -> None:
    """Mail in a maildir or given to a command is not, whatever biff says."""
    lab.mail.configure(**{"biff": "yes", **settings})

    with Datagrams(lab.mail, BIFF_PORT) as comsat:
        deliver(lab)
        received = comsat.received()

    assert received == []
    assert len(lab.mail.mailbox("bob")) == 1


@pytest.mark.faq("biff-connection-refused", "31-S2")
def test_behaviour_procmail_announces_by_itself(lab: Lab) -> None:
    """Postfix's biff=no does not keep procmail(1) from it: COMSAT=no would."""
    lab.mail.configure(biff="no", mailbox_command="/usr/bin/procmail")

    with Datagrams(lab.mail, BIFF_PORT) as comsat:
        deliver(lab)
        received = comsat.received()

    assert received == ["bob@0:/var/mail/bob"]


@pytest.mark.faq("biff-connection-refused", "31-S2")
def test_behaviour_the_default_is_still_yes(lab: Lab) -> None:
    """Debian's main.cf says no, Postfix without it says yes."""
    assert lab.mail.run("postconf", "-dh", "biff").stdout == "yes\n"
    assert lab.mail.postconf("biff") == "no"
    assert "\nbiff = no\n" in (lab.mail.read("/usr/share/postfix/main.cf.debian") or "")
