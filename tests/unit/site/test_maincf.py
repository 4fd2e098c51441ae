"""A main.cf is parsed as Postfix parses it (postconf(5))."""

from __future__ import annotations

import pytest

from maillab.errors import BadInput
from maillab.site import maincf


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a = b\n", {"a": "b"}),
        ("a=b", {"a": "b"}),
        ("a =\n", {"a": ""}),
        ("a = b = c\n", {"a": "b = c"}),
        ("a = b\n  c\n\td\n", {"a": "b c d"}),
        ("a =\n  b,\n\n# no end\n  # nor this\n  c\n", {"a": "b, c"}),
        ("a = 1\na = 2\n", {"a": "2"}),
        ("# a = b\n\n", {}),
        ("a = $b # part of it\n", {"a": "$b # part of it"}),
    ],
)
def test_the_settings_of_a_main_cf(text: str, found: dict[str, str]) -> None:
    """Continuation, comments, repetition."""
    assert maincf.settings(text) == found


@pytest.mark.parametrize("text", ["a = b\nnonsense\n", "a = b\n= c\n"])
def test_a_line_without_a_setting_is_an_error(text: str) -> None:
    """The error has its number."""
    with pytest.raises(BadInput, match=r"own\.cf:2: .* sets no parameter"):
        maincf.settings(text, "own.cf")


def test_a_continuation_of_nothing_is_an_error() -> None:
    """A file that begins with white space."""
    with pytest.raises(BadInput, match=r"main\.cf:1:"):
        maincf.settings("  a = b\n")
