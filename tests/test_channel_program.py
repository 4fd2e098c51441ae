"""The channel's far end as a program: requests on standard input, answers on standard output."""

from __future__ import annotations

import ast
import json
import os
import pwd
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maillab import resources

PROGRAM = resources.images() / "agent/channel.py"
# What a test may take before its program is killed, so that nothing hangs.
BOUND_S = 60.0
ALL_BYTES = bytes(range(256)).decode("latin-1")


class Program:
    """A running channel.py, and what it answered."""

    def __init__(self, *modules: str, path: Path | None = None) -> None:
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        if path:
            environment["PYTHONPATH"] = str(path)
        self.process = subprocess.Popen(
            [sys.executable, str(PROGRAM), *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
        )
        self._guard = threading.Timer(BOUND_S, self.process.kill)
        self._guard.start()
        self._number = 0
        self.awaited = 1
        self.hello = self.next()

    def send(self, op: str, **arguments: Any) -> int:
        """Write a request; returns its number."""
        self._number += 1
        self.awaited += 1
        self.write(json.dumps({"id": self._number, "op": op, **arguments}))
        return self._number

    def write(self, line: str) -> None:
        """Write a line as it is."""
        assert self.process.stdin
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def next(self) -> dict[str, Any]:
        """The next answer."""
        assert self.process.stdout
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        self.awaited -= 1
        return answer

    def ask(self, op: str, **arguments: Any) -> dict[str, Any]:
        """Send a request and return what is in its answer."""
        number = self.send(op, **arguments)
        answer = self.next()
        assert answer["id"] == number
        ok: dict[str, Any] = answer["ok"]
        return ok

    def fail(self, op: str, **arguments: Any) -> str:
        """Send a request and return the error in its answer."""
        number = self.send(op, **arguments)
        answer = self.next()
        assert answer["id"] == number
        return str(answer["error"])

    def end(self) -> tuple[int, bytes, bytes]:
        """End its input; returns its status and what was left of its output."""
        out, err = self.process.communicate()
        self._guard.cancel()
        return self.process.returncode, out, err


@pytest.fixture(scope="module")
def shelf() -> Iterator[list[Program]]:
    """Holds the program that a test left as good as new, if any."""
    kept: list[Program] = []
    yield kept
    for program in kept:
        program.end()


@pytest.fixture
def program(shelf: list[Program]) -> Iterator[Program]:
    """A program without further modules, to which nobody owes anything."""
    if not shelf:
        shelf.append(Program())
    yield shelf[0]
    if shelf[0].awaited:
        spoilt = shelf.pop()
        spoilt.process.kill()
        spoilt.end()


def test_it_says_hello_and_ends_with_its_input() -> None:
    """The first line tells that it listens; with its input it ends, in peace."""
    program = Program()

    assert program.hello == {"id": 0, "ok": {}}
    assert program.end() == (0, b"", b"")


def test_run_tells_status_and_both_outputs(program: Program) -> None:
    """A command's end is an answer, whatever its status."""
    done = program.ask("run", argv=["sh", "-c", "echo out; echo err >&2; exit 7"])

    assert done == {"status": 7, "stdout": "out\n", "stderr": "err\n"}


def test_run_is_in_the_root_folder_unless_told(program: Program, tmp_path: Path) -> None:
    """A command does not depend on where the channel was opened."""
    assert program.ask("run", argv=["pwd"])["stdout"] == "/\n"
    assert program.ask("run", argv=["pwd"], cwd=str(tmp_path))["stdout"] == f"{tmp_path}\n"


def test_run_ends_by_a_signal(program: Program) -> None:
    """A command that kills itself has a status, too."""
    assert program.ask("run", argv=["sh", "-c", "kill -9 $$"])["status"] == -9


def test_run_passes_any_bytes_through(program: Program) -> None:
    """What is no UTF-8 comes back as it went in, and on both outputs."""
    done = program.ask("run", argv=["sh", "-c", "tee /dev/stderr"], stdin=ALL_BYTES)

    assert done == {"status": 0, "stdout": ALL_BYTES, "stderr": ALL_BYTES}


def test_a_request_may_be_long(program: Program) -> None:
    """A message of some megabytes fits into one line, both ways."""
    long = "0123456789abcdef" * 4 * 65536

    assert program.ask("run", argv=["cat"], stdin=long)["stdout"] == long


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_run_as_somebody_without_an_account(program: Program) -> None:
    """By numbers, with no other group, no home and no name."""
    told = 'echo "$(id -u) $(id -g) $(id -G) ${HOME-none} ${USER-none} ${LOGNAME-none}"'

    done = program.ask("run", argv=["/bin/sh", "-c", told], user="4242:4243")

    assert done["stdout"] == "4242 4243 4243 none none none\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_run_as_a_user_is_that_user(program: Program) -> None:
    """With the user's groups, home and name."""
    nobody = pwd.getpwnam("nobody")
    told = "id -u; id -g; id -G; echo $HOME $USER $LOGNAME"

    done = program.ask("run", argv=["sh", "-c", told], user="nobody")

    uid, gid, groups, names = done["stdout"].splitlines()
    assert (int(uid), int(gid)) == (nobody.pw_uid, nobody.pw_gid)
    assert {int(group) for group in groups.split()} == {*os.getgrouplist("nobody", nobody.pw_gid)}
    assert names == f"{nobody.pw_dir} nobody nobody"


def test_a_command_out_of_time_is_killed_with_its_children(
    program: Program, tmp_path: Path
) -> None:
    """No process of it is left: what a child holds open is closed."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)

    done = program.ask(
        "run", argv=["sh", "-c", f"(sleep 30; echo survived) >{pipe} & wait"], timeout_s=1.0
    )

    assert done == {"status": None, "stdout": "", "stderr": "killed after 1.0 s"}
    # Comes to an end when the last writer is gone.
    assert os.read(reader, 100) == b""
    os.close(reader)


def test_programs_of_old_suites_catch_timeouts_by_their_old_name() -> None:
    """Before Python 3.11 asyncio's TimeoutError is not the builtin one."""
    for name in ("channel.py", "machine.py"):
        tree = ast.parse((PROGRAM.parent / name).read_text())
        caught = [
            ast.unparse(node.type)
            for node in ast.walk(tree)
            if isinstance(node, ast.ExceptHandler) and node.type
        ]
        assert "asyncio.TimeoutError" in caught, name
        assert "TimeoutError" not in caught, name


def test_a_quick_request_overtakes_a_slow_one(program: Program, tmp_path: Path) -> None:
    """Requests run side by side; answers come in the order of their ends."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    # Open both ways, so that neither end waits for the other here.
    writer = os.open(pipe, os.O_RDWR)
    slow = program.send("run", argv=["cat", str(pipe)])
    quick = program.send("run", argv=["echo", "quick"])

    first = program.next()
    # Only now can the slow one come to its end.
    os.write(writer, b"slow\n")
    os.close(writer)
    second = program.next()

    assert (first["id"], first["ok"]["stdout"]) == (quick, "quick\n")
    assert (second["id"], second["ok"]["stdout"]) == (slow, "slow\n")


def test_many_requests_at_once_each_get_their_own_answer(program: Program) -> None:
    """The number of a request stands in its answer."""
    asked = {program.send("run", argv=["echo", str(number)]): number for number in range(20)}

    answers = [program.next() for _ in asked]

    assert {answer["id"]: int(answer["ok"]["stdout"]) for answer in answers} == asked


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=200), more=st.binary(max_size=20))
def test_files_hold_what_was_written(
    program: Program, tmp_path: Path, content: bytes, more: bytes
) -> None:
    """Write, append and read agree with the file on any bytes."""
    path = tmp_path / "below" / "file"

    assert program.ask("write", path=str(path), content=content.decode("latin-1")) == {}
    assert path.read_bytes() == content
    assert program.ask("append", path=str(path), content=more.decode("latin-1")) == {}
    assert path.read_bytes() == content + more
    assert program.ask("read", path=str(path)) == {"content": (content + more).decode("latin-1")}


def test_a_file_that_is_not_there_has_no_content(program: Program, tmp_path: Path) -> None:
    """None, which an empty file does not give."""
    (tmp_path / "empty").touch()

    assert program.ask("read", path=str(tmp_path / "none")) == {"content": None}
    assert program.ask("read", path=str(tmp_path / "empty")) == {"content": ""}


def test_a_written_file_is_dated_back(program: Program, tmp_path: Path) -> None:
    """Postfix would wait until a file is not fresh any more."""
    path = tmp_path / "file"

    program.ask("write", path=str(path), content="x", mode=0o640)

    status = path.stat()
    assert status.st_atime - status.st_mtime == pytest.approx(10)
    assert stat.S_IMODE(status.st_mode) == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_written_file_may_belong_to_somebody(program: Program, tmp_path: Path) -> None:
    """With the user's own group."""
    path = tmp_path / "file"
    nobody = pwd.getpwnam("nobody")

    program.ask("write", path=str(path), content="x", owner="nobody")

    assert (path.stat().st_uid, path.stat().st_gid) == (nobody.pw_uid, nobody.pw_gid)


@pytest.mark.parametrize(
    ("op", "arguments", "words"),
    [
        ("no-such-op", {}, "no-such-op"),
        ("run", {}, "argv"),
        ("run", {"argv": ["/no/such/command"]}, "/no/such/command"),
        ("run", {"argv": ["true"], "user": "nosuchuser"}, "nosuchuser"),
        ("read", {"path": "/"}, "IsADirectoryError"),
        ("append", {"path": "/no/such/folder/file", "content": ""}, "FileNotFoundError"),
        ("write", {"path": "/dev/null/file", "content": ""}, "/dev/null"),
    ],
)
def test_what_goes_wrong_is_an_answer(
    program: Program, op: str, arguments: dict[str, Any], words: str
) -> None:
    """It names the error, and the next request is served."""
    assert words in program.fail(op, **arguments)
    assert program.ask("run", argv=["echo", "still here"])["stdout"] == "still here\n"


@pytest.mark.parametrize("line", ["", "garbage", "[]", "7", '"run"', "{", '{"id": 1'])
def test_a_line_that_is_no_request_stops_nothing(program: Program, line: str) -> None:
    """Nobody waits for its answer; those after it are served."""
    program.write(line)
    program.send("run", argv=["echo", "still here"])

    answers = [program.next()]
    if "ok" not in answers[0]:
        answers.append(program.next())

    assert answers[-1]["ok"]["stdout"] == "still here\n"


NOISY = """
import os, subprocess, sys

async def shout(text):
    print("print:", text)
    sys.stdout.flush()
    os.write(1, b"write\\n")
    subprocess.run(["echo", "child"], check=True)
    return {"heard": text}

def prepare():
    print("prepared", flush=True)

OPERATIONS = {"shout": shout}
"""


def test_what_a_module_prints_does_not_break_the_framing(tmp_path: Path) -> None:
    """Its standard output is our standard error, for its children, too."""
    (tmp_path / "noisy.py").write_text(NOISY)
    program = Program("noisy", path=tmp_path)

    assert program.hello == {"id": 0, "ok": {}}
    assert program.ask("shout", text="hello") == {"heard": "hello"}
    assert program.ask("run", argv=["echo", "own"])["stdout"] == "own\n"

    assert program.end() == (0, b"", b"prepared\nprint: hello\nwrite\nchild\n")


HEALING = """
import os

async def heal():
    os.write(2, __name__.encode() + b" healed\\n")

async def use():
    return {}

OPERATIONS = {"use_" + __name__: use}
"""


def test_heal_lifts_what_each_module_has_set(tmp_path: Path) -> None:
    """Those that set nothing need no such function; without modules it does nothing."""
    (tmp_path / "noisy.py").write_text("OPERATIONS = {}\n")
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(HEALING)
    program = Program("one", "noisy", "two", path=tmp_path)

    assert program.ask("heal") == {}

    assert program.end() == (0, b"", b"one healed\ntwo healed\n")


def test_modules_after_the_dashes_are_loaded_and_healed_when_used(tmp_path: Path) -> None:
    """In their order, until one has the operation; and those that are named for it."""
    for name in ("one", "two", "three", "four"):
        (tmp_path / f"{name}.py").write_text(f"print('{name}', flush=True)\n" + HEALING)
    program = Program("one", "--", "two", "three", "four", path=tmp_path)

    assert program.ask("use_two") == {}
    assert program.ask("heal") == {}
    assert program.ask("heal", also=["four", "absent"]) == {}

    assert program.end() == (0, b"", b"one\ntwo\none healed\ntwo healed\nfour\nfour healed\n")


def test_without_modules_there_is_nothing_to_heal(program: Program) -> None:
    """Asked all the same."""
    assert program.ask("heal") == {}


def test_a_module_that_is_not_there_ends_the_program(tmp_path: Path) -> None:
    """With its name on standard error, which the other end shows."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "nosuch"], capture_output=True, check=False, timeout=BOUND_S
    )

    assert done.returncode == 1
    assert done.stdout == b""
    assert b"nosuch" in done.stderr.splitlines()[-1]
