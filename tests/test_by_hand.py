"""The Compose files by hand, with nothing but Compose. Needs an engine."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from maillab import topology
from maillab.engine import compose, images

pytestmark = pytest.mark.xdist_group("labs")


@pytest.mark.parametrize("name", topology.names())
def test_a_topology_becomes_healthy_with_plain_compose(name: str) -> None:
    """``docker compose -f compose/NAME.yaml up`` is all it takes."""
    site = topology.load(name)
    images.ensure([images.VERSION_DEFAULT], site.own_images)
    project = f"maillab-test-{os.getpid()}"
    net = next(compose.free_nets(compose.POOL_DEFAULT))
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
    finally:
        compose.remove(project)

    health = {entry["Service"]: entry["Health"] for entry in map(json.loads, listed.splitlines())}
    assert set(health.values()) == {"healthy"}
    assert {role.name for role in site.roles.values() if role.has_mail} <= set(health)
