"""Operations of a container without a mail system: restore its baseline.

Such containers are agents, name servers and scanners.
"""

from __future__ import annotations

import time
from typing import Any, Dict, List, Sequence

import channel
import running
import snapshot
from operations import operation

# The host that shares the agent's network restores its own queue, mailboxes or rows.
snapshot.UNWATCHED.update(("/var/spool/postfix", "/var/vmail", "/var/lib/tables"))
# The index of the session among the fields after the name (proc(5) stat).
SESSION = 3
# The container's first process writes this file when its start is complete.
BOOTED = snapshot.BASELINE.with_name("booted")
BOOTED_WITHIN_S = 30.0
LOOK_AGAIN_S = 0.005


def strays() -> List[int]:
    """Return the processes that the container did not start itself.

    The container's own processes are in the session of its first process. Each command, from
    the channel or the engine, has another session.
    """
    own = running.fields(1)[SESSION]
    return [pid for pid in running.others() if own not in running.fields(pid)[SESSION:][:1]]


@operation(paths={}, processes=[])
async def digest() -> Dict[str, Any]:
    """Return a checksum of each watched path, and the processes."""
    return {"paths": snapshot.sums(), "processes": sorted(running.names().values())}


@operation(failed=[])
async def restore(also: Sequence[str] = (), elsewhere: Sequence[str] = ()) -> Dict[str, Any]:
    """Undo what a scenario left in force, and restore files and processes.

    ``elsewhere`` are paths that another container restores. Return what could not be restored.
    """
    await channel.undo(also)
    await running.kill_all(strays)
    return {"failed": snapshot.put_back(elsewhere)}


def prepare() -> None:
    """Record the container's state after its start, for ``restore``."""
    until = time.monotonic() + BOOTED_WITHIN_S
    while not BOOTED.exists():
        if time.monotonic() > until:
            raise RuntimeError(f"its first process did not start up within {BOOTED_WITHIN_S:g} s")
        time.sleep(LOOK_AGAIN_S)
    snapshot.baseline()
