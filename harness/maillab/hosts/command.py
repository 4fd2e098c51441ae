"""A command run in a container through its channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from maillab.engine.channel import Channel
from maillab.errors import CommandFailed


@dataclass(frozen=True)
class Done:
    """A command that ended: its exit status and its output."""

    status: int | None
    stdout: str
    stderr: str


def run(
    channel: Channel,
    host: str,
    argv: tuple[str, ...],
    *,
    user: str = "",
    stdin: str = "",
    timeout_s: float = 30.0,
    check: bool = True,
) -> Done:
    """Run a command; raise CommandFailed if ``check`` is set and it fails or takes too long.

    ``user`` is a name, or "4242:4242" for a user and group id without an account.
    """
    answer = channel.call(
        "run", argv=argv, user=user, stdin=stdin, timeout_s=timeout_s, bounded=True
    )
    return _done(answer, host, argv, check=check)


def run_tool(
    channel: Channel, host: str, argv: tuple[str, ...], *, stdin: str = "", check: bool = True
) -> Done:
    """Run a command that works on files alone; raises CommandFailed as ``run`` does."""
    answer = channel.call("run_tool", argv=argv, stdin=stdin)
    return _done(answer, host, argv, check=check)


def _done(answer: dict[str, Any], host: str, argv: tuple[str, ...], *, check: bool) -> Done:
    done = Done(answer["status"], answer["stdout"], answer["stderr"])
    if check and done.status != 0:
        words = (done.stderr or done.stdout).strip()
        raise CommandFailed(f"{host}: {' '.join(argv)}: status {done.status}: {words}")
    return done
