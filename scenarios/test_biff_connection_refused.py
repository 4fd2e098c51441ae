"""biff_notify: Connection refused.

Set biff = no. After each delivery to a mailbox local(8) notifies the comsat service by
UDP, so that biff(1) can announce new mail to users; nothing listens there today, and the
kernel refuses the datagram. Mail is delivered in any case.

On Linux the socket never reports the refusal, so the log line is gone. A warning remains
where /etc/services does not list the service.

Since the FAQ:
- The default is unchanged: yes. Debian ships no.
"""

import pytest

from maillab import Complaint, Datagrams, Delivery, Lab

pytestmark = pytest.mark.topology("standalone")

BIFF_PORT = 512
SERVICES = "smtp 25/tcp\nbiff 512/udp comsat\n"
WITHOUT_BIFF = "smtp 25/tcp\n"
# The datagrams to the service, and the kernel's answer if no program listens (pcap-filter(7)).
SENT = f"udp dst port {BIFF_PORT}"
REFUSED = "icmp[icmptype] == icmp-unreach and icmp[icmpcode] == 3"


def deliver(lab: Lab, times: int = 1) -> list[tuple[str, str]]:
    """Send bob mail one at a time and return the daemons' complaints."""
    for _ in range(times):
        mail = lab.remote.send(to="bob@example.com")
        lab.settle(mail)
    complaints = lab.events(Complaint, lab.mail)
    return [(event.service, f"{event.level}: {event.text}") for event in complaints]


@pytest.mark.faq("biff-connection-refused", "31-S1")
def test_historic_nobody_hears_of_the_refusal(lab: Lab) -> None:
    """Without a listener the kernel refuses each datagram, and Postfix does not log that."""
    lab.mail.configure(biff="no")
    lab.mail.misconfigure(biff="yes")
    lab.capture()

    complaints = deliver(lab, times=4)
    lab.captured()

    assert complaints == []
    replies = [(event.status, event.reply) for event in lab.events(Delivery, lab.mail)]
    assert replies == [("sent", "delivered to mailbox")] * 4
    assert (len(lab.mail.network.packets(SENT)), len(lab.mail.network.packets(REFUSED))) == (4, 4)


@pytest.mark.faq("biff-connection-refused", "31-S1", "31-S2")
def test_cure_a_service_listens(lab: Lab) -> None:
    """With a listener on comsat's port, which the FAQ enables in inetd.conf, nothing is refused."""
    lab.mail.configure(biff="yes")
    lab.capture()

    with Datagrams(lab.mail.cure, BIFF_PORT) as comsat:
        deliver(lab)
        received = comsat.received()
    lab.captured()

    assert received == ["bob@0\0"]
    assert lab.mail.network.packets(REFUSED) == []


@pytest.mark.faq("biff-connection-refused", "31-S1")
def test_symptom_the_service_has_no_name(lab: Lab) -> None:
    """Without a line in /etc/services Postfix logs a warning and still delivers the mail."""
    lab.mail.configure(biff="yes")
    lab.mail.write("/etc/services", SERVICES)
    lab.mail.mistake.write("/etc/services", WITHOUT_BIFF)

    complaints = deliver(lab)

    assert complaints == [("local", "warning: service not found: biff/udp")]
    assert len(lab.mail.mailbox("bob")) == 1


@pytest.mark.faq("biff-connection-refused", "31-S1", "31-S2")
def test_cure_biff_is_turned_off(lab: Lab) -> None:
    """With biff=no Postfix looks up, sends and logs nothing."""
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
    """The datagram names the user and the new message's offset in the mailbox."""
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
    """Deliveries to a maildir or a command are never announced, with any biff setting."""
    lab.mail.configure(biff="yes")
    lab.mail.cure.configure(**settings)

    with Datagrams(lab.mail, BIFF_PORT) as comsat:
        deliver(lab)
        received = comsat.received()

    assert received == []
    assert len(lab.mail.mailbox("bob")) == 1


@pytest.mark.faq("biff-connection-refused", "31-S2")
def test_behaviour_procmail_announces_by_itself(lab: Lab) -> None:
    """procmail(1) announces mail even with Postfix's biff=no."""
    lab.mail.configure(biff="no")
    lab.mail.misconfigure(mailbox_command="/usr/bin/procmail")

    with Datagrams(lab.mail, BIFF_PORT) as comsat:
        deliver(lab)
        received = comsat.received()

    assert received == ["bob@0:/var/mail/bob"]


@pytest.mark.faq("biff-connection-refused", "31-S2")
def test_behaviour_the_default_is_still_yes(lab: Lab) -> None:
    """Postfix defaults to yes; Debian's main.cf says no."""
    assert lab.mail.run("postconf", "-dh", "biff").stdout == "yes\n"
    assert lab.mail.postconf("biff") == "no"
    assert "\nbiff = no\n" in (lab.mail.read("/usr/share/postfix/main.cf.debian") or "")
