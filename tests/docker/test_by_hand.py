"""The Compose files with plain Compose, without the harness. Needs an engine."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from maillab.engine import byhand, compose, images
from maillab.engine.client import connect
from maillab.site import topology


@pytest.mark.parametrize("name", topology.names())
def test_a_topology_becomes_healthy_with_plain_compose(name: str) -> None:
    """The command ``docker compose -f compose/NAME.yaml up`` is enough."""
    site = topology.load(name)
    images.ensure([images.VERSION_DEFAULT], site.own_images)
    byhand.write([images.VERSION_DEFAULT], chosen=True)
    project = f"maillab-test-{os.getpid()}"
    net = next(compose.free_nets(compose.pool_of()))
    command = [*compose.compose_command(), "-p", project, "-f", str(site.path)]
    environment = {**os.environ, "NET": net}
    try:
        subprocess.run(
            [*command, "up", "--wait", "--wait-timeout", "60"],
            env=environment,
            check=True,
            capture_output=True,
        )
        listed = subprocess.run(
            [*command, "ps", "--format", "json"],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        label = f"com.docker.compose.project={project}"
        running = connect().containers.list(filters={"label": label})
        runs = {container.attrs["Config"]["Image"] for container in running}
    finally:
        compose.remove(project)

    health = {entry["Service"]: entry["Health"] for entry in map(json.loads, listed.splitlines())}
    assert set(health.values()) == {"healthy"}
    assert {role.name for role in site.roles.values() if role.server} <= set(health)
    # This checkout's images, even if another checkout built its own later.
    wanted = images.needed(images.VERSION_DEFAULT, site.own_images)
    assert runs == {image.tag for image in wanted}
