"""A reset undoes every change of a scenario to the files of a host."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import stat
import tempfile
import time
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
from filetimes import let_changes_be_old

FOLDERS = ("a", "b", "a/c", "b/c")
FILES = (*(f"{folder}/f" for folder in FOLDERS), "a/g", "a/c/g")
PLACES = (*FOLDERS[2:], *FILES)
MODES = (0o600, 0o644, 0o755, 0o4755)
LONG_AGO_NS = 1_000_000_000 * 10**9


def remove(path: Path) -> None:
    """Remove a path of any kind."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def append(path: Path) -> None:
    """Append to a file; create it if necessary."""
    with path.open("ab") as file:
        file.write(b"x")


def replace(path: Path) -> None:
    """Replace a path of any kind by a file."""
    remove(path)
    path.write_bytes(b"another")


@dataclass
class Tree:
    """Two watched folders, one of which contains an unwatched path."""

    root: Path

    def do(self, action: str, place: str, detail: int) -> None:
        """Make a change; skip it if it is no longer possible."""
        path = self.root / place
        if action in WRITES and path.is_fifo():
            # Opening a pipe would wait for a reader.
            return
        with contextlib.suppress(OSError):
            CHANGES[action](self, path, detail)

    def somewhere(self, detail: int) -> Path:
        """Return a path by number."""
        return self.root / PLACES[detail % len(PLACES)]

    def age(self) -> None:
        """Give all files an old date, as the files of an image have."""
        for path, _ in snapshot.walk():
            os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS), follow_symlinks=False)

    def digest(self) -> dict[str, str]:
        """Return the checksums of the program under test."""
        paths: dict[str, str] = asyncio.run(machine.digest())["paths"]
        return paths

    def listing(self) -> dict[str, tuple[Any, ...]]:
        """Return an independent listing: kind, permissions, owner, content."""
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
    """Yield a machine whose watched folders are a temporary tree."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        root = Path(folder).resolve() / "root"
        for name in FOLDERS[:2]:
            (root / name).mkdir(parents=True)
        patch.setattr(snapshot, "WATCHED", (str(root / "a"), str(root / "b")))
        patch.setattr(snapshot, "UNWATCHED", {str(root / "a/unwatched")})
        (root / "sbin").mkdir()
        patch.setattr(snapshot, "PROGRAMS", (str(root / "sbin"), ("post", "sendmail")))
        patch.setattr(snapshot, "BASELINE", Path(folder) / "kept/baseline")
        # Processes are not the subject here, and this machine may run many.
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
def test_every_change_by_a_scenario_is_undone(
    before: list[tuple[str, str, int]], scenarios: list[list[tuple[str, str, int]]]
) -> None:
    """Kind, permissions, owner and content of every path, again and again."""
    with tree() as site:
        for action in before:
            # Pipes belong to master(8), which creates them when it starts.
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


@contextmanager
def folders_read() -> Iterator[list[str]]:
    """Yield the list of the folders that are read during the block."""
    read: list[str] = []
    listdir = os.listdir

    def noted(path: str) -> list[str]:
        read.append(path)
        return listdir(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "listdir", noted)
        yield read


@contextmanager
def late(site: Tree) -> Iterator[list[str]]:
    """Let all changes so far be old, so that a reset remembers folders; yield those it reads."""
    with folders_read() as read, pytest.MonkeyPatch.context() as patch:
        let_changes_be_old(site.root, patch)
        yield read


@pytest.mark.parametrize("action", sorted(CHANGES))
@pytest.mark.parametrize("place", ["a/c", "a/f", "a/new"])
def test_a_change_in_a_folder_that_had_not_changed_is_found(action: str, place: str) -> None:
    """A folder is read again only after a change, and after every one."""
    with tree() as site:
        site.do("write", "a/f", 1)
        site.do("mkdir", "a/c", 2)
        site.do("write", "a/c/g", 1)
        site.age()
        machine.prepare()
        digest, listing = site.digest(), site.listing()
        with late(site):
            snapshot.put_back()
        with late(site) as read:
            snapshot.put_back()
        assert read == []

        with late(site):
            site.do(action, place, 4)
            assert snapshot.put_back() == []
            assert (site.digest(), site.listing()) == (digest, listing)


def test_a_folder_that_has_just_changed_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another change within the same step of the kernel's clock would give it the same time."""
    with tree() as site:
        machine.prepare()
        folder = site.root / "a"
        monkeypatch.setattr(time, "time_ns", lambda: folder.stat().st_ctime_ns)
        snapshot.put_back()

        with folders_read() as read:
            snapshot.put_back()

        assert str(folder) in read


def test_a_folder_that_became_a_link_to_its_new_place_is_restored() -> None:
    """Below the link each path looks unchanged, but the reset removes the new place."""
    with tree() as site:
        site.do("mkdir", "a/c", 2)
        site.do("write", "a/c/g", 1)
        (site.root / "a/c/d").mkdir()
        site.age()
        machine.prepare()
        digest = site.digest()
        with late(site):
            snapshot.put_back()

        with late(site):
            (site.root / "a/c").rename(site.root / "a/moved")
            (site.root / "a/c").symlink_to("moved")

            assert snapshot.put_back() == []
            assert site.digest() == digest


def test_a_digest_shows_every_change() -> None:
    """Content, permissions, kind, and added or removed paths."""
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


def test_a_file_of_the_same_size_and_date_is_restored() -> None:
    """An equal size and date prove nothing: a program may have set them."""
    with tree() as site:
        path = site.root / "a/f"
        path.write_text("before")
        site.age()
        machine.prepare()

        path.write_text("behind")
        os.utime(path, ns=(LONG_AGO_NS, LONG_AGO_NS))
        assert snapshot.put_back() == []

        assert path.read_text() == "before"


def test_a_restored_file_has_its_old_date() -> None:
    """Postfix checks the dates of tables and of main.cf."""
    with tree() as site:
        path = site.root / "a/f"
        path.write_text("before")
        site.age()
        machine.prepare()

        path.write_text("changed")
        snapshot.put_back()

        assert path.stat().st_mtime_ns == LONG_AGO_NS


def test_a_file_is_restored_in_place() -> None:
    """Some files are mount points, or have another name elsewhere: the inode stays."""
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
    """The target of a scenario's link stays when the link is removed."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("keep me")
    with tree() as site:
        machine.prepare()
        (site.root / "a/link").symlink_to(precious)

        assert snapshot.put_back() == []

        assert not (site.root / "a/link").is_symlink()
    assert (precious / "file").read_text() == "keep me"


@pytest.mark.parametrize("target", ["outside", "watched"])
def test_files_below_a_link_in_the_place_of_a_folder_stay(tmp_path: Path, target: str) -> None:
    """The link is removed, and nothing that it leads to."""
    with tree() as site:
        elsewhere = tmp_path if target == "outside" else site.root / "b"
        for folder in (site.root / "a/c/d", elsewhere / "c/d"):
            folder.mkdir(parents=True, exist_ok=True)
        (elsewhere / "c/d/file").write_text("keep me")
        machine.prepare()
        digest = site.digest()
        with late(site):
            snapshot.put_back()

        with late(site):
            shutil.rmtree(site.root / "a/c")
            (site.root / "a/c").symlink_to(elsewhere / "c")
            assert snapshot.put_back() == []

        assert (elsewhere / "c/d/file").read_text() == "keep me"
        assert site.digest() == digest


def test_unwatched_paths_are_left_alone() -> None:
    """It is neither kept, nor restored, nor removed."""
    with tree() as site:
        unwatched = site.root / "a/unwatched"
        unwatched.mkdir()
        machine.prepare()
        (unwatched / "file").write_text("new")

        assert snapshot.put_back() == []

        assert (unwatched / "file").read_text() == "new"
        assert not any("unwatched" in path for path in site.digest())


def test_postfix_programs_are_restored_and_others_left_alone() -> None:
    """Set-id bits removed or added; a program replaced, removed or added."""
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


def test_the_watched_folders_themselves_are_restored() -> None:
    """Their permissions, and the folder itself if it was removed."""
    with tree() as site:
        (site.root / "b").chmod(0o750)
        (site.root / "b/f").write_text("before")
        machine.prepare()
        digest = site.digest()

        (site.root / "a").chmod(0o700)
        shutil.rmtree(site.root / "b")
        changed = site.digest()
        assert snapshot.put_back() == []

        assert changed != digest
        assert site.digest() == digest
        assert (site.root / "b/f").read_text() == "before"


def test_paths_restored_elsewhere_are_left_alone() -> None:
    """Two containers have it; it is neither written, nor removed, nor created again."""
    with tree() as site:
        paths = [site.root / name for name in ("a/f", "a/g", "b/f")]
        for path in paths[:2]:
            path.write_text("before")
        machine.prepare()

        paths[0].write_text("changed")
        paths[1].unlink()
        paths[2].write_text("new")
        assert snapshot.put_back([str(path) for path in paths]) == []

        assert paths[0].read_text() == "changed"
        assert not paths[1].exists()
        assert paths[2].read_text() == "new"


def test_a_second_channel_uses_the_first_ones_baseline() -> None:
    """It does not take the current state for the baseline."""
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


def test_a_reopened_channel_does_not_know_earlier_requests(
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


def test_what_cannot_be_restored_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lab is then discarded; the rest is restored nevertheless."""

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


def test_a_socket_of_master_is_no_difference() -> None:
    """master(8) creates the socket again when it starts."""
    with tree() as site:
        path = site.root / "a/f"
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
            machine.prepare()
        path.unlink()

        assert snapshot.put_back() == []
