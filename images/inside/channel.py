"""The one way into a container: requests on standard input, answers on standard output.

Each line is one JSON object. A request is ``{"id": 1, "op": "run", …}``; its answer is
``{"id": 1, "ok": {…}}`` or ``{"id": 1, "error": "…"}``. Bytes travel as Latin-1 text.
Requests run concurrently, and each answer is sent when its request is done.

Runs on every Python from 3.9 on (Debian bullseye) and needs no library.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import itertools
import json
import os
import pwd
import signal
import sys
import time
from pathlib import Path
from typing import Any, Callable, Optional, Sequence

from operations import Function, operation, program, setting

COOL_S = 10
# The time that running requests get when the input ends.
DONE_WITHIN_S = 5.0
# One file for each fault by hand that is in force; its name begins with the channel's pid.
FAULTS = Path("/run/maillab/faults")

# The largest message that a lab sends in one request fits.
LINE_BYTES_MAX = 256 * 1024 * 1024


@operation(status=0, stdout="", stderr="")
async def run(
    argv: list[str], user: str = "", stdin: str = "", timeout_s: float = 30.0, cwd: str = "/"
) -> dict[str, Any]:
    """Run a command; after ``timeout_s`` kill it and its children.

    ``user`` is a name, or "UID:GID".
    """
    identity: dict[str, Any] = {}
    environment = dict(os.environ)
    # FAKETIME_SKIP_CMDS keeps libfaketime out of this program, but not out of commands.
    environment.pop("FAKETIME_SKIP_CMDS", None)
    if ":" in user:
        # As in chown(1) and docker(1), the user need not have an account.
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
        # The command may have ended while a daemon that it started still holds the pipes.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        return {"status": None, "stdout": "", "stderr": f"killed after {timeout_s} s"}
    return {
        "status": process.returncode,
        "stdout": out.decode("latin-1"),
        "stderr": err.decode("latin-1"),
    }


@setting(status=0, stdout="", stderr="")
async def run_tool(argv: list[str], stdin: str = "") -> dict[str, Any]:
    """Run a command that works on files alone and asks no server."""
    return await run(argv, stdin=stdin)


@operation(content=None)
async def read(path: str) -> dict[str, Any]:
    """Return the content of a file, or None if there is no such file."""
    try:
        return {"content": Path(path).read_bytes().decode("latin-1")}
    except FileNotFoundError:
        return {"content": None}


@setting()
async def write(
    path: str, content: str, mode: Optional[int] = None, owner: str = ""
) -> dict[str, Any]:
    """Write a file; create its folder if necessary."""
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
    """Set a file's time back: Postfix waits up to two seconds before it trusts a fresh file."""
    now = time.time()
    os.utime(file, (now, now - COOL_S))


@operation()
async def undo(also: Sequence[str] = ()) -> dict[str, Any]:
    """Let the modules that were used, and those in ``also``, undo what a scenario left."""
    failed = []
    # The latest first: later modules use earlier ones.
    for name in reversed(MODULES):
        if name in also:
            load(name)
        if name in used or name in also:
            try:
                await program(name).undo()
                used.discard(name)
            except Exception as error:  # noqa: BLE001  # the other modules go on
                failed.append(f"{name}: {error}")
    if failed:
        raise RuntimeError("; ".join(failed))
    return {}


@operation()
async def lift() -> dict[str, Any]:
    """Let each module lift what was set through this channel, the latest modules first.

    Settings of other channels, and permanent changes by a scenario, remain.
    """
    failed = []
    for name in reversed(MODULES):
        if name in sys.modules:
            try:
                await program(name).lift()
            except Exception as error:  # noqa: BLE001  # as above
                failed.append(f"{name}: {error}")
    for note in FAULTS.glob(f"{os.getpid()}-*"):
        note.unlink()
    if failed:
        raise RuntimeError("; ".join(failed))
    return {}


@operation()
async def clear() -> dict[str, Any]:
    """Lift every fault in this container, whichever channel set it."""
    failed = []
    for name in reversed(MODULES):
        load(name)
        try:
            await program(name).clear()
        except Exception as error:  # noqa: BLE001  # as above
            failed.append(f"{name}: {error}")
    if failed:
        raise RuntimeError("; ".join(failed))
    for note in FAULTS.glob("*"):
        note.unlink()
    return {}


@operation()
async def leave() -> dict[str, Any]:
    """Keep rules, routes and addresses in force when this channel ends; they need no program."""
    for name in MODULES:
        if name in sys.modules:
            program(name).leave()
    return {}


@operation(note="", channel=0)
async def fault_begin(words: str) -> dict[str, Any]:
    """Record a fault as in force, until ``fault_end`` or until this channel has lifted it."""
    FAULTS.mkdir(parents=True, exist_ok=True)
    note = f"{os.getpid()}-{next(_numbers)}"
    FAULTS.joinpath(note).write_text(words)
    return {"note": note, "channel": os.getpid()}


@operation()
async def fault_end(note: str) -> dict[str, Any]:
    """Delete the record of a fault."""
    with contextlib.suppress(FileNotFoundError):
        FAULTS.joinpath(note).unlink()
    return {}


@operation()
async def channel_ended(channel: int) -> dict[str, Any]:
    """Wait until another channel, given by its process id, has lifted its faults and ended."""
    try:
        handle = os.pidfd_open(channel)
    except ProcessLookupError:
        return {}
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(handle, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)
    return {}


# The modules, loaded or not; the module of each operation; and the modules that were used, or
# that an earlier channel, now dead, may have used.
MODULES: list[str] = []
OWNERS: dict[str, str] = {}
used: set[str] = set()
_numbers = itertools.count(1)
# The operations requested so far (machine.untouched reads this).
asked: set[str] = set()
# All known operations: those of this module and of the loaded modules.
OPERATIONS: dict[str, Function] = dict(program(__name__).operations)


def load(name: str) -> None:
    """Import a module and learn its operations."""
    importlib.import_module(name)
    OPERATIONS.update(program(name).operations)
    OWNERS.update(dict.fromkeys(program(name).operations, name))


def find(name: str) -> Function:
    """Return an operation by name; load modules in order until one has it."""
    for module in MODULES:
        if name in OPERATIONS:
            break
        load(module)
    asked.add(name)
    if name in OWNERS:
        used.add(OWNERS[name])
    return OPERATIONS[name]


def as_declared(name: str, result: dict[str, Any]) -> dict[str, Any]:
    """Return an operation's answer; raise TypeError unless it has the declared fields."""
    declared = program(OWNERS.get(name, __name__)).answers[name]
    if declared.keys() != result.keys():
        raise TypeError(f"the answer has {sorted(result)}, not {sorted(declared)} as declared")
    return result


async def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to one request; an error is an answer, too."""
    number = request.pop("id", None)
    try:
        name = request.pop("op")
        return {"id": number, "ok": as_declared(name, await find(name)(**request))}
    except Exception as error:  # noqa: BLE001  # the harness must get every error
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
    # A fault that is being set has to be complete before it can be lifted.
    pending = list(tasks)
    if pending:
        _, late = await asyncio.wait(pending, timeout=DONE_WITHIN_S)
        for task in late:
            task.cancel()
        # No program reads the answers any more.
        await asyncio.gather(*pending, return_exceptions=True)


async def main(modules: list[str]) -> None:
    """Serve on the standard streams, with the operations of the modules named.

    Modules after "--" are loaded at the first request for one of their operations.
    """
    # Output of other programs on standard output must not break the framing.
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
    # The harness has ended, perhaps killed.
    await lift()


if __name__ == "__main__":
    # The modules import this module; they must get the running one.
    sys.modules["channel"] = sys.modules[__name__]
    asyncio.run(main(sys.argv[1:]))
