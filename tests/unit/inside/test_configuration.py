"""Postfix is asked for the settings that matter, and only when these may have changed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import configuration

MAIN = "myorigin = $mydomain\nmydomain = example.org\n# a comment\nmynetworks = 127.0.0.0/8\n"
MASTER = "smtp inet n - n - - smtpd\n# -o myorigin=commented.example\n"


class Postconf:
    """Answers like postconf(1), and counts how often it is run."""

    def __init__(self, folder: Path) -> None:
        self.main, self.master = folder / "postfix/main.cf", folder / "postfix/master.cf"
        self.main.parent.mkdir()
        self.main.write_text(MAIN)
        self.master.write_text(MASTER)
        self.runs: list[tuple[str, ...]] = []

    def lines(self, *argv: str) -> list[str]:
        """Note the command; the answer is the version of the settings."""
        self.runs.append(argv)
        return [f"myorigin = answer-{len(self.runs)}.example"]


@pytest.fixture
def postconf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Postconf]:
    """A host with one instance of Postfix."""
    found = Postconf(tmp_path)
    monkeypatch.setattr(configuration, "ETC", tmp_path)
    monkeypatch.setattr(configuration, "_lines", found.lines)
    defaults = {"alias_maps": "hash:/etc/aliases", "canonical_maps": "", "mydomain": "localdomain"}
    monkeypatch.setattr(configuration, "_defaults", lambda: defaults)
    configuration._read.clear()  # of an earlier test
    configuration._dependencies.cache_clear()
    yield found
    configuration._read.clear()  # for the next one


@pytest.mark.parametrize(
    "text",
    [
        MAIN.replace("127.0.0.0/8", "198.18.0.0/15"),
        MAIN + "relayhost = backup.example.org\n",
        MAIN + "# myorigin = nothing.example\n",
        MAIN.replace("myorigin = $mydomain", "myorigin =\n  $mydomain"),
    ],
)
def test_a_setting_that_does_not_matter_costs_no_command(postconf: Postconf, text: str) -> None:
    """Most settings that scenarios change are of this kind."""
    before = configuration.settings()
    postconf.main.write_text(text)

    assert configuration.settings() == before
    assert len(postconf.runs) == 1


@pytest.mark.parametrize(
    "text",
    [
        MAIN + "myorigin = example.net\n",
        MAIN + "myhostname = mail.example.net\n",
        MAIN + "mydomain = example.net\n",
        MAIN + "canonical_maps = inline:{ a=b }\n",
        MAIN.replace("$mydomain", "${site}").replace("#", "site = a.example\n#"),
        MAIN + "mydomain =\n  # in between\n  example.net\n",
    ],
)
def test_a_setting_that_matters_or_is_referred_to_is_asked_for(
    postconf: Postconf, text: str
) -> None:
    """The reference may be in another parameter or on a continuation line."""
    before = configuration.settings()
    postconf.main.write_text(text)

    assert configuration.settings() != before


def test_a_parameter_of_our_own_may_change(postconf: Postconf) -> None:
    """The value of a parameter that only main.cf knows."""
    postconf.main.write_text("myorigin = ${site}\nsite = a.example\n")
    before = configuration.settings()
    postconf.main.write_text("myorigin = ${site}\nsite = b.example\n")

    assert configuration.settings() != before


@pytest.mark.parametrize("name", ["mailname", "postfix/origin"])
def test_the_file_that_myorigin_names_is_read_again(
    postconf: Postconf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Debian's Postfix takes the first word of any file; main.cf does not change."""
    file = tmp_path / name
    monkeypatch.setattr(configuration, "_lines", lambda *_: [f"myorigin = {file}"])
    file.write_text("a.example\n")
    before = configuration.settings()["myorigin"]
    file.write_text("bb.example\n")

    assert (before, configuration.settings()["myorigin"]) == ({"a.example"}, {"bb.example"})


def test_a_service_with_a_value_of_its_own_is_asked_for(postconf: Postconf) -> None:
    """A comment is no such value; then any change of either file matters."""
    configuration.settings()
    assert len(postconf.runs) == 1
    postconf.master.write_text(MASTER + "  -o myorigin=service.example\n")
    configuration.settings()
    assert postconf.runs[2][3] == "-xP"
    postconf.main.write_text(MAIN + "relayhost = backup.example.org\n")
    configuration.settings()

    assert len(postconf.runs) == 5


def test_a_postconf_that_failed_is_asked_again(
    postconf: Postconf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit on processes keeps it from starting, or another line of main.cf is malformed."""

    def refuses(*argv: str) -> list[str]:
        raise subprocess.CalledProcessError(1, argv)

    monkeypatch.setattr(configuration, "_lines", refuses)
    assert configuration.settings()["myorigin"] == set()
    monkeypatch.setattr(configuration, "_lines", postconf.lines)

    assert configuration.settings()["myorigin"] == {"answer-1.example"}
