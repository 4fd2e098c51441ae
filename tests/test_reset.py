"""Whatever a scenario does to the files of a host is undone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import channel
import machine
import snapshot

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
