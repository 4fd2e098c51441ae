"""Plain Compose runs the images of the checkout whose file it is given."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from maillab.engine import byhand, compose, images
from maillab.site import resources

Checkout = Callable[[str], Path]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    """Return a function that creates a checkout of a name, or returns to it."""
    ours = {"compose": resources.compose(), "images": resources.images()}

    def enter(name: str) -> Path:
        root = tmp_path / name
        if not root.exists():
            for part, folder in ours.items():
                shutil.copytree(folder, root / part, ignore=shutil.ignore_patterns(".env"))
            recipe = root / "images/agent/Dockerfile"
            recipe.write_text(f"# {name}\n{recipe.read_text()}")
        for part in ours:
            monkeypatch.setattr(resources, part, lambda part=part: root / part)
        return root

    return enter


def asked_for(root: Path, topology: str = "standalone") -> tuple[set[str], str]:
    """Return the images that plain Compose would run, and its error."""
    environment = {k: text for k, text in os.environ.items() if not k.endswith("_IMAGE")}
    done = subprocess.run(
        [*compose.compose_command(), "-f", f"compose/{topology}.yaml", "config", "--images"],
        cwd=root, env=environment, text=True, capture_output=True, check=False,
    )  # fmt: skip
    return set(done.stdout.split()), done.stderr


def test_each_checkout_runs_its_own_images(checkout: Checkout) -> None:
    """This also holds after another checkout has built its images."""
    first = checkout("first")
    byhand.write(["3.10"])
    own = {image.tag for image in images.needed("3.10")}
    second = checkout("second")
    byhand.write(["3.10"])

    assert asked_for(first) == (own, "")
    assert asked_for(second) == ({image.tag for image in images.needed("3.10")}, "")
    assert asked_for(first) != asked_for(second)


def test_without_images_plain_compose_says_what_to_run(checkout: Checkout) -> None:
    """Before "make setup" no image has a name."""
    found, complaint = asked_for(checkout("fresh"))

    assert not found
    assert "run 'make setup' first" in complaint


def test_a_topologys_own_images_are_named_too(checkout: Checkout) -> None:
    """With the tag that they get when they are built."""
    root = checkout("one")
    byhand.write(["3.10"])

    wanted = {image.tag for image in images.needed("3.10", ["scanner"])}
    assert asked_for(root, "scanner") == (wanted, "")


def test_the_version_is_the_one_that_was_chosen_last(checkout: Checkout) -> None:
    """Labs of other versions do not change it, labs of this version keep it current."""
    root = checkout("one")

    def version() -> str:
        (line,) = (line for line in byhand.file().read_text().splitlines() if "POSTFIX_I" in line)
        return line.removeprefix("POSTFIX_IMAGE=maillab/postfix:")

    byhand.write(["3.5", "3.10"])
    assert version().startswith("3.10-")
    byhand.write(["3.5"])
    assert version().startswith("3.10-")
    byhand.write(["3.5"], chosen=True)
    assert version().startswith("3.5-")
    before = version()
    (root / "images/postfix/main.cf").write_text("# changed\n")
    byhand.write(["3.10"])
    assert version() == before
    byhand.write(["3.5"])
    assert version().startswith("3.5-")
    assert version() != before


def test_labs_start_though_nothing_can_be_written(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example if the package is installed for all users."""
    root = checkout("one")
    shutil.rmtree(root / "compose")

    byhand.write(["3.10"])

    assert not (root / "compose").exists()
