"""The engine's input for an image's build, and the errors of a failed build."""

from __future__ import annotations

import io
import re
import tarfile
import threading
from collections.abc import Iterator
from datetime import date
from types import SimpleNamespace
from typing import Any

import pytest

from maillab.engine import images
from maillab.engine.images import Image
from maillab.errors import ImageError, NoDisk
from maillab.site import resources


@pytest.mark.parametrize(
    "image", [*images.needed("3.10"), *images.own_images(), Image("base", "trixie")]
)
def test_an_image_is_built_from_what_its_tag_is_made_of(image: Image) -> None:
    """Every file that the Dockerfile copies, the Dockerfile itself, and no other."""
    context = images._context(image)

    with tarfile.open(fileobj=context) as tar:
        contents = {name: _content(tar, name) for name in tar.getnames()}
    recipe = contents.pop("Dockerfile")
    root = resources.images()
    assert recipe == (root / image.kind / "Dockerfile").read_bytes()
    assert contents == {
        path.relative_to(root).as_posix(): path.read_bytes() for path in image.files
    }
    for copied in re.findall(r"(?mi)^\s*(?:COPY|ADD)\s+(.*)\s\S+$", recipe.decode()):
        for source in copied.split():
            path = source.rstrip("/")
            assert any(name == path or name.startswith(f"{path}/") for name in contents), source


@pytest.mark.parametrize(
    "image", [images.postfix("3.10"), *images.own_images(), Image("base", "trixie")]
)
def test_another_day_installs_the_packages_again(image: Image) -> None:
    """The engine's cache depends on a build argument that precedes the command."""
    recipe = (resources.images() / image.kind / "Dockerfile").read_text()

    above, _, _ = recipe.partition("\nRUN ")
    assert '\nARG PACKAGES=""' in above


def _content(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    return file.read() if file else b""


class Api:
    """Replaces the SDK's client and its low-level half."""

    def __init__(self, *steps: dict[str, str], here: bool = False) -> None:
        self.api = self.images = self
        self.steps = steps
        self.here = here
        self.tagged: list[str] = []
        self.builds: list[dict[str, Any]] = []
        self.days: dict[str, str] = {}
        self.renews = True
        self.removed: list[str] = []

    @property
    def asked(self) -> dict[str, Any]:
        """The arguments of the last build."""
        return self.builds[-1]

    def build(self, **arguments: Any) -> Iterator[dict[str, str]]:
        """Yield the steps, as the engine reports them."""
        self.builds.append(arguments)
        yield from self.steps if len(self.builds) == 1 else ()

    def pull(self, name: str, **_: Any) -> Iterator[dict[str, str]]:
        """Yield the steps, as a registry reports them; nothing follows an empty step."""
        for step in self.steps:
            if not step:
                threading.Event().wait()
            yield step

    def list(self, name: str) -> list[Any]:
        """Return the images of that name."""
        alike = [self.get(tag) for tag in self.days if tag.startswith(f"{name}:")]
        return [name] if self.here else alike

    def get(self, name: str) -> Any:
        """Return an image."""
        labels = {images.PACKAGES_LABEL: self.days[name]} if name in self.days else {}
        number = str(len(self.builds) if self.renews else 0)
        return SimpleNamespace(id=number, tags=[name], labels=labels, tag=self.tag)

    def remove(self, number: str) -> None:
        """Remove an image."""
        self.removed.append(number)

    def tag(self, repository: str, tag: str) -> None:
        """Give an image another name."""
        self.tagged.append(f"{repository}:{tag}")


def build(
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    *steps: dict[str, str],
    oldest: date = date.min,
    base_day: str = "2026-01-05",
    **days: str,
) -> tuple[Api, list[str]]:
    """Build a Postfix image with an engine that reports these steps.

    ``days`` are the days of the packages of existing images, by the end of the tag.
    """  # fmt: skip
    api = Api(*steps)
    prefix = images.postfix(version).tag.rpartition("-")[0]
    api.days = {"the-base": base_day}
    api.days |= {f"{prefix}-{end}": day for end, day in days.items()}
    monkeypatch.setattr(images, "connect", lambda: api)
    monkeypatch.setattr(images, "today", lambda: date(2026, 1, 10))
    messages: list[str] = []
    images._build(images.postfix(version), "the-base", messages.append, oldest)
    return api, messages


def test_a_build_gets_its_arguments_and_a_readable_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only in the testing suite may the Release file be out of date."""
    api, messages = build(
        monkeypatch, "3.11", {"stream": "Step 1/2 : FROM x\n"}, {"stream": " ---> 123\n"}
    )

    assert messages == ["Step 1/2 : FROM x"]
    assert api.asked["tag"] == images.postfix("3.11").tag
    assert api.asked["network_mode"] == "host"
    assert float(api.asked["buildargs"].pop("BUILT")) > 0
    assert api.asked["buildargs"] == {
        "BASE": "the-base",
        "VERSION": "3.11",
        "APT_OPTIONS": "-o Acquire::Check-Valid-Until=false",
        "PACKAGES": "2026-01-05",
    }
    assert isinstance(api.asked["fileobj"], io.BytesIO)
    # No tag that images of another checkout could get, too.
    assert api.tagged == []

    api, _ = build(monkeypatch, "3.10", {"stream": "Step 1/1 : FROM x\n"})
    assert "APT_OPTIONS" not in api.asked["buildargs"]


@pytest.mark.parametrize(
    ("existing", "oldest", "day"),
    [
        ({}, date.min, "2026-01-10"),
        ({"aaa": "2026-01-04", "bbb": "2026-01-07"}, date.min, "2026-01-07"),
        ({"aaa": "2026-01-02"}, date.min, "2026-01-10"),
        ({"aaa": "2026-01-09"}, date(2026, 1, 10), "2026-01-10"),
        ({"aaa": "2026-02-01"}, date.min, "2026-01-10"),
    ],
    ids=["nothing", "newest", "too old", "older than asked", "future"],
)
def test_a_changed_file_uses_cached_packages_for_some_days(
    monkeypatch: pytest.MonkeyPatch, existing: dict[str, str], oldest: date, day: str
) -> None:
    """The engine's cache has the packages of that day; the label has no later day."""
    api, _ = build(monkeypatch, "3.10", oldest=oldest, base_day="2026-01-10", **existing)

    assert api.asked["labels"] == {images.PACKAGES_LABEL: day}
    assert api.asked["buildargs"]["PACKAGES"] == day


def test_the_installed_version_becomes_a_label(monkeypatch: pytest.MonkeyPatch) -> None:
    """The build reports it; the engine accepts labels only before it builds."""
    api, _ = build(monkeypatch, "3.10", {"stream": "maillab: installed 3.10.5-1+deb13u1\n"})

    plain, labelled = api.builds
    assert plain["labels"] == {images.PACKAGES_LABEL: "2026-01-05"}
    assert labelled["labels"] == {**plain["labels"], images.VERSION_LABEL: "3.10.5-1+deb13u1"}
    assert plain["tag"] == labelled["tag"] == images.postfix("3.10").tag
    with tarfile.open(fileobj=labelled["fileobj"]) as tar:
        assert _content(tar, "Dockerfile").decode() == f"FROM {plain['tag']}\n"


def test_the_image_that_was_renewed_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk of an engine whose images are renewed every month does not fill up."""
    api, _ = build(monkeypatch, "3.10")
    assert api.removed == ["0"]

    api.renews = False
    images._build(images.postfix("3.10"), "the-base", lambda _: None, date.min)
    assert api.removed == ["0"]


def test_a_failed_build_shows_its_last_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's output says more than its status."""
    with pytest.raises(ImageError) as error:
        build(
            monkeypatch,
            "3.10",
            {"stream": "Step 1/2 : RUN apt-get update\n"},
            {"stream": "E: Unable to locate package postfix\n"},
            {"error": "The command returned a non-zero code: 100"},
        )

    assert images.postfix("3.10").tag in str(error.value)
    assert "E: Unable to locate package postfix" in str(error.value)
    assert "non-zero code: 100" in str(error.value)


def test_a_build_that_fills_the_disk_is_no_error_of_the_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In either form of the engine's report."""
    with pytest.raises(NoDisk, match="free some"):
        build(monkeypatch, "3.10", {"error": "write /var/x: no space left on device"})


@pytest.mark.parametrize(
    ("api", "found"),
    [
        (Api(here=True), (True, True)),
        (Api({"status": "Pulling"}, {"status": "Downloaded"}), (False, True)),
        (Api({"status": "Pulling"}, {"error": "no route"}), (False, False)),
        (Api({"error": "no such host"}), (False, False)),
        (Api({}), (False, False)),
    ],
    ids=["there", "pulled", "breaks off", "no registry", "silent registry"],
)
def test_a_registry_has_limited_time_to_answer(
    api: Api, found: tuple[bool, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result tells if the engine had the image, and if it has it now."""
    monkeypatch.setattr(images, "connect", lambda: api)
    silent = api.steps == ({},)
    monkeypatch.setattr(images, "_REGISTRY_ANSWERS_WITHIN_S", 0.1 if silent else 60.0)

    assert images._pull("debian:trixie-slim") == found
