"""A parameter is set in main.cf as Postfix reads it, and nothing else changes."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import channel
import machine

# Postfix accepts anything up to the "=" as a parameter's name.
NAMES = ("alpha", "beta", "beta_two", "gamma", "7bit")


def parse_main_cf(text: str) -> dict[str, str]:
    """Parse a main.cf by the rules of postconf(5); the last value of a name wins.

    Empty lines, and lines whose first character is a "#", are ignored everywhere. A line
    that begins with white space continues the line before.
    """
    logical: list[str] = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0].isspace() and logical:
            logical[-1] += " " + line.strip()
        else:
            logical.append(line.strip())
    pairs = (line.partition("=") for line in logical)
    return {name.strip(): value.strip() for name, _, value in pairs}


@dataclass
class Configured:
    """A main.cf, and the other effects of ``configure``."""

    main_cf: Path
    unused: tuple[str, ...] = ()

    def configure(self, **settings: str) -> list[str]:
        """Run the operation; return the unknown parameters."""
        unknown: list[str] = asyncio.run(machine.configure(settings))["unknown"]
        return unknown


@contextmanager
def set_up(folder: Path, text: str) -> Iterator[Configured]:
    """Write a main.cf to a folder, for a Postfix that knows NAMES and does not run."""
    site = Configured(folder / "main.cf")
    site.main_cf.write_text(text)
    parameters = folder / "parameters"
    parameters.write_text("".join(f"{name}\n" for name in NAMES))

    async def run(argv: list[str]) -> dict[str, Any]:
        assert argv == ["postconf", "-n"]
        stderr = (
            f"/usr/sbin/postconf: warning: {site.main_cf}: unused parameter: {name}=x\n"
            for name in site.unused
        )
        return {"status": 0, "stdout": "", "stderr": "".join(stderr)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "MAIN_CF", site.main_cf)
        patch.setattr(machine, "Path", lambda _: parameters)
        patch.setattr(channel, "run", run)
        yield site


def edited(text: str, **settings: str) -> str:
    """Return a main.cf as ``configure`` changes it."""
    with tempfile.TemporaryDirectory() as folder, set_up(Path(folder), text) as site:
        assert site.configure(**settings) == []
        return site.main_cf.read_text()


@pytest.mark.parametrize(
    ("text", "name", "after"),
    [
        (
            "alpha = 1\nbeta = 2\nbeta_two = 3\n",
            "beta",
            "alpha = 1\nbeta_two = 3\nbeta = new\n",
        ),
        ("alpha = 1,\n  2,\n\t3\nbeta = 2\n", "alpha", "beta = 2\nalpha = new\n"),
        ("#alpha = 1\n# beta = 2\n", "alpha", "#alpha = 1\n# beta = 2\nalpha = new\n"),
    ],
    ids=["its line", "the lines it goes on over", "no comment that shows it"],
)
def test_a_setting_replaces_the_earlier_value(text: str, name: str, after: str) -> None:
    """The new setting is at the end; everything else is unchanged."""
    assert edited(text, **{name: "new"}) == after


@pytest.mark.parametrize(
    ("text", "after"),
    [
        (
            "beta = 2\nalpha = 1,\n# why\n  2\ngamma = 3\n",
            {"beta": "2", "gamma": "3", "alpha": "new"},
        ),
        ("beta = 2", {"beta": "2", "alpha": "new"}),
    ],
    ids=["a comment inside the old value", "no last line end"],
)
def test_a_setting_does_not_change_another_value(text: str, after: dict[str, str]) -> None:
    """The rest of the old value does not become part of another one, either."""
    assert parse_main_cf(edited(text, alpha="new")) == after


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("", "alpha = \n"),
        ("one", "alpha = one\n"),
        ("one,\ntwo", "alpha = one,\n two\n"),
        ("$beta, ${gamma?x}", "alpha = $beta, ${gamma?x}\n"),
        ("a = b", "alpha = a = b\n"),
        (r"\1 \n", "alpha = \\1 \\n\n"),
    ],
)
def test_a_value_is_written_unchanged(value: str, written: str) -> None:
    """Several lines become one continued value."""
    assert edited("beta = 2\n", alpha=value) == f"beta = 2\n{written}"


LINES = st.sampled_from(
    [
        *(f"{name} = {name}1" for name in NAMES),
        *(f"{name}=" for name in NAMES[:2]),
        "  more",
        "\ttabbed = too",
        "# comment",
        "#alpha = commented",
        "  # indented comment",
        "",
        "   ",
    ]
)
VALUES = st.sampled_from(["", "one", "one, two", "one,\ntwo", "$alpha", "x = y"])


@given(
    st.lists(LINES, max_size=8),
    st.sampled_from(["\n", ""]),
    st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=2),
)
@example(["beta = 1", "alpha = 1", "# why", "  more"], "", {"alpha": "x"})
def test_only_the_given_settings_change(lines: list[str], end: str, given_: dict[str, str]) -> None:
    """Postfix's own parsing of the file before and after shows that."""
    # A file cannot begin with a continuation line.
    text = "\n".join(["gamma = 0", *lines]) + end

    after = edited(text, **given_)

    wanted = {name: value.replace("\n", " ") for name, value in given_.items()}
    assert parse_main_cf(after) == {**parse_main_cf(text), **wanted}
    for comment in re.findall(r"(?m)^\s*#.*$", text):
        assert comment in after


def test_an_unknown_parameter_is_refused_and_the_file_unchanged(tmp_path: Path) -> None:
    """postconf(1) calls a misspelt name unused; Postfix keeps running as before."""
    with set_up(tmp_path, "alpha = 1\n") as site:
        site.unused = ("alhpa", "stranger")

        assert site.configure(alhpa="2", beta="3") == ["alhpa"]

        assert site.main_cf.read_text() == "alpha = 1\n"


def test_a_parameter_that_postconf_accepts_is_known(tmp_path: Path) -> None:
    """For example one that master.cf or another parameter's value defines."""
    with set_up(tmp_path, "alpha = 1\n") as site:
        assert site.configure(mine_rate_delay="1s") == []

        assert site.main_cf.read_text() == "alpha = 1\nmine_rate_delay = 1s\n"


def test_a_changed_main_cf_is_dated_back(tmp_path: Path) -> None:
    """Otherwise Postfix would wait until the file is old enough."""
    with set_up(tmp_path, "alpha = 1\n") as site:
        site.configure(alpha="2")

        status = site.main_cf.stat()
        assert status.st_atime - status.st_mtime == pytest.approx(channel.COOL_S)
