"""The one way into a container: requests on standard input, answers on standard output.

One JSON object a line. A request is ``{"id": 1, "op": "run", …}``; its answer is
``{"id": 1, "ok": {…}}`` or ``{"id": 1, "error": "…"}``. Bytes travel as Latin-1
text. Requests run side by side; answers come in the order of their ends.

Runs on every Python from 3.9 on (Debian bullseye) and needs no library.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import os
import pwd
import signal
import sys
import time
from pathlib import Path
from typing import Any, Awaitable, Callable, Dict, Optional, Sequence

COOL_S = 10

Operation = Callable[..., Awaitable[Dict[str, Any]]]

# Room for the largest message a lab sends in one request.
LINE_BYTES_MAX = 256 * 1024 * 1024


async def run(
    argv: list[str], user: str = "", stdin: str = "", timeout_s: float = 30.0, cwd: str = "/"
) -> dict[str, Any]:
    """Run a command to its end; it and its children are killed when its time is over.

    ``user`` is a name, or "UID:GID".
    """
    identity: dict[str, Any] = {}
    environment = dict(os.environ)
    # What keeps libfaketime off us is not for what we run.
    environment.pop("FAKETIME_SKIP_CMDS", None)
    if ":" in user:
        # As chown(1) and docker(1) name one who need not have an account.
        uid, gid = user.split(":")
        identity = {"user": int(uid), "group": int(gid), "extra_groups": []}
        for name in ("HOME", "USER", "LOGNAME"):
            environment.pop(name, None)
    elif user:
        entry = pwd.getpwnam(user)
        groups = os.getgrouplist(user, entry.pw_gid)
        identity = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": groups}
        environment.update(HOME=entry.pw_dir, USER=user, LOGNAME=user)
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=cwd,
        env=environment,
        start_new_session=True,
        **identity,
    )
    talk = process.communicate(stdin.encode("latin-1"))
    try:
        out, err = await asyncio.wait_for(talk, timeout_s)
    except asyncio.TimeoutError:  # noqa: UP041  # another class before Python 3.11
        # It may have ended, and a daemon that it started have our pipes.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        return {"status": None, "stdout": "", "stderr": f"killed after {timeout_s} s"}
    return {
        "status": process.returncode,
        "stdout": out.decode("latin-1"),
        "stderr": err.decode("latin-1"),
    }


async def read(path: str) -> dict[str, Any]:
    """The content of a file, or None when there is none."""
    try:
        return {"content": Path(path).read_bytes().decode("latin-1")}
    except FileNotFoundError:
        return {"content": None}


async def write(
    path: str, content: str, mode: Optional[int] = None, owner: str = ""
) -> dict[str, Any]:
    """Write a file, making the folders above it."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode("latin-1"))
    cool(file)
    if mode is not None:
        file.chmod(mode)
    if owner:
        entry = pwd.getpwnam(owner)
        os.chown(file, entry.pw_uid, entry.pw_gid)
    return {}


def cool(file: Path) -> None:
    """Date a file back: Postfix waits up to two seconds before it trusts a fresh one."""
    now = time.time()
    os.utime(file, (now, now - COOL_S))


async def append(path: str, content: str) -> dict[str, Any]:
    """Append to a file in one write."""
    with Path(path).open("ab", buffering=0) as file:
        file.write(content.encode("latin-1"))
    return {}


async def heal(also: Sequence[str] = ()) -> dict[str, Any]:
    """Have the modules that were used lift what a scenario left, and those named beside them."""
    failed = []
    for name in MODULES:
        if name in also:
            load(name)
        if name in used or name in also:
            try:
                await getattr(sys.modules[name], "heal", _nothing)()
                used.discard(name)
            except Exception as error:  # noqa: BLE001  # the others are healed all the same
                failed.append(f"{name}: {error}")
    if failed:
        raise RuntimeError("; ".join(failed))
    return {}


async def _nothing() -> None:
    pass


# What there is beside this module, loaded or not; which has which operation; and which were
# used, or may have been by an earlier channel that died.
MODULES: list[str] = []
OWNERS: dict[str, str] = {}
used: set[str] = set()
# The operations that were asked for, for whoever wants to know (machine.untouched).
asked: set[str] = set()
OPERATIONS: dict[str, Operation] = {
    "run": run,
    "read": read,
    "write": write,
    "append": append,
    "heal": heal,
}


def load(name: str) -> None:
    """Import a module and learn its operations."""
    module = importlib.import_module(name)
    OPERATIONS.update(module.OPERATIONS)
    OWNERS.update(dict.fromkeys(module.OPERATIONS, name))


def find(name: str) -> Operation:
    """An operation by its name; loads modules in their order until one has it."""
    for module in MODULES:
        if name in OPERATIONS:
            break
        load(module)
    asked.add(name)
    if name in OWNERS:
        used.add(OWNERS[name])
    return OPERATIONS[name]


async def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The answer to one request; whatever goes wrong is an answer, too."""
    number = request.pop("id", None)
    try:
        operation = find(request.pop("op"))
        return {"id": number, "ok": await operation(**request)}
    except Exception as error:  # noqa: BLE001  # the asker must hear of anything
        return {"id": number, "error": f"{type(error).__name__}: {error}"}


async def serve(reader: asyncio.StreamReader, send: Callable[[bytes], None]) -> None:
    """Answer requests until the input ends."""
    tasks: set[asyncio.Task[None]] = set()

    async def reply(line: bytes) -> None:
        send(json.dumps(await answer(json.loads(line))).encode() + b"\n")

    while line := await reader.readline():
        task = asyncio.ensure_future(reply(line))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def main(modules: list[str]) -> None:
    """Serve on the standard streams, with the operations of the modules named.

    Those after "--" are loaded when they are first asked for something.
    """
    # Whatever a program writes to standard output must not break the framing.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    now = modules[: modules.index("--")] if "--" in modules else modules
    MODULES.extend(name for name in modules if name != "--")
    for name in now:
        load(name)
        used.add(name)
        getattr(sys.modules[name], "prepare", lambda: None)()
    reader = asyncio.StreamReader(limit=LINE_BYTES_MAX)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)

    def send(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[answers.write(view) :]

    send(b'{"id": 0, "ok": {}}\n')
    await serve(reader, send)


if __name__ == "__main__":
    # The modules import this one; it must be the one that runs.
    sys.modules["channel"] = sys.modules[__name__]
    asyncio.run(main(sys.argv[1:]))
