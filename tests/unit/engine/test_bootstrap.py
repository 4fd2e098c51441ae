"""A machine without a registry builds the base of its images from its own packages."""

from __future__ import annotations

import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from maillab.engine import bootstrap
from maillab.errors import ImageError, MaillabError, NoDisk, NoEngine


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Put a shell script on the path, which has no other program of that name."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "cat", "echo", "touch"):
        (folder / name).symlink_to(shutil.which(name) or "")
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def write(name: str, script: str) -> None:
        path = folder / name
        path.write_text(f"#!{shutil.which('sh')}\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    return write


@pytest.mark.parametrize(
    ("listed", "mirror"),
    [
        ("http://m.test/debian\nhttp://m.test/debian\n", "http://m.test/debian"),
        ("http://m.test/debian/\n", "http://m.test/debian/"),
        ("http://s.test/debian-security\nhttp://m.test/debian\n", "http://m.test/debian"),
        ("http://u.test/ubuntu\nhttp://x.test/debian-like/y\n", None),
        ("", None),
    ],
)
def test_the_mirror_is_the_one_that_the_machine_uses(
    programs: Callable[[str, str], None], listed: str, mirror: str | None
) -> None:
    """No mirror's name is written anywhere in the harness."""
    programs("apt-get", f"[ $1 = indextargets ] && cat <<EOF\n{listed}EOF")

    assert bootstrap.debian_mirror() == mirror


def test_a_machine_without_apt_has_no_mirror(programs: Callable[[str, str], None]) -> None:
    """Mmdebstrap then uses its own default."""
    assert bootstrap.debian_mirror() is None


MMDEBSTRAP = """
printf '%s|' "$@" >>{calls}; echo >>{calls}
for tar; do case $tar in *.tar) echo system >$tar ;; esac; done
"""


def bootstrapped(folder: Path, *, suite: str = "forky", testing: bool = False) -> list[list[str]]:
    """Bootstrap a suite; return the calls of mmdebstrap."""
    tar = bootstrap.debootstrap(suite, testing=testing, say=lambda _: None)
    assert tar.read_text() == "system\n"
    tar.unlink()
    return [line.split("|")[:-1] for line in (folder / "calls").read_text().splitlines()]


LISTED = "printf 'http://m.test/debian\nhttp://s.test/debian-security/\n'"
UPDATED = [
    "deb http://m.test/debian trixie main",
    "deb http://m.test/debian trixie-updates main",
    "deb http://s.test/debian-security/ trixie-security main",
]


def test_a_base_is_bootstrapped_from_the_machines_own_mirror(
    programs: Callable[[str, str], None], tmp_path: Path
) -> None:
    """With python3, which every image of ours needs, and with the suite's updates."""
    programs("apt-get", LISTED)
    programs("mmdebstrap", MMDEBSTRAP.format(calls=tmp_path / "calls"))

    (call,) = bootstrapped(tmp_path, suite="trixie")

    assert call[-5] == "trixie"
    assert call[-3:] == UPDATED
    assert "--include=python3" in call


def test_a_mirror_alone_has_no_security_updates(
    programs: Callable[[str, str], None], tmp_path: Path
) -> None:
    """Their place is not guessed."""
    programs("apt-get", "echo http://m.test/debian")
    programs("mmdebstrap", MMDEBSTRAP.format(calls=tmp_path / "calls"))

    (call,) = bootstrapped(tmp_path, suite="trixie")

    assert call[-2:] == UPDATED[:2]


def test_a_testing_suite_is_its_own_updates(
    programs: Callable[[str, str], None], tmp_path: Path
) -> None:
    """It needs its mirror only."""
    programs("apt-get", LISTED)
    programs("mmdebstrap", MMDEBSTRAP.format(calls=tmp_path / "calls"))

    (call,) = bootstrapped(tmp_path, testing=True)

    assert call[-3] == "forky"
    assert call[-1] == "http://m.test/debian"


@pytest.mark.parametrize(
    "words",
    [
        "E: The repository 'http://m.test/debian x-updates Release' does not have a Release file.",
        "E: Failed to fetch http://m.test/debian/dists/x-updates/InRelease  404  Not Found",
    ],
)
def test_a_suite_without_updates_is_bootstrapped_all_the_same(
    programs: Callable[[str, str], None], tmp_path: Path, words: str
) -> None:
    """The archive of old suites has no updates."""
    programs("apt-get", LISTED)
    script = MMDEBSTRAP.format(calls=tmp_path / "calls")
    fails = f'case "$*" in *-updates*) echo "{words}" >&2; exit 25 ;; esac'
    programs("mmdebstrap", script + fails)

    first, second = bootstrapped(tmp_path, suite="bullseye")

    assert first[:-3] == second[:-1]
    assert second[-1] == "http://m.test/debian"


def test_a_base_is_bootstrapped_from_the_tools_default_else(
    programs: Callable[[str, str], None], tmp_path: Path
) -> None:
    """The machine has no mirror."""
    programs("mmdebstrap", MMDEBSTRAP.format(calls=tmp_path / "calls"))

    (call,) = bootstrapped(tmp_path)

    assert call[-2] == "forky"


EXPIRED = "E: Release file for http://m.test/dists/forky/InRelease is expired"


def test_an_expired_release_file_is_accepted_in_testing(
    programs: Callable[[str, str], None], tmp_path: Path
) -> None:
    """Mirrors of testing are often late; a stable suite's Release file must be current."""
    script = MMDEBSTRAP.format(calls=tmp_path / "calls")
    programs(
        "mmdebstrap",
        script + f"case $* in *Valid-Until*) ;; *) echo '{EXPIRED}' >&2; exit 1 ;; esac",
    )

    first, second = bootstrapped(tmp_path, testing=True)

    assert [option for option in second if option not in first] == [
        '--aptopt=Acquire::Check-Valid-Until "false"'
    ]
    with pytest.raises(ImageError, match="is expired"):
        bootstrapped(tmp_path, testing=False)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("I: working\\nE: Unable to connect\\nI: cleaning up", ImageError),
        ("E: write: No space left on device", NoDisk),
    ],
)
def test_a_failed_bootstrap_shows_its_last_lines_and_leaves_nothing(
    programs: Callable[[str, str], None], tmp_path: Path, words: str, error: type[MaillabError]
) -> None:
    """The error names the suite, and no half-built system stays."""
    programs("mmdebstrap", f"printf '{words}\\n' >&2; exit 25")

    with pytest.raises(error, match="forky") as raised:
        bootstrap.debootstrap("forky", testing=False, say=lambda _: None)

    assert error is NoDisk or "forky: E: Unable to connect" in str(raised.value)
    assert list(tmp_path.glob("*.tar")) == []


def test_a_machine_that_cannot_bootstrap_gets_advice(
    programs: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is installed on a machine other than Debian, or for a user other than root."""
    monkeypatch.setattr(bootstrap, "is_debian_root", lambda: False)

    with pytest.raises(ImageError, match=r"install mmdebstrap .* or let the engine reach"):
        bootstrap.debootstrap("forky", testing=False, say=lambda _: None)


def test_what_a_bare_machine_lacks_is_installed(
    programs: Callable[[str, str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the machine's own package manager, with a message; its errors are shown."""
    monkeypatch.setattr(bootstrap, "is_debian_root", lambda: True)
    called = tmp_path / "called"
    messages: list[str] = []
    programs(
        "apt-get",
        f'echo "$@" >>{called}; [ $1 = update ] || {{ echo "E: no luck" >&2; exit 100; }}',
    )

    with pytest.raises(NoEngine, match=r"apt-get install .*mmdebstrap.* failed: E: no luck"):
        bootstrap.debootstrap("forky", testing=False, say=messages.append)

    assert messages == [
        "installing from this machine's packages: mmdebstrap debian-archive-keyring"
    ]
    update, install = called.read_text().splitlines()
    assert update.startswith("update")
    assert install.endswith("mmdebstrap debian-archive-keyring")
