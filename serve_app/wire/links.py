"""The `links` of an item: where it is, with and without the version."""

from __future__ import annotations

from serve_app.wire.route import Call


def links(call: Call, collection: str, id: str) -> list[dict[str, str]]:  # noqa: A002
    """`self` and `bookmark` of the item `id` in `collection` (`volumes`). They name the project if the request did."""
    below = call.prefix[len(call.base) + len("/v3") :]
    return [
        {"rel": "self", "href": f"{call.prefix}/{collection}/{id}"},
        {"rel": "bookmark", "href": f"{call.base}{below}/{collection}/{id}"},
    ]
