"""The entries of the FAQ and their bullets."""

from __future__ import annotations

import pytest

from maillab.errors import UnknownName
from maillab.suite import catalogue


def test_the_faq_has_fifty_entries_with_bullets_of_their_own() -> None:
    """In the FAQ's order, without a repeated bullet."""
    every = list(catalogue.entries().values())

    assert [entry.number for entry in every] == list(range(1, 51))
    bullets = [bullet for entry in every for bullet in entry.bullets]
    assert all(entry.bullets and entry.title for entry in every)
    assert len(bullets) == len(set(bullets))


@pytest.mark.parametrize("name", ["mx-greetings", "22"])
def test_an_entry_is_found_by_slug_and_number(name: str) -> None:
    """Users write either."""
    assert catalogue.entry(name).number == 22


def test_an_unknown_entry_lists_the_known_ones() -> None:
    """The error is the same as for any unknown name."""
    with pytest.raises(UnknownName, match=r"unknown FAQ entry 'mx' \(choose from stand-alone"):
        catalogue.entry("mx")
