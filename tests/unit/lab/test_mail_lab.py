"""A lab outside pytest: judgement, removal and refusals. No engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fake_labs import FakeLab
from maillab import Lab, MailLab
from maillab.engine import compose
from maillab.errors import (
    BadInput,
    EngineGone,
    LabError,
    MaillabError,
    NoEngine,
    NotConserved,
    UnknownName,
    Void,
)
from maillab.lab import mail_lab
from maillab.lab.pool import Labs
from maillab.scenario.state import Witness
from maillab.site import topology
from maillab.site.topology import Topology


class Journal(list[str]):
    """The steps of labs and watchdogs in order; a step raises its error in ``refusals``."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals: dict[str, MaillabError] = {}

    def note(self, what: str) -> None:
        self.append(what)
        if what in self.refusals:
            raise self.refusals[what]


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> Journal:
    """Provide fake labs, and record what happens to them."""
    written = Journal()

    class Noted(FakeLab):
        def down(self) -> None:
            written.note("down")

        def resume(self) -> None:
            pass

        def leave(self) -> None:
            raise LabError("nothing to leave")

        def detach(self) -> None:
            written.note("detach")

    class Watchdog:
        def __init__(self, owner: str) -> None:
            written.note("watchdog")

        def dismiss(self) -> None:
            written.note("dismiss")

    def start(site: Topology, version: str, *, pool: str = "") -> Noted:
        written.note("start")
        return Noted(site, version)

    monkeypatch.setattr(mail_lab, "start", start)
    monkeypatch.setattr(mail_lab, "Watchdog", Watchdog)
    monkeypatch.setattr(mail_lab.GUARD, "_watchdog", None)
    monkeypatch.setattr(compose, "sweep", lambda: written.note("sweep"))
    monkeypatch.setattr(compose, "hand_over", lambda name: written.note(f"hand over {name}"))
    return written


WHOLE = ["sweep", "watchdog", "start", "down", "dismiss"]


def test_a_block_has_the_lab_and_removes_it(journal: Journal) -> None:
    """The hosts are attributes; neither the lab nor the watchdog stays."""
    with MailLab("backup-mx", postfix="3.5") as lab:
        assert lab.sender.name == "sender"
        assert lab.requested_version == "3.5"

    assert journal == WHOLE


def test_mail_that_is_not_conserved_is_an_error_at_the_end(journal: Journal) -> None:
    """The error has the ledger's sums; the lab is removed nevertheless."""
    block = MailLab("standalone")

    with pytest.raises(NotConserved, match="0 lost, 1 expected"), block as lab:
        lab.expects(lost=1, because="it was to be lost")

    assert journal == WHOLE


def test_a_fault_that_never_acted_voids_the_block(journal: Journal) -> None:
    """The error names the missing witness."""
    with pytest.raises(Void, match=r"Greeting.* never seen to act"), MailLab("standalone") as lab:
        lab.scenario.witnesses.append(Witness("Greeting()", "remote", "clients greeted"))

    assert journal == WHOLE


def test_a_block_that_raises_is_not_judged(journal: Journal) -> None:
    """Its user sees the block's own error."""

    def fail(lab: Lab) -> None:
        lab.expects(lost=1, because="it was to be lost")
        _ = 1 / 0

    with pytest.raises(ZeroDivisionError) as raised, MailLab("standalone") as lab:
        fail(lab)

    assert not hasattr(raised.value, "__notes__")
    assert journal == WHOLE


def test_a_lab_that_cannot_be_removed_does_not_hide_the_blocks_error(journal: Journal) -> None:
    """The watchdog stays, and removes the lab when the program ends."""
    journal.refusals["down"] = EngineGone("the engine went away")

    with pytest.raises(ZeroDivisionError) as raised, MailLab("standalone"):
        _ = 1 / 0

    assert "the engine went away" in raised.value.__notes__[0]
    assert journal == WHOLE[:-1]


def test_without_judgement_the_ledger_is_not_asked(journal: Journal) -> None:
    """This is what judge=False asks for."""
    with MailLab("standalone", judge=False) as lab:
        lab.expects(lost=1, because="it was to be lost")

    assert journal == WHOLE


def test_started_and_stopped_by_hand(journal: Journal) -> None:
    """As in testcontainers: start returns the object, which has the hosts, too."""
    ours = MailLab("standalone").start()
    assert ours.mail is ours.lab.mail
    assert ours.judge().conserved
    ours.stop()
    ours.stop()

    assert journal == WHOLE


def test_two_labs_have_one_watchdog(journal: Journal) -> None:
    """It is dismissed with the last lab."""
    with MailLab("standalone"), MailLab("backup-mx"):
        pass

    assert journal == ["sweep", "watchdog", "start", "start", "down", "down", "dismiss"]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"topology": "no-such"}, "no-such"),
        ({"topology": Path("/no/such.yaml")}, "/no/such.yaml"),
        ({"postfix": "2.1"}, "2.1"),
        ({"postfix": 3.10}, "3.1"),
        ({"pool": "nonsense"}, "nonsense"),
    ],
    ids=str,
)
def test_bad_input_starts_nothing(wrong: dict[str, Any], text: str, journal: Journal) -> None:
    """The error comes before ``start``, with the value."""
    with pytest.raises(BadInput, match=text):
        MailLab(**{"topology": "standalone", **wrong})

    assert journal == []


@pytest.mark.parametrize(
    ("step", "error", "after"),
    [
        ("sweep", NoEngine("no engine"), ["sweep"]),
        ("start", LabError("it did not start"), [*WHOLE[:3], "dismiss"]),
    ],
)
def test_a_start_that_fails_leaves_nothing(
    step: str, error: MaillabError, after: list[str], journal: Journal
) -> None:
    """No watchdog stays; the start may be repeated."""
    journal.refusals[step] = error
    ours = MailLab("standalone")

    with pytest.raises(type(error)):
        ours.start()
    assert journal == after

    journal.refusals.clear()
    with ours:
        pass
    assert journal == [*after, *WHOLE]


def test_a_lab_is_started_once_and_used_only_while_it_is_up(journal: Journal) -> None:
    """The error says in one line what is wrong and what to do."""
    ours = MailLab("standalone")
    with pytest.raises(BadInput, match=r"standalone is not up: call start\(\)"):
        ours.get_logs()
    with pytest.raises(AttributeError, match="'mail' while the lab is not up"):
        ours.mail  # noqa: B018  # the access is the test
    ours.start()

    with pytest.raises(BadInput, match=r"is up already: call stop\(\)"):
        ours.start()
    with pytest.raises(UnknownName, match="gate"):
        ours.get_logs("gate")
    with pytest.raises(UnknownName, match="gate"):
        ours.exec_in_container(["true"], "gate")
    ours.stop()


def test_a_lab_that_is_handed_over_stays(journal: Journal) -> None:
    """Neither the end of the block nor a watchdog removes it."""
    ours = MailLab("standalone")
    with ours:
        assert ours.hand_over() == "maillab_fake_1"

    assert journal == [*WHOLE[:3], "hand over maillab_fake_1", "detach", "dismiss"]


def test_a_lab_that_cannot_be_handed_over_is_removed_with_the_run(journal: Journal) -> None:
    """The pool still has it."""
    journal.refusals["hand over maillab_fake_1"] = EngineGone("the engine went away")
    labs = Labs()
    lab = labs.get(topology.load("standalone"), "3.10")

    with pytest.raises(EngineGone):
        labs.release(lab)
    labs.close()

    assert journal == [*WHOLE[:3], "hand over maillab_fake_1", *WHOLE[3:]]


def test_the_labs_of_pytest_are_these(journal: Journal) -> None:
    """At most two, of which the longest unused is removed first, and one watchdog per run."""
    labs = Labs(keep_max=1)
    first = labs.get(topology.load("standalone"), "3.10")
    second = labs.get(topology.load("backup-mx"), "3.10")
    labs.discard(second)
    labs.close()

    assert first is not second
    assert journal == [*WHOLE[:3], "down", "start", *WHOLE[3:]]
