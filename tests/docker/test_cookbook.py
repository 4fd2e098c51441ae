"""The cookbook's skeletons work as copied. Needs an engine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "cookbook.md"
# Uses the page's fault as a reader would, within its limits and beyond.
OF_THE_FAULT = """
import pytest
from fault import PortClosed
from maillab import BadInput, Lab

pytestmark = pytest.mark.topology("standalone")


def test_symptom_mail_waits_for_a_closed_port(lab: Lab) -> None:
    with lab.remote.faulty(PortClosed()):
        mail = lab.mail.send(to="joe@example.net")
        lab.settle(mail)

    assert mail.deferred(saying="Connection refused")


def test_a_port_out_of_range_is_refused() -> None:
    with pytest.raises(BadInput, match="not 70000"):
        PortClosed(70000)
"""


def blocks() -> list[str]:
    """Return the page's programs."""
    return re.findall(r"(?ms)^```python\n(.*?)^```$", PAGE.read_text())


@pytest.mark.parametrize(
    ("of_which", "says"),
    [
        ("with MailLab(", "delivered to mailbox"),
        ("print(mail_lab.judge()", "1 delivered"),
        ("unittest", "Ran 1 test"),
    ],
)
def test_every_script_with_a_lab_runs(of_which: str, says: str, tmp_path: Path) -> None:
    """By itself, without pytest."""
    (script,) = [block for block in blocks() if of_which in block and "MailLab" in block]
    (tmp_path / "script.py").write_text(script)

    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert says in done.stdout + done.stderr


def test_every_script_of_the_page_is_run() -> None:
    """A new script needs a line above."""
    assert sum("MailLab" in block for block in blocks()) == 3


def test_every_skeleton_runs(tmp_path: Path) -> None:
    """The scenarios pass, and the fault does what its docstring says."""
    plugged = [block for block in blocks() if "MailLab" not in block]
    scenarios = [block for block in plugged if "def test_" in block]
    (fault,) = [block for block in plugged if "def test_" not in block]
    for number, block in enumerate(scenarios):
        (tmp_path / f"test_{number}.py").write_text(block)
    (tmp_path / "fault.py").write_text(fault)
    (tmp_path / "test_fault.py").write_text(OF_THE_FAULT)
    (tmp_path / "main.cf").write_text("mydestination = $myhostname, example.com\nmynetworks =\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\n")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(scenarios) + 3} passed" in done.stdout, done.stdout
