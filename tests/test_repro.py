"""A reported problem, tried in a lab."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from facts import of_this_process
from reports import LOGGED, REPORTS, SUBMITTED, WAYS

from maillab import cli, topology
from maillab.cli.repro import nearest
from maillab.engine import compose
from maillab.errors import BadInput, LabError
from maillab.labs import Labs
from maillab.repro import plan, play
from maillab.repro.report import read


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    status = cli.main(["repro", "--json", *words])
    return status, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("name", "status", "fate"),
    [
        ("relay-access-denied", 0, ("rejected", "4.7.1", 454)),
        ("five-hundred-greeting", 0, ("bounced", "5.0.0", 0)),
        ("greylisted", 0, ("deferred", "4.7.1", 0)),
        ("unknown-virtual-user", 0, ("rejected", "5.1.1", 550)),
        ("connection-timed-out", 0, ("deferred", "4.4.1", 0)),
        # The reporter's main.cf does not say that old.example is taken at all.
        ("loops-back", 3, ("rejected", "4.7.1", 454)),
    ],
)
def test_a_report_is_tried_in_a_lab(
    name: str,
    status: int,
    fate: tuple[str, str, int],
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    """The same happens as was reported, or something else, which is told apart."""
    version = request.config.option.postfix
    if (name, version) == ("relay-access-denied", "3.5"):
        # Which has no smtpd_relay_before_recipient_restrictions: the recipients' come first.
        status, fate = 3, ("rejected", "5.7.1", 554)

    code, told = run(capsys, str(REPORTS / f"{name}.txt"), "--postfix", version)

    (recipient,) = told["recipients"]
    here = recipient["here"]
    assert (here["status"], here["dsn"], here["code"]) == fate
    assert (code, recipient["same"]) == (status, not status)
    assert told["settled"]
    assert told["postfix"]["here"].startswith(version)


@pytest.mark.parametrize(
    ("chosen", "options", "where", "said"),
    [
        ("backup-mx", [], "backup-mx, host sender", ""),
        ("backup-mx", ["--topology", "standalone"], "standalone, host mail", ""),
        (
            "something of ours",
            [],
            "standalone, host mail",
            "the form's topology 'something of ours' is none of backup-mx, dialup",
        ),
    ],
)
def test_the_topology_is_the_one_that_the_form_names(
    chosen: str,
    options: list[str],
    where: str,
    said: str,
    *,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """Where there is such a one, and nothing else is asked for; else it is told."""
    form = tmp_path / "issue.txt"
    form.write_text(f"### Topology that comes nearest\n\n{chosen}\n\nbiff = no\n{LOGGED}")

    cli.main(["repro", str(form), "--postfix", request.config.option.postfix, *options])

    told = capsys.readouterr()
    assert f", {where}\n" in told.out
    assert said in told.err


@pytest.mark.parametrize("allowed", [False, True])
@pytest.mark.parametrize("way", ["mailbox_command", "option", "option without space", "pipe",
                                 "pipe by another path"])  # fmt: skip
def test_a_command_runs_only_when_it_is_allowed(
    way: str, *, allowed: bool, some_labs: Labs, request: pytest.FixtureRequest
) -> None:
    """In a lab, with a real master(8): each of the ways works, and none does unasked."""
    running = some_labs.get(topology.load("standalone"), request.config.option.postfix)
    scene = play.scene_of(running, running.mail)
    found = read(f"biff = no\n{WAYS[way]}")
    drawn = plan.make(
        found, scene, tables={}, recipients=["alice@mail.example.com"], allow_commands=allowed
    )
    outcome = play.play(running, running.mail, scene, drawn)

    ran = running.mail.run("test", "-e", "/tmp/maillab-ran", check=False)  # noqa: S108  # the lab's
    assert (ran.status == 0) == allowed
    assert [one.status for one in outcome.fates.values()] == ["sent"]


@pytest.mark.parametrize(
    ("settings", "status"), [("", "sent"), ("myhostname = mail.example.com\n", "rejected")]
)
def test_what_the_report_does_not_set_is_postfixs_default(
    settings: str, status: str, some_labs: Labs, request: pytest.FixtureRequest
) -> None:
    """By which the domain's own mail is not taken; without settings the topology's stand."""
    running = some_labs.get(topology.load("standalone"), request.config.option.postfix)
    scene = play.scene_of(running, running.mail)
    drawn = plan.make(
        read(settings + SUBMITTED.replace("bob", "")), scene, tables={},
        recipients=["alice@example.com"],
    )  # fmt: skip

    outcome = play.play(running, running.mail, scene, drawn)

    assert [one.status for one in outcome.fates.values()] == [status]
    assert any("mydestination" in line for line in outcome.mapped) == bool(settings)


def test_a_configuration_with_which_postfix_does_not_start(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """One line with Postfix's own words, and no lab is left."""
    before = of_this_process()
    (tmp_path / "report").write_text("mydestination = $mydestination\n")

    status = cli.main(["repro", str(tmp_path / "report"), "--to", "a@b.example"])

    error = capsys.readouterr().err
    assert status == LabError.exit_code
    assert error.count("\n") == 1
    assert "macro processing error" in error
    assert of_this_process() == before


@pytest.mark.parametrize(
    ("reported", "ours"),
    [("3.10.5", "3.10"), ("3.8", "3.7"), ("3.6", "3.7"), ("2.11", "3.5"), ("4.0", "3.11"),
     ("", "3.10"), ("20260101", "3.10")],
)  # fmt: skip
def test_the_nearest_version_is_taken(reported: str, ours: str) -> None:
    """The newer of two that are equally near; the default where none is known."""
    assert nearest(reported) == ours


def test_each_recipient_stands_beside_its_own(
    capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    """Two of one message, of a client that had logged in: the reported host's word counts."""
    code, told = run(
        capsys, str(REPORTS / "logged-in-two-recipients.txt"),
        "--postfix", request.config.option.postfix,
    )  # fmt: skip

    assert {one["recipient"]: one["here"]["status"] for one in told["recipients"]} == {
        "anna@example.net": "sent", "ben@example.net": "deferred",
    }  # fmt: skip
    assert all(one["here"]["relay"].startswith("remote.") for one in told["recipients"])
    assert "by smtp to mail: acknowledged 250" in told["journey"]
    assert code == 0


def test_a_lab_that_is_kept_is_named(
    capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    """It stands as the report left it, until somebody takes it down."""
    report = str(REPORTS / "five-hundred-greeting.txt")

    cli.main(["repro", "--keep", report, "--postfix", request.config.option.postfix])

    name = capsys.readouterr().out.rpartition("--lab ")[2].strip()
    try:
        assert name in compose.projects()
        reported_line = "^smtp_skip_5xx_greeting = no$"
        asked = ["--", "grep", reported_line, "/etc/postfix/main.cf"]
        assert cli.main(["shell", "mail", "--lab", name, *asked]) == 0
    finally:
        compose.remove(name)
    assert name not in compose.projects()


def test_a_table_that_was_given_makes_the_difference(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """With the user in it, the mail is taken, which is not what was reported."""
    table = tmp_path / "users"
    table.write_text("sales@shop.example sales/\n")
    given = f"mysql:/etc/postfix/mysql-virtual.cf={table}"

    code, told = run(
        capsys, str(REPORTS / "unknown-virtual-user.txt"), "--table", given,
        "--postfix", request.config.option.postfix,
    )  # fmt: skip

    assert code == 3
    assert told["recipients"][0]["here"]["relay"] == "virtual"


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        (b"", (), "the report is empty"),
        (b"it does not work\n", (), "no line of 'postconf -n'"),
        (b"biff = no\n", (), "name no recipient; say to whom with --to"),
        (b"biff = \xff\n", (), "not text in UTF-8"),
        (b"biff = \0\n", (), "not a text"),
        (b"biff = no\n", ("--to", ""), "not an address"),
        (b"biff = no\n", ("--to", "a@b\r\nDATA"), "not an address"),
        (b"biff = no\n", ("--to", "a@b.example", "--topology", "nowhere"), "no topology named"),
        (b"biff = no\n", ("--to", "a@b.example", "--host", "nobody"), "no host in standalone"),
        (b"biff = no\n", ("--to", "a@b.example", "--host", "client"), "runs no Postfix"),
        (b"biff = no\n", ("--to", "a@b.example", "--postfix", "2.2"), "2.2"),
        (b"biff = no\n", ("--to", "a@b.example", "--table", "x"), "write it as"),
        (b"biff = no\n", ("--to", "a@b.example", "--table", "x=/nowhere/y"), "No such file"),
    ],
)
def test_bad_input_is_one_line(  # noqa: PLR0917  # a parameter a column, and fixtures
    text: bytes,
    options: tuple[str, ...],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It names what is wrong and what to do; no lab is started for it."""
    started: list[object] = []
    monkeypatch.setattr(Labs, "get", lambda *given: started.append(given))
    (tmp_path / "report").write_bytes(text)

    status = cli.main(["repro", str(tmp_path / "report"), *options])

    error = capsys.readouterr().err
    assert status == BadInput.exit_code
    assert error.startswith("maillab: ")
    assert error.count("\n") == 1
    assert said in error
    assert started == []


def test_a_report_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    """The file is named."""
    assert cli.main(["repro", "/nowhere/report"]) == BadInput.exit_code
    assert "/nowhere/report: No such file" in capsys.readouterr().err
