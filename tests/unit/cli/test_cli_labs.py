"""The lab that a command means, its owner, and access to its hosts."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cli_calls import HAND_1, HAND_2, PLAIN, RUN, Api, add, status_of
from maillab.cli import labs
from maillab.engine import compose
from maillab.engine.compose import Project
from maillab.errors import BadInput, UnknownName


@pytest.mark.parametrize(
    ("existing", "wanted", "meant"),
    [
        ([HAND_1], "", HAND_1),
        ([HAND_1, RUN, PLAIN], "", HAND_1),
        ([HAND_1, HAND_2], "backup-mx", HAND_2),
        ([HAND_1, HAND_2], "bbb", HAND_2),
        ([HAND_1, RUN, PLAIN], "standalone", HAND_1),
        ([HAND_1, RUN, PLAIN], "maillab-st", PLAIN),
        ([RUN], "standalone", RUN),
        ([HAND_1, RUN], RUN, RUN),
    ],
)
def test_a_lab_is_found_by_an_unambiguous_name(
    existing: list[str], wanted: str, meant: str, projects: dict[str, Project]
) -> None:
    add(projects, *existing)
    assert labs.choose(wanted).name == meant


@pytest.mark.parametrize(
    ("existing", "wanted", "words"),
    [
        ([], "", "no lab was brought up by hand: run 'maillab up TOPOLOGY'"),
        ([RUN], "", f"no lab was brought up by hand.* or choose from {RUN}"),
        ([HAND_1, HAND_2], "", rf"several labs \(choose from {HAND_1}, {HAND_2}\)"),
        ([HAND_1, HAND_2], "-6-1", r"several labs match '-6-1' \(choose from "),
        ([HAND_1], "uucp", rf"unknown lab 'uucp' \(choose from {HAND_1}\)"),
    ],
)
def test_no_lab_and_several_labs_are_errors(
    existing: list[str], wanted: str, words: str, projects: dict[str, Project]
) -> None:
    add(projects, *existing)
    with pytest.raises(BadInput, match=words):
        labs.choose(wanted)


def test_down_spares_the_labs_of_runs(
    projects: dict[str, Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run's lab is removed only by its full name, and never with ``--all``."""
    gone: list[str] = []
    monkeypatch.setattr(compose, "remove", gone.append)
    add(projects, RUN)
    assert status_of("down", "standalone") == UnknownName.exit_code
    assert status_of("down", "--all") == 0
    assert gone == []
    assert status_of("down", RUN) == 0
    add(projects, HAND_1, HAND_2, PLAIN)
    assert status_of("down", "--all") == 0
    assert gone == [RUN, HAND_1, HAND_2]


def test_a_lab_whose_file_is_missing_is_reported(
    projects: dict[str, Project], capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = Path("/elsewhere/standalone.yaml")
    projects[HAND_1] = Project(HAND_1, "198.18.7", elsewhere, handed_over=True)
    assert status_of("shell", "mail") == BadInput.exit_code
    assert "/elsewhere/standalone.yaml is not on this machine" in capsys.readouterr().err


def test_an_incomplete_lab_is_reported(
    projects: dict[str, Project],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add(projects, HAND_1)
    monkeypatch.setattr(Project, "containers", {"mail": "1", "mail-net": "2", "client-net": "3"})
    assert status_of("queue", "mail") == 15
    assert f"{HAND_1} has lost remote, remote-net" in capsys.readouterr().err


def test_ps_shows_the_owner_of_a_lab(
    engine_api: Callable[..., Api],
    projects: dict[str, Project],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    dead = {"0-1-1": True, "0-2-1": False, "9-1-1": None}
    monkeypatch.setattr(compose, "is_dead", dead.__getitem__)
    add(projects, HAND_1, PLAIN, *(f"maillab_{owner}_standalone_1" for owner in dead))
    label = {"com.docker.compose.project": HAND_1}
    engine_api(containers=[{"Labels": label, "State": state} for state in ("running", "exited")])

    assert status_of("ps", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["name"]: row["owner"] for row in rows} == {
        HAND_1: "hand",
        PLAIN: "compose",
        "maillab_0-1-1_standalone_1": "dead run",
        "maillab_0-2-1_standalone_1": "run",
        "maillab_9-1-1_standalone_1": "elsewhere",
    }
    assert next(row for row in rows if row["name"] == HAND_1) == {
        "name": HAND_1,
        "topology": "standalone",
        "owner": "hand",
        "net": "198.18.7.0/24",
        "running": 1,
        "containers": 2,
        "faults": [],
    }
    assert status_of("ps") == 0
    assert f"{HAND_1}  " in capsys.readouterr().out


def test_sweep_lists_what_it_removed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compose, "sweep", lambda *, everything: [RUN, HAND_1] if everything else [])
    assert status_of("sweep") == 0
    assert status_of("sweep", "--all", "--json") == 0
    quiet, listed = capsys.readouterr().out.split("\n", 1)
    assert quiet == "nothing to remove"
    assert json.loads(listed) == {"removed": [RUN, HAND_1]}


@pytest.fixture
def standalone(projects: dict[str, Project], monkeypatch: pytest.MonkeyPatch) -> None:
    add(projects, HAND_1)
    services = ("mail", "mail-net", "remote", "remote-net", "client-net", "dns")
    monkeypatch.setattr(Project, "containers", {service: service for service in services})


@pytest.mark.parametrize(
    ("argv", "ends_with"),
    [
        (["mail"], ["mail", "bash"]),
        (["client"], ["client-net", "bash"]),
        (["mail", "--agent"], ["mail-net", "bash"]),
        (["mail", "--lab", "standalone", "--", "ls", "--lab", "--"], ["mail", "ls", "--lab", "--"]),
    ],
)
def test_shell_runs_in_the_requested_container(
    argv: list[str], ends_with: list[str], standalone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []

    def call(command: list[str]) -> int:
        ran.append(command)
        return 7

    monkeypatch.setattr(compose, "compose_command", lambda: ("docker-compose",))
    monkeypatch.setattr(subprocess, "call", call)
    assert status_of("shell", *argv) == 7
    assert ran == [["docker-compose", "--project-name", HAND_1, "exec", "-T", *ends_with]]


@pytest.mark.parametrize("argv", [["shell", "gate"], ["logs", "gate"], ["queue", "gate"]])
def test_an_unknown_host_is_refused_with_the_known_ones(
    argv: list[str], standalone: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(*argv) == UnknownName.exit_code
    error = "maillab: unknown host 'gate' of standalone (choose from mail, remote, client)\n"
    assert capsys.readouterr().err == error


@pytest.mark.parametrize("follow", [[], ["--follow"]])
def test_logs_of_all_hosts_are_shown_by_time(
    follow: list[str],
    standalone: None,
    engine_api: Callable[..., Api],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each line appears once, however the engine cuts the stream and whenever it is followed."""
    engine_api(
        logs={
            "mail": [b"10:00Z one\n10:0", b"3Z four\n"],
            "remote": [b"10:01Z two\n", b"10:02Z thr\xff\n"],
            "client-net": [],
        }
    )
    assert status_of("logs", "all", *follow) == 0
    assert capsys.readouterr().out.splitlines() == [
        "mail: one",
        "remote: two",
        "remote: thr\\xff",
        "mail: four",
    ]
    assert status_of("logs", "mail") == 0
    assert capsys.readouterr().out == "one\nfour\n"
