"""What happens in a test, told as a coroutine."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

# What a test may take, so that nothing hangs.
BOUND_S = 60.0

Value = TypeVar("Value")


def run(story: Coroutine[Any, Any, Value]) -> Value:
    """Play a story to its end."""

    async def bounded() -> Value:
        async with asyncio.timeout(BOUND_S):
            return await story

    return asyncio.run(bounded())
