"""A fault's settings as text: for the command line and the pages about faults."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from maillab.errors import BadInput, UnknownName

# Settings that name a host by its address; the name of a role stands for its first one.
ADDRESSES = ("peer", "client", "address")
_BOOLEANS = {"yes": True, "true": True, "no": False, "false": False}


@dataclass(frozen=True)
class Setting:
    """One setting of a fault: its form for people, and its default or None."""

    name: str
    form: str
    default: str | None


def summary(fault: type) -> str:
    """The first sentence of what a fault does."""
    return (inspect.getdoc(fault) or "").partition("\n\n")[0].replace("\n", " ")


def settings(fault: type) -> list[Setting]:
    """What can be set of a fault, in its own order."""
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
    """The fault with settings as text; ``addresses`` are those of hosts, by their roles.

    Raises UnknownName, or BadInput for what cannot be read or is impossible.
    """
    known = {setting.name: setting for setting in settings(fault)}
    hints = get_type_hints(fault)
    for name in given:
        if name not in known:
            raise UnknownName.among(f"setting of {fault.__name__}", name, list(known))
    missing = [one.name for one in known.values() if one.default is None and one.name not in given]
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
    """The type that is meant where None is allowed, too."""
    if get_origin(hint) in (UnionType, Union):
        return next(one for one in get_args(hint) if one is not NoneType)
    return hint


def _read(hint: Any, text: str, where: str) -> Any:
    plain = _plain(hint)
    if plain is bool:
        if text not in _BOOLEANS:
            raise BadInput(f"{where}: {text!r}: write yes or no")
        return _BOOLEANS[text]
    if plain in (int, float):
        try:
            return plain(text)
        except ValueError:
            raise BadInput(f"{where}: {text!r}: write a number") from None
    return text
