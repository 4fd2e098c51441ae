"""All images of one version from nothing, by sources that no image was ever made of."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from docker.errors import ImageNotFound

from maillab import resources
from maillab.engine import images
from maillab.engine.client import connect


def measure(version: str) -> Iterator[tuple[str, list[float]]]:
    """One run; the images made for it are removed."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "images")
        shutil.copytree(resources.images(), copy)
        recipe = copy / "base" / "Dockerfile"
        recipe.write_text(f"# {uuid.uuid4()}\n{recipe.read_text()}")
        plain, resources.images = resources.images, lambda: copy
        try:
            wanted = images.needed(version)
            began = time.perf_counter()
            images.ensure([version])
            took = time.perf_counter() - began
            suites = {image.suite for image in wanted}
            made = [image.tag for image in wanted]
            made += [images.Image("base", suite).tag for suite in suites]
        finally:
            resources.images = plain
    for tag in made:
        with contextlib.suppress(ImageNotFound):
            connect().images.remove(tag)
    # The plain names point at the real ones again.
    images.ensure([version])
    yield "images_from_nothing_s", [took]
