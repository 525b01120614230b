"""What a person does with volumes, by the stock `openstack` command. The same on every engine and backend."""

from __future__ import annotations

import re
from typing import Any

from tests.integration.clients import Cloud, CommandError, eventually


def field(items: list[dict[str, Any]], name: str, column: str = "Status") -> Any:
    """The column of the item of that name; None when it is not listed."""
    return next((item[column] for item in items if item["Name"] == name), None)


def wait(cloud: Cloud, kind: tuple[str, ...], name: str, status: str | None = "available") -> None:
    """Until the list shows the item in that status; None: until it is listed no more."""
    eventually(
        lambda: field(cloud.ask(*kind, "list"), name) == status, f"{' '.join(kind)} {name} is {status}", seconds=90
    )


def life_of_volumes(cloud: Cloud, prefix: str) -> None:
    """Create, list, extend, snapshot, clone (both ways), delete. Leaves nothing."""
    volume, snapshot = ("volume",), ("volume", "snapshot")
    base, point, copy, twin = (f"{prefix}-{name}" for name in ("base", "point", "copy", "twin"))

    made = cloud.ask("volume", "create", "--size", "1", "--description", "first", "--property", "a=b", base)
    assert (made["name"], made["size"], made["status"]) == (base, 1, "creating")
    wait(cloud, volume, base)
    assert field(cloud.ask("volume", "list"), base, "Size") == 1

    cloud.openstack("volume", "set", "--size", "2", base)
    wait(cloud, volume, base)
    assert cloud.ask("volume", "show", base)["size"] == 2

    taken = cloud.ask("volume", "snapshot", "create", "--volume", base, point)
    assert (taken["volume_id"], taken["size"]) == (made["id"], 2)
    wait(cloud, snapshot, point)

    cloud.openstack("volume", "create", "--snapshot", point, "--size", "3", copy)
    cloud.openstack("volume", "create", "--source", base, twin)
    wait(cloud, volume, copy)
    wait(cloud, volume, twin)
    shown = cloud.ask("volume", "show", copy)
    assert (shown["snapshot_id"], shown["size"]) == (taken["id"], 3)
    shown = cloud.ask("volume", "show", twin)
    assert (shown["source_volid"], shown["size"]) == (made["id"], 2)

    try:
        cloud.openstack("volume", "delete", base)
    except CommandError as error:
        assert re.search(r"have snapshots|Failed to delete", str(error)), error
    else:
        raise AssertionError("a volume with a snapshot was deleted")

    cloud.openstack("volume", "snapshot", "delete", point)
    wait(cloud, snapshot, point, None)
    cloud.openstack("volume", "delete", base, copy, twin)
    for name in (base, copy, twin):
        wait(cloud, volume, name, None)
