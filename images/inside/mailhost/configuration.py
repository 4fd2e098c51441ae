"""The settings of a mail host for mail storage and address rewriting.

Runs on every Python from 3.9 on (Debian bullseye) and needs no library.
"""

from __future__ import annotations

import functools
import re
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterable, List, Set, Tuple

from remembered import text_of

ETC = Path("/etc")
# The file that Debian names in "myorigin = /etc/mailname".
NAMES = (
    "alias_database",
    "alias_maps",
    "canonical_maps",
    "lmtp_generic_maps",
    "mail_spool_directory",
    "masquerade_domains",
    "message_drop_headers",
    "mydomain",
    "myorigin",
    "queue_directory",
    "recipient_canonical_maps",
    "remote_header_rewrite_domain",
    "sender_canonical_maps",
    "smtp_generic_maps",
    "virtual_mailbox_base",
)
Settings = Dict[str, Set[str]]

# Tables that may change any address to any other, in headers too.
MAPS = (
    "canonical_maps",
    "lmtp_generic_maps",
    "recipient_canonical_maps",
    "sender_canonical_maps",
    "smtp_generic_maps",
)
ORIGINS = ("mydomain", "myorigin", "remote_header_rewrite_domain")
# The settings by the lines of the files that they depend on: most scenarios leave these as
# they are.
_read: Dict[str, Settings] = {}
_FEW = 20
_COMMENT = re.compile(r"(?m)^\s*#.*")
# Values set since ``forget`` that may have been replaced since.
_former: Settings = {}


def instances() -> List[Path]:
    """Return the configuration directory of each instance of Postfix (postmulti(1))."""
    return sorted(file.parent for file in ETC.glob("postfix*/main.cf"))


def settings() -> Settings:
    """Return every value of each setting in ``NAMES``, in all instances and services."""
    found: Settings = {name: set(_former.get(name, ())) for name in NAMES}
    for folder in instances():
        for name, values in _of_instance(folder).items():
            found[name] |= values
    return found


def remember(changed: Iterable[str]) -> None:
    """Keep the current values until ``forget`` if the change is about storage or rewriting."""
    if set(changed) & set(NAMES):
        _former.update(settings())


def forget() -> None:
    """Forget all earlier values."""
    _former.clear()


def rewriting() -> Dict[str, Any]:
    """Return the header changes that the settings make Postfix apply."""
    values = settings()
    return {
        "origins": _words(values, *ORIGINS),
        "masquerades": [word for word in _words(values, "masquerade_domains") if word[0] != "!"],
        "dropped": _words(values, "message_drop_headers"),
        "mapped": any(any(values[name]) for name in MAPS),
    }


def _words(values: Settings, *names: str) -> List[str]:
    text = " ".join(value for name in names for value in values[name])
    return sorted(set(text.lower().replace(",", " ").split()))


def _of_instance(folder: Path) -> Settings:
    main, master = (text_of(folder / name) for name in ("main.cf", "master.cf"))
    try:
        by_service, lines = _dependencies(main, master)
        key = "\0".join([str(folder), *lines])
        if key not in _read:
            if len(_read) >= _FEW:
                _read.clear()
            _read[key] = _ask_postconf(folder, by_service=by_service)
    except (OSError, subprocess.CalledProcessError):
        # postconf(1) did not start, or refused main.cf: there is no answer to keep.
        return {}
    # The file of "myorigin = /etc/mailname" changes without main.cf.
    origins = {_first_word(value) for value in _read[key].get("myorigin", ())}
    return {**_read[key], "myorigin": origins}


def _first_word(value: str) -> str:
    """Return the first word of the file that a value names; other values as they are."""
    words = text_of(Path(value)).split() if value.startswith("/") else []
    return words[0] if words else value


@functools.lru_cache(maxsize=_FEW)
def _dependencies(main: str, master: str) -> Tuple[bool, List[str]]:
    """Return True if a service overrides a setting, and the text that the settings depend on."""
    # A service can override a setting with -o (master(5)).
    by_service = any(name in _COMMENT.sub("", master) for name in NAMES)
    return by_service, [main, master] if by_service else _needed(_parameters(main))


def _parameters(text: str) -> Dict[str, str]:
    """Return the value of each parameter of a main.cf, as it stands there."""
    lines = [line for line in text.split("\n") if line.strip() and line.lstrip()[0] != "#"]
    pairs = (line.partition("=") for line in re.sub(r"\n\s+", " ", "\n".join(lines)).split("\n"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def _needed(main: Dict[str, str]) -> List[str]:
    """Return the lines of a main.cf that the settings in ``NAMES`` depend on."""
    pending, seen = [*NAMES, "compatibility_level"], set()
    while pending:
        name = pending.pop()
        if name not in seen:
            seen.add(name)
            value = main.get(name, _defaults().get(name, ""))
            pending += re.findall(r"\w+", value) if "$" in value else []
            # By default Postfix derives each from the other.
            pending += {"mydomain": ["myhostname"], "myhostname": ["mydomain"]}.get(name, [])
    return [f"{name} = {main[name]}" for name in sorted(seen & main.keys())]


@functools.cache
def _defaults() -> Dict[str, str]:
    done = subprocess.run(["postconf", "-d"], capture_output=True, check=True)
    return _parameters(done.stdout.decode("latin-1"))


def _ask_postconf(folder: Path, *, by_service: bool) -> Settings:
    found: Settings = {}
    lines = _lines("postconf", "-c", str(folder), "-x", *NAMES)
    if by_service:
        lines += _lines("postconf", "-c", str(folder), "-xP", *(f"*/*/{name}" for name in NAMES))
    for line in lines:
        name, value = _assignment(line)
        found.setdefault(name, set()).add(value)
    return found


def _assignment(line: str) -> Tuple[str, str]:
    name, _, value = line.partition("=")
    return name.strip().rpartition("/")[2], value.strip()


def _lines(*argv: str) -> List[str]:
    """Return the assignments that postconf(1) prints.

    Raise OSError if it does not start, and CalledProcessError if it fails.
    """
    done = subprocess.run(argv, capture_output=True, check=True)
    lines = done.stdout.decode("latin-1").splitlines()
    return [line for line in lines if _assignment(line)[0] in NAMES]
