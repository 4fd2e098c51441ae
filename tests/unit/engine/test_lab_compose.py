"""Compose, driven by testcontainers' public interface. No engine: Compose is a script."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

import psutil
import pytest

from facts import wait_until
from maillab.engine import client, compose
from maillab.errors import LabError

SCRIPT = """#!/bin/sh
printf '%s\\n' "$NET" "$@" >'{folder}/asked'
{does}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder whose name env(1) takes for a variable."""
    made = tmp_path / "python=3.11"
    made.mkdir()
    return made


@pytest.fixture
def script(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a Compose that records its calls, and does what ``does`` writes into it."""
    program = folder / "compose"
    monkeypatch.setattr(compose, "compose_command", lambda: (str(program), "--host", "x"))
    return program


def does(script: Path, what: str) -> None:
    script.write_text(SCRIPT.format(folder=script.parent, does=what))
    script.chmod(0o755)


def asked(script: Path) -> list[str]:
    return (script.parent / "asked").read_text().splitlines()


def test_a_start_has_its_variables_in_the_environment_and_no_file_of_them(script: Path) -> None:
    """A killed run then leaves no such file."""
    does(script, "exit 0")
    site = script.parent / "site.yaml"

    compose.LabCompose("maillab_x", site, {"NET": "198.18.7"}).start()

    net, *words = asked(script)
    assert net == "198.18.7"
    assert "NET" not in os.environ
    assert words == [
        *("--host", "x", "--progress", "quiet", "--project-name", "maillab_x"),
        *("--file", str(site), "--env-file", "/dev/null", "up", "--detach"),
    ]


def test_an_error_of_compose_is_ours_and_not_logged_as_well(
    script: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """By itself, testcontainers would log it for every subnet in use."""
    does(script, "echo first; echo 'pool overlaps' >&2; exit 1")

    with pytest.raises(LabError, match=r"^pool overlaps$"):
        compose.LabCompose("maillab_x", script).start()

    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")


def test_logs_and_commands_are_those_of_testcontainers(script: Path) -> None:
    """A command returns its status and its bytes, whatever they are."""
    does(script, "echo said; echo wrong >&2")
    lab = compose.LabCompose("maillab_x")
    assert lab.get_logs("mail") == ("said\n", "wrong\n")
    assert asked(script)[-2:] == ["logs", "mail"]

    does(script, r"printf '\377'; exit 3")
    assert lab.exec_in_container(["ls", "-l"], "mail") == (r"\xff", "", 3)
    assert asked(script)[-5:] == ["exec", "-T", "mail", "ls", "-l"]

    does(script, r"printf '\377'")
    with pytest.raises(LabError, match="not UTF-8"):
        lab.get_logs()


def test_a_lab_is_removed_by_the_engines_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    """This holds in a block of testcontainers, too; ``docker compose stop`` only stops."""
    removed: list[str] = []
    monkeypatch.setattr(compose, "remove", removed.append)

    compose.LabCompose("maillab_x").stop()

    assert removed == ["maillab_x"]


def test_an_aborted_start_leaves_no_compose(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither do its children; processes of other labs are not killed."""
    os.mkfifo(script.parent / "never")
    does(script, f"read word <'{script.parent}/never'")
    other = subprocess.Popen(["sh", str(script), "--project-name", "maillab_10", "up"])

    def give_up(*_: object) -> None:
        wait_until(lambda: len(at_work()) == 2)
        raise KeyboardInterrupt

    def at_work() -> list[psutil.Process]:
        found = []
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                found += [child] if str(script) in child.cmdline() else []
        return found

    monkeypatch.setattr(client, "attend", give_up)
    try:
        with pytest.raises(KeyboardInterrupt):
            compose.LabCompose("maillab_1", script).start()
        left = at_work()
    finally:
        for process in at_work():
            process.kill()
        other.wait()

    assert [process.pid for process in left] == [other.pid]
