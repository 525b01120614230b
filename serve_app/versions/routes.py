"""`GET /` (300), `GET /v3/` (200) and `GET /healthcheck`. The first and last need no token, as in Cinder's pipeline."""

from __future__ import annotations

from serve_app.wire import microversion
from serve_app.wire.exchange import Answerer, Exchange
from serve_app.wire.faults import NoSuchRoute
from serve_app.wire.route import Call, Reply, Route

_UPDATED = "2023-08-31T00:00:00Z"


def document(base: str) -> dict[str, object]:
    """The versions served at `base`."""
    return {
        "versions": [
            {
                "id": "v3.0",
                "status": "CURRENT",
                "version": f"3.{microversion.MAXIMUM}",
                "min_version": f"3.{microversion.MINIMUM}",
                "updated": _UPDATED,
                "links": [
                    {"rel": "describedby", "type": "text/html", "href": "https://docs.openstack.org/"},
                    {"rel": "self", "href": f"{base}/v3/"},
                ],
                "media-types": [
                    {"base": "application/json", "type": "application/vnd.openstack.volume+json;version=3"}
                ],
            }
        ]
    }


async def show(call: Call) -> Reply:
    """`GET /v3/`."""
    return Reply(200, document(call.base))


class Root:
    """`GET /`."""

    async def answer(self, exchange: Exchange) -> Reply:
        """300 with all versions."""
        if exchange.path != "/":
            raise NoSuchRoute
        exchange.out["x-compute-request-id"] = exchange.out["x-openstack-request-id"] = exchange.request_id
        exchange.out["OpenStack-API-Version"] = f"volume 3.{microversion.MINIMUM}"
        exchange.out["Vary"] = microversion.HEADER
        return Reply(300, document(exchange.base))


class Healthcheck:
    """`GET /healthcheck`, as oslo.middleware answers it: this process answers, whatever the rest does."""

    async def answer(self, exchange: Exchange) -> Reply:
        """200 OK."""
        if exchange.method not in ("GET", "HEAD") or exchange.path.rstrip("/") != "/healthcheck":
            raise NoSuchRoute
        return Reply(200, b"OK", {"Content-Type": "text/plain; charset=UTF-8"})


class OpenDocument:
    """Shows the version document to requests without a token, for noauth: clients look for it before they send their
    token, and give up on Cinder's 204."""

    def __init__(self, inner: Answerer) -> None:
        self._inner = inner

    async def answer(self, exchange: Exchange) -> Reply:
        """200 on `GET /v3/` without a token; all else is the API's."""
        if exchange.path == "/v3/" and exchange.method == "GET" and "x-auth-token" not in exchange.headers:
            return Reply(200, document(exchange.base))
        return await self._inner.answer(exchange)


ROUTES = (Route("GET", "/", show, "-", "Show the version document"),)
