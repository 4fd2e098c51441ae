"""Starts of servers: made once, before every request that is not a setting."""

from __future__ import annotations

import json
import threading
from concurrent.futures import Future
from typing import Any

import pytest

from bounded import BOUND_S
from maillab.engine import operations
from maillab.engine.channel import LATER, Channel
from maillab.engine.starts import Starts
from maillab.errors import HostGone, LabError
from maillab.hosts.postfix import PostfixHost
from maillab.lab import assembly
from maillab.scenario.state import ScenarioState, Withheld
from maillab.scenario.stream import Stream
from maillab.site import topology

PROGRAMS = {
    "mail": (*assembly._POSTFIX_PROGRAMS,),  # the programs of each kind
    "agent": tuple(name for name in assembly._AGENT_PROGRAMS if name != LATER),
}
# Operations that work on files alone.
SETTINGS = {"configure", "run_tool", "write"}


class Recorder:
    """The far end of channels: it notes each request and answers at once."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.errors: dict[tuple[str, str], str] = {}
        self.starts = Starts()
        self.starts.delayed = True
        # The name of a channel whose container is gone.
        self.dead = ""
        # A restart takes until ``slow`` is set, if it is given; ``begun`` says that one began.
        self.slow: threading.Event | None = None
        self.begun = threading.Event()

    def channel(self, name: str, programs: tuple[str, ...], starts: Starts) -> Channel:
        """Return a channel to this far end."""
        recorder = self

        class Recorded(Channel):
            def open(self) -> Any:
                if name == recorder.dead:
                    raise HostGone(f"{name}: gone")
                return self

            def send(self, number: int, request: bytes) -> Future[dict[str, Any]]:
                del number
                op = operations_json(request)
                recorder.requests.append((name, op))
                future: Future[dict[str, Any]] = Future()
                error = recorder.errors.get((name, op))
                done = {"ok": operations.empty_answer(programs, op)}
                answer = {"error": error} if error else done
                slow = recorder.slow if op == "restart" else None
                recorder.begun.set()
                if slow is None:
                    future.set_result(answer)
                else:

                    def answer_later() -> None:
                        slow.wait(BOUND_S)
                        future.set_result(answer)

                    threading.Thread(target=answer_later).start()
                return future

        return Recorded("container-of-" + name, name, programs, starts)

    def host(self, name: str) -> PostfixHost:
        """Return a mail host of "backup-mx" behind channels to this far end."""
        channel = self.channel(name, PROGRAMS["mail"], self.starts)
        role = topology.load("backup-mx").roles[name]
        return PostfixHost(role, "198.18.0", channel, channel, ScenarioState(Stream(), {}))


def operations_json(request: bytes) -> str:
    """Return the name of the operation in a request."""
    return str(json.loads(request)["op"])


ALL = [
    (kind, name)
    for kind, programs in PROGRAMS.items()
    for program in (operations.CHANNEL, *programs)
    for name in operations.offered(program)
]


@pytest.mark.parametrize(("kind", "op"), ALL, ids=[f"{kind} {op}" for kind, op in ALL])
def test_every_request_that_is_not_a_setting_makes_the_starts(kind: str, op: str) -> None:
    """On any host: mail may go from there to the host whose start is due."""
    far = Recorder()
    starts = far.starts
    primary = far.channel("primary", PROGRAMS["mail"], starts)
    other = far.channel("other", PROGRAMS[kind], starts)
    primary.restart_later("configure")

    other.begin(op)

    before = [] if op in SETTINGS else [("primary", "restart")]
    assert far.requests == [*before, ("other", op)]
    assert starts.pending == (op in SETTINGS)


def test_the_starts_are_made_before_the_engine_touches_a_container() -> None:
    """The engine kills or pauses it by its id, so asking for the id makes the starts."""
    far = Recorder()
    starts = far.starts
    primary = far.channel("primary", PROGRAMS["mail"], starts)
    primary.restart_later("configure")

    assert primary.container == "container-of-primary"
    assert far.requests == [("primary", "restart")]


def test_all_servers_start_once_and_a_reset_one_is_not_restarted() -> None:
    """Several settings on two hosts need one start of each host."""
    far = Recorder()
    starts = far.starts
    primary = far.channel("primary", PROGRAMS["mail"], starts)
    backup = far.channel("backup", PROGRAMS["mail"], starts)
    starts.need([primary], "first_start")
    primary.restart_later("configure")
    primary.restart_later("service")
    backup.restart_later("configure")

    primary.begin("mark")
    primary.begin("mark")

    assert far.requests[:2] == [("primary", "first_start"), ("backup", "restart")]
    assert far.requests[2:] == [("primary", "mark")] * 2


def test_a_start_that_fails_names_the_lines_of_its_settings() -> None:
    """The other hosts start all the same, and nothing is tried again."""
    far = Recorder()
    backup = far.channel("backup", PROGRAMS["mail"], far.starts)
    far.errors["primary", "restart"] = "RuntimeError: master does not start: fatal: no such host"
    host = far.host("primary")
    host.configure(inet_interfaces="nowhere.example")
    host.service("smtp inet n - n - - smtpd")
    backup.restart_later("configure")

    with pytest.raises(LabError, match="no such host") as raised:
        host.stop()

    lines = [int(part.split(" ")[0]) for part in str(raised.value).split("test_starts.py:")[1:]]
    assert len(lines) == 2
    assert lines[1] == lines[0] + 1
    assert "(configure inet_interfaces)" in str(raised.value)
    assert ("backup", "restart") in far.requests
    assert not far.starts.pending


def test_a_file_that_postfix_reads_at_its_start_is_written_after_the_starts() -> None:
    """Otherwise the setting before it would take effect together with the file."""
    far = Recorder()
    host = far.host("primary")
    host.configure(mynetworks="127.0.0.0/8")

    host.write("/etc/aliases", "")
    assert far.requests == [("primary", "configure"), ("primary", "write")]
    host.write("/etc/postfix/master.cf", "")

    assert far.requests[2:] == [("primary", "restart"), ("primary", "write")]


@pytest.mark.parametrize(
    ("withhold", "requests"), [("cures", []), ("faults", [("primary", "configure")])]
)
def test_a_withheld_setting_starts_nothing(
    withhold: Withheld, requests: list[tuple[str, str]]
) -> None:
    """A cure that is left out leaves the server as it is; one that is taken restarts it."""
    far = Recorder()
    host = far.host("primary")
    host.scenario.withhold = withhold

    host.cure.configure(mynetworks="127.0.0.0/8")

    assert far.requests == requests
    assert far.starts.pending == bool(requests)


def test_a_setting_that_is_refused_starts_nothing() -> None:
    """The error comes at the line of the setting, and the server keeps running."""
    far = Recorder()
    host = far.host("primary")
    far.errors["primary", "configure"] = "RuntimeError: main.cf is read-only"

    with pytest.raises(LabError, match="is read-only"):
        host.configure(mynetworks="127.0.0.0/8")

    assert far.requests == [("primary", "configure")]
    assert not far.starts.pending


def test_a_lab_outside_a_test_run_starts_its_servers_at_once() -> None:
    """Its other users would find old settings; the error comes at the line of the setting."""
    far = Recorder()
    far.starts.delayed = False
    primary = far.channel("primary", PROGRAMS["mail"], far.starts)
    far.starts.need([primary], "first_start")
    far.errors["primary", "restart"] = "RuntimeError: master does not start"

    with pytest.raises(LabError, match="master does not start"):
        primary.restart_later("configure")

    assert far.requests == [("primary", "first_start"), ("primary", "restart")]
    assert not far.starts.pending


def test_all_starts_that_fail_are_reported() -> None:
    """A channel that is dead does not keep the other servers from their starts."""
    far = Recorder()
    dead, primary, backup = (
        far.channel(name, PROGRAMS["mail"], far.starts) for name in ("dead", "primary", "backup")
    )
    for server in (dead, primary, backup):
        server.restart_later("configure")
    far.dead = "dead"
    far.errors["primary", "restart"] = "RuntimeError: master does not start"

    with pytest.raises(HostGone, match=r"dead: gone; .*; primary: .*master does not start"):
        backup.begin("mark")

    assert ("backup", "restart") in far.requests
    assert not far.starts.pending


def test_a_request_of_another_thread_waits_for_a_start_in_progress() -> None:
    """A load looks at its server from a thread of its own."""
    far = Recorder()
    primary = far.channel("primary", PROGRAMS["mail"], far.starts)
    primary.restart_later("configure")
    far.slow = threading.Event()
    first = threading.Thread(target=primary.begin, args=("mark",))
    first.start()
    assert far.begun.wait(BOUND_S)

    second = threading.Thread(target=primary.begin, args=("queue_lengths",))
    second.start()
    second.join(0.2)

    assert second.is_alive()
    assert far.requests == [("primary", "restart")]
    far.slow.set()
    first.join(BOUND_S)
    second.join(BOUND_S)
    assert sorted(op for _, op in far.requests[1:]) == ["mark", "queue_lengths"]
