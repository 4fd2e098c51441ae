"""Running hundreds of Postfix processes on Linux, and on FreeBSD.

Raise default_process_limit, and smtpd_client_connection_count_limit if one client needs
hundreds of sessions, then stop and start Postfix. If the log says "fork: Resource
temporarily unavailable" or "Too many open files", raise the limits of the container or
the service manager: processes (pids.max, TasksMax) and open files (LimitNOFILE). Where
that is impossible, allow fewer processes and shorter timeouts (smtpd_timeout).

The FAQ raised kernel limits: on Linux fs.file-max and threads-max, on FreeBSD
kern.maxfiles, kern.maxfilesperproc, kern.maxproc, kern.ipc.nmbclusters and
kern.ipc.maxsockets. Linux today allows more files and threads than the FAQ set. A
container shares the kernel's tables with the machine and may not change them, so a full
table cannot be tested here. Linux has no table of sockets: a socket is an open file. The
symptoms of a process's limits are the same on every system and are shown here (the FreeBSD
entry's portable part, bullet 9a). FreeBSD's own settings belong to its kernel, which no
container on Linux has, so they cannot be tested here.

Since the FAQ:
- default_process_limit is 100; it was 50.
- 2.2: one client may have fifty simultaneous connections.
- 2.5: a service at its process limit starts further processes with stress=yes, which
  shortens timeouts.
"""

from collections import Counter

import pytest

from maillab import Complaint, Connected, Lab, PostfixHost
from maillab.faults import OpenFilesLimit, ProcessLimit

pytestmark = pytest.mark.topology("standalone")

GREETED = "220 mail.example.com ESMTP Postfix"
NO_CLIENT_LIMIT = {"smtpd_client_connection_count_limit": "0"}


def complaints(lab: Lab, program: str = "") -> list[str]:
    """Return the warnings in the mail server's log, of one program or of all."""
    return [
        event.text
        for event in lab.events(Complaint, lab.mail)
        if program in ("", event.service)
    ]  # fmt: skip


def servers(lab: Lab) -> Counter[str]:
    """Count the smtpd(8) processes by their value of the parameter stress."""
    script = r"for p in /proc/[0-9]*; do tr '\0' ' ' <$p/cmdline; echo; done 2>/dev/null"
    lines = lab.mail.run("sh", "-c", script).stdout.splitlines()
    return Counter(
        word for line in lines if line.startswith("smtpd ") for word in line.split()
        if word.startswith("stress=")
    )  # fmt: skip


@pytest.mark.faq("linux-processes", "10a")
@pytest.mark.faq("freebsd-processes", "9a")
def test_symptom_clients_beyond_the_process_limit_wait_for_a_greeting(lab: Lab) -> None:
    """The kernel accepts connections beyond the limit; no smtpd(8) greets them until others end."""
    lab.mail.configure(**NO_CLIENT_LIMIT)
    lab.mail.misconfigure(default_process_limit="5")

    with lab.client.connections(lab.mail, 9) as connections:
        at_first = Counter(connections.greetings(at_least=5))
        served = len(lab.events(Connected, lab.mail))
        connections.leave()
        later = Counter(connections.greetings(at_least=4))

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

    The test takes as long as the machine needs to start 250 processes.
    """
    # A lower limit would overflow the kernel's listen queue.
    lab.mail.configure(default_process_limit="200", **NO_CLIENT_LIMIT)
    lab.mail.cure.configure(default_process_limit="300")

    with lab.client.connections(lab.mail, 250) as connections:
        greetings = Counter(connections.greetings(quiet_s=5, at_least=200))

    assert greetings == {GREETED: 250}
    assert complaints(lab) == []


def listen_queue(lab: Lab) -> int:
    """Return the connections to port 25 that the kernel holds before a process takes them."""
    (line,) = lab.mail.network.run("ss", "-Hltn", "sport = :25").stdout.splitlines()
    return int(line.split()[2])


def overflows(lab: Lab) -> int:
    """Return how often the kernel has dropped a connection for a full queue."""
    words = lab.mail.network.run("nstat", "-asz", "TcpExtListenOverflows").stdout.split()
    return int(words[words.index("TcpExtListenOverflows") + 1])


def raise_the_limit(host: PostfixHost) -> None:
    """Run Postfix with a process limit of 5, then write 100 into main.cf without a restart."""
    host.configure(default_process_limit="5", **NO_CLIENT_LIMIT)
    host.run("postconf", "-e", "default_process_limit=100")


@pytest.mark.faq("linux-processes", "10b")
def test_symptom_after_a_reload_the_listen_queue_is_still_short(lab: Lab) -> None:
    """A reload allows 100 processes, but the kernel still drops connections beyond five waiting."""
    lab.mail.configure(default_process_limit="100", **NO_CLIENT_LIMIT)
    raise_the_limit(lab.mail.mistake)
    lab.mail.reload()
    before = overflows(lab)

    with lab.client.connections(lab.mail, 20) as connections:
        greetings = Counter(connections.greetings(at_least=20))

    assert listen_queue(lab) == 5
    assert overflows(lab) > before
    assert greetings == {GREETED: 20}


@pytest.mark.faq("linux-processes", "10b")
def test_cure_after_a_stop_and_start_the_listen_queue_is_long(lab: Lab) -> None:
    """After a restart the queue is as long as the new limit, and no connection is dropped."""
    raise_the_limit(lab.mail)
    lab.mail.reload()
    lab.mail.cure.restart()
    before = overflows(lab)

    with lab.client.connections(lab.mail, 20) as connections:
        greetings = Counter(connections.greetings(at_least=20))

    assert listen_queue(lab) == 100
    assert overflows(lab) == before
    assert greetings == {GREETED: 20}


@pytest.mark.faq("linux-processes", "10d")
@pytest.mark.parametrize(
    ("path", "of_the_faq"),
    [("/proc/sys/fs/file-max", 16384), ("/proc/sys/kernel/threads-max", 2048)],
)
def test_historic_the_kernel_allows_more_than_the_faq_set(
    lab: Lab, path: str, of_the_faq: int
) -> None:
    """Without any setting the kernel's limit is above the FAQ's; a container may not change it."""
    refusal = lab.mail.run("sh", "-c", f"echo {of_the_faq} >{path}", check=False)

    assert int(lab.mail.read(path) or "") > of_the_faq
    assert refusal.status != 0
    assert "Read-only file system" in refusal.stderr


@pytest.mark.faq("linux-processes", "10a")
def test_behaviour_one_service_has_its_own_limit(lab: Lab) -> None:
    """The maxproc column of master.cf overrides default_process_limit."""
    lab.mail.configure(default_process_limit="100", **NO_CLIENT_LIMIT)
    lab.mail.cure.service("smtp inet n - n - 2 smtpd")

    with lab.client.connections(lab.mail, 20) as connections:
        greetings = Counter(connections.greetings(at_least=2))

    assert greetings == {GREETED: 2, "": 18}
    limit = 'service "smtp" (25) has reached its process limit "2"'
    lab.wait_for(Complaint, host=lab.mail, saying=limit)


@pytest.mark.faq("linux-processes", "10c")
def test_symptom_one_client_cannot_open_hundreds_of_connections(lab: Lab) -> None:
    """The default limit is fifty at once; the FAQ's Postfix had none."""
    lab.mail.configure(**NO_CLIENT_LIMIT)
    lab.mail.misconfigure(smtpd_client_connection_count_limit="50")

    with lab.client.connections(lab.mail, 60) as connections:
        greetings = Counter(connections.greetings(at_least=60))

    refusal = f"421 4.7.0 mail.example.com Error: too many connections from {lab.client.address}"
    assert greetings == {GREETED: 50, refusal: 10}
    client = f"client.example.net[{lab.client.address}]"
    warnings = complaints(lab)
    assert len(warnings) == 10
    # A new connection may be counted before the previous one has closed.
    assert all(text.startswith("Connection concurrency limit exceeded: 5") for text in warnings)
    assert all(text.endswith(f" from {client} for service smtp") for text in warnings)


@pytest.mark.faq("linux-processes", "10c")
def test_cure_a_client_is_exempt_from_the_limit(lab: Lab) -> None:
    """A busy relay is listed as an exception; other clients stay limited."""
    lab.mail.configure(smtpd_client_connection_count_limit="50")
    lab.mail.cure.configure(smtpd_client_event_limit_exceptions=lab.client.address)

    with (
        lab.client.connections(lab.mail, 60) as exempt,
        lab.remote.connections(lab.mail, 51) as limited,
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
    """The kernel refuses to fork: master(8) throttles the service, and clients wait."""
    lab.mail.configure(service_throttle_time="1s", **NO_CLIENT_LIMIT)
    with lab.client.session(lab.mail) as session:
        # Start the daemons that smtpd(8) needs, as on a busy server.
        session.ehlo()
        session.quit()

    with (
        lab.mail.faulty(ProcessLimit(spare=10)),
        lab.client.connections(lab.mail, 40) as connections,
    ):
        greetings = Counter(connections.greetings(quiet_s=2, at_least=11))

    # Ten new processes, and the one already running.
    assert greetings == {GREETED: 11, "": 29}
    assert set(complaints(lab)) == {
        "master_spawn: fork: Resource temporarily unavailable -- throttling"
    }


@pytest.mark.faq("linux-processes", "10d")
@pytest.mark.faq("freebsd-processes", "9a")
def test_behaviour_clients_are_served_once_there_are_processes_again(lab: Lab) -> None:
    """Waiting clients are greeted when master(8) retries after service_throttle_time."""
    lab.mail.configure(service_throttle_time="1s", **NO_CLIENT_LIMIT)

    with lab.client.connections(lab.mail, 40) as connections:
        greetings = Counter(connections.greetings(at_least=40))
        connections.leave()
    with lab.client.connections(lab.mail, 60) as connections:
        with lab.mail.faulty(ProcessLimit(spare=0)):
            connections.greetings(quiet_s=2)
        later = Counter(connections.greetings(at_least=60))

    assert greetings == {GREETED: 40}
    fork_failed = "master_spawn: fork: Resource temporarily unavailable -- throttling"
    assert set(complaints(lab)) == {fork_failed}
    assert later == {GREETED: 60}


@pytest.mark.faq("linux-processes", "10d")
@pytest.mark.faq("freebsd-processes", "9a")
def test_symptom_no_more_files_can_be_opened(lab: Lab) -> None:
    """With 140 files per process proxymap(8), connected to each smtpd, runs out of files."""
    lab.mail.configure(service_throttle_time="60s", **NO_CLIENT_LIMIT)

    with lab.mail.faulty(OpenFilesLimit(140)), lab.client.connections(lab.mail, 40) as connections:
        greetings = Counter(connections.greetings(quiet_s=2, at_least=1))

    # The others wait for a new proxymap(8), which does not start while the block lasts.
    assert greetings == {GREETED: greetings[GREETED], "": 40 - greetings[GREETED]}
    assert 0 < greetings[GREETED] < 40
    warnings = complaints(lab)
    assert "could allocate space for only 140 open files" in warnings
    assert "fcntl F_DUPFD: Too many open files" in complaints(lab, "proxymap")


@pytest.mark.faq("linux-processes", "10d")
@pytest.mark.faq("freebsd-processes", "9a")
def test_symptom_with_fewer_files_nothing_is_served_at_all(lab: Lab) -> None:
    """With 120 files proxymap(8) does not start: the port is open without a banner."""
    lab.mail.configure(service_throttle_time="60s", **NO_CLIENT_LIMIT)

    with lab.mail.faulty(OpenFilesLimit(120)), lab.client.connections(lab.mail, 5) as connections:
        greetings = Counter(connections.greetings(quiet_s=2))

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
    """If limits cannot be raised, let each smtpd read the tables without proxymap."""
    lab.mail.configure(local_recipient_maps="proxy:unix:passwd.byname $alias_maps")
    lab.mail.configure(service_throttle_time="60s", **NO_CLIENT_LIMIT)
    lab.mail.cure.configure(local_recipient_maps="unix:passwd.byname $alias_maps")

    with lab.mail.faulty(OpenFilesLimit(140)), lab.client.connections(lab.mail, 40) as connections:
        greetings = Counter(connections.greetings(quiet_s=3, at_least=40))

    assert complaints(lab, "proxymap") == []
    assert greetings == {GREETED: 40}


@pytest.mark.faq("linux-processes", "10d")
@pytest.mark.faq("freebsd-processes", "9a")
def test_behaviour_with_80_files_postfix_does_not_start(lab: Lab) -> None:
    """master(8) alone needs more for its services; "postfix start" waits for it and fails."""
    lab.mail.stop()

    done = lab.mail.mistake.run("prlimit", "--nofile=80:80", "postfix", "start", check=False)

    assert done.status == 1
    failure = "mail system startup failed"
    if lab.has("postfix reports without a terminal"):
        assert f"postfix/postlog: fatal: {failure}" in done.stderr
    else:
        assert complaints(lab, "postfix-script") == [failure]


@pytest.mark.faq("linux-processes")
def test_cure_timeouts_that_depend_on_stress_serve_everybody_in_turn(lab: Lab) -> None:
    """The process that reaches the limit has stress=yes and soon drops idle clients.

    Its default timeout would be 10 s.
    """
    lab.mail.configure(default_process_limit="5", **NO_CLIENT_LIMIT)
    lab.mail.cure.configure(smtpd_timeout="${stress?{1}:{300}}s")

    with lab.client.connections(lab.mail, 7) as connections:
        greetings = Counter(connections.greetings(quiet_s=6, at_least=5))
        started = servers(lab)

    assert greetings == {GREETED: 7}
    assert started == {"stress=": 4, "stress=yes": 1}
