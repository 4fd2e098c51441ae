"""Runs a test's coroutine with a time limit."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

# The time limit of a test, so that nothing hangs.
BOUND_S = 60.0

Value = TypeVar("Value")


def run(test: Coroutine[Any, Any, Value]) -> Value:
    """Run a coroutine to its end, within the time limit."""

    async def bounded() -> Value:
        async with asyncio.timeout(BOUND_S):
            return await test

    return asyncio.run(bounded())
