"""The whole HTTP side: the routes of every resource, the identity of the settings, version documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import serve_app.attachments.routes
import serve_app.availability_zones.routes
import serve_app.default_types.routes
import serve_app.extensions.routes
import serve_app.limits.routes
import serve_app.messages.routes
import serve_app.pools.routes
import serve_app.qos_specs.routes
import serve_app.quota_classes.routes
import serve_app.quotas.routes
import serve_app.resource_filters.routes
import serve_app.services.routes
import serve_app.snapshots.routes
import serve_app.versions.routes
import serve_app.volume_types.routes
import serve_app.volumes.routes
from cluster.settings import IdentityMode, Settings
from serve_app.identity.authenticator import Authenticator
from serve_app.identity.compute import Nova
from serve_app.identity.embedded import EmbeddedAuthenticator
from serve_app.identity.keystone import KeystoneAuthenticator
from serve_app.identity.keystone_site import KeystoneSite
from serve_app.identity.noauth import NoAuthenticator
from serve_app.identity.passwords import Passwords
from serve_app.identity.signing_key import ensure_signing_key
from serve_app.identity.tokens import TokenSigner
from serve_app.wire.dispatch import Dispatch
from serve_app.wire.exchange import Answerer, App
from serve_app.wire.openapi import OpenApi
from serve_app.wire.route import Action, Room, Route
from serve_app.wire.site import Close, Site

ROUTES: tuple[Route, ...] = (
    *serve_app.versions.routes.ROUTES,
    *serve_app.extensions.routes.ROUTES,
    *serve_app.volumes.routes.ROUTES,
    *serve_app.snapshots.routes.ROUTES,
    *serve_app.attachments.routes.ROUTES,
    *serve_app.volume_types.routes.ROUTES,
    *serve_app.default_types.routes.ROUTES,
    *serve_app.qos_specs.routes.ROUTES,
    *serve_app.services.routes.ROUTES,
    *serve_app.pools.routes.ROUTES,
    *serve_app.limits.routes.ROUTES,
    *serve_app.quotas.routes.ROUTES,
    *serve_app.quota_classes.routes.ROUTES,
    *serve_app.availability_zones.routes.ROUTES,
    *serve_app.messages.routes.ROUTES,
    *serve_app.resource_filters.routes.ROUTES,
)
ACTIONS: tuple[Action, ...] = (
    *serve_app.volumes.routes.ACTIONS,
    *serve_app.snapshots.routes.ACTIONS,
    *serve_app.attachments.routes.ACTIONS,
    *serve_app.volume_types.routes.ACTIONS,
)


def authenticator_of(room: Room) -> Authenticator:
    """The authenticator that the settings ask for. The embedded one makes its signing key if there is none."""
    settings = room.settings
    if settings.identity.mode is IdentityMode.NOAUTH:
        return NoAuthenticator()
    if settings.identity.mode is IdentityMode.KEYSTONE:
        return KeystoneAuthenticator(settings.identity)
    signer = TokenSigner(ensure_signing_key(settings.state_dir))
    return EmbeddedAuthenticator(room.store, room.outside, signer, f"{settings.endpoint}/identity/v3")


def nova_of(settings: Settings) -> Nova | None:
    """Whom to ask whether a server uses a volume: only a cloud with a Keystone can have a Nova."""
    identity = settings.identity
    if identity.mode is not IdentityMode.KEYSTONE or identity.keystone_url is None:
        return None
    return Nova(identity.keystone_url, settings.region)


def build(
    room: Room,
    authenticator: Authenticator,
    apps: Mapping[str, App] | None = None,
    passwords: Passwords | None = None,
    closing: Sequence[Close] = (),
) -> Site:
    """The ASGI application. `apps` are further ones by first path segment (the dashboard); `closing` is called at its
    end, after the authenticator's own `close`."""
    api: Answerer = Dispatch(room, authenticator, ROUTES, ACTIONS)
    if isinstance(authenticator, NoAuthenticator):
        api = serve_app.versions.routes.OpenDocument(api)
    answerers: dict[str, Answerer] = {
        "": serve_app.versions.routes.Root(),
        "healthcheck": serve_app.versions.routes.Healthcheck(),
        "openapi.json": OpenApi(ROUTES, ACTIONS),
        "v3": api,
    }
    if isinstance(authenticator, EmbeddedAuthenticator):
        answerers["identity"] = KeystoneSite(room, authenticator, passwords or Passwords())
    return Site(room, answerers, apps, closing=(authenticator.close, *closing))
