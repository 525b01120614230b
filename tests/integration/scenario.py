"""What a person does with volumes, by the stock `openstack` command. The same on every engine and backend."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.clients import NEWEST, Cloud, CommandError, eventually


def field(items: list[dict[str, Any]], name: str, column: str = "Status") -> Any:
    """The column of the item of that name; None when it is not listed."""
    return next((item[column] for item in items if item["Name"] == name), None)


def wait(cloud: Cloud, kind: tuple[str, ...], name: str, status: str | None = "available") -> None:
    """Until the item has that status (None: until it is gone), then that the command lists it so.

    Polling is done over plain HTTP: a command takes a second or more.
    """
    collection = f"{kind[-1]}s"

    def there() -> str | None:
        found = cloud.call("GET", f"/{collection}/detail", minor=NEWEST).json()[collection]
        return next((item["status"] for item in found if item["name"] == name), None)

    eventually(lambda: there() == status, f"{' '.join(kind)} {name} is {status}", seconds=90)
    if status is not None:
        assert field(cloud.ask(*kind, "list"), name) == status


def life_of_volumes(cloud: Cloud, prefix: str) -> None:
    """Create, list, extend, snapshot, clone (both ways), delete. Leaves nothing."""
    volume, snapshot = ("volume",), ("volume", "snapshot")
    base, point, copy, twin = (f"{prefix}-{name}" for name in ("base", "point", "copy", "twin"))

    made = cloud.ask("volume", "create", "--size", "1", "--description", "first", "--property", "a=b", base)
    assert (made["name"], made["size"], made["status"]) == (base, 1, "creating")
    wait(cloud, volume, base)
    cloud.openstack("volume", "set", "--size", "2", base)
    wait(cloud, volume, base)
    assert field(cloud.ask("volume", "list"), base, "Size") == 2

    taken = cloud.ask("volume", "snapshot", "create", "--volume", base, point)
    assert (taken["volume_id"], taken["size"]) == (made["id"], 2)
    wait(cloud, snapshot, point)

    cloud.openstack("volume", "create", "--snapshot", point, "--size", "3", copy)
    cloud.openstack("volume", "create", "--source", base, twin)
    wait(cloud, volume, twin)
    shown = eventually(
        lambda: (one := cloud.ask("volume", "show", copy))["status"] != "creating" and one, f"{copy} settles"
    )
    assert shown["status"] == "available"
    assert (shown["snapshot_id"], shown["size"]) == (taken["id"], 3)
    shown = cloud.ask("volume", "show", twin)
    assert (shown["source_volid"], shown["size"]) == (made["id"], 2)

    with pytest.raises(CommandError, match=r"have snapshots|Failed to delete"):
        cloud.openstack("volume", "delete", base)

    cloud.openstack("volume", "snapshot", "delete", point)
    wait(cloud, snapshot, point, None)
    cloud.openstack("volume", "delete", base, copy, twin)
    for name in (base, copy, twin):
        wait(cloud, volume, name, None)
    assert cloud.ask("volume", "list") == []
