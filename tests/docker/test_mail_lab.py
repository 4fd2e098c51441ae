"""A lab outside pytest, as scripts and unittest use it. Needs an engine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from facts import of_this_process, wait_until
from maillab import Lab, MailLab, NotConserved
from maillab.engine import compose
from maillab.faults import Greeting

UNITTEST = """
import sys
import unittest

from maillab import MailLab
from maillab.engine import compose

print(compose.owner(), flush=True)


class OurMail(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.mail_lab = MailLab("standalone", postfix=VERSION).start()
        cls.addClassCleanup(cls.mail_lab.stop)

    def setUp(self):
        self.lab = self.mail_lab.lab
        self.addCleanup(self.lab.reset)

    def test_mail_arrives(self):
        mail = self.lab.client.smtp("alice@example.com", server=self.lab.mail)
        self.lab.settle(mail)
        self.assertTrue(mail.delivered_to(self.lab.mail, mailbox="alice"))
        self.assertTrue(self.mail_lab.judge().conserved)

    def test_an_unknown_user_is_rejected(self):
        mail = self.lab.client.smtp("unknown-user@example.com", server=self.lab.mail)
        self.lab.settle(mail)
        self.assertTrue(mail.rejected(550))
        self.assertEqual(self.mail_lab.judge().delivered, 0)


unittest.main()
"""
KILLED = """
import os, signal
from maillab import MailLab
from maillab.engine import compose

print(compose.owner(), flush=True)
with MailLab("standalone", postfix=VERSION) as lab:
    print(lab.project.name, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
REFUSED = """
from maillab import MailLab

with MailLab("standalone"):
    print("up")
"""


def version(request: pytest.FixtureRequest) -> str:
    found: str = request.config.option.postfix
    return found


def script(folder: Path, text: str, request: pytest.FixtureRequest, **environment: str) -> (
    subprocess.CompletedProcess[str]
):  # fmt: skip
    """Run a script to its end."""
    program = folder / "script.py"
    program.write_text(text.replace("VERSION", repr(version(request))))
    return subprocess.run(
        [sys.executable, program],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )


def lose_a_message(lab: Lab) -> int:
    """Remove a mailbox with one message and return the number lost."""
    lab.settle(lab.client.smtp("alice@example.com", server=lab.mail))
    lab.mail.run("rm", "/var/mail/alice")
    return 1


def labs_of(owner: str) -> list[str]:
    return [name for name, lab in compose.projects().items() if lab.owner == owner]


def test_a_block_has_a_lab_and_leaves_none(request: pytest.FixtureRequest) -> None:
    """The block has mail, a fault, logs and a command, and a verdict at its end."""
    before = of_this_process()
    ours = MailLab("backup-mx", postfix=version(request))
    with ours as lab:
        with lab.primary.faulty(Greeting("421 not now")):
            mail = lab.sender.send(to="alice@example.org")
            lab.settle(mail, until=mail.held_by(lab.backup))
        lab.backup.flush()
        lab.settle(mail)
        assert mail.delivered_to(lab.primary, mailbox="alice")
        output, errors = ours.get_logs("primary")
        assert "delivered to mailbox" in output
        assert errors == ""
        assert "delivered to mailbox" not in ours.get_logs("sender")[0]
        asked = ["sh", "-c", "postconf -h myhostname; exit 3"]
        assert ours.exec_in_container(asked, "primary") == ("primary.example.org\n", "", 3)
        assert set(of_this_process()) - set(before) == {lab.project.name}

    assert of_this_process() == before


def test_mail_that_is_not_conserved_is_an_error_and_the_lab_is_removed(
    request: pytest.FixtureRequest,
) -> None:
    """A block that raises another error is not judged by the ledger."""
    before = of_this_process()
    ours = MailLab("standalone", postfix=version(request))

    with pytest.raises(NotConserved, match="1 lost, 0 expected"), ours as lab:
        lose_a_message(lab)
    assert of_this_process() == before

    with pytest.raises(ZeroDivisionError), ours as lab:
        _ = lose_a_message(lab) / 0
    assert of_this_process() == before


def test_a_testcase_of_unittest_has_a_lab(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """One lab serves the class, is reset between its tests, and is removed at its end."""
    done = script(tmp_path, UNITTEST, request)

    assert done.returncode == 0, done.stderr
    assert "Ran 2 tests" in done.stderr
    assert labs_of(done.stdout.strip()) == []


def test_a_script_that_is_killed_leaves_nothing(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """SIGKILL inside the block leaves no lab."""
    done = script(tmp_path, KILLED, request)
    owner, name = done.stdout.split()

    assert owner in name
    wait_until(lambda: not labs_of(owner))


def test_without_an_engine_a_script_fails_with_the_address(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The error names the engine's address."""
    done = script(tmp_path, REFUSED, request, DOCKER_HOST="unix:///no/such.sock")

    assert done.stdout == ""
    assert "maillab.errors.NoEngine: no Docker engine answers at unix:///no/such.sock" in (
        done.stderr
    )
