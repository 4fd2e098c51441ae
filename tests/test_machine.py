"""What the channel does in a mail host, as far as it needs no container."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import channel
import machine
import mailfiles
import snapshot

# What Postfix calls a parameter: anything up to the "=".
NAMES = ("alpha", "beta", "beta_two", "gamma", "7bit")


def parse_main_cf(text: str) -> dict[str, str]:
    """The parameters of a main.cf by the rules of postconf(5), the last of a name winning.

    Lines that are empty or whose first character is a "#" are ignored wherever
    they stand; a line that begins with white space goes on the one before.
    """
    logical: list[str] = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if line[0].isspace() and logical:
            logical[-1] += " " + line.strip()
        else:
            logical.append(line.strip())
    pairs = (line.partition("=") for line in logical)
    return {name.strip(): value.strip() for name, _, value in pairs}


@dataclass
class Configured:
    """A main.cf, and what ``configure`` did besides changing it."""

    main_cf: Path
    restarts: int = 0
    unused: tuple[str, ...] = ()

    def configure(self, **settings: str) -> list[str]:
        """Run the operation; returns the parameters it found unknown."""
        unknown: list[str] = asyncio.run(machine.configure(settings))["unknown"]
        return unknown


@contextmanager
def set_up(folder: Path, text: str) -> Iterator[Configured]:
    """A main.cf in a folder and a Postfix that knows NAMES, but none that runs."""
    site = Configured(folder / "main.cf")
    site.main_cf.write_text(text)
    parameters = folder / "parameters"
    parameters.write_text("".join(f"{name}\n" for name in NAMES))

    async def restart() -> dict[str, Any]:
        site.restarts += 1
        return {}

    async def run(argv: list[str]) -> dict[str, Any]:
        assert argv == ["postconf", "-n"]
        said = (
            f"/usr/sbin/postconf: warning: {site.main_cf}: unused parameter: {name}=x\n"
            for name in site.unused
        )
        return {"status": 0, "stdout": "", "stderr": "".join(said)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "MAIN_CF", site.main_cf)
        patch.setattr(machine, "Path", lambda _: parameters)
        patch.setattr(machine, "restart", restart)
        patch.setattr(channel, "run", run)
        yield site


def edited(text: str, **settings: str) -> str:
    """What ``configure`` makes of a main.cf."""
    with tempfile.TemporaryDirectory() as folder, set_up(Path(folder), text) as site:
        assert site.configure(**settings) == []
        assert site.restarts == 1
        return site.main_cf.read_text()


def test_a_setting_replaces_the_line_of_its_name() -> None:
    """And stands at the end, with all else as it was."""
    assert edited("alpha = 1\nbeta = 2\nbeta_two = 3\n", beta="new") == (
        "alpha = 1\nbeta_two = 3\nbeta = new\n"
    )


def test_a_setting_replaces_the_lines_it_goes_on_over() -> None:
    """Continuation lines belong to the name above them."""
    assert edited("alpha = 1,\n  2,\n\t3\nbeta = 2\n", alpha="new") == "beta = 2\nalpha = new\n"


def test_a_comment_inside_a_value_does_not_end_it() -> None:
    """The line below it belongs to the replaced parameter, and not to the one before."""
    text = "beta = 2\nalpha = 1,\n# why\n  2\ngamma = 3\n"

    assert parse_main_cf(edited(text, alpha="new")) == {"beta": "2", "gamma": "3", "alpha": "new"}


def test_a_comment_that_shows_a_setting_is_not_one() -> None:
    """It stays where it is."""
    assert (
        edited("#alpha = 1\n# beta = 2\n", alpha="new") == "#alpha = 1\n# beta = 2\nalpha = new\n"
    )


def test_a_file_without_a_last_line_end_is_mended() -> None:
    """Or the new setting would go into the old one's value."""
    assert parse_main_cf(edited("beta = 2", alpha="new")) == {"beta": "2", "alpha": "new"}


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("", "alpha = \n"),
        ("one", "alpha = one\n"),
        ("one,\ntwo", "alpha = one,\n two\n"),
        ("$beta, ${gamma?x}", "alpha = $beta, ${gamma?x}\n"),
        ("a = b", "alpha = a = b\n"),
        (r"\1 \n", "alpha = \\1 \\n\n"),
    ],
)
def test_a_value_is_written_as_it_is(value: str, written: str) -> None:
    """Several lines become one value that goes on."""
    assert edited("beta = 2\n", alpha=value) == f"beta = 2\n{written}"


LINES = st.sampled_from(
    [
        *(f"{name} = {name}1" for name in NAMES),
        *(f"{name}=" for name in NAMES[:2]),
        "  more",
        "\ttabbed = too",
        "# comment",
        "#alpha = commented",
        "  # indented comment",
        "",
        "   ",
    ]
)
VALUES = st.sampled_from(["", "one", "one, two", "one,\ntwo", "$alpha", "x = y"])


@given(
    st.lists(LINES, max_size=8),
    st.sampled_from(["\n", ""]),
    st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=2),
)
@example(["beta = 1", "alpha = 1", "# why", "  more"], "", {"alpha": "x"})
def test_what_was_set_is_set_and_nothing_else_changed(
    lines: list[str], end: str, given_: dict[str, str]
) -> None:
    """By Postfix's own reading of the file before and after."""
    # A file cannot begin with the continuation of nothing.
    text = "\n".join(["gamma = 0", *lines]) + end

    after = edited(text, **given_)

    wanted = {name: value.replace("\n", " ") for name, value in given_.items()}
    assert parse_main_cf(after) == {**parse_main_cf(text), **wanted}
    for comment in re.findall(r"(?m)^\s*#.*$", text):
        assert comment in after


def test_an_unknown_parameter_is_refused_and_the_file_as_before(tmp_path: Path) -> None:
    """What postconf calls unused has been misspelt; Postfix goes on as it was."""
    with set_up(tmp_path, "alpha = 1\n") as site:
        site.unused = ("alhpa", "stranger")

        assert site.configure(alhpa="2", beta="3") == ["alhpa"]

        assert site.main_cf.read_text() == "alpha = 1\n"
        assert site.restarts == 0


def test_a_parameter_that_postconf_accepts_is_known(tmp_path: Path) -> None:
    """Such as one that master.cf or another parameter's value brought with it."""
    with set_up(tmp_path, "alpha = 1\n") as site:
        assert site.configure(mine_rate_delay="1s") == []

        assert site.main_cf.read_text() == "alpha = 1\nmine_rate_delay = 1s\n"
        assert site.restarts == 1


def test_a_changed_main_cf_is_dated_back(tmp_path: Path) -> None:
    """Postfix would wait until it is not fresh any more."""
    with set_up(tmp_path, "alpha = 1\n") as site:
        site.configure(alpha="2")

        status = site.main_cf.stat()
        assert status.st_atime - status.st_mtime == pytest.approx(channel.COOL_S)


# What a scenario may do to a host's files, and that ``reset`` undoes it.

FOLDERS = ("a", "b", "a/c", "b/c")
FILES = (*(f"{folder}/f" for folder in FOLDERS), "a/g", "a/c/g")
PLACES = (*FOLDERS[2:], *FILES)
MODES = (0o600, 0o644, 0o755, 0o4755)
LONG_AGO_NS = 1_000_000_000 * 10**9


def remove(path: Path) -> None:
    """Remove whatever it is."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def append(path: Path) -> None:
    """Add to a file, which may be new."""
    with path.open("ab") as file:
        file.write(b"x")


def replace(path: Path) -> None:
    """Put a file in the place of whatever is there."""
    remove(path)
    path.write_bytes(b"another")


@dataclass
class Tree:
    """Two watched folders, one of them with a place that is not watched."""

    root: Path

    def do(self, action: str, place: str, detail: int) -> None:
        """Change something; what is not possible any more is left out."""
        path = self.root / place
        if action in WRITES and path.is_fifo():
            # It would wait for a reader.
            return
        with contextlib.suppress(OSError):
            CHANGES[action](self, path, detail)

    def somewhere(self, detail: int) -> Path:
        """A place by number."""
        return self.root / PLACES[detail % len(PLACES)]

    def age(self) -> None:
        """Make all that is there look old, as files of an image are."""
        for path, _ in snapshot.walk():
            os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS), follow_symlinks=False)

    def digest(self) -> dict[str, str]:
        """By the machine's own account."""
        paths: dict[str, str] = asyncio.run(machine.digest())["paths"]
        return paths

    def listing(self) -> dict[str, tuple[Any, ...]]:
        """By an account of our own: kind, rights, owner, content."""
        return {
            str(path.relative_to(self.root)): (
                path.lstat().st_mode,
                path.lstat().st_uid,
                path.lstat().st_gid,
                path.readlink() if path.is_symlink() else None,
                path.read_bytes() if stat.S_ISREG(path.lstat().st_mode) else None,
            )
            for path in self.root.rglob("*")
            if path.name != "unwatched"
        }


Change = Callable[[Tree, Path, int], object]
WRITES: dict[str, Change] = {
    "write": lambda _, path, detail: path.write_bytes(b"content %d" % detail),
    "append": lambda _, path, __: append(path),
}
CHANGES: dict[str, Change] = {
    **WRITES,
    "chmod": lambda _, path, detail: path.chmod(MODES[detail % len(MODES)]),
    "mkdir": lambda _, path, detail: path.mkdir(MODES[detail % len(MODES)], parents=True),
    "symlink": lambda site, path, detail: path.symlink_to(site.somewhere(detail)),
    "fifo": lambda _, path, __: os.mkfifo(path),
    "remove": lambda _, path, __: remove(path),
    "rename": lambda site, path, detail: path.rename(site.somewhere(detail)),
    "replace": lambda _, path, __: replace(path),
    "touch": lambda _, path, __: os.utime(path, follow_symlinks=False),
}


@contextmanager
def tree() -> Iterator[Tree]:
    """A machine whose watched folders are a tree of our own."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        root = Path(folder).resolve() / "root"
        for name in FOLDERS[:2]:
            (root / name).mkdir(parents=True)
        patch.setattr(snapshot, "WATCHED", (str(root / "a"), str(root / "b")))
        patch.setattr(snapshot, "UNWATCHED", {str(root / "a/unwatched")})
        (root / "sbin").mkdir()
        patch.setattr(snapshot, "PROGRAMS", (str(root / "sbin"), ("post", "sendmail")))
        patch.setattr(snapshot, "BASELINE", Path(folder) / "kept/baseline")
        # Not this test's concern, and this machine may run many.
        patch.setattr(machine, "names", dict)
        snapshot.baseline.cache_clear()
        try:
            yield Tree(root)
        finally:
            snapshot.baseline.cache_clear()


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(sorted(CHANGES)),
        st.sampled_from(PLACES),
        st.integers(min_value=0, max_value=20),
    ),
    max_size=12,
)  # fmt: skip


@settings(deadline=None, max_examples=100)
@given(before=ACTIONS, scenarios=st.lists(ACTIONS, min_size=1, max_size=3))
@example([("mkdir", "a/c", 2), ("write", "a/c/f", 1)], [[("remove", "a/c", 0)]])
@example([("mkdir", "a/c", 2), ("write", "a/c/f", 1)], [[("replace", "a/c", 0)]])
@example([("write", "a/f", 1)], [[("remove", "a/f", 0), ("symlink", "a/f", 4)]])
@example([("symlink", "a/f", 4)], [[("replace", "a/f", 0)]])
@example([("symlink", "a/f", 4)], [[("remove", "a/f", 0), ("symlink", "a/f", 5)]])
def test_whatever_a_scenario_does_is_undone(
    before: list[tuple[str, str, int]], scenarios: list[list[tuple[str, str, int]]]
) -> None:
    """Kind, rights, owner and content of every path, time after time."""
    with tree() as site:
        for action in before:
            # Pipes are master's own, which it makes when it starts.
            if action[0] != "fifo":
                site.do(*action)
        site.age()
        machine.prepare()
        digest, listing = site.digest(), site.listing()

        for scenario in scenarios:
            for action in scenario:
                site.do(*action)
            assert snapshot.put_back() == []
            assert site.digest() == digest
            assert site.listing() == listing


def test_a_digest_tells_every_change() -> None:
    """Content, rights, kind, and what was added or removed."""
    with tree() as site:
        site.do("write", "a/f", 1)
        site.do("mkdir", "a/c", 2)
        seen = [site.digest()]
        for action in [
            ("write", "a/f", 2),
            ("chmod", "a/f", 2),
            ("replace", "a/c", 0),
            ("remove", "a/f", 0),
            ("write", "b/f", 1),
            ("symlink", "a/f", 1),
        ]:
            site.do(*action)
            seen.append(site.digest())

        assert len({tuple(sorted(digest.items())) for digest in seen}) == 7


def test_a_file_that_only_looks_the_same_is_put_back() -> None:
    """Its size and its date are no proof: somebody may have set them."""
    with tree() as site:
        path = site.root / "a/f"
        path.write_text("before")
        site.age()
        machine.prepare()

        path.write_text("behind")
        os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
        assert snapshot.put_back() == []

        assert path.read_text() == "before"


def test_a_file_put_back_has_its_old_date() -> None:
    """Postfix looks at dates of tables and of main.cf."""
    with tree() as site:
        path = site.root / "a/f"
        path.write_text("before")
        site.age()
        machine.prepare()

        path.write_text("changed")
        snapshot.put_back()

        assert path.stat().st_mtime_ns == LONG_AGO_NS


def test_a_file_is_put_back_in_place() -> None:
    """Some are mount points, or have another name elsewhere: the file stays the same one."""
    with tree() as site:
        path = site.root / "a/f"
        path.write_text("before")
        other = site.root / "b/f"
        other.hardlink_to(path)
        site.age()
        machine.prepare()

        path.write_text("changed")
        snapshot.put_back()

        assert path.samefile(other)
        assert other.read_text() == "before"


def test_a_link_is_never_followed_out_of_the_watched_folders(tmp_path: Path) -> None:
    """What a scenario linked to is not harmed when the link goes."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("keep me")
    with tree() as site:
        machine.prepare()
        (site.root / "a/link").symlink_to(precious)

        assert snapshot.put_back() == []

        assert not (site.root / "a/link").is_symlink()
    assert (precious / "file").read_text() == "keep me"


def test_what_is_not_watched_is_left_alone() -> None:
    """Neither kept nor put back nor removed."""
    with tree() as site:
        unwatched = site.root / "a/unwatched"
        unwatched.mkdir()
        machine.prepare()
        (unwatched / "file").write_text("new")

        assert snapshot.put_back() == []

        assert (unwatched / "file").read_text() == "new"
        assert not any("unwatched" in path for path in site.digest())


def test_postfix_programs_are_put_back_and_their_neighbours_left_alone() -> None:
    """Set-id bits taken or given, a program replaced, removed or added."""
    with tree() as site:
        sbin = site.root / "sbin"
        for name, mode in {
            "postdrop": 0o2555,
            "postqueue": 0o2755,
            "postcat": 0o755,
            "sendmail": 0o755,
            "nologin": 0o755,
        }.items():
            (sbin / name).write_text(name)
            (sbin / name).chmod(mode)
        machine.prepare()
        digest, listing = site.digest(), site.listing()

        (sbin / "postdrop").chmod(0o555)
        (sbin / "postqueue").unlink()
        (sbin / "postcat").write_text("replaced")
        (sbin / "sendmail").chmod(0o4755)
        (sbin / "post-new").touch()
        (sbin / "nologin").chmod(0o700)
        assert snapshot.put_back() == []

        assert site.digest() == digest
        (sbin / "nologin").chmod(0o755)
        assert site.listing() == listing


def test_a_second_channel_remembers_the_first_ones_state() -> None:
    """Opened anew, it does not take today's state for the first one."""
    with tree() as site:
        site.do("write", "a/f", 1)
        site.age()
        machine.prepare()
        digest = site.digest()
        site.do("write", "a/f", 2)

        snapshot.baseline.cache_clear()
        machine.prepare()
        snapshot.put_back()

        assert site.digest() == digest


def test_what_cannot_be_put_back_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lab is then discarded; the rest is put back all the same."""

    def refuse(self: Path, content: bytes) -> int:
        if self.name == "f":
            raise PermissionError(1, "Operation not permitted", str(self))
        with self.open("wb") as file:
            return file.write(content)

    with tree() as site:
        for name in ("a/f", "a/g"):
            (site.root / name).write_text("before")
        site.age()
        machine.prepare()
        for name in ("a/f", "a/g"):
            (site.root / name).write_text("changed")

        monkeypatch.setattr(Path, "write_bytes", refuse)
        failed = snapshot.put_back()
        monkeypatch.undo()

        assert failed == [f"{site.root}/a/f: Operation not permitted"]
        assert (site.root / "a/g").read_text() == "before"


def test_a_socket_of_masters_own_is_no_difference() -> None:
    """Master makes it anew when it starts."""
    with tree() as site:
        path = site.root / "a/f"
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
            machine.prepare()
        path.unlink()

        assert snapshot.put_back() == []


def test_queue_files_are_found_with_their_message_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every queue, hashed or not; without one, or without a queue, is no error."""
    monkeypatch.setattr(mailfiles, "QUEUE_DIRECTORY", tmp_path)
    (tmp_path / "deferred/A/B").mkdir(parents=True)
    (tmp_path / "deferred/A/B/AB123").write_bytes(b"\0C\xffMessage-Id:  <one@x.test>\n")
    (tmp_path / "hold").mkdir()
    (tmp_path / "hold/7F").write_bytes(b"no such header")

    assert sorted(mailfiles.queued()) == [["deferred", "AB123", "<one@x.test>"], ["hold", "7F", ""]]


def test_queue_files_of_other_instances_are_found_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A queue directory is what has a maildrop."""
    monkeypatch.setattr(mailfiles, "SPOOL", tmp_path)
    monkeypatch.setattr(mailfiles, "QUEUE_DIRECTORY", tmp_path / "postfix")
    for instance in ("postfix", "postfix-b"):
        (tmp_path / instance / "maildrop").mkdir(parents=True)
    (tmp_path / "cron").mkdir()
    for path in ("postfix/maildrop/AB1", "postfix-b/maildrop/AB2"):
        (tmp_path / path).touch()

    assert mailfiles.queue_directories() == [tmp_path / "postfix", tmp_path / "postfix-b"]
    assert mailfiles.queued() == [
        ["maildrop", "AB1", ""],
        ["maildrop", "AB2", ""],
    ]
    assert machine.other_masters() == []


@pytest.mark.parametrize(
    ("mode", "age_s", "ours", "taken"),
    [
        (0o744, 60, False, True),
        (0o700, 60, True, True),
        (0o700, 60, False, False),
        (0o644, 0, False, True),
        (0o644, 60, True, False),
        (0o600, -60, True, False),
    ],
    ids=["postdrop", "moved", "unreadable", "being written", "not executable", "of the future"],
)
def test_a_file_in_maildrop_that_pickup_ignores_is_not_under_way(
    tmp_path: Path, mode: int, age_s: float, *, ours: bool, taken: bool
) -> None:
    """It would stay there for ever, and so would whoever waits for an empty maildrop."""
    file = tmp_path / "AB1"
    file.touch(mode)
    file.chmod(mode)
    changed = file.stat().st_mtime - age_s
    os.utime(file, (changed, changed))
    postfix = file.stat().st_uid + (0 if ours else 1)

    assert mailfiles.picked_up(file.stat(), postfix) is taken


def test_a_reload_waits_for_idle_daemons_and_not_for_busy_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What leaves is waited for; what works on outlives the bound, unharmed."""
    monkeypatch.setattr(machine, "RELOADED_WITHIN_S", 0.5)
    master = subprocess.Popen(["sh", "-c", "trap : HUP; echo; while :; do sleep 60; done"],
                              stdout=subprocess.PIPE, start_new_session=True)  # fmt: skip
    idle, busy = (subprocess.Popen(["sleep", "60"]) for _ in range(2))
    assert master.stdout
    try:
        master.stdout.readline()
        group = [master.pid, idle.pid, busy.pid, 2**22 + 1]
        monkeypatch.setattr(machine, "master_pid", lambda: master.pid)
        monkeypatch.setattr(machine, "master_and_daemons", lambda _: group)
        Timer(0.1, idle.kill).start()

        asyncio.run(machine.reload())

        assert idle.poll() is not None
        assert busy.poll() is None
    finally:
        os.killpg(master.pid, signal.SIGKILL)
        for process in (master, idle, busy):
            process.kill()
            process.wait()
        master.stdout.close()


STARTED = b"Nov 23 09:17:24 mail postfix/master[81]: daemon started -- version 3.10.13, x\n"
MARKED = b"Nov 23 09:17:25 mail maillab[1]: mark 7\n"
WORKED = b"Nov 23 09:17:25 mail postfix/smtpd[90]: connect from unknown[198.18.0.1]\n"
FIRST = ("master", "postlogd", "qmgr", "pickup")


@pytest.mark.parametrize(
    ("asked", "logged", "processes", "whether"),
    [
        ((), STARTED + MARKED, FIRST, True),
        (("mark", "queue_files", "halt"), STARTED, FIRST, True),
        (("run",), STARTED, FIRST, False),
        (("mark", "configure"), STARTED, FIRST, False),
        ((), STARTED + WORKED + MARKED, FIRST, False),
        ((), STARTED, (*FIRST, "smtpd"), False),
        ((), STARTED, FIRST[1:], False),
    ],
)
def test_a_host_is_untouched_when_nothing_tells_otherwise(  # noqa: PLR0917  # a parameter a column
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    asked: tuple[str, ...],
    logged: bytes,
    processes: tuple[str, ...],
    whether: bool,  # noqa: FBT001  # a parametrized expectation
) -> None:
    """An operation, a line in the log or a process since it began: each is enough."""
    log = tmp_path / "mail.log"
    log.write_bytes(WORKED)
    monkeypatch.setattr(machine, "LOG", log)
    monkeypatch.setattr(machine, "names", lambda: dict(enumerate(processes)))
    monkeypatch.setattr(machine, "master_pid", lambda: int("master" in processes))
    machine.begin()
    with log.open("ab") as file:
        file.write(logged)
    channel.asked.update(asked)

    assert machine.untouched() is whether


def test_a_channel_opened_anew_does_not_know_what_was_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So its host counts as touched until the next reset."""
    with tree():
        channel.asked.clear()
        machine.prepare()
        first = set(channel.asked)
        machine.prepare()

    assert first == set()
    assert channel.asked - machine.QUIET_OPERATIONS
    channel.asked.clear()


def test_operations_are_named_as_the_harness_calls_them() -> None:
    """The channel takes the names from here."""
    assert {"configure", "reset", "conclude", "mark", "start", "stop"} <= set(machine.OPERATIONS)
    assert machine.OPERATIONS["reset"] is machine.reset
