"""Mail stays queued in the incoming queue.

The disk is so busy with incoming mail that the queue manager cannot keep up, or the active
queue is full (qmgr_message_active_limit). Give part of the mail to another instance with
a disk of its own ("postmulti -e create"). For a full active queue raise the limit.

A new instance is closed: it has no network services, and users may not submit mail.

The disk is a block device that makes 50 writes a second, and twenty clients send mail. Its file
system writes each change of a directory at once, as BSD's does: so qmgr(8) waits for the disk each
time that it moves a message. With ext4's journal it hardly waits, and no mail stays in incoming.

Since the FAQ:
- 1.1: in_flow_delay slows senders down to the queue manager's pace.
- 2.6: postmulti(1) creates and runs instances.
- qmgr_message_active_limit is 20000; it was 1000.
"""

from collections import Counter
from statistics import median

import pytest

from maillab import Complaint, Delivery, Event, Lab, Mail, PickedUp, PostfixHost, Started, message
from maillab.faults import SlowDisk
from maillab.load.running import Loading

pytestmark = pytest.mark.topology("standalone")

# Far fewer messages than wait in a queue that is not served.
FEW = 10
SECOND = "/etc/postfix-b"
COPY = "/etc/postfix-c"


def queues(host: PostfixHost) -> dict[str, int]:
    """Return the number of messages in each queue."""
    return dict(Counter(entry.queue for entry in host.queued()))


def twelve_to_a_slow_host(lab: Lab) -> list[Mail]:
    """Send 12 messages to a host that takes a minute for each recipient."""
    lab.remote.configure(smtpd_recipient_restrictions="sleep 60, permit")
    lab.mail.configure(smtp_destination_concurrency_limit="2")
    mails = [lab.mail.send(to="joe@example.net") for _ in range(12)]
    within = {"incoming": 7, "active": 5}
    lab.settle(until=lambda: queues(lab.mail) in (within, {"active": 12}))
    return mails


def the_host_wakes_up(lab: Lab, mails: list[Mail]) -> None:
    """Make the remote host accept mail at once, and flush the queue."""
    lab.remote.configure(smtpd_recipient_restrictions="permit")
    lab.settle(until=lambda: not set(queues(lab.mail)) - {"deferred"})
    lab.mail.flush()
    lab.settle(*mails)


@pytest.mark.faq("incoming-queue", "11a")
def test_symptom_a_full_active_queue_keeps_mail_in_incoming(lab: Lab) -> None:
    """The queue manager holds as many messages as allowed, all for one slow host."""
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
    """With the default limit no message stays in incoming."""
    lab.mail.configure(qmgr_message_active_limit="5")
    lab.mail.cure.configure(qmgr_message_active_limit="20000")

    mails = twelve_to_a_slow_host(lab)
    found = queues(lab.mail)

    assert found == {"active": 12}
    the_host_wakes_up(lab, mails)
    assert all(mail.delivered_to(lab.remote, mailbox="joe") for mail in mails)


def incoming_mail(lab: Lab, messages: int = 50) -> Loading:
    """Return twenty clients that send mail for another host, each as fast as it can."""
    return lab.loading(
        lab.mail, lab.client, sessions=20, messages=messages, recipients=["joe@example.net"]
    )


def where_mail_waits(host: PostfixHost) -> list[str]:
    """Return the queues that have more than a few messages."""
    return [queue for queue, count in host.queue_lengths().items() if count > FEW]


@pytest.mark.faq("incoming-queue", "11a")
def test_symptom_a_busy_disk_keeps_mail_in_incoming(lab: Lab) -> None:
    """Twenty cleanup(8) write, and one qmgr(8) has to wait its turn for each message.

    So clients are served, few messages leave, and mail piles up in incoming.
    """
    lab.mail.configure(relay_domains="example.net")

    with lab.mail.faulty(SlowDisk(writes_per_s=50)):
        with incoming_mail(lab) as load:
            load.wait_until(acknowledged=25)
            sent = len(lab.events(Delivery, lab.mail))
            waiting = where_mail_waits(lab.mail)
        lab.drain()

    assert waiting == ["incoming"]
    assert sent < 25 / 2


def wait_for_the_queue_manager_s(lab: Lab) -> float:
    """Return the median of the first logged delay: until the queue manager has a message."""
    before = len(lab.events(Delivery, lab.mail))
    incoming_mail(lab, messages=30).finish()
    lab.drain()
    sent = lab.events(Delivery, lab.mail)[before:]
    return median(float(attempt.delays.split("/")[0]) for attempt in sent)


@pytest.mark.faq("incoming-queue", "11a")
def test_cure_a_faster_disk_shortens_the_wait_in_incoming(lab: Lab) -> None:
    """The same clients' mail waits less than a quarter of the time for the queue manager."""
    lab.mail.configure(relay_domains="example.net")

    with lab.mail.faulty(SlowDisk(writes_per_s=50)):
        slow_s = wait_for_the_queue_manager_s(lab)
        lab.mail.stop()
        lab.mail.cure.add_disk("/var/spool/postfix")
        lab.mail.start()
        fast_s = wait_for_the_queue_manager_s(lab)

    assert fast_s < slow_s / 4


def create_instance(host: PostfixHost, address: str, *, opened: bool = True) -> None:
    """Create a second instance with postmulti(1); opened, it has its own address."""
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
        # Both instances share one log, as with syslog.
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


def five_to_the_second_instance(lab: Lab, address: str) -> tuple[float, list[str]]:
    """Send five messages to the second instance while the first one's disk is busy.

    Return the seconds that passed before its queue manager had them, which are the first of
    the four logged delays, and the queues in which the first instance's mail waits by then.
    """
    mails = []
    with incoming_mail(lab) as load:
        load.wait_until(acknowledged=20)
        for _ in range(5):
            with lab.client.session(address) as session:
                probe = message.compose(
                    sender="bob@example.net", recipients=["carol@srv2.example.com"]
                )
                mails.append(session.send(probe))
        lab.settle(until=lambda: all(mail.delivered_to(lab.mail, "carol") for mail in mails))
        waiting = where_mail_waits(lab.mail)
    lab.drain()
    attempts = [attempt for mail in mails for attempt in mail.journey.deliveries]
    return sum(float(attempt.delays.split("/")[0]) for attempt in attempts), waiting


def second_instance(lab: Lab) -> str:
    """Create and start a second instance; return its address."""
    address = lab.mail.add_address(14)
    create_instance(lab.mail, address)
    lab.mail.configure(relay_domains="example.net")
    return address


def control_second(lab: Lab, verb: str) -> None:
    """Start or stop the second instance."""
    lab.mail.run("postmulti", "-i", "postfix-b", "-p", verb)


@pytest.mark.faq("incoming-queue", "11a", "11b")
def test_symptom_another_instance_on_the_same_disk_waits_too(lab: Lab) -> None:
    """The second instance has its own queue, but shares the first one's disk.

    postmulti(1) checks the installation at each step, which takes seconds.
    """
    second = second_instance(lab)
    alone_s, _ = five_to_the_second_instance(lab, second)

    with lab.mail.faulty(SlowDisk(writes_per_s=50)):
        shared_s, _ = five_to_the_second_instance(lab, second)

    assert shared_s > 4 * alone_s


@pytest.mark.faq("incoming-queue", "11a", "11b")
def test_cure_another_instance_has_a_disk_of_its_own(lab: Lab) -> None:
    """The second instance's mail passes while the first one's waits for its disk.

    postmulti(1) checks the installation at each step, which takes seconds.
    """
    second = second_instance(lab)

    with lab.mail.faulty(SlowDisk(writes_per_s=50)):
        shared_s, _ = five_to_the_second_instance(lab, second)
        control_second(lab, "stop")
        lab.mail.cure.add_disk("/var/spool/postfix-b")
        control_second(lab, "start")
        own_s, waiting = five_to_the_second_instance(lab, second)

    assert "incoming" in waiting
    assert own_s < shared_s / 4


@pytest.mark.faq("incoming-queue", "11b")
def test_behaviour_two_instances_are_two_mail_systems_on_one_host(lab: Lab) -> None:
    """Each instance has its own address, name, queue and log name; mailboxes are shared.

    postmulti(1) checks the installation at each step, which takes seconds.
    """
    second = lab.mail.add_address(14)
    create_instance(lab.mail, second)
    (started,) = [event for event in lab.events(Started, lab.mail) if event.configuration == SECOND]

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
    first = lab.client.smtp("joe@mail.example.com", server=lab.mail)
    with lab.client.session(second) as session:
        other = session.send(
            message.compose(sender="bob@example.net", recipients=["joe@srv2.example.com"])
        )
    by_hand = lab.mail.send(to="joe", options=["-C", SECOND])
    lab.settle(first, other, by_hand)

    assert started.program == "postfix-b/master"
    assert banners == {lab.mail.address: "220 mail.example.com", second: "220 srv2.example.com"}
    assert replies == {
        lab.mail.address: ["250 2.1.5", "454 4.7.1"],
        second: ["454 4.7.1", "250 2.1.5"],
    }
    assert all(mail.delivered_to(lab.mail, mailbox="joe") for mail in (first, other, by_hand))
    by = Counter(event.program for event in lab.events(Delivery, lab.mail))
    assert by == {"postfix/local": 1, "postfix-b/local": 2}


@pytest.mark.faq("incoming-queue", "11b")
def test_behaviour_each_instance_shows_its_own_queue(lab: Lab) -> None:
    """Use mailq -C for one instance's queue, and "postmulti -p status" for all instances."""
    second = lab.mail.add_address(14)
    create_instance(lab.mail, second)
    lab.remote.stop()

    waiting = lab.mail.send(to="joe@example.net", options=["-C", SECOND])
    lab.settle(waiting)
    mine = lab.mail.run("mailq").stdout.strip()
    theirs = lab.mail.run("mailq", "-C", SECOND).stdout
    lab.mail.run("postmulti", "-p", "status")
    running = [
        event.program for event in lab.events(Event, lab.mail) if "is running: PID" in event.text
    ]
    lab.remote.start()
    lab.mail.run("postqueue", "-c", SECOND, "-f")
    lab.settle(until=waiting.delivered_to(lab.remote, mailbox="joe"))

    assert mine == "Mail queue is empty"
    assert "joe@example.net" in theirs
    assert running == ["postfix/postfix-script", "postfix-b/postfix-script"]
    assert waiting.delivered_to(lab.remote, mailbox="joe")


@pytest.mark.faq("incoming-queue", "11b")
def test_behaviour_a_new_instance_is_closed(lab: Lab) -> None:
    """A new instance has no network service, and local users may not submit mail to it."""
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
    """Users may not name an unregistered folder: the error names the missing parameter."""
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
    """Either parameter of the first instance registers the folder for users."""
    lab.mail.run("cp", "-a", "/etc/postfix", COPY)
    lab.mail.cure.configure(**{parameter: COPY})

    mail = lab.mail.send(to="joe", options=["-C", COPY])
    lab.settle(mail)

    assert mail.delivered_to(lab.mail, mailbox="joe")
    assert len(lab.events(PickedUp, lab.mail)) == 1


def copied_configuration(lab: Lab) -> None:
    """Copy the configuration without postmulti: with its own address, queue and data."""
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
    """The second instance finds the queue locked and reports Postfix already running."""
    copied_configuration(lab)
    lab.mail.mistake.run("postconf", "-c", COPY, "-e", "queue_directory=/var/spool/postfix")

    started = lab.mail.run("postfix", "-c", COPY, "start", check=False)

    assert started.status == 1
    refused = [event for event in lab.events(Complaint, lab.mail) if event.level == "fatal"]
    assert [event.text for event in refused] == ["the Postfix mail system is already running"]
    assert not [event for event in lab.events(Started, lab.mail) if event.configuration == COPY]


@pytest.mark.faq("incoming-queue", "11d")
def test_cure_each_instance_has_its_own_queue(lab: Lab) -> None:
    """With its own queue_directory the copy runs beside the first instance."""
    copied_configuration(lab)
    lab.mail.run("postconf", "-c", COPY, "-e", "queue_directory=/var/spool/postfix")
    lab.mail.cure.run("postconf", "-c", COPY, "-e", "queue_directory=/var/spool/postfix-c")

    started = lab.mail.run("postfix", "-c", COPY, "start", check=False)

    assert started.status == 0
    (running,) = [event for event in lab.events(Started, lab.mail) if event.configuration == COPY]
    assert running.program == "postfix-c/master"
