"""Mail stays queued in the incoming queue.

The FAQ's cause: the disk is so busy with incoming mail that the queue manager gets
no turn, and its cure was several Postfix instances, each with a disk of its own.
What limits the way from incoming to active otherwise is qmgr_message_active_limit,
20000 (1000 in the FAQ's days). Since then in_flow_delay makes senders wait for
the queue manager (1.1), and instances are made and run by postmulti(1) (2.6),
which creates them closed: no network services, and nobody may submit mail.
"""

from collections import Counter

import pytest

from maillab.faults import SlowFsync
from maillab.lab import Lab
from maillab.maillog import Complaint, Delivery, Event, PickedUp, Started
from maillab.message import compose
from maillab.postfix import MailHost
from maillab.record import Mail

pytestmark = pytest.mark.topology("standalone")

SECOND = "/etc/postfix-b"
COPY = "/etc/postfix-c"


def queues(host: MailHost) -> dict[str, int]:
    """How many messages there are in each queue."""
    return dict(Counter(entry.queue for entry in host.queued()))


def twelve_to_a_slow_host(lab: Lab) -> list[Mail]:
    """Have 12 messages arrive for a host that takes a minute for each recipient."""
    lab.remote.configure(smtpd_recipient_restrictions="sleep 60, permit")
    lab.mail.configure(smtp_destination_concurrency_limit="2")
    mails = [lab.mail.send(to="joe@example.net") for _ in range(12)]
    within = {"incoming": 7, "active": 5}
    lab.settle(until=lambda: queues(lab.mail) in (within, {"active": 12}))
    return mails


def the_host_wakes_up(lab: Lab, mails: list[Mail]) -> None:
    """Let it take mail at once, and give it what is there."""
    lab.remote.configure(smtpd_recipient_restrictions="permit")
    lab.settle(until=lambda: not set(queues(lab.mail)) - {"deferred"})
    lab.mail.flush()
    lab.settle(*mails)


@pytest.mark.faq("incoming-queue", "11a")
def test_symptom_a_full_active_queue_keeps_mail_in_incoming(lab: Lab) -> None:
    """The queue manager has as many messages in hand as it may, all for one slow host."""
    lab.mail.configure(qmgr_message_active_limit="20000")
    lab.mail.misconfigure(qmgr_message_active_limit="5")

    mails = twelve_to_a_slow_host(lab)
    found = queues(lab.mail)
    shown = [entry.recipients for entry in lab.mail.queue() if entry.queue == "incoming"]
    the_host_wakes_up(lab, mails)

    assert found == {"incoming": 7, "active": 5}
    assert shown == [("joe@example.net",)] * 7
    assert all(mail.delivered_to(lab.remote, mailbox="joe") for mail in mails)


@pytest.mark.faq("incoming-queue", "11a")
def test_cure_a_larger_active_queue_takes_it_all(lab: Lab) -> None:
    """With the limit as it is by default nothing is left in incoming."""
    lab.mail.configure(qmgr_message_active_limit="5")
    lab.mail.cure.configure(qmgr_message_active_limit="20000")

    mails = twelve_to_a_slow_host(lab)
    found = queues(lab.mail)

    assert found == {"active": 12}
    the_host_wakes_up(lab, mails)
    assert all(mail.delivered_to(lab.remote, mailbox="joe") for mail in mails)


def seconds_before_the_queue_manager(lab: Lab, mail: Mail) -> float:
    """The first of the four delays that a delivery agent logs: arrival, until in the queue."""
    lab.mark()
    (attempt,) = mail.journey.deliveries
    return float(attempt.delays.split("/")[0])


@pytest.mark.faq("incoming-queue", "11a")
def test_symptom_a_busy_disk_holds_mail_up_before_the_queue_manager_has_it(lab: Lab) -> None:
    """The delay is all in the first figure of "delays": nothing is wrong with the delivery."""
    with lab.mail.faulty(SlowFsync(1.0, daemon="cleanup")):
        mail = lab.client.submit("joe@example.com", server=lab.mail)
        lab.settle(mail)

    before_s = seconds_before_the_queue_manager(lab, mail)
    (attempt,) = mail.journey.deliveries
    assert before_s >= 1
    assert attempt.delay - before_s < before_s
    assert mail.delivered_to(lab.mail, mailbox="joe")


def create_instance(host: MailHost, address: str, *, opened: bool = True) -> None:
    """Make a second instance with postmulti(1); opened, it serves an address of its own."""
    host.configure(inet_interfaces=f"{host.address}, 127.0.0.1")
    host.run("postmulti", "-e", "init")
    host.run("postmulti", "-I", "postfix-b", "-G", "mta", "-e", "create")
    settings = {
        "myhostname": "srv2.example.com",
        "mydestination": "$myhostname",
        "alias_maps": host.postconf("alias_maps"),
        "inet_protocols": "ipv4",
        "inet_interfaces": address,
        "smtp_bind_address": address,
        # One log, as with syslog.
        "maillog_file": "/var/log/mail.log",
        "compatibility_level": host.postconf("compatibility_level"),
    }
    if opened:
        settings |= {"master_service_disable": "", "authorized_submit_users": "static:anyone"}
    given = [f"{name}={value}" for name, value in settings.items()]
    host.run("postconf", "-c", SECOND, "-e", *given)
    host.run("postconf", "-c", SECOND, "-F", "*/*/chroot=n")
    host.run("postmulti", "-i", "postfix-b", "-e", "enable")
    host.run("postmulti", "-i", "postfix-b", "-p", "start")


@pytest.mark.faq("incoming-queue", "11a", "11b")
def test_cure_another_instance_has_a_disk_of_its_own(lab: Lab) -> None:
    """Its mail passes while the first instance's disk is as busy as before.

    postmulti(1) checks the installation at each step, which takes seconds.
    """
    second = lab.mail.cure.add_address(14)
    create_instance(lab.mail.cure, second)

    with lab.mail.faulty(SlowFsync(1.0, daemon="cleanup")):
        slow = lab.client.submit("joe@example.com", server=lab.mail)
        with lab.client.session(second) as session:
            quick = session.send(
                compose(sender="bob@example.net", recipients=["carol@srv2.example.com"])
            )
        lab.settle(slow, quick)

    assert quick.delivered_to(lab.mail, mailbox="carol")
    slow_s = seconds_before_the_queue_manager(lab, slow)
    assert slow_s >= 1
    assert seconds_before_the_queue_manager(lab, quick) < slow_s


@pytest.mark.faq("incoming-queue", "11b")
def test_behaviour_two_instances_are_two_mail_systems_on_one_host(lab: Lab) -> None:
    """Own address, own name, own queue, own log name; the mailboxes are the host's.

    postmulti(1) checks the installation at each step, which takes seconds.
    """
    second = lab.mail.add_address(14)
    create_instance(lab.mail, second)
    (started,) = [one for one in lab.events(Started, lab.mail) if one.configuration == SECOND]

    banners, replies = {}, {}
    for address in (lab.mail.address, second):
        with lab.client.session(address) as session:
            banners[address] = str(session.greeting)[:20]
            session.ehlo()
            session.mail("bob@example.net")
            replies[address] = [
                str(session.rcpt(f"joe@{name}.example.com"))[:9] for name in ("mail", "srv2")
            ]
            session.quit()
    first = lab.client.submit("joe@mail.example.com", server=lab.mail)
    with lab.client.session(second) as session:
        other = session.send(compose(sender="bob@example.net", recipients=["joe@srv2.example.com"]))
    by_hand = lab.mail.send(to="joe", options=["-C", SECOND])
    lab.settle(first, other, by_hand)

    assert started.program == "postfix-b/master"
    assert banners == {lab.mail.address: "220 mail.example.com", second: "220 srv2.example.com"}
    assert replies == {
        lab.mail.address: ["250 2.1.5", "454 4.7.1"],
        second: ["454 4.7.1", "250 2.1.5"],
    }
    assert all(mail.delivered_to(lab.mail, mailbox="joe") for mail in (first, other, by_hand))
    by = Counter(one.program for one in lab.events(Delivery, lab.mail))
    assert by == {"postfix/local": 1, "postfix-b/local": 2}


@pytest.mark.faq("incoming-queue", "11b")
def test_behaviour_each_instance_shows_its_own_queue(lab: Lab) -> None:
    """Mailq -C, and for all at once "postmulti -x postqueue -p" and "postmulti -p status"."""
    second = lab.mail.add_address(14)
    create_instance(lab.mail, second)
    lab.remote.stop()

    waiting = lab.mail.send(to="joe@example.net", options=["-C", SECOND])
    lab.settle(waiting)
    mine = lab.mail.run("mailq").stdout.strip()
    theirs = lab.mail.run("mailq", "-C", SECOND).stdout
    lab.mail.run("postmulti", "-p", "status")
    running = [one.program for one in lab.events(Event, lab.mail) if "is running: PID" in one.text]
    lab.remote.start()
    lab.mail.run("postqueue", "-c", SECOND, "-f")
    lab.settle(until=waiting.delivered_to(lab.remote, mailbox="joe"))

    assert mine == "Mail queue is empty"
    assert "joe@example.net" in theirs
    assert running == ["postfix/postfix-script", "postfix-b/postfix-script"]
    assert waiting.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("incoming-queue", "11b")
def test_behaviour_a_new_instance_is_closed(lab: Lab) -> None:
    """As created it has no network service, and local users may not submit mail to it."""
    second = lab.mail.add_address(14)
    create_instance(lab.mail, second, opened=False)

    with lab.client.session(second) as session:
        greeting = session.greeting
    mail = lab.mail.send(to="joe", options=["-C", SECOND])

    assert greeting.code == 0
    assert "Connect call failed" in greeting.text
    assert mail.rejected(saying="not allowed to submit mail")


@pytest.mark.faq("incoming-queue", "11c")
def test_symptom_a_configuration_that_is_not_registered_is_nobodys(lab: Lab) -> None:
    """A user cannot name just any folder: the command says which parameter is missing."""
    lab.mail.run("cp", "-a", "/etc/postfix", COPY)
    lab.mail.configure(alternate_config_directories=COPY)
    lab.mail.misconfigure(alternate_config_directories="")

    mail = lab.mail.send(to="joe", options=["-C", COPY])

    assert mail.rejected(
        saying=f'fatal: specify "alternate_config_directories = {COPY}" or '
        f'"multi_instance_directories = {COPY}" in /etc/postfix/main.cf'
    )


@pytest.mark.faq("incoming-queue", "11c")
@pytest.mark.parametrize(
    "parameter", ["alternate_config_directories", "multi_instance_directories"]
)
def test_cure_the_folder_is_registered(lab: Lab, parameter: str) -> None:
    """Either parameter of the first instance makes it one that users may name."""
    lab.mail.run("cp", "-a", "/etc/postfix", COPY)
    lab.mail.cure.configure(**{parameter: COPY})

    mail = lab.mail.send(to="joe", options=["-C", COPY])
    lab.settle(mail)

    assert mail.delivered_to(lab.mail, mailbox="joe")
    assert len(lab.events(PickedUp, lab.mail)) == 1


def copied_configuration(lab: Lab) -> None:
    """The FAQ's way, without postmulti: a copy with its own address, queue and data."""
    second = lab.mail.add_address(14)
    lab.mail.configure(inet_interfaces=f"{lab.mail.address}, 127.0.0.1")
    lab.mail.run("cp", "-a", "/etc/postfix", COPY)
    lab.mail.run(
        *("postconf", "-c", COPY, "-e"),
        f"inet_interfaces={second}",
        "queue_directory=/var/spool/postfix-c",
        "data_directory=/var/lib/postfix-c",
        "syslog_name=postfix-c",
    )
    lab.mail.run("mkdir", "/var/spool/postfix-c")


@pytest.mark.faq("incoming-queue", "11d")
def test_symptom_two_instances_cannot_share_a_queue(lab: Lab) -> None:
    """The second one finds the first one's lock and takes it for itself, running already."""
    copied_configuration(lab)
    lab.mail.mistake.run("postconf", "-c", COPY, "-e", "queue_directory=/var/spool/postfix")

    started = lab.mail.run("postfix", "-c", COPY, "start", check=False)

    assert started.status == 1
    refused = [one for one in lab.events(Complaint, lab.mail) if one.level == "fatal"]
    assert [one.text for one in refused] == ["the Postfix mail system is already running"]
    assert not [one for one in lab.events(Started, lab.mail) if one.configuration == COPY]


@pytest.mark.faq("incoming-queue", "11d")
def test_cure_each_instance_has_its_own_queue(lab: Lab) -> None:
    """With a queue_directory of its own the copy runs beside the first one."""
    copied_configuration(lab)
    lab.mail.run("postconf", "-c", COPY, "-e", "queue_directory=/var/spool/postfix")
    lab.mail.cure.run("postconf", "-c", COPY, "-e", "queue_directory=/var/spool/postfix-c")

    started = lab.mail.run("postfix", "-c", COPY, "start", check=False)

    assert started.status == 0
    (running,) = [one for one in lab.events(Started, lab.mail) if one.configuration == COPY]
    assert running.program == "postfix-c/master"
