"""The parts of every program in a container: operations, and handles for what they set.

``@operation(...)`` makes a function an operation of its program. Its keywords declare the
answer: each field with the value that it has if the operation does nothing. ``@setting(...)``
is an operation that only changes or reads files, and so needs no running mail server. `Handles`
holds what requests have set or opened, and how to undo it.

Runs on every Python from 3.9 on (Debian bullseye) and needs no library.
"""

from __future__ import annotations

import itertools
import os
import sys
from typing import Any, Awaitable, Callable, Dict, Generic, Iterator, List, Optional, TypeVar, Union

Answer = Dict[str, Any]
Function = Callable[..., Awaitable[Answer]]
Handle = Union[int, str]
Offered = TypeVar("Offered", bound=Function)
Thing = TypeVar("Thing")

# Numbers unique to this channel: others may run in the same container. All its programs share
# them, so that their order is the order in which handles were created.
_numbers = itertools.count(os.getpid() * 1000 + 1)


def new_number() -> int:
    """Return a number that no other handle in the container has."""
    return next(_numbers)


class Program:
    """A module's operations with their empty answers, and its handles."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.operations: Dict[str, Function] = {}
        self.answers: Dict[str, Answer] = {}
        self.handles: List[Handles[Any]] = []

    async def lift(self) -> None:
        """Undo what was set through this channel."""
        await self._undo_all(for_reset=False)

    async def undo(self) -> None:
        """Undo what a scenario has set; the module's ``undo`` handles what has no handle."""
        await self._undo_all(for_reset=True)
        await self._own("undo")

    async def clear(self) -> None:
        """Undo what any channel has set; the module's ``clear``, or ``undo``, finds the others'."""
        await self._undo_all(for_reset=False)
        await self._own("clear" if hasattr(sys.modules[self.name], "clear") else "undo")

    def leave(self) -> None:
        """Forget what stays in force without this channel."""
        for handles in self.handles:
            if handles.outlives:
                handles.forget()

    async def _own(self, name: str) -> None:
        function = getattr(sys.modules[self.name], name, None)
        if function is not None:
            await function()

    async def _undo_all(self, *, for_reset: bool) -> None:
        held = [(handles, handle) for handles in self.handles for handle in handles]
        errors = []
        # The latest first, as nested blocks end.
        for handles, handle in sorted(held, key=lambda h: h[0].made[h[1]], reverse=True):
            try:
                await handles.undo(handle, for_reset=for_reset)
            except Exception as error:  # noqa: BLE001  # the other handles are undone all the same
                errors.append(str(error))
        if errors:
            raise RuntimeError("; ".join(errors))


# The programs by module.
PROGRAMS: Dict[str, Program] = {}


def program(name: str) -> Program:
    """Return a module's program."""
    return PROGRAMS.setdefault(name, Program(name))


def operation(**answer: Any) -> Callable[[Offered], Offered]:
    """Make a function an operation of its name; ``answer`` has the fields of its answer."""

    def offer(function: Offered) -> Offered:
        offering = program(function.__module__)
        offering.operations[function.__name__] = function
        offering.answers[function.__name__] = answer
        return function

    return offer


# Does the same here. The harness does not start a waiting server for it (maillab.engine.starts).
setting = operation


class Handles(Generic[Thing]):
    """The things that a program has set or opened through this channel, by handle.

    ``undo`` is called with one thing: by the operation that ends it, when the channel ends,
    and for a reset, unless ``at_reset`` is given. A thing that ``outlives`` the channel needs
    no program and can stay in force.
    """

    def __init__(
        self,
        name: str,
        undo: Callable[[Thing], Awaitable[Any]],
        *,
        at_reset: Optional[Callable[[Thing], Awaitable[Any]]] = None,
        outlives: bool = False,
    ) -> None:
        self._undo = undo
        self._at_reset = at_reset or undo
        self._things: Dict[Handle, Thing] = {}
        # The number of each handle, in the order of creation.
        self.made: Dict[Handle, int] = {}
        self.outlives = outlives
        program(name).handles.append(self)

    def add(self, thing: Thing, handle: Optional[Handle] = None) -> Handle:
        """Hold a thing; return its handle, which is a new number unless given."""
        number = new_number()
        handle = number if handle is None else handle
        self._things[handle] = thing
        self.made[handle] = number
        return handle

    async def undo(self, handle: Handle, *, for_reset: bool = False) -> Any:
        """Undo one thing and forget it; return the result of undoing it."""
        thing = self.pop(handle)
        return await (self._at_reset if for_reset else self._undo)(thing)

    def pop(self, handle: Handle) -> Thing:
        """Forget one thing without undoing it; raise KeyError if there is none."""
        thing = self._things.pop(handle)
        del self.made[handle]
        return thing

    def forget(self) -> None:
        """Forget all things without undoing them."""
        self._things.clear()
        self.made.clear()

    def values(self) -> List[Thing]:
        """Return the things, the oldest first."""
        return list(self._things.values())

    def __getitem__(self, handle: Handle) -> Thing:
        """Return the thing with this handle; raise KeyError if there is none."""
        return self._things[handle]

    def __contains__(self, handle: Handle) -> bool:
        """Return True if the handle is known."""
        return handle in self._things

    def __len__(self) -> int:
        """Return the number of things held."""
        return len(self._things)

    def __iter__(self) -> Iterator[Handle]:
        """Yield the handles, the oldest first; they may be undone meanwhile."""
        return iter(list(self._things))


async def left_to_reset(thing: object) -> None:
    """Do nothing: a reset restores this anyway (``at_reset``)."""
