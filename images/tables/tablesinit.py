"""PID 1 of a host with lookup tables; TABLES names the servers to start (tableparts.py)."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import supervisor
import tableparts


def fresh_rows() -> None:
    """Give each server that has no data a copy of the image's."""
    for name in tableparts.PARTS:
        data = Path(tableparts.DATA, name)
        if not data.exists():
            copy(name)


def copy(name: str) -> None:
    """Replace a server's data by a copy of the image's, with the same owners."""
    fresh, data = Path(tableparts.FRESH, name), Path(tableparts.DATA, name)
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(mode=0o700)
    for path in [fresh, *sorted(fresh.rglob("*"))]:
        target = data / path.relative_to(fresh)
        if path.is_dir():
            target.mkdir(exist_ok=True)
        else:
            shutil.copyfile(path, target)
        shutil.copystat(path, target)
        shutil.chown(target, path.owner(), path.group())


KIND = supervisor.Kind(
    name="server of tables",
    parts=tableparts.PARTS,
    variable="TABLES",
    setup=Path("/etc/tables/host-setup.sh"),
    prepare=fresh_rows,
)

if __name__ == "__main__":
    asyncio.run(supervisor.main(KIND))
