"""Problem reports reproduced in a lab."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from facts import of_this_process
from maillab import cli
from maillab.cli.repro import nearest
from maillab.engine import compose
from maillab.errors import BadInput, LabError
from maillab.lab.pool import Labs
from maillab.repro import plan, play
from maillab.repro.report import read
from maillab.repro.verdicts import CANNOT_TELL
from maillab.site import topology
from reports import LOGGED, REPORTS, SUBMITTED, WAYS


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    status = cli.main(["repro", "--json", *words])
    return status, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("name", "status", "fate"),
    [
        ("relay-access-denied", 0, ("rejected", "4.7.1", 454)),
        ("five-hundred-greeting", 4, ("bounced", "5.0.0", 0)),
        ("greylisted", 4, ("deferred", "4.7.1", 0)),
        ("unknown-virtual-user", 0, ("rejected", "5.1.1", 550)),
        ("connection-timed-out", 0, ("deferred", "4.4.1", 0)),
        # The reporter's main.cf does not accept mail for old.example at all.
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
    """The result equals the reported one, or the report says that it differs."""
    version = request.config.option.postfix
    if (name, version) == ("relay-access-denied", "3.5"):
        # 3.5 has no smtpd_relay_before_recipient_restrictions: recipient restrictions come first.
        status, fate = 3, ("rejected", "5.7.1", 554)

    code, result = run(capsys, str(REPORTS / f"{name}.txt"), "--postfix", version)

    (recipient,) = result["recipients"]
    here = recipient["here"]
    assert (here["status"], here["dsn"], here["code"]) == fate
    verdicts = {0: "the same", 3: "DIFFERENT", 4: "cannot tell: the reply was played"}
    assert (code, recipient["verdict"]) == (status, verdicts[status])
    assert result["settled"]
    assert result["postfix"]["here"].startswith(version)


@pytest.mark.parametrize(
    ("chosen", "options", "where", "message"),
    [
        ("backup-mx", [], "backup-mx, host sender", ""),
        ("backup-mx", ["--topology", "standalone"], "standalone, host mail", ""),
        (
            "something of ours",
            [],
            "standalone, host mail",
            "the form's topology 'something of ours' is unknown (choose from as-installed",
        ),
    ],
)
def test_the_topology_is_the_one_that_the_form_names(
    chosen: str,
    options: list[str],
    where: str,
    message: str,
    *,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """The form's topology is used if valid and not overridden; otherwise stderr says so."""
    form = tmp_path / "issue.txt"
    form.write_text(f"### Topology that comes nearest\n\n{chosen}\n\nbiff = no\n{LOGGED}")

    cli.main(["repro", str(form), "--postfix", request.config.option.postfix, *options])

    output = capsys.readouterr()
    assert f", {where}\n" in output.out
    assert message in output.err


@pytest.mark.parametrize("allowed", [False, True])
@pytest.mark.parametrize("way", ["mailbox_command", "option", "option without space", "pipe",
                                 "pipe by another path"])  # fmt: skip
def test_a_command_runs_only_when_it_is_allowed(
    way: str, *, allowed: bool, some_labs: Labs, request: pytest.FixtureRequest
) -> None:
    """With a real master(8) each way runs the command when allowed, and only then."""
    running = some_labs.get(topology.load("standalone"), request.config.option.postfix)
    scene = play.scene_of(running, running.mail)
    found = read(f"biff = no\n{WAYS[way]}")
    drawn = plan.make(
        found, scene, tables={}, recipients=["alice@mail.example.com"], allow_commands=allowed
    )
    outcome = play.play(running, running.mail, scene, drawn)

    ran = running.mail.run("test", "-e", "/tmp/maillab-ran", check=False)  # noqa: S108  # the lab's
    assert (ran.status == 0) == allowed
    assert [fate.status for fate in outcome.fates.values()] == ["sent"]


@pytest.mark.parametrize(
    ("settings", "status"), [("", "sent"), ("myhostname = mail.example.com\n", "rejected")]
)
def test_unreported_settings_have_postfixs_default(
    settings: str, status: str, some_labs: Labs, request: pytest.FixtureRequest
) -> None:
    """Postfix's default excludes the domain's mail; without settings the topology's apply."""
    running = some_labs.get(topology.load("standalone"), request.config.option.postfix)
    scene = play.scene_of(running, running.mail)
    drawn = plan.make(
        read(settings + SUBMITTED.replace("bob", "")), scene, tables={},
        recipients=["alice@example.com"],
    )  # fmt: skip

    outcome = play.play(running, running.mail, scene, drawn)

    assert [fate.status for fate in outcome.fates.values()] == [status]
    assert any("mydestination" in line for line in outcome.mapped) == bool(settings)


def test_a_configuration_with_which_postfix_does_not_start(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The error is one line with Postfix's own text, and no lab remains."""
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
    [("3.10.5", "3.10"), ("3.10.2", "3.10.3"), ("3.10", "3.10"), ("3.8", "3.7"),
     ("3.6", "3.7"), ("2.11", "3.5"), ("4.0", "3.11"),
     ("", "3.10"), ("20260101", "3.10")],
)  # fmt: skip
def test_the_nearest_version_is_used(reported: str, ours: str) -> None:
    """Of two equally near versions the newer is used; without one the default."""
    assert nearest(reported) == ours


def test_each_recipient_is_compared_with_its_own_report(
    capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    """For a logged-in client's two recipients the reported host's statuses are reproduced."""
    code, result = run(
        capsys, str(REPORTS / "logged-in-two-recipients.txt"),
        "--postfix", request.config.option.postfix,
    )  # fmt: skip

    assert {row["recipient"]: row["here"]["status"] for row in result["recipients"]} == {
        "anna@example.net": "sent", "ben@example.net": "deferred",
    }  # fmt: skip
    assert all(row["here"]["relay"].startswith("remote.") for row in result["recipients"])
    assert "by smtp to mail: acknowledged 250" in result["journey"]
    assert [row["verdict"] for row in result["recipients"]] == ["the same", CANNOT_TELL]
    assert code == 4


REFUSED = (
    "myhostname = box.own.example\n{setting}\n"
    "Nov  8 05:26:31 box postfix/qmgr[1]: ABCDEF1: from=<{sender}>, size=1, nrcpt=1"
    " (queue active)\n"
    "Nov  8 05:26:31 box postfix/smtp[1]: ABCDEF1: to=<you@b.example>,"
    " relay=mx.b.example[192.0.2.5]:25, delay=1, dsn={dsn}, status={status}"
    " (host mx.b.example[192.0.2.5] said: {reply}"
    " (in reply to {stage} command))\n"
)


@pytest.mark.parametrize(
    ("reply", "stage", "sender", "cure"),
    [
        ("530 5.7.0 Must issue a STARTTLS command first", "MAIL FROM", "me@own.example",
         "smtp_tls_security_level = may"),
        ("504 5.5.2 <me@box>: Sender address rejected: need fully-qualified address", "MAIL FROM",
         "me@box", "sender_canonical_maps = static:me@example.com"),
        ("554 5.7.1 <you@b.example>: Relay access denied", "RCPT TO", "me@own.example",
         "transport_maps = static:discard:"),
        ("550 5.1.1 <you@b.example>: Recipient address rejected: User unknown", "RCPT TO",
         "me@own.example", "transport_maps = static:discard:"),
    ],
    ids=["STARTTLS", "sender without domain", "relay denied", "unknown user"],
)  # fmt: skip
def test_a_reply_with_a_reason_comes_from_a_real_server_and_goes_with_a_cure(
    reply: str,
    stage: str,
    sender: str,
    cure: str,
    *,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """Nothing is played, so that the same report with the cure in it is sent."""
    report = tmp_path / "report"
    results = []
    for setting in ("biff = no", cure):
        report.write_text(
            REFUSED.format(
                setting=setting, sender=sender, dsn=reply[4:9], status="bounced",
                reply=reply, stage=stage,
            )
        )  # fmt: skip
        results.append(run(capsys, str(report), "--postfix", request.config.option.postfix))

    (sick, sick_result), (cured, cured_result) = results
    assert sick_result["recipients"][0]["verdict"] == "the same", sick_result
    assert sick == 0
    assert cured_result["recipients"][0]["here"]["status"] == "sent", cured_result
    assert cured == 3


def test_a_lab_that_is_kept_is_named(
    capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    """The kept lab has the report's configuration until it is removed."""
    report = str(REPORTS / "five-hundred-greeting.txt")

    cli.main(["repro", "--keep", report, "--postfix", request.config.option.postfix])

    output = capsys.readouterr().out
    (name,) = set(re.findall(r"--lab (\S+)", output))
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
    """With the user in the table Postfix accepts the mail, unlike in the report."""
    table = tmp_path / "users"
    table.write_text("sales@shop.example sales/\n")
    given = f"mysql:/etc/postfix/mysql-virtual.cf={table}"

    code, result = run(
        capsys, str(REPORTS / "unknown-virtual-user.txt"), "--table", given,
        "--postfix", request.config.option.postfix,
    )  # fmt: skip

    assert code == 3
    assert result["recipients"][0]["here"]["relay"] == "virtual"


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (b"", (), "the report is empty"),
        (b"it does not work\n", (), "no line of 'postconf -n'"),
        (b"biff = no\n", (), "names no recipient: it has no log line"),
        (b"biff = \x01\xff\n", (), "not text"),
        (b"biff = \0\n", (), "not text"),
        (b"biff = no\n", ("--to", ""), "--to must be an address"),
        (b"biff = no\n", ("--to", "a@b\r\nDATA"), "--to must be an address"),
        (b"biff = no\n", ("--to", "a@b.example", "--topology", "nowhere"), "unknown topology"),
        (
            b"biff = no\n",
            ("--to", "a@b.example", "--host", "nobody"),
            "unknown host 'nobody' of standalone",
        ),
        (
            b"biff = no\n",
            ("--to", "a@b.example", "--host", "client"),
            "--host must be a host with Postfix, not client",
        ),
        (b"biff = no\n", ("--to", "a@b.example", "--postfix", "2.2"), "2.2"),
        (b"biff = no\n", ("--to", "a@b.example", "--table", "x"), "--table must be PATH=FILE"),
        (b"biff = no\n", ("--to", "a@b.example", "--table", "x=/nowhere/y"), "No such file"),
    ],
)
def test_bad_input_is_one_line(  # noqa: PLR0917  # a parameter a column, and fixtures
    text: bytes,
    options: tuple[str, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The line names the fault and the remedy; no lab starts."""
    started: list[object] = []
    monkeypatch.setattr(Labs, "get", lambda *given: started.append(given))
    (tmp_path / "report").write_bytes(text)

    status = cli.main(["repro", str(tmp_path / "report"), *options])

    error = capsys.readouterr().err
    assert status == BadInput.exit_code
    assert error.startswith("maillab: ")
    assert error.count("\n") == 1
    assert message in error
    assert started == []


def test_a_missing_report_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """The error names the file."""
    assert cli.main(["repro", "/nowhere/report"]) == BadInput.exit_code
    assert "/nowhere/report: No such file" in capsys.readouterr().err
