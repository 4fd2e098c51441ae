"""fatal: unknown service: smtp/tcp.

The port of a transport's next hop may be a name, and SMTP's own is one: "smtp".
In the jail (see chroot-names) names of services are found only with a copy of
etc/services. Without it smtp(8) ends, master(8) does not start another for a
minute (service_throttle_time), and mail stays in the queue with no word of why in
the log or in mailq: look for "fatal".

Since 3.6 Postfix knows the ports of mail by itself (known_tcp_ports), so the
FAQ's symptom is left for 3.5 and older, for known_tcp_ports made empty, and for
names of one's own. Cures are as ever: the copy, or no jail; the libraries and
nsswitch.conf that went with it are not needed on Debian 11 any more. Since 3.0
the jail is not the default; in Debian it was until 14.
"""

import pytest

from maillab.lab import Lab
from maillab.maillog import Complaint
from maillab.postfix import QueueEntry

pytestmark = pytest.mark.topology("standalone")

OUT = "smtp/unix"
RESOLV_CONF, SERVICES = "/etc/resolv.conf", "/etc/services"
NO_KNOWN_PORTS = "3.5"
FATAL = "unknown service: smtp/tcp"


def jail_without_services(lab: Lab) -> None:
    """A jail in which the nameserver is known, and no port by its name."""
    lab.mail.jail.empty()
    lab.mail.jail.copy(RESOLV_CONF)
    lab.mail.jail.lock_in(OUT)
    if lab.version != NO_KNOWN_PORTS:
        lab.mail.configure(known_tcp_ports="")


def complaints(lab: Lab) -> list[tuple[str, str]]:
    """What Postfix complained of on the mail server, and how loudly."""
    return [(event.level, event.text) for event in lab.events(Complaint, lab.mail)]


def put_aside(lab: Lab) -> bool:
    """Whether the queue manager has put a message off, with or without a word."""
    return any(entry.queue == "deferred" for entry in lab.mail.queued())


def waits_without_a_reason(entry: QueueEntry, recipient: str) -> bool:
    """Whether a message is in the deferred queue, and mailq has nothing to say of it."""
    return (entry.queue, entry.recipients, entry.reasons) == ("deferred", (recipient,), ("",))


@pytest.mark.faq("unknown-service", "23a", "23b")
def test_symptom_mail_stays_queued_without_a_reason(lab: Lab) -> None:
    """The log has a fatal error and no line about the message; mailq shows no reason."""
    jail_without_services(lab)
    lab.mail.jail.copy(SERVICES)
    lab.mail.mistake.run("rm", lab.mail.jail.path(SERVICES))

    mail = lab.mail.send(to="joe@example.net")
    lab.settle(mail, until=lambda: put_aside(lab))

    assert ("fatal", FATAL) in complaints(lab)
    assert ("warning", "private/smtp socket: malformed response") in complaints(lab)
    assert not mail.deferred()
    assert not mail.bounced()
    (entry,) = lab.mail.queue()
    assert waits_without_a_reason(entry, "joe@example.net")


@pytest.mark.faq("unknown-service", "23a")
def test_behaviour_master_throttles_the_service(lab: Lab) -> None:
    """One smtp(8) that ends at once is enough for master(8) to start none for a while."""
    jail_without_services(lab)

    lab.mail.send(to="joe@example.net")
    throttled = lab.wait_for(Complaint, host=lab.mail, saying="throttling")

    assert throttled.text.endswith("/smtp: bad command startup -- throttling")
    assert [event for event in complaints(lab) if event[0] == "fatal"] == [("fatal", FATAL)]


@pytest.mark.faq("unknown-service", "23b")
def test_historic_since_3_6_the_port_of_smtp_is_known(lab: Lab) -> None:
    """In the same jail, on default settings, only 3.5 does not send."""
    lab.mail.jail.empty()
    lab.mail.jail.copy(RESOLV_CONF)
    lab.mail.jail.lock_in(OUT)

    mail = lab.mail.send(to="joe@example.net")
    lab.settle(mail, until=lambda: put_aside(lab))

    if lab.version == NO_KNOWN_PORTS:
        assert ("fatal", FATAL) in complaints(lab)
        assert not mail.reached(lab.remote)
    else:
        known = "lmtp=24, smtp=25, smtps=submissions=465, submission=587"
        assert lab.mail.postconf("known_tcp_ports") == known
        assert complaints(lab) == []
        assert mail.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("unknown-service", "23c")
def test_cure_the_services_file_is_copied_into_the_jail(lab: Lab) -> None:
    """etc/services alone will do, on Debian 11, too."""
    jail_without_services(lab)
    lab.mail.cure.jail.copy(SERVICES)

    mail = lab.mail.send(to="joe@example.net")
    lab.settle(mail, until=lambda: put_aside(lab))

    assert mail.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("unknown-service", "23c")
def test_cure_smtp_leaves_the_jail(lab: Lab) -> None:
    """With "n" in the chroot column smtp(8) reads the host's own file."""
    jail_without_services(lab)
    lab.mail.cure.jail.let_out(OUT)

    mail = lab.mail.send(to="joe@example.net")
    lab.settle(mail, until=lambda: put_aside(lab))

    assert mail.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("unknown-service", "23c")
@pytest.mark.parametrize(
    ("throttle", "restart"), [("1s", False), ("60s", True)], ids=["throttle-ends", "restart"]
)
def test_behaviour_what_waited_leaves_when_master_starts_the_service_again(
    lab: Lab, throttle: str, *, restart: bool
) -> None:
    """After the copy and a flush: once service_throttle_time is over, or by a restart."""
    jail_without_services(lab)
    lab.mail.configure(service_throttle_time=throttle)
    mail = lab.mail.send(to="joe@example.net")
    lab.wait_for(Complaint, host=lab.mail, saying="throttling")

    lab.mail.jail.copy(SERVICES)
    if restart:
        lab.mail.restart()
    lab.mail.flush()
    lab.settle(mail)

    assert mail.delivered_to(lab.remote, mailbox="joe")


def to_port(port: str) -> dict[str, str]:
    """All mail for example.net goes to a port of the remote (transport(5))."""
    return {"transport_maps": f"inline:{{{{example.net=smtp:[remote.example.net]:{port}}}}}"}


@pytest.mark.faq("unknown-service", "23d")
def test_symptom_a_name_that_no_file_has(lab: Lab) -> None:
    """No jail is needed: a slip in a transport does the same, and returns no mail."""
    lab.mail.configure(**to_port("25"))
    lab.mail.misconfigure(**to_port("nosuchsvc"))

    mail = lab.mail.send(to="joe@example.net")
    lab.settle(mail, until=lambda: put_aside(lab))

    assert ("fatal", "unknown service: nosuchsvc/tcp") in complaints(lab)
    assert not mail.deferred()
    assert not mail.bounced()
    (entry,) = lab.mail.queue()
    assert waits_without_a_reason(entry, "joe@example.net")


@pytest.mark.faq("unknown-service", "23d")
def test_cure_a_port_by_its_number(lab: Lab) -> None:
    """A number is looked up nowhere."""
    lab.mail.configure(**to_port("nosuchsvc"))
    lab.mail.cure.configure(**to_port("25"))

    mail = lab.mail.send(to="joe@example.net")
    lab.settle(mail, until=lambda: put_aside(lab))

    assert mail.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("unknown-service", "23d")
def test_cure_a_name_of_one_s_own_is_made_known(lab: Lab) -> None:
    """In /etc/services, by which all programs know it."""
    lab.mail.configure(**to_port("nosuchsvc"))
    lab.mail.cure.write(SERVICES, "smtp 25/tcp\nnosuchsvc 25/tcp\n")

    mail = lab.mail.send(to="joe@example.net")
    lab.settle(mail, until=lambda: put_aside(lab))

    assert mail.delivered_to(lab.remote, mailbox="joe")
