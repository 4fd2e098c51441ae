"""All images of one version, built from sources of which no image exists yet."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from docker.errors import ImageNotFound

from maillab.engine import images
from maillab.engine.client import connect
from maillab.site import resources


def measure(version: str) -> Iterator[tuple[str, list[float]]]:
    """Build once, and remove the images."""
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
            made = [image.tag for image in wanted]
            made += {image.base.tag for image in wanted}
        finally:
            resources.images = plain
    for tag in made:
        with contextlib.suppress(ImageNotFound):
            connect().images.remove(tag)
    # Let the plain names refer to the real images again.
    images.ensure([version])
    yield "images_from_nothing_s", [took]
