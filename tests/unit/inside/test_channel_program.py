"""The channel's program: requests on standard input, answers on standard output."""

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

from maillab.site import resources

PROGRAM = resources.images() / "inside/channel.py"
# The time limit of a test, after which its program is killed.
BOUND_S = 60.0
ALL_BYTES = bytes(range(256)).decode("latin-1")


class Program:
    """A running channel.py, and its answers."""

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
        """Write a request; return its number."""
        self._number += 1
        self.awaited += 1
        self.write(json.dumps({"id": self._number, "op": op, **arguments}))
        return self._number

    def write(self, line: str) -> None:
        """Write a line unchanged."""
        assert self.process.stdin
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def next(self) -> dict[str, Any]:
        """Return the next answer."""
        assert self.process.stdout
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        self.awaited -= 1
        return answer

    def ask(self, op: str, **arguments: Any) -> dict[str, Any]:
        """Send a request and return the content of its answer."""
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
        """End its input; return its status and the rest of its output."""
        out, err = self.process.communicate()
        self._guard.cancel()
        return self.process.returncode, out, err


@pytest.fixture(scope="module")
def shelf() -> Iterator[list[Program]]:
    """Hold a program that a test left unchanged, for the next test."""
    kept: list[Program] = []
    yield kept
    for program in kept:
        program.end()


@pytest.fixture
def program(shelf: list[Program]) -> Iterator[Program]:
    """Return a program without further modules and without pending answers."""
    if not shelf:
        shelf.append(Program())
    yield shelf[0]
    if shelf[0].awaited:
        spoilt = shelf.pop()
        spoilt.process.kill()
        spoilt.end()


def test_it_reports_its_start_and_ends_with_its_input() -> None:
    """The first line reports that it listens; at the end of the input it exits with 0."""
    program = Program()

    assert program.hello == {"id": 0, "ok": {}}
    assert program.end() == (0, b"", b"")


def test_run_returns_status_and_both_outputs(program: Program) -> None:
    """The answer has the exit status, whatever it is."""
    done = program.ask("run", argv=["sh", "-c", "echo out; echo err >&2; exit 7"])

    assert done == {"status": 7, "stdout": "out\n", "stderr": "err\n"}


def test_run_is_in_the_root_folder_by_default(program: Program, tmp_path: Path) -> None:
    """A command does not depend on the folder in which the channel was opened."""
    assert program.ask("run", argv=["pwd"])["stdout"] == "/\n"
    assert program.ask("run", argv=["pwd"], cwd=str(tmp_path))["stdout"] == f"{tmp_path}\n"


def test_a_command_may_end_by_a_signal(program: Program) -> None:
    """A command that kills itself has a status, too."""
    assert program.ask("run", argv=["sh", "-c", "kill -9 $$"])["status"] == -9


def test_run_passes_any_bytes_through(program: Program) -> None:
    """Bytes that are not UTF-8 return unchanged, on both outputs."""
    done = program.ask("run", argv=["sh", "-c", "tee /dev/stderr"], stdin=ALL_BYTES)

    assert done == {"status": 0, "stdout": ALL_BYTES, "stderr": ALL_BYTES}


def test_a_request_may_be_long(program: Program) -> None:
    """A message of several megabytes fits into one line, in both directions."""
    long = "0123456789abcdef" * 4 * 65536

    assert program.ask("run", argv=["cat"], stdin=long)["stdout"] == long


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_run_as_a_user_without_an_account(program: Program) -> None:
    """The user is given by numbers, without other groups, home or name."""
    script = 'echo "$(id -u) $(id -g) $(id -G) ${HOME-none} ${USER-none} ${LOGNAME-none}"'

    done = program.ask("run", argv=["/bin/sh", "-c", script], user="4242:4243")

    assert done["stdout"] == "4242 4243 4243 none none none\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_run_as_a_user_is_that_user(program: Program) -> None:
    """The command has the user's groups, home and name."""
    nobody = pwd.getpwnam("nobody")
    script = "id -u; id -g; id -G; echo $HOME $USER $LOGNAME"

    done = program.ask("run", argv=["sh", "-c", script], user="nobody")

    uid, gid, groups, names = done["stdout"].splitlines()
    assert (int(uid), int(gid)) == (nobody.pw_uid, nobody.pw_gid)
    assert {int(group) for group in groups.split()} == {*os.getgrouplist("nobody", nobody.pw_gid)}
    assert names == f"{nobody.pw_dir} nobody nobody"


def test_a_command_past_its_time_limit_is_killed_with_its_children(
    program: Program, tmp_path: Path
) -> None:
    """No process is left: files that a child had open are closed."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)

    done = program.ask(
        "run", argv=["sh", "-c", f"(sleep 30; echo survived) >{pipe} & wait"], timeout_s=1.0
    )

    assert done == {"status": None, "stdout": "", "stderr": "killed after 1.0 s"}
    # The read returns once the last writer has closed the pipe.
    assert os.read(reader, 100) == b""
    os.close(reader)


def test_programs_of_old_suites_catch_timeouts_by_their_old_name() -> None:
    """Before Python 3.11 asyncio's TimeoutError is not the builtin one."""
    for name in ("channel.py", "mailhost/machine.py"):
        tree = ast.parse((PROGRAM.parent / name).read_text())
        caught = [
            ast.unparse(node.type)
            for node in ast.walk(tree)
            if isinstance(node, ast.ExceptHandler) and node.type
        ]
        assert "asyncio.TimeoutError" in caught, name
        assert "TimeoutError" not in caught, name


def test_a_quick_request_overtakes_a_slow_one(program: Program, tmp_path: Path) -> None:
    """Requests run concurrently, and each answer is sent when its request is done."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    # Open for reading and writing, so that neither end waits for the other here; and kept open,
    # so that a reader that starts late still finds the line.
    writer = os.open(pipe, os.O_RDWR)
    slow = program.send("run", argv=["head", "-n", "1", str(pipe)])
    quick = program.send("run", argv=["echo", "quick"])

    first = program.next()
    # Only now can the slow request end.
    os.write(writer, b"slow\n")
    second = program.next()
    os.close(writer)

    assert (first["id"], first["ok"]["stdout"]) == (quick, "quick\n")
    assert (second["id"], second["ok"]["stdout"]) == (slow, "slow\n")


def test_many_requests_at_once_each_get_their_own_answer(program: Program) -> None:
    """Each answer has the number of its request."""
    asked = {program.send("run", argv=["echo", str(number)]): number for number in range(20)}

    answers = [program.next() for _ in asked]

    assert {answer["id"]: int(answer["ok"]["stdout"]) for answer in answers} == asked


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=200))
def test_files_contain_what_was_written(program: Program, tmp_path: Path, content: bytes) -> None:
    """Write and read agree with the file on any bytes."""
    path = tmp_path / "below" / "file"

    assert program.ask("write", path=str(path), content=content.decode("latin-1")) == {}
    assert path.read_bytes() == content
    assert program.ask("read", path=str(path)) == {"content": content.decode("latin-1")}


def test_a_missing_file_has_no_content(program: Program, tmp_path: Path) -> None:
    """It is None, which differs from an empty file's content."""
    (tmp_path / "empty").touch()

    assert program.ask("read", path=str(tmp_path / "none")) == {"content": None}
    assert program.ask("read", path=str(tmp_path / "empty")) == {"content": ""}


def test_a_written_file_is_dated_back(program: Program, tmp_path: Path) -> None:
    """Otherwise Postfix would wait until the file is old enough."""
    path = tmp_path / "file"

    program.ask("write", path=str(path), content="x", mode=0o640)

    status = path.stat()
    assert status.st_atime - status.st_mtime == pytest.approx(10)
    assert stat.S_IMODE(status.st_mode) == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_written_file_may_have_an_owner(program: Program, tmp_path: Path) -> None:
    """The file gets the user's own group."""
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
        ("write", {"path": "/dev/null/file", "content": ""}, "/dev/null"),
    ],
)
def test_an_error_is_an_answer(
    program: Program, op: str, arguments: dict[str, Any], words: str
) -> None:
    """The answer names the error, and the next request is served."""
    assert words in program.fail(op, **arguments)
    assert program.ask("run", argv=["echo", "still here"])["stdout"] == "still here\n"


@pytest.mark.parametrize("line", ["", "garbage", "[]", "7", '"run"', "{", '{"id": 1'])
def test_an_invalid_request_stops_nothing(program: Program, line: str) -> None:
    """There is no answer, and later requests are served."""
    program.write(line)
    program.send("run", argv=["echo", "still here"])

    answers = [program.next()]
    if "ok" not in answers[0]:
        answers.append(program.next())

    assert answers[-1]["ok"]["stdout"] == "still here\n"


NOISY = """
import os, subprocess, sys
from operations import operation

@operation(heard="")
async def shout(text):
    print("print:", text)
    sys.stdout.flush()
    os.write(1, b"write\\n")
    subprocess.run(["echo", "child"], check=True)
    return {"heard": text}

def prepare():
    print("prepared", flush=True)
"""


def test_output_of_a_module_does_not_break_the_framing(tmp_path: Path) -> None:
    """Its standard output is the program's standard error, also for its children."""
    (tmp_path / "noisy.py").write_text(NOISY)
    program = Program("noisy", path=tmp_path)

    assert program.hello == {"id": 0, "ok": {}}
    assert program.ask("shout", text="hello") == {"heard": "hello"}
    assert program.ask("run", argv=["echo", "own"])["stdout"] == "own\n"

    assert program.end() == (0, b"", b"prepared\nprint: hello\nwrite\nchild\n")


HEALING = """
import os
from operations import operation

async def undo():
    os.write(2, __name__.encode() + b" undone\\n")

@operation()
async def use_NAME():
    return {}
"""


def test_undo_lifts_what_each_module_has_set(tmp_path: Path) -> None:
    """Modules that set nothing need no such function; without modules nothing happens."""
    (tmp_path / "noisy.py").write_text("")
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(HEALING.replace("NAME", name))
    program = Program("one", "noisy", "two", path=tmp_path)

    assert program.ask("undo") == {}

    assert program.end() == (0, b"", b"two undone\none undone\n")


def test_modules_after_the_dashes_are_loaded_and_undone_when_used(tmp_path: Path) -> None:
    """They load in order, until one has the operation; undo also covers those named for it."""
    for name in ("one", "two", "three", "four"):
        text = f"print('{name}', flush=True)\n" + HEALING.replace("NAME", name)
        (tmp_path / f"{name}.py").write_text(text)
    program = Program("one", "--", "two", "three", "four", path=tmp_path)

    assert program.ask("use_two") == {}
    assert program.ask("undo") == {}
    assert program.ask("undo", also=["four", "absent"]) == {}

    assert program.end() == (0, b"", b"one\ntwo\ntwo undone\none undone\nfour\nfour undone\n")


def test_without_modules_there_is_nothing_to_undo(program: Program) -> None:
    """The request succeeds."""
    assert program.ask("undo") == {}


def test_a_missing_module_ends_the_program(tmp_path: Path) -> None:
    """Its name is on standard error, which the other end shows."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "nosuch"], capture_output=True, check=False, timeout=BOUND_S
    )

    assert done.returncode == 1
    assert done.stdout == b""
    assert b"nosuch" in done.stderr.splitlines()[-1]


SETTING = """
import asyncio, os, sys
from operations import Handles, operation

async def take_back(what):
    os.write(2, f"{__name__} lifts {what}\\n".encode())
    if what == "trouble":
        raise RuntimeError("trouble")

there = Handles(__name__, take_back, outlives=True)
here = Handles(__name__, take_back)

@operation(number=0)
async def set_NAME(what):
    # Not before the input has ended.
    await asyncio.sleep(0.2)
    return {"number": there.add(what)}

@operation(number=0)
async def open_NAME(what):
    return {"number": here.add(what)}

@operation()
async def end_NAME(number):
    await there.undo(number)
    return {}

@operation(number=0)
async def deceive_NAME():
    return {"numbers": 7}
"""


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Program]:
    for name in ("one", "two", "three"):
        (tmp_path / f"{name}.py").write_text(SETTING.replace("NAME", name))
    program = Program("one", "--", "two", "three", path=tmp_path)
    yield program
    if program.process.returncode is None:
        program.process.kill()
        program.end()


def test_settings_are_lifted_when_the_input_ends(setting: Program) -> None:
    """This includes what was being set; the latest modules first, unloaded ones never."""
    setting.send("set_one", what="a route")
    setting.send("set_two", what="a rule")

    assert setting.end()[2] == b"two lifts a rule\none lifts a route\n"


def test_leave_keeps_settings_in_force(setting: Program) -> None:
    """It needs no program."""
    setting.ask("set_one", what="a route")
    setting.ask("leave")

    assert setting.end() == (0, b"", b"")


def test_an_error_in_one_module_does_not_keep_others_from_lifting(setting: Program) -> None:
    """Its error is on standard error."""
    setting.ask("set_one", what="a route")
    setting.ask("set_two", what="trouble")

    status, _, error = setting.end()
    assert status == 1
    assert error.startswith(b"two lifts trouble\none lifts a route\n")
    assert error.endswith(b"RuntimeError: two: trouble\n")


def test_the_latest_handle_is_lifted_first(setting: Program) -> None:
    """All handles form one sequence; what has ended is not lifted again."""
    first = setting.ask("set_one", what="a route")
    setting.ask("open_one", what="a socket")
    setting.ask("set_one", what="a rule")
    setting.ask("end_one", **first)

    assert setting.end()[2] == b"one lifts a route\none lifts a rule\none lifts a socket\n"


def test_a_handle_can_be_undone_once(setting: Program) -> None:
    """Undoing a handle twice is an error, as is undoing an unknown one."""
    made = setting.ask("set_one", what="a route")
    setting.ask("end_one", **made)

    assert "KeyError" in setting.fail("end_one", **made)
    assert "KeyError" in setting.fail("end_one", number=0)


@pytest.mark.parametrize("op", ["undo", "lift", "clear"])
def test_every_way_to_lift_lifts_once(setting: Program, op: str) -> None:
    """Before a reset, at the end, or for another channel."""
    setting.ask("set_one", what="a route")
    setting.ask("open_two", what="a socket")
    setting.ask(op)

    assert setting.end()[2] == b"two lifts a socket\none lifts a route\n"


def test_settings_that_need_the_program_are_not_left(setting: Program) -> None:
    """A rule can stay without the program, a socket cannot."""
    setting.ask("set_one", what="a route")
    setting.ask("open_one", what="a socket")
    setting.ask("leave")

    assert setting.end()[2] == b"one lifts a socket\n"


def test_an_answer_has_the_declared_fields(setting: Program) -> None:
    """Otherwise the declarations would be wrong for their readers."""
    words = setting.fail("deceive_one")

    assert words == "TypeError: the answer has ['numbers'], not ['number'] as declared"
