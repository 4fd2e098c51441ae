"""A lab out of control uses no more of the engine's host than its limits allow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from maillab.engine.client import connect
from maillab.errors import LabError
from maillab.lab.lab import Lab
from maillab.lab.pool import Labs
from maillab.site import topology

MB = 2**20
# Forks waiting processes until the kernel refuses one; prints their number.
FORK_BOMB = """
import os, signal
children = []
try:
    while True:
        child = os.fork()
        if not child:
            signal.pause()
        children.append(child)
except OSError as error:
    print(len(children), error.errno)
for child in children:
    os.kill(child, signal.SIGKILL)
for child in children:
    try:
        os.waitpid(child, 0)
    except ChildProcessError:
        pass
"""
# Fills memory and prints the amount.
MEMORY_HOG = """
kept = []
while True:
    kept.append(b"x" * 2**24)
    print(len(kept) * 16, flush=True)
"""
FLOOD = "yes 'warning: mail for example.org loops back to myself' >/var/log/flood"
# By service: processes, memory.
LIMITS = {"mail": (8192, 8192 * MB), "mail-net": (1024, 2048 * MB), "dns": (256, 512 * MB)}


@pytest.fixture
def lab(some_labs: Labs, request: pytest.FixtureRequest) -> Iterator[Lab]:
    lab = some_labs.get(topology.load("standalone"), request.config.option.postfix)
    yield lab
    lab.reset()


def run(lab: Lab, service: str, *argv: str) -> tuple[int, str]:
    """Return status and output of a command in a service's container."""
    done: Any = connect().containers.get(lab.project.containers[service]).exec_run(list(argv))
    return done.exit_code, done.output.decode()


def delivers(lab: Lab) -> bool:
    mail = lab.remote.smtp("alice@example.com", server=lab.mail)
    lab.settle(mail)
    return bool(mail.delivered_to(lab.mail, "alice"))


@pytest.mark.parametrize("name", topology.names())
def test_every_container_is_limited(
    name: str, some_labs: Labs, request: pytest.FixtureRequest
) -> None:
    """Processes, memory, the engine's log and privileges gained by set-uid are limited."""
    site = topology.load(name)
    lab = some_labs.get(site, request.config.option.postfix)
    # The log of a server is not cut; only an MTA has programs with set-id bits.
    servers = {role.name for role in site.roles.values() if role.server}
    mtas = {role.name for role in site.mail_hosts}

    for service, container in lab.project.containers.items():
        settings = connect().api.inspect_container(container)["HostConfig"]
        assert 0 < settings["PidsLimit"] <= LIMITS["mail"][0], service
        assert 0 < settings["Memory"] <= LIMITS["mail"][1], service
        assert settings["LogConfig"]["Config"]["max-size"] == (
            "1g" if service in servers else "64m"
        )
        restricted = "no-new-privileges:true" in (settings["SecurityOpt"] or [])
        assert restricted is (service not in mtas)
        if service in servers:
            assert "size=256m" in settings["Tmpfs"]["/var/log"]


@pytest.mark.parametrize("service", LIMITS)
def test_a_fork_bomb_ends_at_the_limit(lab: Lab, service: str) -> None:
    status, output = run(lab, service, "python3", "-c", FORK_BOMB)

    assert status == 0
    forked, refused = map(int, output.split())
    assert LIMITS[service][0] * 0.9 < forked < LIMITS[service][0]
    assert refused == 11
    assert delivers(lab)


@pytest.mark.parametrize("service", ["mail-net", "dns"])
def test_a_memory_hog_ends_at_the_limit(lab: Lab, service: str) -> None:
    """The kernel kills the program, and the others keep running."""
    status, output = run(lab, service, "python3", "-c", MEMORY_HOG)

    assert status == 137
    most = LIMITS[service][1] // MB
    assert most * 0.8 < int(output.split()[-1]) <= most
    assert delivers(lab)


def test_a_mail_hosts_memory_is_limited_in_the_kernel(lab: Lab) -> None:
    paths = "/sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max"
    _, output = run(lab, "mail", "sh", "-c", f"cat {paths} 2>/dev/null")

    assert int(output) == LIMITS["mail"][1]


def test_a_flood_of_log_lines_ends_at_the_limit_and_is_reported(lab: Lab) -> None:
    """Lines that do not fit are missing, so no verdict can rely on the log."""
    run(lab, "mail", "sh", "-c", FLOOD)

    _, used = run(lab, "mail", "du", "-sm", "/var/log")
    assert 250 <= int(used.split()[0]) <= 256
    with pytest.raises(LabError, match=r"the mail log is full: /var/log .* 256 MB"):
        lab.mail.catch_up()
    run(lab, "mail", "rm", "/var/log/flood")
    assert delivers(lab)


def test_a_mail_loop_ends_by_itself(lab: Lab) -> None:
    """Two hosts relay to each other until Postfix's hopcount_limit."""
    lab.mail.configure(
        mydestination="",
        relay_domains="example.com",
        transport_maps="inline:{*=smtp:[remote.example.net]}",
    )
    lab.remote.configure(
        mydestination="",
        relay_domains="example.com",
        transport_maps="inline:{*=smtp:[mail.example.com]}",
    )
    mail = lab.client.submit("alice@example.com", server=lab.mail)
    lab.settle(mail)

    assert mail.bounced(saying="too many hops")
    assert re.search("too many hops", "".join(lab.stream.log("mail") + lab.stream.log("remote")))
