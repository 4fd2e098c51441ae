"""Running hundreds of Postfix processes on Linux, and on FreeBSD.

The FAQ raised kernel limits: on Linux fs.file-max, on FreeBSD kern.maxfiles,
kern.maxproc, kern.ipc.nmbclusters and kern.ipc.maxsockets. Linux has room for
millions of files today; what is short now is what a container or a service manager
allows: processes (pids.max, TasksMax) and open files (LimitNOFILE). The symptoms
are the same on every system and are shown here (the FreeBSD entry's portable part,
bullet 9a); FreeBSD's own settings are those of its kernel, which no container on
Linux has, so that they cannot be tried here.

Postfix's own limits come first: default_process_limit, 100 (50 in the FAQ's days),
and since 2.2 fifty connections at once from one client. Since 2.5 a server that is
at its limit starts further processes with stress=yes, on which timeouts depend.
"""

from collections import Counter

import pytest

from maillab.faults import OpenFilesLimit, ProcessLimit
from maillab.lab import Lab
from maillab.maillog import Complaint, Connected

pytestmark = pytest.mark.topology("standalone")

GREETED = "220 mail.example.com ESMTP Postfix"
NO_CLIENT_LIMIT = {"smtpd_client_connection_count_limit": "0"}


def complaints(lab: Lab, program: str = "") -> list[str]:
    """What the mail server's log warns of."""
    return [
        event.text
        for event in lab.events(Complaint, lab.mail)
        if program in ("", event.service)
    ]  # fmt: skip


def servers(lab: Lab) -> Counter[str]:
    """How many smtpd(8) processes run with which value of the parameter stress."""
    script = r"for p in /proc/[0-9]*; do tr '\0' ' ' <$p/cmdline; echo; done 2>/dev/null"
    lines = lab.mail.run("sh", "-c", script).stdout.splitlines()
    return Counter(
        word for line in lines if line.startswith("smtpd ") for word in line.split()
        if word.startswith("stress=")
    )  # fmt: skip


@pytest.mark.faq("linux-processes", "10a")
@pytest.mark.faq("freebsd-processes", "9a")
def test_symptom_clients_beyond_the_process_limit_wait_for_a_greeting(lab: Lab) -> None:
    """The kernel takes their connections, but nobody greets them until others leave."""
    lab.mail.configure(**NO_CLIENT_LIMIT)
    lab.mail.misconfigure(default_process_limit="5")

    with lab.client.crowd(lab.mail, 9) as crowd:
        at_first = Counter(crowd.greetings(at_least=5))
        served = len(lab.events(Connected, lab.mail))
        crowd.leave()
        later = Counter(crowd.greetings(at_least=4))

    assert at_first == {GREETED: 5, "": 4}
    assert served == 5
    assert later == {GREETED: 4}
    lab.wait_for(Complaint, host=lab.mail, saying="STRESS_README")
    limit, remedy, reference = complaints(lab, "master")
    assert limit == (
        'service "smtp" (25) has reached its process limit "5": '
        "new clients may experience noticeable delays"
    )
    assert remedy.startswith("to avoid this condition, increase the process count in master.cf")
    assert "postfix.org/STRESS_README.html" in reference


@pytest.mark.faq("linux-processes", "10b")
@pytest.mark.faq("freebsd-processes", "9a")
def test_cure_hundreds_of_clients_are_served_at_once(lab: Lab) -> None:
    """With default_process_limit=300 each of 250 clients gets its own process.

    It takes as long as the machine needs to start 250 of them.
    """
    # With fewer, some clients would not even find room in the kernel's queue.
    lab.mail.configure(default_process_limit="200", **NO_CLIENT_LIMIT)
    lab.mail.cure.configure(default_process_limit="300")

    with lab.client.crowd(lab.mail, 250) as crowd:
        greetings = Counter(crowd.greetings(quiet_s=5, at_least=200))

    assert greetings == {GREETED: 250}
    assert complaints(lab) == []


@pytest.mark.faq("linux-processes", "10a")
def test_behaviour_one_service_has_its_own_limit(lab: Lab) -> None:
    """The maxproc column of master.cf goes before default_process_limit."""
    lab.mail.configure(default_process_limit="100", **NO_CLIENT_LIMIT)
    lab.mail.service("smtp inet n - n - 2 smtpd")

    with lab.client.crowd(lab.mail, 3) as crowd:
        greetings = Counter(crowd.greetings(at_least=2))

    assert greetings == {GREETED: 2, "": 1}
    limit = 'service "smtp" (25) has reached its process limit "2"'
    lab.wait_for(Complaint, host=lab.mail, saying=limit)


@pytest.mark.faq("linux-processes", "10c")
def test_symptom_one_client_cannot_open_hundreds_of_connections(lab: Lab) -> None:
    """Fifty at once by default; the FAQ's Postfix had no such limit."""
    lab.mail.configure(**NO_CLIENT_LIMIT)
    lab.mail.misconfigure(smtpd_client_connection_count_limit="50")

    with lab.client.crowd(lab.mail, 60) as crowd:
        greetings = Counter(crowd.greetings(at_least=60))

    refusal = f"421 4.7.0 mail.example.com Error: too many connections from {lab.client.address}"
    assert greetings == {GREETED: 50, refusal: 10}
    client = f"client.example.net[{lab.client.address}]"
    said = complaints(lab)
    assert len(said) == 10
    # One may come before the one before it has left.
    assert all(text.startswith("Connection concurrency limit exceeded: 5") for text in said)
    assert all(text.endswith(f" from {client} for service smtp") for text in said)


@pytest.mark.faq("linux-processes", "10c")
def test_cure_a_client_is_exempt_from_the_limit(lab: Lab) -> None:
    """A relay that hands over much is named; the others stay limited."""
    lab.mail.configure(smtpd_client_connection_count_limit="50")
    lab.mail.cure.configure(smtpd_client_event_limit_exceptions=lab.client.address)

    with (
        lab.client.crowd(lab.mail, 60) as exempt,
        lab.remote.crowd(lab.mail, 51) as limited,
    ):
        exempted = Counter(exempt.greetings(at_least=60))
        others = Counter(line[:3] for line in limited.greetings(at_least=40))

    assert exempted == {GREETED: 60}
    # 100 processes in all, of which the first 60 are taken.
    assert others == {"220": 40, "": 11}


@pytest.mark.faq("linux-processes", "10c")
def test_behaviour_out_of_the_box_the_limits_are_these(lab: Lab) -> None:
    """The client limit is half the process limit."""
    assert lab.mail.postconf("default_process_limit") == "100"
    assert lab.mail.postconf("smtpd_client_connection_count_limit") == "50"
    assert lab.mail.run("postconf", "-d", "-h", "smtpd_timeout").stdout.strip() == (
        "${stress?{10}:{300}}s"
    )


@pytest.mark.faq("linux-processes", "10d")
@pytest.mark.faq("freebsd-processes", "9a")
def test_symptom_no_more_processes_can_be_started(lab: Lab) -> None:
    """The system refuses to fork: master(8) waits before it tries again, clients starve."""
    lab.mail.configure(service_throttle_time="1s", **NO_CLIENT_LIMIT)
    with lab.client.session(lab.mail) as session:
        # What smtpd(8) itself needs runs from here on, as it does on a busy server.
        session.ehlo()
        session.quit()

    with lab.mail.faulty(ProcessLimit(spare=10)), lab.client.crowd(lab.mail, 40) as crowd:
        greetings = Counter(crowd.greetings(quiet_s=2, at_least=11))

    # The ten, and the process that has just been of use.
    assert greetings == {GREETED: 11, "": 29}
    assert set(complaints(lab)) == {
        "master_spawn: fork: Resource temporarily unavailable -- throttling"
    }


@pytest.mark.faq("linux-processes", "10d")
@pytest.mark.faq("freebsd-processes", "9a")
def test_behaviour_clients_are_served_once_there_are_processes_again(lab: Lab) -> None:
    """Who kept waiting is greeted when master(8) tries again, after service_throttle_time."""
    lab.mail.configure(service_throttle_time="1s", **NO_CLIENT_LIMIT)

    with lab.client.crowd(lab.mail, 40) as crowd:
        greetings = Counter(crowd.greetings(at_least=40))
        crowd.leave()
    with lab.client.crowd(lab.mail, 60) as crowd:
        with lab.mail.faulty(ProcessLimit(spare=0)):
            crowd.greetings(quiet_s=2)
        later = Counter(crowd.greetings(at_least=60))

    assert greetings == {GREETED: 40}
    assert later == {GREETED: 60}


@pytest.mark.faq("linux-processes", "10d")
@pytest.mark.faq("freebsd-processes", "9a")
def test_symptom_no_more_files_can_be_opened(lab: Lab) -> None:
    """With 140 files a process proxymap(8), which has a connection from each smtpd, gives up."""
    lab.mail.configure(service_throttle_time="60s", **NO_CLIENT_LIMIT)

    with lab.mail.faulty(OpenFilesLimit(140)), lab.client.crowd(lab.mail, 40) as crowd:
        greetings = Counter(crowd.greetings(quiet_s=2, at_least=1))

    # The others wait for a new proxymap(8), and may or may not get it in time.
    assert greetings[GREETED] > 0
    said = complaints(lab)
    assert "could allocate space for only 140 open files" in said
    assert "fcntl F_DUPFD: Too many open files" in complaints(lab, "proxymap")


@pytest.mark.faq("linux-processes", "10d")
@pytest.mark.faq("freebsd-processes", "9a")
def test_symptom_with_fewer_files_nothing_is_served_at_all(lab: Lab) -> None:
    """With 120 files proxymap(8) does not start; the port is open, no banner ever comes."""
    lab.mail.configure(service_throttle_time="60s", **NO_CLIENT_LIMIT)

    with lab.mail.faulty(OpenFilesLimit(120)), lab.client.crowd(lab.mail, 5) as crowd:
        greetings = Counter(crowd.greetings(quiet_s=2))

    assert greetings == {"": 5}
    assert complaints(lab, "proxymap") == [
        "could allocate space for only 120 open files",
        "fcntl F_DUPFD: Invalid argument",
    ]
    throttled = [text for text in complaints(lab, "master") if "throttling" in text]
    assert throttled == ["/usr/lib/postfix/sbin/proxymap: bad command startup -- throttling"]


@pytest.mark.faq("linux-processes", "10d")
@pytest.mark.faq("freebsd-processes", "9a")
def test_cure_what_opens_fewer_files_serves_all_clients(lab: Lab) -> None:
    """Where nothing else can be raised: each smtpd reads the tables itself, without proxymap."""
    lab.mail.configure(local_recipient_maps="proxy:unix:passwd.byname $alias_maps")
    lab.mail.configure(service_throttle_time="60s", **NO_CLIENT_LIMIT)
    lab.mail.cure.configure(local_recipient_maps="unix:passwd.byname $alias_maps")

    with lab.mail.faulty(OpenFilesLimit(140)), lab.client.crowd(lab.mail, 40) as crowd:
        greetings = Counter(crowd.greetings(quiet_s=3, at_least=40))

    assert complaints(lab, "proxymap") == []
    assert greetings == {GREETED: 40}


@pytest.mark.faq("linux-processes", "10d")
@pytest.mark.faq("freebsd-processes", "9a")
def test_behaviour_with_80_files_postfix_does_not_start(lab: Lab) -> None:
    """master(8) alone needs more for its services; "postfix start" waits for it and fails."""
    lab.mail.stop()

    done = lab.mail.run("prlimit", "--nofile=80:80", "postfix", "start", check=False)

    assert done.status == 1
    failure = "mail system startup failed"
    if lab.version in ("3.5", "3.7"):
        assert complaints(lab, "postfix-script") == [failure]
    else:
        assert f"postfix/postlog: fatal: {failure}" in done.stderr


@pytest.mark.faq("linux-processes")
def test_cure_timeouts_that_depend_on_stress_serve_everybody_in_turn(lab: Lab) -> None:
    """The process that reaches the limit has stress=yes, and no patience with idle clients.

    Of itself it would have 10 s.
    """
    lab.mail.configure(default_process_limit="5", **NO_CLIENT_LIMIT)
    lab.mail.cure.configure(smtpd_timeout="${stress?{1}:{300}}s")

    with lab.client.crowd(lab.mail, 7) as crowd:
        greetings = Counter(crowd.greetings(quiet_s=6, at_least=5))
        started = servers(lab)

    assert greetings == {GREETED: 7}
    assert started == {"stress=": 4, "stress=yes": 1}
