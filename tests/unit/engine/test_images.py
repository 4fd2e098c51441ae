"""The images that a lab needs, when they are rebuilt, and that each is built once."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path

import pytest

from maillab.engine import bootstrap, images
from maillab.engine.images import Image
from maillab.errors import ImageError, UnknownName
from maillab.site import resources, topology

# How long the test waits for two concurrent builders, if they wrongly exclude each other.
KEPT_APART_S = 0.3


def test_an_unknown_version_lists_the_known_ones() -> None:
    """In the order of the versions, not of the alphabet."""
    with pytest.raises(
        UnknownName, match=r"version '9\.9' \(choose from 3\.5, 3\.7, 3\.10\.3, 3\.10, "
    ):
        images.postfix("9.9")


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the images' sources that may be changed."""
    copy = tmp_path / "images"
    shutil.copytree(resources.images(), copy)
    monkeypatch.setattr(resources, "images", lambda: copy)
    return copy


def tags() -> dict[str, str]:
    """Return all tags by the images' readable names."""
    every = [
        image
        for version in images.SUITES
        for image in [*images.needed(version), images.postfix(version).base]
    ]
    return {image.title: image.tag for image in every}


def changed(do: Callable[[], object]) -> set[str]:
    """Return the kinds of images whose tag a change alters."""
    before = tags()
    do()
    after = tags()
    assert set(after) == set(before)
    return {title.partition(":")[0] for title in after if before[title] != after[title]}


def test_each_image_has_a_tag_of_its_own(sources: Path) -> None:
    """Under our own name, with a readable part."""
    found = tags()

    assert len(set(found.values())) == len(found) == 5 + 2 + 4
    assert set(found) >= {"postfix:3.5", "base:trixie", "agent"}
    assert re.fullmatch(r"maillab/postfix:3\.10-[0-9a-f]{12}", found["postfix:3.10"])
    assert re.fullmatch(r"maillab/base:forky-[0-9a-f]{12}", found["base:forky"])
    assert re.fullmatch(r"maillab/agent:lab-[0-9a-f]{12}", found["agent"])


@pytest.mark.parametrize(
    ("file", "kinds"),
    [
        ("base/Dockerfile", {"base", "agent", "dns", "postfix"}),
        ("postfix/Dockerfile", {"postfix"}),
        ("postfix/main.cf", {"postfix"}),
        ("agent/Dockerfile", {"agent"}),
        ("inside/channel.py", {"agent", "dns", "postfix"}),
        ("inside/mailhost/machine.py", {"postfix"}),
        ("inside/network/smtpclient.py", {"agent"}),
        ("dns/zones.py", {"dns"}),
    ],
)
def test_a_changed_file_changes_the_tags_of_its_images(
    sources: Path, file: str, kinds: set[str]
) -> None:
    """The tags of no other image change, so nothing else is built again."""
    path = sources / file

    assert changed(lambda: path.write_text(path.read_text() + "# changed\n")) == kinds


def test_a_files_name_counts(sources: Path) -> None:
    """A file is added, removed or renamed."""
    agent = sources / "agent"

    assert changed(lambda: (agent / "new.py").write_text("")) == {"agent"}
    assert changed(lambda: (agent / "new.py").rename(agent / "newer.py")) == {"agent"}
    assert changed((agent / "newer.py").unlink) == {"agent"}


def test_files_outside_an_image_change_no_tag(sources: Path) -> None:
    """Neither dates nor files that Python creates next to its modules."""

    def leave() -> None:
        (sources / "agent/__pycache__").mkdir(exist_ok=True)
        (sources / "agent/__pycache__/channel.pyc").write_bytes(b"x")
        (sources / "README").write_text("x")
        for path in sources.rglob("*.py"):
            path.touch()

    assert changed(leave) == set()


class Workshop:
    """Replaces the engine for builds of images."""

    def __init__(self) -> None:
        self.made: dict[str, date] = {}
        self.today = date(2026, 1, 1)
        self.builds: list[str] = []
        self.failing = ""

    def packages_of(self, image: Image) -> date | None:
        """Return the day on which an image was built."""
        return self.made.get(image.tag)

    def build(self, image: Image, base: str, say: bootstrap.Say, oldest: date) -> None:
        """Build an image, or fail if it is to fail."""
        say(f"from {base}")
        if image.kind == self.failing:
            raise ImageError(f"{image.tag} could not be built")
        self.builds.append(image.title)
        self.made[image.tag] = self.today


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """Return an engine without images, a registry with all bases, and separate locks."""
    made = Workshop()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(images, "packages_of", made.packages_of)
    monkeypatch.setattr(images, "today", lambda: made.today)
    monkeypatch.setattr(images, "_build", made.build)
    monkeypatch.setattr(images, "_pull", lambda _: (True, True))
    return made


def test_a_missing_image_is_built_once(workshop: Workshop) -> None:
    """Including the bases; a second call finds nothing to do."""
    images.ensure(["3.10", "3.5", "3.10"])

    made = ["agent", "base:bullseye", "base:trixie", "dns", "postfix:3.10", "postfix:3.5"]
    assert sorted(workshop.builds) == made
    images.ensure(["3.10", "3.5"])
    assert len(workshop.builds) == len(made)


@pytest.fixture
def scanner(sources: Path) -> Path:
    """Return the folder of an image that only one topology runs."""
    folder = sources / "virusscanner"
    folder.mkdir()
    (folder / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\n")
    return folder


def test_a_topologys_own_image_is_built_for_its_labs_only(
    workshop: Workshop, scanner: Path
) -> None:
    """Other labs need no more images."""
    images.ensure(["3.10"])
    assert "virusscanner" not in workshop.builds

    images.ensure(["3.10"], ["virusscanner"])
    assert workshop.builds[-1] == "virusscanner"
    assert workshop.builds.count("postfix:3.10") == 1


def test_a_topologys_own_image_has_the_name_its_file_asks_for(scanner: Path) -> None:
    """If the topology names an image of every lab, it is not built twice."""
    own = images.needed("3.10", ["dns", "virusscanner"])[3:]

    assert [image.title for image in own] == ["virusscanner"]
    assert re.fullmatch(r"maillab/virusscanner:lab-[0-9a-f]{12}", own[0].tag)
    assert own[0] in images.own_images()


def test_an_own_image_without_a_folder_is_refused(scanner: Path) -> None:
    """The error lists the existing folders."""
    with pytest.raises(UnknownName, match=r"image 'scaner' \(choose from .*virusscanner"):
        images.needed("3.10", ["scaner"])


@pytest.mark.parametrize("name", topology.names())
def test_the_images_of_every_shipped_topology_can_be_built(name: str) -> None:
    """Each image that a service names has its folder."""
    own = topology.load(name).own_images

    assert {image.kind for image in images.needed("3.10", own)} == {
        "postfix", "agent", "dns", *own,
    }  # fmt: skip


def test_two_concurrent_builders_build_an_image_once(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second builder waits, and then finds the image."""
    both_inside = threading.Barrier(2)

    def packages_of(image: Image) -> date | None:
        day = workshop.packages_of(image)
        # A builder that is alone here, as it should be, continues after a moment.
        with contextlib.suppress(threading.BrokenBarrierError):
            both_inside.wait(KEPT_APART_S)
        return day

    monkeypatch.setattr(images, "packages_of", packages_of)
    image = images.postfix("3.10")
    with ThreadPoolExecutor(2) as pool:
        for job in [
            pool.submit(images._make, image, images.Progress(), date.min) for _ in range(2)
        ]:
            job.result()

    assert sorted(workshop.builds) == ["base:trixie", "postfix:3.10"]


def test_an_image_that_cannot_be_built_is_named_and_the_others_are_kept(
    workshop: Workshop,
) -> None:
    """So the next attempt has less to do."""
    workshop.failing = "dns"

    with pytest.raises(ImageError, match=r"maillab/dns:lab-\w+ could not be built"):
        images.ensure(["3.10"])

    assert sorted(workshop.builds) == ["agent", "base:trixie", "postfix:3.10"]


def test_builds_report_line_by_line(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    """The image and the step, on standard error."""
    images.ensure(["3.10"])

    output = capsys.readouterr()
    assert output.out == ""
    assert re.search(r"(?m)^\[ *\d+\.\d s\] postfix:3\.10: building$", output.err)
    assert re.search(r"(?m)^\[ *\d+\.\d s\] postfix:3\.10: done in \d+ s$", output.err)


def test_old_packages_are_renewed_with_their_base(workshop: Workshop, scanner: Path) -> None:
    """After the allowed number of days; a topology's own image if it exists."""
    images.ensure(["3.10"])
    workshop.today += timedelta(images.RENEW_AFTER_DAYS)
    workshop.builds.clear()
    images.renew(["3.10"])
    assert workshop.builds == []

    images.ensure(["3.10"], ["virusscanner"])
    workshop.builds.clear()
    workshop.today += timedelta(1)
    images.renew(["3.10"])
    assert sorted(workshop.builds) == ["agent", "base:trixie", "dns", "postfix:3.10"]

    images.renew(["3.10"])
    assert len(workshop.builds) == 4
    images.renew(["3.10"], older_than_days=0)
    assert workshop.builds[4:] == ["virusscanner"]


def test_renewing_has_no_oldest_day(workshop: Workshop) -> None:
    """For any number of allowed days."""
    images.ensure(["3.10"])
    workshop.builds.clear()

    images.renew(["3.10"], older_than_days=10**18)

    assert workshop.builds == []


def test_what_cannot_be_renewed_stays(workshop: Workshop) -> None:
    """The other images are new."""
    images.ensure(["3.10"])
    workshop.today += timedelta(100)
    workshop.failing = "dns"

    with pytest.raises(ImageError):
        images.renew(["3.10"])

    days = {image.title: workshop.packages_of(image) for image in images.needed("3.10")}
    assert days == {
        "postfix:3.10": workshop.today, "agent": workshop.today, "dns": date(2026, 1, 1),
    }  # fmt: skip


def test_a_lab_with_old_packages_says_so_once(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lab starts, and nothing is built: the machine may be offline."""
    images.ensure(["3.10"])
    workshop.builds.clear()
    workshop.today += timedelta(images.RENEW_AFTER_DAYS + 1)
    capsys.readouterr()
    images._remind.cache_clear()

    images.ensure(["3.10"])
    images.ensure(["3.10"])

    message = "maillab: images have packages of 2026-01-01; 'maillab images --make' renews them\n"
    assert capsys.readouterr().err == message
    assert workshop.builds == []
