"""fatal: unknown service: smtp/tcp.

In the jail (see chroot-names) a service name can be resolved only with a copy of
etc/services: copy /etc/services to /var/spool/postfix/etc/services, or write "n" into the
chroot column of master.cf. Then restart Postfix and flush the queue. For another port, write
its number.

Without the file smtp(8) exits, master(8) starts no other for a minute
(service_throttle_time), and mail stays in the queue. Neither the message's log lines nor
mailq give a reason: search the log for "fatal". The libraries and nsswitch.conf that the FAQ
copied are no longer needed on Debian 11.

Since the FAQ:
- 3.0: the jail is not the default; in Debian it was until 14.
- 3.6: Postfix knows the mail ports itself; the symptom remains for an empty
  known_tcp_ports, and for other service names.
"""

import pytest

from maillab import Complaint, Lab, QueueEntry

pytestmark = pytest.mark.topology("standalone")

OUT = "smtp/unix"
RESOLV_CONF, SERVICES = "/etc/resolv.conf", "/etc/services"
FATAL = "unknown service: smtp/tcp"


def jail_without_services(lab: Lab) -> None:
    """Create a jail with a nameserver but without service names."""
    lab.mail.jail.empty()
    lab.mail.jail.copy(RESOLV_CONF)
    lab.mail.jail.lock_in(OUT)
    if lab.has("known_tcp_ports"):
        lab.mail.configure(known_tcp_ports="")


def complaints(lab: Lab) -> list[tuple[str, str]]:
    """Return the level and text of Postfix's complaints on the mail server."""
    return [(event.level, event.text) for event in lab.events(Complaint, lab.mail)]


def put_aside(lab: Lab) -> bool:
    """Return True if a message is in the deferred queue, with or without a log line."""
    return any(entry.queue == "deferred" for entry in lab.mail.queued())


def waits_without_a_reason(entry: QueueEntry, recipient: str) -> bool:
    """Return True if a message is in the deferred queue and mailq shows no reason."""
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
    """After one smtp(8) that exits at once master(8) starts no other for a while."""
    jail_without_services(lab)

    lab.mail.send(to="joe@example.net")
    throttled = lab.wait_for(Complaint, host=lab.mail, saying="throttling")

    assert throttled.text.endswith("/smtp: bad command startup -- throttling")
    assert [event for event in complaints(lab) if event[0] == "fatal"] == [("fatal", FATAL)]


@pytest.mark.faq("unknown-service", "23b")
def test_historic_since_3_6_the_port_of_smtp_is_known(lab: Lab) -> None:
    """In the same jail, with default settings, only 3.5 does not send."""
    lab.mail.jail.empty()
    lab.mail.jail.copy(RESOLV_CONF)
    lab.mail.jail.lock_in(OUT)

    mail = lab.mail.send(to="joe@example.net")
    lab.settle(mail, until=lambda: put_aside(lab))

    if lab.has("known_tcp_ports"):
        known = "lmtp=24, smtp=25, smtps=submissions=465, submission=587"
        assert lab.mail.postconf("known_tcp_ports") == known
        assert complaints(lab) == []
        assert mail.delivered_to(lab.remote, mailbox="joe")
    else:
        assert ("fatal", FATAL) in complaints(lab)
        assert not mail.reached(lab.remote)


@pytest.mark.faq("unknown-service", "23c")
def test_cure_the_services_file_is_copied_into_the_jail(lab: Lab) -> None:
    """A copy of etc/services is enough, also on Debian 11."""
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
    """After the copy a flush works once service_throttle_time is over, or after a restart."""
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
    """Return a transport map for example.net with this port of the remote (transport(5))."""
    return {"transport_maps": f"inline:{{{{example.net=smtp:[remote.example.net]:{port}}}}}"}


@pytest.mark.faq("unknown-service", "23d")
def test_symptom_a_name_that_no_file_has(lab: Lab) -> None:
    """A wrong port name in a transport does the same without a jail, and bounces no mail."""
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
    """Postfix does not look up a port number."""
    lab.mail.configure(**to_port("nosuchsvc"))
    lab.mail.cure.configure(**to_port("25"))

    mail = lab.mail.send(to="joe@example.net")
    lab.settle(mail, until=lambda: put_aside(lab))

    assert mail.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("unknown-service", "23d")
def test_cure_a_name_of_one_s_own_is_made_known(lab: Lab) -> None:
    """An entry in /etc/services makes the name known to every program."""
    lab.mail.configure(**to_port("nosuchsvc"))
    lab.mail.cure.write(SERVICES, "smtp 25/tcp\nnosuchsvc 25/tcp\n")

    mail = lab.mail.send(to="joe@example.net")
    lab.settle(mail, until=lambda: put_aside(lab))

    assert mail.delivered_to(lab.remote, mailbox="joe")
