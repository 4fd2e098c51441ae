"""Which zones are signed, and how; ldns-signzone(1) itself is tested in a lab."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import signing
import zones


def test_a_section_without_the_line_is_not_signed() -> None:
    """Its text stays as it is."""
    assert signing.asked("@ A 198.18.0.7\n") == ("@ A 198.18.0.7\n", None)


@pytest.mark.parametrize("words", ["", "expired", "undelegated", "except TLSA"])
def test_the_line_says_how(words: str) -> None:
    """It is no record, and is taken out."""
    text, found = signing.asked(f"@ A 198.18.0.7\n$SIGN {words}\nmx A 198.18.0.8\n")

    assert (found, "$SIGN" in text) == (words, False)
    signer = signing.options("a.test.", words)
    assert (signer.expired, signer.undelegated) == (words == "expired", words == "undelegated")
    assert signer.without == ("TLSA" if "TLSA" in words else "")


def test_unknown_words_are_refused_by_name() -> None:
    """The message names the zone and what is allowed."""
    with pytest.raises(signing.DoesNotSign, match=r"^\$ORIGIN a\.test\.: unknown \$SIGN 'exprd'"):
        signing.options("a.test.", "exprd")


def test_what_is_written_down_is_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name server signs a changed zone as it did at the start."""
    monkeypatch.setattr(signing, "KEYS", tmp_path)
    for words in ("", "expired", "undelegated", "except TLSA"):
        signing.note(replace(signing.options("a.test.", words), key="Ka.test.+013+1"))
        found = signing.signer_of("a.test.")
        assert found == replace(signing.options("a.test.", words), key="Ka.test.+013+1")
    assert signing.signer_of("b.test.") is None


def test_each_zone_is_delegated_by_the_closest_one_above() -> None:
    """With its DS record, if it has one."""
    both = zones.delegated(
        {".": "", "a.test.": "", "b.a.test.": "", "c.test.": ""}, {"a.test.": "a.test. DS 1\n"}
    )

    assert both["."] == "a.test. NS ns.lab.\na.test. DS 1\nc.test. NS ns.lab.\n"
    assert both["a.test."] == "b.a.test. NS ns.lab.\n"
    assert both["c.test."] == ""
