"""The parts of an answer."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from maillab.site import resources
from maillab.suite import collection, docstring

ANSWER = """The question?

One sentence. Postfix 3.10 has
another (see smtpd(8)).

More.

Since the FAQ:
- 2.1: a setting, which
  takes two lines.
- 3.0: its default.
"""


def test_an_answer_has_question_short_form_changes_and_the_rest() -> None:
    """In any order of the paragraphs after the short form."""
    parts = docstring.parts(ANSWER)

    assert parts.question == "The question?"
    assert parts.short == "One sentence. Postfix 3.10 has another (see smtpd(8))."
    assert parts.sentences == ["One sentence.", "Postfix 3.10 has another (see smtpd(8))."]
    assert parts.changes == ("2.1: a setting, which takes two lines.", "3.0: its default.")
    assert parts.more == ("More.",)


def test_an_answer_may_be_a_question_alone() -> None:
    """As it is where a file has a docstring of one line."""
    assert docstring.parts("It.") == docstring.Parts("It.", "", (), ())


# This file compares several entries and is the answer of none.
COMPARISON = "test_sendmail_contrast.py"
FILES = sorted(file for file in resources.scenarios().glob("test_*.py") if file.name != COMPARISON)


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_each_answer_is_three_sentences_and_says_what_changed(file: Path) -> None:
    """In the form that "maillab faq" prints."""
    parts = docstring.parts(ast.get_docstring(ast.parse(file.read_text())) or "")

    assert parts.question
    assert 1 <= len(parts.sentences) <= 3
    assert parts.short.endswith(".")
    assert parts.changes
    assert all(change.endswith(".") for change in parts.changes)


def test_the_comparison_is_about_several_entries() -> None:
    """Otherwise its docstring would have to be the answer of its entry."""
    marks = {
        slug
        for scenario in collection.scenarios()
        if COMPARISON in scenario.id
        for slug, *_ in scenario.marks
    }

    assert len(marks) > 1
