"""A mark comes after all earlier log lines; a failed start names its reason. Needs an engine."""

from __future__ import annotations

import re

import pytest

from maillab.errors import LabError
from maillab.hosts.postfix import PostfixHost
from maillab.lab.lab import Lab
from maillab.mail.maillog import Sentinel

# Sends lines to the log socket until it is full; prints the number accepted.
FILL = """
import socket
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
    log.setblocking(False)
    log.connect("/var/spool/postfix/public/postlog")
    count = 0
    try:
        while count < MOST:
            log.send(b"Nov 30 08:58:18 primary test[1]: earlier")
            count += 1
    except BlockingIOError:
        pass
print(count)
"""


def stop_postlogd(host: PostfixHost) -> int:
    """Stop the running postlogd(8); return the number that resumes it."""
    host.catch_up()
    signaller: int = host.channel.call("signals_start", daemon="postlogd", stop=True)["signaller"]
    return signaller


@pytest.mark.parametrize("most", [1, 10_000], ids=["one line waits", "the socket is full"])
def test_the_mark_follows_lines_that_postlogd_has_not_written(lab: Lab, most: int) -> None:
    """A mark that bypasses postlogd(8) would come before the waiting lines.

    Every "nothing arrived" claim relies on this order.
    """
    host = lab.primary
    signaller = stop_postlogd(host)
    since, token = lab.stream.position, lab.stream.new_token()

    waiting = int(host.run("python3", "-c", FILL.replace("MOST", str(most))).stdout)
    marking = host.begin_mark(token)
    if waiting == most:
        marking.result()
    assert host.channel.call("signals_stop", signaller=signaller)["confirmed"]
    marking.result()
    lab.stream.wait_for_marks({host.name: token}, since=since, within_s=30)

    ours = [event for event in lab.stream.since(since) if event.host == host.name]
    texts = ["mark" if isinstance(event, Sentinel) else event.text for event in ours]
    assert waiting >= 1
    assert texts[: texts.index("mark")].count("earlier") == waiting
    assert texts.count("earlier") == waiting


def test_a_host_logs_a_mark_without_postfix(lab: Lab) -> None:
    """The host's Postfix was stopped, or just killed."""
    lab.primary.stop()
    lab.primary.catch_up()
    lab.primary.start()

    signaller = lab.primary.channel.call("signals_start", daemon="master")["signaller"]
    lab.primary.catch_up()

    assert lab.primary.channel.call("signals_stop", signaller=signaller)["confirmed"]


@pytest.mark.parametrize(
    "file", ["/var/spool/postfix/pid/master.pid", "/var/lib/postfix/master.lock"]
)
def test_a_start_that_a_lock_prevents_names_its_holder(lab: Lab, file: str) -> None:
    """Postfix reports the lock to syslog(3) only."""
    lab.sender.stop()
    lab.sender.run("sh", "-c", f"setsid flock {file} sleep 100 >/dev/null 2>&1 </dev/null &")
    lab.sender.run("sh", "-c", f"while flock -n {file} true; do :; done")

    with pytest.raises(LabError) as error:
        lab.sender.start()

    assert re.search(rf"{file} is still locked by .*(flock|sleep)\[\d+\]", str(error.value))
    assert re.search(r"stop of master\[\d+\]: end of master \d", str(error.value))


def test_a_failed_start_has_masters_error_and_the_processes(lab: Lab) -> None:
    """The error has the status, each step's duration and the processes at that moment."""
    lab.sender.stop()
    serve = "import os, socket; s = socket.create_server(('', 25)); os.fork() and os._exit(0)"
    lab.sender.run(
        "sh", "-c", f'setsid python3 -c "{serve}; s.accept()" </dev/null >/dev/null 2>&1'
    )

    with pytest.raises(LabError) as error:
        lab.sender.start()

    assert "master does not start: fatal: bind 0.0.0.0 port 25: Address already in use" in str(
        error.value
    )
    assert re.search(r"master -w \d+\.\d+ s \(status 1\)", str(error.value))
    assert re.search(r"end of its daemons \d+\.\d+ s \(\d+ left\)", str(error.value))
    assert re.search(r"processes: .*python3\[\d+\]", str(error.value))
    assert "\n" not in str(error.value)
