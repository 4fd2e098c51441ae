"""The command ``maillab``. All but the last test need no engine."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import APIError

from maillab import cli, resources
from maillab.cli import images, labs, mail
from maillab.engine import bootstrap, compose
from maillab.engine.compose import Project
from maillab.engine.images import needed
from maillab.errors import (
    BadInput,
    HostGone,
    MaillabError,
    NoEngine,
    NoRights,
    UnknownName,
)
from maillab.record import Record
from maillab.stream import Stream

COMMANDS = ("images", "up", "ps", "down", "shell", "logs", "queue", "send", "trace", "sweep")
STANDALONE = resources.compose() / "standalone.yaml"


def maillab(
    *argv: str, timeout_s: float = 60.0, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "maillab", *argv],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def status_of(*argv: str) -> int | str | None:
    try:
        return cli.main(argv)
    except SystemExit as end:
        return end.code


@pytest.fixture
def projects(monkeypatch: pytest.MonkeyPatch) -> dict[str, Project]:
    """The labs that the engine is made to have."""
    there: dict[str, Project] = {}
    monkeypatch.setattr(compose, "projects", lambda: there)
    return there


def add(there: dict[str, Project], *names: str) -> None:
    for name in names:
        topology = "backup-mx" if "backup-mx" in name else "standalone"
        there[name] = Project(name, "198.18.7", resources.compose() / f"{topology}.yaml")


# The command line.


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_says_what_it_is_for(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(name, "--help") == 0
    told = capsys.readouterr().out
    assert f"example:\n  maillab {name}" in told
    assert ("--json" in told) == ("with --json:\n" in told)


def test_alone_it_prints_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of() == 0
    told = capsys.readouterr().out
    assert all(f"\n    {name} " in told for name in COMMANDS)


@pytest.mark.parametrize(
    "argv",
    [
        ["nonsense"],
        ["up"],
        ["shell", "mail", "ls"],
        ["queue"],
        ["send", "--from-host", "mail"],
        ["send", "--from-host", "mail", "--to", "joe", "--user", "carol", "--server", "remote"],
        ["send", "--from-host", "mail", "--to", "joe", "--size-bytes", "big"],
        ["down", "standalone", "--all"],
    ],
)
def test_a_wrong_command_line_ends_with_2(argv: list[str]) -> None:
    assert status_of(*argv) == BadInput.exit_code


def test_what_needs_no_library_loads_none() -> None:
    """``make setup`` calls ``maillab images`` each time: it has to be quick."""
    program = (
        "import sys, maillab.cli; print({'docker'} & set(sys.modules)); import maillab.cli.images; "
        "print({'testcontainers', 'pytest', 'xdist', 'yaml', 'psutil'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.split(b"\n")[:2] == [b"set()", b"set()"]


@pytest.mark.parametrize("error", [UnknownName, NoRights, HostGone])
def test_an_error_is_one_line_and_its_exit_status(
    error: type[MaillabError],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise error("nothing works")

    monkeypatch.setattr(compose, "projects", fail)
    assert status_of("queue", "mail") == error.exit_code
    assert capsys.readouterr().err == "maillab: nothing works\n"


def test_an_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(compose, "projects", interrupt)
    assert status_of("queue", "mail") == 130


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["up", "nowhere"], "no topology named 'nowhere'; there is: "),
        (["up", "standalone", "--postfix", "1.0"], "no Postfix version named '1.0'; there is: "),
        (["images", "--postfix", "1.0"], "no Postfix version named '1.0'; there is: "),
    ],
)
def test_an_unknown_name_comes_with_the_known_ones(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(*argv) == UnknownName.exit_code
    assert words in capsys.readouterr().err


# Which lab is meant.

HAND_1, HAND_2 = "maillab_hand_standalone_1-aaaa", "maillab_hand_backup-mx_1-bbbb"
RUN, PLAIN = "maillab_0123456789-7-1_standalone_1", "maillab-standalone"


@pytest.mark.parametrize(
    ("there", "wanted", "meant"),
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
def test_a_lab_is_found_by_what_is_unambiguous(
    there: list[str], wanted: str, meant: str, projects: dict[str, Project]
) -> None:
    add(projects, *there)
    assert labs.choose(wanted).name == meant


@pytest.mark.parametrize(
    ("there", "wanted", "words"),
    [
        ([], "", "no lab was brought up by hand: bring one up with 'maillab up TOPOLOGY'"),
        ([RUN], "", f"no lab was brought up by hand.* one of: {RUN}"),
        ([HAND_1, HAND_2], "", f"several labs, name one: {HAND_2}, {HAND_1}"),
        ([HAND_1, HAND_2], "hand", "several labs fit 'hand', name one: "),
        ([HAND_1], "uucp", f"no lab named 'uucp'; there is: {HAND_1}"),
    ],
)
def test_no_lab_and_several_are_told(
    there: list[str], wanted: str, words: str, projects: dict[str, Project]
) -> None:
    add(projects, *there)
    with pytest.raises(BadInput, match=words):
        labs.choose(wanted)


def test_down_spares_the_labs_of_runs(
    projects: dict[str, Project], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run's lab goes by its full name only, and never with ``--all``."""
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


def test_a_lab_whose_file_is_elsewhere_is_told(
    projects: dict[str, Project], capsys: pytest.CaptureFixture[str]
) -> None:
    projects[HAND_1] = Project(HAND_1, "198.18.7", Path("/elsewhere/standalone.yaml"))
    assert status_of("shell", "mail") == BadInput.exit_code
    assert "/elsewhere/standalone.yaml is not on this machine" in capsys.readouterr().err


def test_half_a_lab_is_told(
    projects: dict[str, Project],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add(projects, HAND_1)
    monkeypatch.setattr(Project, "containers", {"mail": "1", "mail-net": "2", "client-net": "3"})
    assert status_of("queue", "mail") == 15
    assert f"{HAND_1} lacks remote, remote-net" in capsys.readouterr().err


# What is printed, with an engine made of a few answers.


class Api:
    """The engine's API as far as it is asked."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.removed: list[str] = []

    def containers(self, **_: object) -> list[dict[str, Any]]:
        return list(self.answers.get("containers", []))

    def images(self, **_: object) -> list[dict[str, Any]]:
        return list(self.answers.get("images", []))

    def remove_image(self, tag: str) -> None:
        if tag in self.answers.get("conflicts", []):
            raise APIError("conflict", response=SimpleNamespace(status_code=409))  # type: ignore[arg-type]
        self.removed.append(tag)

    def logs(self, container: str, **_: object) -> Iterator[bytes]:
        return iter(self.answers["logs"][container])


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Api]:
    def give(**answers: Any) -> Api:
        api = Api(**answers)
        for module in (labs, images):
            monkeypatch.setattr(module, "connect", lambda: SimpleNamespace(api=api))
        return api

    return give


def test_ps_tells_whose_a_lab_is(
    engine: Callable[..., Api],
    projects: dict[str, Project],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    dead = {"0-1-1": True, "0-2-1": False, "9-1-1": None}
    monkeypatch.setattr(compose, "is_dead", dead.__getitem__)
    add(projects, HAND_1, PLAIN, *(f"maillab_{owner}_standalone_1" for owner in dead))
    label = {"com.docker.compose.project": HAND_1}
    engine(containers=[{"Labels": label, "State": state} for state in ("running", "exited")])

    assert status_of("ps", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert {one["name"]: one["owner"] for one in told} == {
        HAND_1: "hand",
        PLAIN: "compose",
        "maillab_0-1-1_standalone_1": "dead run",
        "maillab_0-2-1_standalone_1": "run",
        "maillab_9-1-1_standalone_1": "elsewhere",
    }
    assert next(one for one in told if one["name"] == HAND_1) == {
        "name": HAND_1,
        "topology": "standalone",
        "owner": "hand",
        "net": "198.18.7.0/24",
        "running": 1,
        "containers": 2,
    }
    assert status_of("ps") == 0
    assert f"{HAND_1}  " in capsys.readouterr().out


def test_sweep_says_what_it_removed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compose, "sweep", lambda *, everything: [RUN, HAND_1] if everything else [])
    assert status_of("sweep") == 0
    assert status_of("sweep", "--all", "--json") == 0
    quiet, told = capsys.readouterr().out.split("\n", 1)
    assert quiet == "nothing to remove"
    assert json.loads(told) == {"removed": [RUN, HAND_1]}


def entry(number: str, *tags: str) -> dict[str, Any]:
    return {"Id": number, "RepoTags": list(tags), "Size": 1000, "Created": 0}


def test_images_are_present_missing_or_stale(
    engine: Callable[..., Api], capsys: pytest.CaptureFixture[str]
) -> None:
    """Stale are hash tags of ours that the sources do not give, and nothing else."""
    postfix, *_ = needed("3.10")
    old = {name: f"maillab/{name}-0123456789ab" for name in ("agent:lab", "dns:lab", "base:sid")}
    api = engine(
        images=[
            entry("now", postfix.tag, postfix.plain_tag),
            entry("old", old["base:sid"]),
            entry("used", old["dns:lab"], "maillab/dns:latest"),
            entry("unused", old["agent:lab"], "maillab/agent:latest", "mine/agent:lab"),
            entry("theirs", "maillab/other:lab-0123456789ab", "maillab/agent:mine"),
        ],
        containers=[{"ImageID": "used"}],
        conflicts=[old["base:sid"]],
    )

    assert status_of("images", "--postfix", "3.10", "--prune", "--json") == 0

    told = {row["tag"]: row for row in json.loads(capsys.readouterr().out)}
    assert told[postfix.tag] == {
        "tag": postfix.tag,
        "state": "present",
        "in_use": False,
        "size_bytes": 1000,
        "created": "1970-01-01T00:00:00+00:00",
    }
    states = {tag: (row["state"], row["in_use"]) for tag, row in told.items()}
    assert [state for state, _ in states.values()].count("missing") == 3
    assert states[old["dns:lab"]] == states["maillab/dns:latest"] == ("stale", True)
    assert states[old["base:sid"]] == ("stale", True)
    assert api.removed == [old["agent:lab"], "maillab/agent:latest"]
    assert not {"maillab/agent:mine", "maillab/other:lab-0123456789ab"} & set(told)


def test_making_nothing_is_one_line(
    engine: Callable[..., Api],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made: list[list[str]] = []
    engine()
    monkeypatch.setattr(images, "ensure", made.append)
    assert status_of("images", "--make", "--postfix", "3.10") == 0
    assert capsys.readouterr().out == "images of Postfix 3.10: all present\n"
    assert made == [["3.10"]]


@pytest.mark.parametrize(
    ("error", "docker_host", "root", "installs"),
    [
        (NoEngine, "", True, True),
        (NoEngine, "", False, False),
        (NoEngine, "tcp://elsewhere:2375", True, False),
        (NoRights, "", True, False),
    ],
)
def test_an_engine_is_installed_only_where_it_is_ours_to_do(
    error: type[NoEngine],
    docker_host: str,
    root: bool,  # noqa: FBT001  # a column of the table
    installs: bool,  # noqa: FBT001  # as above
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []

    def connect() -> None:
        if not said:
            raise error("no")

    monkeypatch.setattr(images, "connect", connect)
    monkeypatch.setattr(images, "ensure", lambda versions: None)
    monkeypatch.setattr(bootstrap, "is_debian_root", lambda: root)
    monkeypatch.setattr(bootstrap, "install_engine", lambda say: said.append("installing"))
    monkeypatch.setenv("DOCKER_HOST", docker_host)
    ended = status_of("images", "--make", "--postfix", "3.10")
    assert (ended, said) == ((0, ["installing"]) if installs else (error.exit_code, []))


# Hosts.


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
def test_shell_runs_in_the_container_that_is_meant(
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
def test_an_unknown_host_comes_with_the_known_ones(
    argv: list[str], standalone: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(*argv) == UnknownName.exit_code
    told = "maillab: no host in standalone named 'gate'; there is: mail, remote, client\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize("follow", [[], ["--follow"]])
def test_logs_of_all_hosts_are_told_by_time(
    follow: list[str],
    standalone: None,
    engine: Callable[..., Api],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each line once, however the engine cuts the stream and when it is followed."""
    engine(
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


# Tracing.

LINES = {
    "mail": """\
postfix/pickup[1]: AAAAAAA1: uid=1000 from=<bob>
postfix/cleanup[1]: AAAAAAA1: message-id=<one@maillab.test>
postfix/qmgr[1]: AAAAAAA1: from=<bob@example.com>, size=300, nrcpt=1 (queue active)
postfix/smtp[1]: AAAAAAA1: to=<joe@example.net>, relay=remote.example.net[198.18.7.20]:25, \
delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as BBBBBBB2)
postfix/qmgr[1]: AAAAAAA1: removed
""",
    "remote": """\
postfix/smtpd[1]: BBBBBBB2: client=mail.example.com[198.18.7.10]
postfix/cleanup[1]: BBBBBBB2: message-id=<one@maillab.test>
postfix/qmgr[1]: BBBBBBB2: from=<bob@example.com>, size=400, nrcpt=1 (queue active)
postfix/local[1]: BBBBBBB2: to=<joe@example.net>, relay=local, \
delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent (delivered to mailbox)
postfix/qmgr[1]: BBBBBBB2: removed
""",
}


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lab with one message in its logs."""
    stream = Stream()
    for host, lines in LINES.items():
        stream.feed(host, [f"Nov 23 09:00:00 x {line}".encode() for line in lines.splitlines()])
    record = Record(stream, {"198.18.7.10": "mail", "198.18.7.20": "remote"})
    lab = SimpleNamespace(record=record, project=SimpleNamespace(name=HAND_1))
    monkeypatch.setattr(mail, "_lab", lambda *_, **__: contextlib.nullcontext(lab))


@pytest.mark.parametrize(
    "message", ["<one@maillab.test>", "one@maillab.test", "AAAAAAA1", "BBBBBBB2"]
)
def test_trace_begins_where_the_message_began(
    message: str, logged: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of("trace", message) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[:2] == ["message <one@maillab.test>, from <bob@example.com>", "  mail AAAAAAA1"]
    assert "    sent: remote BBBBBBB2" in told
    assert status_of("trace", message, "--json") == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["host"], first["from"], first["state"]) == ("mail", None, "removed")
    assert second == {
        "host": "remote",
        "queue_id": "BBBBBBB2",
        "message_id": "<one@maillab.test>",
        "sender": "bob@example.com",
        "size": 400,
        "state": "removed",
        "waits": False,
        "from": {"host": "mail", "queue_id": "AAAAAAA1", "how": "sent"},
        "attempts": [
            {
                "to": "joe@example.net",
                "orig_to": "",
                "status": "sent",
                "dsn": "2.0.0",
                "relay": "local",
                "reply": "delivered to mailbox",
            }
        ],
    }


def test_a_message_nobody_logged_is_told(logged: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of("trace", "CCCCCCC3") == UnknownName.exit_code
    assert f"no message 'CCCCCCC3' in the logs of {HAND_1}" in capsys.readouterr().err


# The whole of it.


@pytest.mark.xdist_group("labs")
def test_a_lab_by_hand_from_up_to_down() -> None:
    """Needs an engine. Other labs may be up, so that ours is always named."""
    brought_up = maillab("up", "standalone", "--json", timeout_s=300)
    assert brought_up.returncode == 0, brought_up.stderr
    up = json.loads(brought_up.stdout)
    name = up["name"]
    here = ("--lab", name)
    try:
        assert up["postfix"].startswith("3.10.")
        assert [host["name"] for host in up["hosts"]] == ["mail", "remote", "client"]

        listed = {lab["name"]: lab for lab in json.loads(maillab("ps", "--json").stdout)}
        assert listed[name] == {
            "name": name,
            "topology": "standalone",
            "owner": "hand",
            "net": up["net"],
            "running": 6,
            "containers": 6,
        }

        route = ("--from-host", "mail", "--to", "joe@example.net", "nobody@example.org")
        done = maillab("send", *route, *here, "--wait", "--json")
        assert done.returncode == 0, done.stderr
        sent = json.loads(done.stdout)
        assert sent["outcome"] == "acknowledged"
        assert "to <nobody@example.org>: bounced 5.4.4" in sent["journey"]

        legs = json.loads(maillab("trace", sent["message_id"], *here, "--json").stdout)
        ways = [(leg["host"], leg["from"] and leg["from"]["how"]) for leg in legs]
        assert ways == [("mail", None), ("remote", "sent"), ("mail", "non-delivery notice")]
        # Read by another process, after others left their marks in the same logs.
        text = maillab("trace", legs[1]["queue_id"], *here).stdout
        assert text.splitlines()[0].startswith(f"message {sent['message_id']}, from <bob@")
        assert f"non-delivery notice: mail {legs[2]['queue_id']}" in text

        hold = maillab("shell", "mail", *here, "--", "postconf", "-e", "defer_transports=smtp")
        assert hold.returncode == 0, hold.stderr
        assert maillab("shell", "mail", *here, stdin="postfix reload\nexit 3\n").returncode == 3
        waits = maillab("send", "--from-host", "mail", "--to", "joe@example.net", *here, "--wait")
        assert waits.stdout.rstrip().endswith("waits for the next attempt")
        (entry,) = json.loads(maillab("queue", "mail", *here, "--json").stdout)
        assert (entry["queue"], entry["recipients"]) == ("deferred", ["joe@example.net"])
        route = ("--from-host", "client", "--to", "alice@example.com", "x@example.org")
        refused = maillab("send", *route, *here)
        assert refused.returncode == BadInput.exit_code
        assert refused.stderr.startswith("maillab: client runs no Postfix, so name a --server;")
        sent = json.loads(maillab("send", *route, *here, "--server", "mail", "--json").stdout)
        assert (sent["outcome"], sent["accepted"]) == ("acknowledged", ["alice@example.com"])
        assert [(one["recipient"], one["dsn"]) for one in sent["rejections"]] == [
            ("x@example.org", "4.7.1")
        ]

        break_and_warp(here)

        log = maillab("logs", "all", *here).stdout
        assert f"{entry['queue_id']}: to=<joe@example.net>" in log
        assert_nothing_is_said_when_nobody_reads("logs", "all", "--follow", *here)
    finally:
        gone = maillab("down", name)
    assert (gone.returncode, gone.stdout) == (0, f"removed {name}\n")
    assert name not in {lab["name"] for lab in json.loads(maillab("ps", "--json").stdout)}


def break_and_warp(here: tuple[str, str]) -> None:
    """A fault for as long as a command runs, and five days that pass at once."""
    send = ("maillab", "send", "--from-host", "remote", "--to", "alice@example.com", "--wait")
    words = ("fault", "Greeting", "mail", "reply=421 busy", *here)
    broken = maillab(*words, "--", sys.executable, "-m", *send, *here)
    assert broken.returncode == 0, broken.stderr
    assert "refused to talk to me: 421 busy" in broken.stdout
    assert broken.stdout.endswith("on mail: 1 clients that the server greeted\n")

    before = json.loads(maillab("warp", "+1s", *here, "--json").stdout)
    after = json.loads(maillab("warp", "+5d", *here, "--json").stdout)
    assert before["mail"][:10] < after["mail"][:10]
    assert json.loads(maillab("queue", "mail", *here, "--json").stdout) == []


def assert_nothing_is_said_when_nobody_reads(*argv: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "maillab", *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.wait(timeout=30) == 141
        assert process.stderr.read() == b""
