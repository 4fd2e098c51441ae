"""Full versions, and the table of changes between them."""

from __future__ import annotations

import pytest

from maillab.errors import BadInput, UnknownName
from maillab.site import changes, resources
from maillab.site.versions import Version, levels_of
from maillab.suite import differences

MILTER = changes.CHANGES["milter_default_action=shutdown"]


def test_versions_compare_by_their_numbers() -> None:
    """Not as text, in which 3.10 is less than 3.9; trailing zeros count as none."""
    version = Version("3.10.13")

    assert "3.9.14" < version < Version("3.11")
    assert version >= "3.10.8"
    assert version == "3.10.13"
    assert version != "3.10"
    assert Version("3.11.0") == "3.11"
    assert hash(Version("3.11.0")) == hash(Version("3.11"))
    assert str(version) == "3.10.13"
    assert Version("3.12-20260821") < "3.12.1"


def test_a_level_that_names_a_release_is_unknown_before_it() -> None:
    """Postfix 3.5 knows numbers only, which have no dot."""
    assert levels_of(Version("3.5.25")) == ["0", "1", "2"]
    assert levels_of(Version("3.10.3")) == ["0", "1", "2", "3.6", "3.9"]


@pytest.mark.parametrize("text", ["", "3", "trixie", "20260101"])
def test_a_version_has_two_numbers_at_least(text: str) -> None:
    """The error names the text."""
    with pytest.raises(BadInput, match=f"not '{text}'"):
        Version(text)


@pytest.mark.parametrize(
    ("version", "has"),
    [
        *(("3.5.25", False), ("3.6.20", False), ("3.7.19", False), ("3.7.20", True)),
        *(("3.8.14", False), ("3.8.15", True), ("3.9.8", False), ("3.9.9", True)),
        *(("3.10.3", False), ("3.10.13", True), ("3.11.0", True), ("3.12-20260821", True)),
    ],
)
def test_a_change_counts_in_each_series_from_its_own_release(version: str, *, has: bool) -> None:
    """3.9.8 is newer than 3.7.20, and does not have the change."""
    assert MILTER.in_version(Version(version), debian=13) is has


def test_a_change_of_debian_counts_by_the_release() -> None:
    """Postfix 3.10.13 has the jail on Debian 13."""
    for debian, expected in ((13, False), (14, True)):
        assert changes.has("no jail in master.cf", Version("3.10.13"), debian) is expected


def test_an_unknown_change_is_an_error() -> None:
    """The message lists the known ones."""
    with pytest.raises(UnknownName, match="known_tcp_ports"):
        changes.has("nosuch", Version("3.5.25"), 11)


def test_each_change_is_shown_by_a_scenario() -> None:
    """And scenarios ask for no change that the table does not have."""
    assert differences.shown(resources.scenarios()).keys() == changes.CHANGES.keys()


def test_releases_are_in_order_with_one_for_each_series() -> None:
    """``in_version`` relies on it."""
    for change in changes.CHANGES.values():
        since = [Version(text) for text in change.since]

        assert since == sorted(since)
        assert len({version.series for version in since}) == len(since)
        assert bool(since) is not bool(change.debian)


def test_scenarios_ask_for_changes_and_not_for_versions() -> None:
    """A comparison with a version misses the releases that a change was ported back to."""
    asking = [
        path.name
        for path in resources.scenarios().rglob("*.py")
        if "lab.version" in path.read_text(encoding="utf-8")
    ]

    assert asking == []
