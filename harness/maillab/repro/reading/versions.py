"""The Postfix version of a report, and its compatibility level. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from maillab.mail.maillog import Event, Reloaded, Started

_NUMBERS = r"([2-3]\.\d{1,2}(?:\.\d{1,2})?)(?![\w.]*\.\d{1,3}\.\d)"
_NAMED = re.compile(rf"(?i)\bpostfix(?:[\s:=(*`_|-]|version|v(?=\d)|mta)+{_NUMBERS}\b")
_MAIL_VERSION = re.compile(r"\bmail_version\s*=\s*([2-9]\.\d{1,2}(?:\.\d{1,2})?(?:-\w{1,20})?)")
_PACKAGE = re.compile(
    r"(?i)\bpostfix(?:[:.]\w{1,9})?(?:/[\w,-]{1,40})?[-_: \t|]{1,40}(?:\d:)?"
    r"([2-3]\.\d{1,2}(?:\.\d{1,2})?)(?:-r?\d|\+deb|_\d)"
)
_LEVEL = re.compile(r"\d+\.\d+")
# Which Postfix a distribution's release has; the most frequent ones.
_OF_RELEASES = {
    "debian 7": "2.9", "debian 8": "2.11", "debian 9": "3.1", "debian 10": "3.4",
    "debian 11": "3.5", "debian 12": "3.7", "debian 13": "3.10", "ubuntu 12.04": "2.9",
    "ubuntu 14.04": "2.11", "ubuntu 16.04": "3.1", "ubuntu 18.04": "3.3", "ubuntu 20.04": "3.4",
    "ubuntu 22.04": "3.6", "ubuntu 24.04": "3.8", "centos 6": "2.6", "centos 7": "2.10",
    "rhel 7": "2.10", "rhel 8": "3.5", "rhel 9": "3.5", "rocky 9": "3.5", "rocky 8": "3.5",
    "almalinux 8": "3.5", "almalinux 9": "3.5",
}  # fmt: skip
_RELEASE = re.compile(
    r"\b(debian|ubuntu|centos|rhel|rocky|almalinux)"
    r"(?:[ \t]+(?:gnu/)?(?:linux|stream|server|release|lts))*[ \t]+(\d{1,2}(?:\.04)?)\b",
    re.IGNORECASE,
)
_BACKWARDS = re.compile(
    r"backwards-compatible default setting|smtpd_relay_before_recipient_restrictions=no"
)
# Before this release Postfix had no compatibility levels (COMPATIBILITY_README).
_FIRST_WITH_LEVELS = (3, 0)
# A main.cf of fewer settings may be an excerpt.
_WHOLE_MIN = 12
_SORTED_MIN = 8
# Debian's main.cf begins so.
_BEGINS_WHOLE = re.compile(r"/usr/share/postfix/main\.cf\.dist")
_PARTS_OF_ALL = ("mydestination", "myhostname", "mynetworks", "relayhost", "alias_maps")


@dataclass(frozen=True)
class Known:
    """A version, and where the report has it from; ``others`` are versions that it names, too."""

    version: str = ""
    source: str = ""
    others: tuple[str, ...] = ()


def version_of(text: str, settings: Mapping[str, str], events: Sequence[Event]) -> Known:
    """Return the version by mail_version, else master(8)'s log, a package, prose, the system."""
    started = [event.version for event in events if isinstance(event, Started | Reloaded)]
    printed = _MAIL_VERSION.findall(text)
    level = settings.get("compatibility_level", "")
    packages = _PACKAGE.findall(text)
    named = list(dict.fromkeys(_NAMED.findall(text)))
    release = _RELEASE.search(text)
    system = _OF_RELEASES.get(f"{release[1]} {release[2]}".lower(), "") if release else ""
    newest = max(named, key=_numbers, default="")
    for version, source in (
        (settings.get("mail_version", "") or (printed[-1] if printed else ""), "mail_version"),
        (started[-1] if started else "", "the log"),
        (max(packages, key=_numbers, default=""), "the package's name"),
        (newest, "the text"),
        (level if _LEVEL.fullmatch(level) else "", "compatibility_level"),
        (system, release[0] if release else ""),
    ):
        if version:
            others = [one for one in named if _series(one) != _series(version)]
            return Known(version, source, tuple(others))
    return Known()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _series(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d{1,4}", version)[:2])


def why_level_zero(
    text: str, settings: Mapping[str, str], order: Sequence[str], version: str
) -> str:
    """Return why the compatibility level is 0 although no setting says so, or "".

    Absent from a whole main.cf it is 0 (postconf(5) compatibility_level); a fragment tells
    nothing.
    """
    if "compatibility_level" in settings or not settings:
        return ""
    if version and re.match(r"\d{1,4}\.\d{1,4}", version) and _series(version) < _FIRST_WITH_LEVELS:
        return f"Postfix {version} has no compatibility levels"
    if _BACKWARDS.search(text):
        return "the log names backwards-compatible default settings"
    return _why_whole(text, [name for name in order if name in settings])


def _why_whole(text: str, names: list[str]) -> str:
    """Return why the settings are all of a main.cf's, or ""."""
    if re.search(r"postconf[^\n|]{0,40}\|\s*grep", text):
        return ""
    if len(names) >= _SORTED_MIN and names == sorted(names):
        return "the whole 'postconf -n' has no compatibility_level"
    several = sum(name in names for name in _PARTS_OF_ALL) > len(_PARTS_OF_ALL) // 2
    begins = len(names) >= _SORTED_MIN and _BEGINS_WHOLE.search(text) is not None
    if begins or (several and len(names) >= _WHOLE_MIN):
        return "the whole main.cf has no compatibility_level"
    return ""
