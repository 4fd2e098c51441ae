"""The parts of the program for disks that need no right to mount."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

import blockdevice

V1 = "12:pids:/docker/abc\n4:blkio:/docker/abc\n0::/docker/abc\n"
V2 = "0::/system.slice/docker-abc.scope\n"


@pytest.mark.parametrize(
    ("groups", "file", "rules"),
    [
        (V1, "blkio/docker/abc/blkio.throttle.write_iops_device", ["7:3 50\n", "7:3 0\n"]),
        (V2, "system.slice/docker-abc.scope/io.max", ["7:3 wiops=50\n", "7:3 wiops=max\n"]),
    ],
    ids=["v1", "v2"],
)
def test_a_limit_is_set_and_lifted_in_the_hosts_cgroup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: str, file: str, rules: list[str]
) -> None:
    """The file and its words differ between the versions of cgroups."""
    own = tmp_path / "own"
    own.write_text(groups)
    limits = tmp_path / file
    limits.parent.mkdir(parents=True)
    monkeypatch.setattr(blockdevice, "HOST_CGROUP", own)
    monkeypatch.setattr(blockdevice, "CGROUPS", tmp_path)

    with pytest.raises(blockdevice.LacksError, match="limits of a cgroup's writes"):
        blockdevice._limit(3, 50)
    blockdevice._limit(3, 0)
    written = []
    for writes_per_s in (50, 0):
        limits.write_text("")
        blockdevice._limit(3, writes_per_s)
        written.append(limits.read_text())

    assert written == rules


def test_what_is_gone_from_the_disk_is_removed_below_it(tmp_path: Path) -> None:
    """Files, folders, links, and what has changed its kind."""
    below, disk = tmp_path / "below", tmp_path / "disk"
    for folder in (below, disk):
        (folder / "both").mkdir(parents=True)
        (folder / "both/file").write_text(folder.name)
    (below / "gone").mkdir()
    (below / "gone/file").touch()
    (below / "file").touch()
    (below / "link").symlink_to("nowhere")
    (below / "was a file").touch()
    (disk / "was a file").mkdir()
    (below / "was a folder").mkdir()
    (disk / "was a folder").symlink_to("both")

    blockdevice._remove_missing(str(below), str(disk))

    assert [path.name for path in below.iterdir()] == ["both"]
    assert (below / "both/file").read_text() == "below"


def test_the_configuration_of_a_loop_device_has_the_kernels_form() -> None:
    """The file, then ``struct loop_info64`` with the flags at byte 52, as in linux/loop.h."""
    made = blockdevice._configuration(9, 20)

    assert len(made) == 304
    assert struct.unpack_from("=II", made) == (9, 0)
    assert struct.unpack_from("=I", made, 8 + 52) == (20,)
