"""The speed of a lab itself: start, reset, commands, events."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from maillab.engine import compose, images
from maillab.engine.client import connect
from maillab.engine.watchdog import Watchdog
from maillab.lab import lab as labs
from maillab.lab.lab import Lab
from maillab.site import topology

SITE = topology.load("backup-mx")
BANNER = "read -t 5 banner </dev/tcp/127.0.0.1/25 && [[ $banner == 220* ]]"


def timed(work: Callable[[], object]) -> float:
    """Return how many seconds some work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def banners_answer(containers: dict[str, str]) -> None:
    """Return once each SMTP server greets; the same check serves both ways to start a lab."""

    def answers(container: str) -> None:
        api = connect().api
        while True:
            asked = api.exec_create(container, ["bash", "-c", BANNER])["Id"]
            api.exec_start(asked)
            if api.exec_inspect(asked)["ExitCode"] == 0:
                return

    with ThreadPoolExecutor(max_workers=8) as pool:
        for job in [pool.submit(answers, containers[role.name]) for role in SITE.mail_hosts]:
            job.result()


def cold_start_ours(version: str) -> float:
    """Return the seconds until a lab of ours greets on every host."""
    began = time.perf_counter()
    lab = labs.start(SITE, version)
    banners_answer(lab.project.containers)
    took = time.perf_counter() - began
    lab.down()
    return took


def cold_start_plain(version: str, number: int) -> float:
    """Return the seconds until ``docker compose up -d`` of the same file greets on every host."""
    name = f"maillab_{compose.owner()}_plain_{number}"
    tags = {f"{image.kind.upper()}_IMAGE": image.tag for image in images.needed(version)}
    environment = {
        **os.environ,
        **tags,
        "NET": next(compose.free_nets(compose.pool_of())),
        "HEALTH_INTERVAL": "24h",
    }
    command = [*compose.compose_command(), "-p", name, "-f", str(SITE.path), "up", "-d"]

    def start() -> None:
        subprocess.run(command, env=environment, check=True, capture_output=True)
        banners_answer(compose.Project(name, "", SITE.path).containers)

    took = timed(start)
    compose.remove(name)
    return took


def cold_starts(version: str, pairs: int) -> list[float]:
    """Return the ratios of ours to plain Compose, in turn."""
    return [cold_start_ours(version) / cold_start_plain(version, n) for n in range(pairs)]


def resets(lab: Lab, runs: int) -> list[float]:
    """Return the milliseconds for each reset after a scenario's usual changes."""
    found = []
    for _ in range(runs):
        lab.sender.configure(smtp_skip_5xx_greeting="no")
        lab.settle(lab.sender.send("alice@example.org"))
        found.append(timed(lab.reset) * 1000)
    return found


def commands(lab: Lab, runs: int) -> list[float]:
    """Return the ratios of a command through the channel to one ``docker exec``, in turn."""
    container = lab.project.containers["sender"]
    docker = ["docker", "exec", container, "true"]
    found = []
    for _ in range(runs):
        ours = timed(lambda: lab.sender.run("true"))
        found.append(ours / timed(lambda: subprocess.run(docker, check=True)))
    return found


def events(lab: Lab, runs: int) -> list[float]:
    """Return the milliseconds from a request for a log line to the wait that the line ends.

    The figure includes the request, so the line itself takes less.
    """
    found = []
    for _ in range(runs):
        since, token = lab.stream.position, lab.stream.new_token()
        began = time.perf_counter()
        lab.sender.begin_mark(token)
        lab.stream.wait_for_marks({"sender": token}, since=since, within_s=10)
        found.append((time.perf_counter() - began) * 1000)
    return found


def measure(version: str) -> Iterator[tuple[str, list[float]]]:
    """Measure everything, in labs of its own."""
    watchdog = Watchdog(compose.owner())
    yield "cold_start_ratio", cold_starts(version, 5)
    lab = labs.start(SITE, version)
    try:
        yield "reset_ms", resets(lab, 25)
        yield "command_ratio", commands(lab, 40)
        yield "event_p95_ms", events(lab, 200)
    finally:
        lab.down()
        watchdog.dismiss()
