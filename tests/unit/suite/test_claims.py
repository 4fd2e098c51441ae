"""The claims of the FAQ and the scenarios that prove them."""

from __future__ import annotations

import pytest

from maillab.suite import catalogue, claims, collection
from maillab.suite.claims import Claim
from maillab.suite.collection import Scenario

NOT_PROVEN = {
    "weak": ["9.1", "10.1", "11.6", "13.7", "16.4", "31.4"],
    "missing": ["44.4", "48.4"],
    "untestable": [
        "6.3", "7.3", "9.2", "9.3", "12.5", "14.2", "20.2", "21.9", "23.3", "28.4", "40.3", "40.7",
    ],
}  # fmt: skip


def test_all_claims_of_the_faq_are_there() -> None:
    """Each entry has some, in the FAQ's order; no id twice."""
    every = claims.claims()

    assert list(dict.fromkeys(claim.entry for claim in every)) == list(catalogue.entries())
    assert len({claim.id for claim in every}) == len(every) == 207
    numbers = {entry.slug: str(entry.number) for entry in catalogue.entries().values()}
    assert all(claim.id.split(".")[0] == numbers[claim.entry] for claim in every)


def test_each_scenario_named_exists_and_has_the_entrys_mark() -> None:
    """An untestable claim has no scenario."""
    assert claims.problems(collection.scenarios()) == []


def test_the_claims_without_a_complete_proof_are_these() -> None:
    """A claim that loses its proof, or gets one, changes this list."""
    found = {state: [c.id for c in claims.claims() if c.state == state] for state in NOT_PROVEN}

    assert found == NOT_PROVEN


@pytest.mark.parametrize(
    ("claim", "complaint"),
    [
        (Claim("1.1", "stand-alone", "x", ["test_a.py::test_gone"]), "no scenario test_a.py"),
        (Claim("1.1", "dialup", "x", ["test_a.py::test_cure_it"]), "is marked stand-alone"),
        (Claim("1.1", "stand-alone", "x", weak="not shown"), "is weak, and has no scenarios"),
        (
            Claim("1.1", "stand-alone", "x", ["test_a.py::test_cure_it"], untestable="a reason"),
            "is untestable, and has",
        ),
    ],
)
def test_a_claim_that_is_wrong_is_named(
    claim: Claim, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The complaint begins with the claim's id."""
    monkeypatch.setattr(claims, "claims", lambda: (claim,))
    there = Scenario(
        "scenarios/test_a.py::test_cure_it[x-y::z]", (("stand-alone",),), "cure", "", "standalone"
    )

    (problem,) = claims.problems([there])

    assert problem.startswith("1.1: ")
    assert complaint in problem


def test_a_claim_proven_by_another_entrys_scenario_names_that_entry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    claim = Claim("1.1", "dialup", "x", ["test_a.py::test_cure_it"], elsewhere=["stand-alone"])
    monkeypatch.setattr(claims, "claims", lambda: (claim,))
    there = Scenario("test_a.py::test_cure_it", (("stand-alone",),), "cure", "", "standalone")

    assert claims.problems([there]) == []


@pytest.mark.parametrize(
    ("claim", "state", "remark"),
    [
        (Claim("1", "x", "t", ["a"]), "proven", ""),
        (Claim("1", "x", "t", ["a"], weak="w"), "weak", "w"),
        (Claim("1", "x", "t"), "missing", "no scenario yet"),
        (Claim("1", "x", "t", untestable="u"), "untestable", "u"),
    ],
)
def test_a_claims_state_follows_from_what_it_has(claim: Claim, state: str, remark: str) -> None:
    assert (claim.state, claim.remark) == (state, remark)
