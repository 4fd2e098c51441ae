"""What the engine is given to build an image from, and what is told when it cannot."""

from __future__ import annotations

import io
import re
import tarfile
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from maillab import resources
from maillab.engine import images
from maillab.engine.images import Image
from maillab.errors import ImageError, NoDisk


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
            there = source.rstrip("/")
            assert any(name == there or name.startswith(f"{there}/") for name in contents), source


def _content(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    return file.read() if file else b""


class Api:
    """Stands in for the SDK's client and its low-level half."""

    def __init__(self, *steps: dict[str, str], here: bool = False) -> None:
        self.api = self.images = self
        self.steps = steps
        self.here = here
        self.tagged: list[str] = []
        self.asked: dict[str, Any] = {}

    def build(self, **arguments: Any) -> Iterator[dict[str, str]]:
        """The steps, as the engine tells them."""
        self.asked = arguments
        yield from self.steps

    def pull(self, name: str, **_: Any) -> Iterator[dict[str, str]]:
        """The steps, as a registry gives them; nothing more ever comes after an empty one."""
        for step in self.steps:
            if not step:
                threading.Event().wait()
            yield step

    def list(self, name: str) -> list[str]:
        """The images of that name."""
        return [name] if self.here else []

    def get(self, name: str) -> Api:
        """An image."""
        return self

    def tag(self, repository: str, tag: str) -> None:
        """Give it another name."""
        self.tagged.append(f"{repository}:{tag}")


def build(
    monkeypatch: pytest.MonkeyPatch, version: str, *steps: dict[str, str]
) -> tuple[Api, list[str]]:
    """Build a Postfix image with the engine telling these steps."""
    api = Api(*steps)
    monkeypatch.setattr(images, "connect", lambda: api)
    said: list[str] = []
    images._build(images.postfix(version), "the-base", said.append)
    return api, said


def test_a_build_gets_what_it_needs_and_a_name_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only in the testing suite may the Release file be past its date."""
    api, said = build(
        monkeypatch, "3.11", {"stream": "Step 1/2 : FROM x\n"}, {"stream": " ---> 123\n"}
    )

    assert said == ["Step 1/2 : FROM x"]
    assert api.asked["tag"] == images.postfix("3.11").tag
    assert api.asked["network_mode"] == "host"
    assert api.asked["buildargs"] == {
        "BASE": "the-base",
        "VERSION": "3.11",
        "APT_OPTIONS": "-o Acquire::Check-Valid-Until=false",
    }
    assert isinstance(api.asked["fileobj"], io.BytesIO)
    assert api.tagged == ["maillab/postfix:3.11"]

    api, _ = build(monkeypatch, "3.10", {"stream": "Step 1/1 : FROM x\n"})
    assert "APT_OPTIONS" not in api.asked["buildargs"]


def test_a_build_that_fails_shows_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command printed says more than its status."""
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


def test_a_build_that_runs_out_of_room_is_no_fault_of_the_image(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """However the engine tells it."""
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
def test_a_registry_has_a_moment_to_answer(
    api: Api, found: tuple[bool, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tells whether the engine had the image, and whether it has it now."""
    monkeypatch.setattr(images, "connect", lambda: api)
    silent = api.steps == ({},)
    monkeypatch.setattr(images, "_REGISTRY_ANSWERS_WITHIN_S", 0.1 if silent else 60.0)

    assert images._pull("debian:trixie-slim") == found
