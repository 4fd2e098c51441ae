"""A claim is evaluated again each time; ``now`` keeps one answer and its text."""

from __future__ import annotations

from typing import Any, cast

from maillab.mail.journey import Finding
from maillab.scenario.state import Claim


class Way:
    """Replaces a journey."""

    def text(self) -> str:
        return "mail 4QX: under way"


def findings(*found: tuple[object, ...]) -> Claim:
    """Return a claim with these answers, one for each evaluation."""
    answers = iter(Finding("deferred", each, cast("Any", Way())) for each in found)
    return Claim(lambda: next(answers))


def test_a_claim_is_evaluated_each_time() -> None:
    claim = findings((), ("attempt",))

    assert not claim
    assert claim


def test_an_answer_of_now_stays_and_keeps_its_text() -> None:
    """The claim is evaluated once, when ``now`` is called."""
    held = findings((), ("attempt",)).now()

    assert not held
    assert not held
    assert repr(held) == "never deferred"
