"""The limits of FAQ entry 10 under load: dozens of clients that all send mail.

A service's process limit is also its kernel backlog, the connections that the kernel
holds for it (master(8) requests it). Connections beyond both get lost between the two
kernels: the client is connected and never gets a greeting, so it needs its own timeout
and a retry.
"""

import pytest

from maillab import Complaint, Lab, Report
from maillab.faults import OpenFilesLimit, ProcessLimit

pytestmark = [
    pytest.mark.heavy,
    pytest.mark.topology("standalone"),
    pytest.mark.faq("linux-processes", "10a"),
]

NO_CLIENT_LIMIT = {"smtpd_client_connection_count_limit": "0"}
SOON = {"service_throttle_time": "1s"}
PATIENCE_S = 20.0
# Hundreds of deliveries on a busy machine.
DRAIN_S = 600.0
NO_FILES = "fcntl F_DUPFD: Too many open files"


def complaints(lab: Lab, program: str, saying: str) -> int:
    """Return the number of a program's warnings with this text."""
    return sum(
        event.service == program and saying in event.text
        for event in lab.events(Complaint, lab.mail)
    )


def from_sixty_clients(lab: Lab, *, again: bool = True) -> Report:
    """Send 300 messages from 60 clients, one per session, and drain the queue."""
    retries = 1000 if again else 0
    report = lab.load(
        lab.mail, lab.client, sessions=60, messages=300, retries=retries, timeout_s=PATIENCE_S
    )
    lab.drain(within_s=DRAIN_S)
    return report


def test_symptom_clients_beyond_the_process_limit_queue_for_a_process(lab: Lab) -> None:
    """master(8) logs the limit; the ten processes accept every message in the end."""
    lab.mail.configure(default_process_limit="200", **NO_CLIENT_LIMIT)
    lab.mail.misconfigure(default_process_limit="10")

    report = from_sixty_clients(lab)

    assert complaints(lab, "master", 'service "smtp" (25) has reached its process limit "10"')
    assert report.outcomes == {"acknowledged": 300}


def test_cure_with_a_process_for_each_client_nobody_queues(lab: Lab) -> None:
    """With the same load and a process for each client master(8) logs nothing."""
    lab.mail.configure(default_process_limit="10", **NO_CLIENT_LIMIT)
    lab.mail.cure.configure(default_process_limit="200")

    report = from_sixty_clients(lab, again=False)

    assert not complaints(lab, "master", "has reached its process limit")
    assert report.outcomes == {"acknowledged": 300}


@pytest.mark.faq("linux-processes", "10c")
def test_symptom_a_client_with_too_many_sessions_is_put_off(lab: Lab) -> None:
    """Sessions beyond the limit get 421; refused messages stay with the client."""
    lab.mail.configure(**NO_CLIENT_LIMIT)
    lab.mail.misconfigure(smtpd_client_connection_count_limit="10")

    report = from_sixty_clients(lab, again=False)

    assert report.replies["421"] == report.outcomes["refused"] > 0
    assert report.outcomes["acknowledged"] + report.outcomes["refused"] == 300


@pytest.mark.faq("linux-processes", "10c")
def test_cure_an_exempt_client_has_as_many_sessions_as_it_likes(lab: Lab) -> None:
    """smtpd_client_event_limit_exceptions exempts the client."""
    lab.mail.configure(smtpd_client_connection_count_limit="10")
    lab.mail.cure.configure(smtpd_client_event_limit_exceptions=lab.client.address)

    report = from_sixty_clients(lab)

    assert report.outcomes == {"acknowledged": 300}


@pytest.mark.faq("linux-processes", "10d")
def test_symptom_the_system_has_no_process_for_the_next_client(lab: Lab) -> None:
    """master(8) cannot fork and throttles; no accepted mail is lost."""
    lab.mail.configure(default_process_limit="200", **NO_CLIENT_LIMIT, **SOON)

    with lab.mail.faulty(ProcessLimit(spare=25)):
        report = from_sixty_clients(lab)

    assert complaints(lab, "master", "fork: Resource temporarily unavailable -- throttling")
    assert report.outcomes == {"acknowledged": 300}


@pytest.mark.faq("linux-processes", "10d")
def test_cure_a_process_limit_below_the_systems_keeps_master_from_it(lab: Lab) -> None:
    """If the kernel's limit cannot be raised, Postfix's own makes clients wait in order."""
    lab.mail.configure(default_process_limit="200", **NO_CLIENT_LIMIT, **SOON)

    with lab.mail.faulty(ProcessLimit(spare=25)):
        from_sixty_clients(lab)
        before = complaints(lab, "master", "fork: Resource temporarily unavailable")
        lab.mail.cure.configure(default_process_limit="5")
        report = from_sixty_clients(lab)

    assert complaints(lab, "master", "fork: Resource temporarily unavailable") == before > 0
    assert report.outcomes == {"acknowledged": 300}


@pytest.mark.faq("linux-processes", "10d")
def test_symptom_there_is_no_file_for_the_next_server(lab: Lab) -> None:
    """trivial-rewrite(8) and proxymap(8) run out of files for all smtpd(8) connections."""
    lab.mail.configure(default_process_limit="200", **NO_CLIENT_LIMIT, **SOON)

    with lab.mail.faulty(OpenFilesLimit(140)):
        report = from_sixty_clients(lab)

    assert complaints(lab, "trivial-rewrite", NO_FILES) + complaints(lab, "proxymap", NO_FILES)
    assert report.outcomes["acknowledged"] + report.outcomes["unknown"] == 300


@pytest.mark.faq("linux-processes", "10d")
def test_cure_fewer_servers_at_once_need_fewer_files(lab: Lab) -> None:
    """If the file limit cannot be raised, fewer processes serve the same clients."""
    lab.mail.configure(default_process_limit="200", **NO_CLIENT_LIMIT, **SOON)

    with lab.mail.faulty(OpenFilesLimit(140)):
        from_sixty_clients(lab)
        before = complaints(lab, "trivial-rewrite", NO_FILES)
        lab.mail.cure.configure(default_process_limit="3")
        report = from_sixty_clients(lab)

    assert complaints(lab, "trivial-rewrite", NO_FILES) == before > 0
    assert report.outcomes == {"acknowledged": 300}
