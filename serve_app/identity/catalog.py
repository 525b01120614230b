"""The service catalog, and the read-only resources that describe it: domains, regions, services, endpoints."""

from __future__ import annotations

import uuid
from typing import Any

from cluster.settings import Settings
from serve_app.identity.operation import Access, IdentityCall, Operation, not_found
from serve_app.identity.views import DOMAIN, collection
from serve_app.wire.route import Reply

_SPACE = uuid.UUID("0f1f6c6e-6e6b-4f0e-9a6b-0f6d5c3a8f20")
_INTERFACES = ("public", "internal", "admin")
Item = dict[str, Any]


def services(settings: Settings, project_id: str | None) -> list[tuple[str, str, str]]:
    """(type, name, URL) of each service; without a project the URLs that name one are left out."""
    endpoint = settings.endpoint
    found = [("block-storage", "pumice", f"{endpoint}/v3")]
    if project_id is not None:
        found.append(("volumev3", "cinderv3", f"{endpoint}/v3/{project_id}"))
    return [*found, ("identity", "keystone", f"{endpoint}/identity/v3")]


def catalog(settings: Settings, project_id: str | None) -> list[Item]:
    """The catalog as tokens carry it."""
    return [
        {
            "id": _id(kind),
            "type": kind,
            "name": name,
            "endpoints": [
                {
                    "id": _id(kind, interface),
                    "interface": interface,
                    "region": settings.region,
                    "region_id": settings.region,
                    "url": url,
                }
                for interface in _INTERFACES
            ],
        }
        for kind, name, url in services(settings, project_id)
    ]


def _id(*words: str) -> str:
    return uuid.uuid5(_SPACE, "/".join(words)).hex


def _services(call: IdentityCall) -> list[Item]:
    return [
        {
            "id": _id(kind),
            "type": kind,
            "name": name,
            "enabled": True,
            "description": "",
            "links": {"self": f"{call.url}/services/{_id(kind)}"},
        }
        for kind, name, _ in services(call.room.settings, "$(project_id)s")
    ]


def _endpoints(call: IdentityCall) -> list[Item]:
    region = call.room.settings.region
    return [
        {
            "id": _id(kind, interface),
            "interface": interface,
            "region": region,
            "region_id": region,
            "service_id": _id(kind),
            "url": url,
            "enabled": True,
            "links": {"self": f"{call.url}/endpoints/{_id(kind, interface)}"},
        }
        for kind, _, url in services(call.room.settings, "$(project_id)s")
        for interface in _INTERFACES
    ]


def _regions(call: IdentityCall) -> list[Item]:
    region = call.room.settings.region
    links = {"self": f"{call.url}/regions/{region}"}
    return [{"id": region, "description": "", "parent_region_id": None, "links": links}]


def _domains(call: IdentityCall) -> list[Item]:
    links = {"self": f"{call.url}/domains/{DOMAIN['id']}"}
    return [{**DOMAIN, "description": "", "enabled": True, "tags": [], "options": {}, "links": links}]


_RESOURCES = {"service": _services, "endpoint": _endpoints, "region": _regions, "domain": _domains}
_FILTERS = ("name", "type", "interface", "region_id", "service_id", "parent_region_id")


def _index(kind: str) -> Operation:
    async def index(call: IdentityCall) -> Reply:
        asked = {key: call.query[key] for key in _FILTERS if key in call.query}
        items = [
            item
            for item in _RESOURCES[kind](call)
            if all(item.get(key) == value for key, value in asked.items() if key in item)
        ]
        return Reply(200, collection(call, f"{kind}s", items))

    return Operation("GET", f"/{kind}s", index, Access.TOKEN)


def _show(kind: str) -> Operation:
    async def show(call: IdentityCall) -> Reply:
        wanted = call.path["item_id"]
        for item in _RESOURCES[kind](call):
            if item["id"] == wanted:
                return Reply(200, {kind: item})
        raise not_found(kind, wanted)

    return Operation("GET", f"/{kind}s/{{item_id}}", show, Access.TOKEN)


OPERATIONS = (*map(_index, _RESOURCES), *map(_show, _RESOURCES))
