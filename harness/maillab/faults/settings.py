"""A fault's settings as text: for the command line and the documentation."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from maillab.errors import BadInput, UnknownName

# Settings that are a host's address; the name of a role stands for its first address.
ADDRESSES = ("peer", "client", "address")
# Larger than any size or time that a fault accepts, and exact as a fraction, too.
_NUMBER_MAX = 10**15
_BOOLEANS = {"yes": True, "true": True, "no": False, "false": False}
_TYPED = {"True": "yes", "False": "no"}


@dataclass(frozen=True)
class Setting:
    """A setting of a fault: its name, its form for users, and its default or None."""

    name: str
    form: str
    default: str | None

    @property
    def usual(self) -> str:
        """The default as a user types it; ``none`` for an empty one."""
        if self.default in (None, "None", ""):
            return "none"
        return _TYPED.get(self.default, self.default.removesuffix(".0"))


def description(fault: type) -> str:
    """Return a fault's docstring for a terminal, without markup."""
    return (inspect.getdoc(fault) or "").replace("``", "")


def summary(fault: type) -> str:
    """Return the first sentence of a fault's description."""
    return description(fault).partition("\n\n")[0].replace("\n", " ")


def settings(fault: type) -> list[Setting]:
    """Return the settings of a fault in declaration order."""
    hints = get_type_hints(fault)
    return [
        Setting(
            field.name,
            _form(hints[field.name]),
            None if field.default is dataclasses.MISSING else str(field.default),
        )
        for field in dataclasses.fields(fault)
    ]


def build(fault: type, given: Mapping[str, str], addresses: Mapping[str, str] | None = None) -> Any:
    """Return the fault with settings given as text; ``addresses`` are those of hosts, by role.

    Raise UnknownName for an unknown setting, and BadInput for an invalid value.
    """
    known = {setting.name: setting for setting in settings(fault)}
    hints = get_type_hints(fault)
    for name in given:
        if name not in known:
            raise UnknownName.among("setting", name, list(known), of=fault.__name__)
    missing = [
        setting.name
        for setting in known.values()
        if setting.default is None and setting.name not in given
    ]
    if missing:
        raise BadInput(f"{fault.__name__} needs {', '.join(f'{name}=…' for name in missing)}")
    values = {
        name: _read(hints[name], text, f"{fault.__name__}: {name}") for name, text in given.items()
    }
    for name in ADDRESSES:
        if name in values and addresses and values[name] in addresses:
            values[name] = addresses[values[name]]
    return fault(**values)


def _form(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "|".join(str(word) or "''" for word in get_args(hint))
    if hint is bool:
        return "yes|no"
    return {str: "text", int: "number", float: "number"}.get(_plain(hint), "text")


def _plain(hint: Any) -> Any:
    """Return the type other than None that a hint allows."""
    if get_origin(hint) in (UnionType, Union):
        return next(kind for kind in get_args(hint) if kind is not NoneType)
    return hint


def _read(hint: Any, text: str, where: str) -> Any:
    plain = _plain(hint)
    if plain is bool:
        if text not in _BOOLEANS:
            raise BadInput(f"{where}: must be yes or no, not {text!r}")
        return _BOOLEANS[text]
    if plain in (int, float):
        try:
            number = plain(text)
        except ValueError:
            raise BadInput(f"{where}: must be a number, not {text!r}") from None
        if not abs(number) <= _NUMBER_MAX:
            raise BadInput(f"{where}: must be a number of at most {_NUMBER_MAX:g}, not {text!r}")
        return number
    return text
