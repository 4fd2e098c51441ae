"""Which images a lab needs, when they are made anew, and that each is made once."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from maillab import resources, topology
from maillab.engine import bootstrap, images
from maillab.engine.images import Image
from maillab.errors import ImageError, UnknownName

# How long two who are kept apart are waited for; never reached by two who are not.
KEPT_APART_S = 0.3


def test_an_unknown_version_lists_the_known_ones() -> None:
    """In the order of the versions, not of the alphabet."""
    with pytest.raises(UnknownName, match=r"version named '9\.9'; there is: 3\.5, 3\.7, 3\.10, "):
        images.postfix("9.9")


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the images' sources that may be changed."""
    copy = tmp_path / "images"
    shutil.copytree(resources.images(), copy)
    monkeypatch.setattr(resources, "images", lambda: copy)
    return copy


def tags() -> dict[str, str]:
    """All tags by their plain ones."""
    every = [
        image
        for version, suite in images.SUITES.items()
        for image in [*images.needed(version), Image("base", suite)]
    ]
    return {image.plain_tag: image.tag for image in every}


def changed(do: Callable[[], object]) -> set[str]:
    """The kinds of images that get another tag by it."""
    before = tags()
    do()
    after = tags()
    assert set(after) == set(before)
    return {
        re.sub(r"maillab/(\w+):.*", r"\1", plain)
        for plain in after
        if before[plain] != after[plain]
    }


def test_each_image_has_a_tag_of_its_own(sources: Path) -> None:
    """Under our own name, with something for people to read."""
    found = tags()

    assert len(set(found.values())) == len(found) == 4 + 2 + 4
    assert set(found) >= {"maillab/postfix:3.5", "maillab/base:trixie", "maillab/agent:latest"}
    assert re.fullmatch(r"maillab/postfix:3\.10-[0-9a-f]{12}", found["maillab/postfix:3.10"])
    assert re.fullmatch(r"maillab/base:forky-[0-9a-f]{12}", found["maillab/base:forky"])
    assert re.fullmatch(r"maillab/agent:lab-[0-9a-f]{12}", found["maillab/agent:latest"])


@pytest.mark.parametrize(
    ("file", "kinds"),
    [
        ("base/Dockerfile", {"base", "agent", "dns", "postfix"}),
        ("postfix/Dockerfile", {"postfix"}),
        ("postfix/main.cf", {"postfix"}),
        ("agent/Dockerfile", {"agent"}),
        ("agent/channel.py", {"agent", "dns", "postfix"}),
        ("agent/machine.py", {"agent", "postfix"}),
        ("agent/smtpclient.py", {"agent"}),
        ("dns/zones.py", {"dns"}),
    ],
)
def test_a_changed_file_changes_the_tags_of_what_holds_it(
    sources: Path, file: str, kinds: set[str]
) -> None:
    """And of nothing else: whatever is not concerned is not built again."""
    path = sources / file

    assert changed(lambda: path.write_text(path.read_text() + "# changed\n")) == kinds


def test_a_file_by_another_name_is_another_file(sources: Path) -> None:
    """Added, removed or renamed."""
    agent = sources / "agent"

    assert changed(lambda: (agent / "new.py").write_text("")) == {"agent"}
    assert changed(lambda: (agent / "new.py").rename(agent / "newer.py")) == {"agent"}
    assert changed((agent / "newer.py").unlink) == {"agent"}


def test_what_is_not_in_an_image_changes_no_tag(sources: Path) -> None:
    """Neither dates nor what Python leaves beside its modules."""

    def leave() -> None:
        (sources / "agent/__pycache__").mkdir(exist_ok=True)
        (sources / "agent/__pycache__/channel.pyc").write_bytes(b"x")
        (sources / "README").write_text("x")
        for path in sources.rglob("*.py"):
            path.touch()

    assert changed(leave) == set()


class Workshop:
    """Stands in for the engine where images are made."""

    def __init__(self) -> None:
        self.made: set[str] = set()
        self.builds: list[str] = []
        self.plain: dict[str, str] = {}
        self.failing = ""

    def exists(self, image: Image) -> bool:
        """Whether it was made by now."""
        return image.tag in self.made

    def build(self, image: Image, base: str, say: bootstrap.Say) -> None:
        """Make it, unless it is one that fails."""
        say(f"from {base}")
        if image.kind == self.failing:
            raise ImageError(f"{image.tag} could not be built")
        self.builds.append(image.plain_tag)
        self.made.add(image.tag)

    def tag(self, image: Image) -> None:
        self.plain[image.plain_tag] = image.tag


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """An engine without images and a registry that has all bases, with locks of its own."""
    it = Workshop()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(images, "exists", it.exists)
    monkeypatch.setattr(images, "_build", it.build)
    monkeypatch.setattr(images, "_tag", it.tag)
    monkeypatch.setattr(images, "_pull", lambda _: (True, True))
    return it


def test_what_is_missing_is_made_once_and_only_once(workshop: Workshop) -> None:
    """Bases included; a second look finds nothing to do."""
    images.ensure(["3.10", "3.5", "3.10"])

    made = ["agent:latest", "base:bullseye", "base:trixie", "dns:latest", "postfix:3.10",
            "postfix:3.5"]  # fmt: skip
    assert sorted(workshop.builds) == [f"maillab/{name}" for name in made]
    workshop.plain.clear()
    images.ensure(["3.10", "3.5"])
    assert len(workshop.builds) == len(made)
    # The plain names, too, mean these images again, whatever they were left on.
    assert sorted(workshop.plain) == [f"maillab/{n}" for n in made if not n.startswith("base")]


@pytest.fixture
def scanner(sources: Path) -> Path:
    """The folder of an image that only some topology runs."""
    folder = sources / "virusscanner"
    folder.mkdir()
    (folder / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\n")
    return folder


def test_a_topologys_own_image_is_made_for_its_labs_only(workshop: Workshop, scanner: Path) -> None:
    """Other labs get no heavier by it."""
    images.ensure(["3.10"])
    assert "maillab/virusscanner:latest" not in workshop.builds

    images.ensure(["3.10"], ["virusscanner"])
    assert workshop.builds[-1] == "maillab/virusscanner:latest"
    assert workshop.builds.count("maillab/postfix:3.10") == 1


def test_a_topologys_own_image_has_the_name_its_file_asks_for(scanner: Path) -> None:
    """What every lab runs is not there twice when a topology names it, too."""
    own = images.needed("3.10", ["dns", "virusscanner"])[3:]

    assert [image.plain_tag for image in own] == ["maillab/virusscanner:latest"]
    assert re.fullmatch(r"maillab/virusscanner:lab-[0-9a-f]{12}", own[0].tag)
    assert own[0] in images.own_images()


def test_an_own_image_without_a_folder_is_refused(scanner: Path) -> None:
    """The error lists those there are."""
    with pytest.raises(UnknownName, match=r"named 'scaner'; there is: .*virusscanner"):
        images.needed("3.10", ["scaner"])


@pytest.mark.parametrize("name", topology.names())
def test_the_images_of_every_shipped_topology_can_be_made(name: str) -> None:
    """Each that a service names has its folder."""
    own = topology.load(name).own_images

    assert {image.kind for image in images.needed("3.10", own)} == {
        "postfix", "agent", "dns", *own,
    }  # fmt: skip


def test_two_who_ask_for_one_image_make_it_once(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second waits, then finds it there."""
    both_inside = threading.Barrier(2)

    def exists(image: Image) -> bool:
        there = workshop.exists(image)
        # Whoever is alone here, as it should be, goes on after a moment.
        with contextlib.suppress(threading.BrokenBarrierError):
            both_inside.wait(KEPT_APART_S)
        return there

    monkeypatch.setattr(images, "exists", exists)
    image = images.postfix("3.10")
    with ThreadPoolExecutor(2) as pool:
        for job in [pool.submit(images._make, image, images.Progress()) for _ in range(2)]:
            job.result()

    assert sorted(workshop.builds) == ["maillab/base:trixie", "maillab/postfix:3.10"]


def test_an_image_that_cannot_be_made_is_named_and_the_others_are_kept(
    workshop: Workshop,
) -> None:
    """So that the next attempt has less to do."""
    workshop.failing = "dns"

    with pytest.raises(ImageError, match=r"maillab/dns:lab-\w+ could not be built"):
        images.ensure(["3.10"])

    assert sorted(workshop.builds) == [
        "maillab/agent:latest", "maillab/base:trixie", "maillab/postfix:3.10",
    ]  # fmt: skip


def test_the_making_is_told_line_by_line(
    workshop: Workshop, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which image, which step, on standard error."""
    images.ensure(["3.10"])

    said = capsys.readouterr()
    assert said.out == ""
    assert re.search(r"(?m)^\[ *\d+\.\d s\] postfix:3\.10: building$", said.err)
    assert re.search(r"(?m)^\[ *\d+\.\d s\] postfix:3\.10: done in \d+ s$", said.err)
