"""A fault that does nothing makes a test void in a real lab, too. Needs an engine."""

from __future__ import annotations

import pytest

from maillab.errors import Void

REAL = """
import contextlib
import pytest
from maillab.faults import Greeting
from maillab.scenario.state import Witness

pytestmark = pytest.mark.topology("backup-mx")

@contextlib.contextmanager
def nothing(self, host):
    yield Witness(repr(self), host.name, "clients that the server greeted")

Greeting.on = nothing

@pytest.mark.faq("mx-greetings", "22b")
def test_symptom_a_5xx_greeting_bounces_what_the_backup_would_take(lab):
    lab.sender.misconfigure(smtp_skip_5xx_greeting="no")
    with lab.primary.faulty(Greeting("554 no mail from outside")):
        mail = lab.sender.send(to="alice@example.org")
        lab.settle(mail)
    assert mail.bounced(dsn="5.0.0", saying="554 no mail from outside")

@pytest.mark.faq("mx-greetings", "22a")
def test_cure_that_needs_no_cure(lab):
    with lab.primary.faulty(Greeting("554 no mail from outside")):
        mail = lab.sender.send(to="alice@example.org")
        lab.settle(mail)
    assert mail.delivered_to(lab.primary, mailbox="alice")

def test_behaviour_mail_arrives(lab):
    mail = lab.sender.send(to="alice@example.org")
    lab.settle(mail)
    assert mail.delivered_to(lab.primary, mailbox="alice")
"""


def test_a_real_fault_that_does_nothing_makes_its_tests_void(pytester: pytest.Pytester) -> None:
    """In a real lab the test is void, with the expected delivery or without."""
    pytester.makepyfile(test_mx_greetings=REAL)

    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", timeout=150)

    assert result.ret == Void.exit_code
    assert result.parseoutcomes() == {"void": 2, "passed": 1}
    assert (
        "Greeting(reply='554 no mail from outside') on primary was never seen to act: "
        "0 clients that the server greeted"
    ) in result.stdout.str()
    assert len([path for path in (pytester.path / "runs").iterdir() if path.is_dir()]) == 2
