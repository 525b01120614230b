"""The policy table against the routes, and what each role may do."""

from __future__ import annotations

import pytest

from cluster.caller import Caller
from serve_app.app import ACTIONS, ROUTES
from serve_app.identity.policy import RULES, Need, allows


def caller(*roles: str) -> Caller:
    return Caller("u", "p", "req", frozenset(roles), "admin" in roles)


def test_every_route_and_action_names_a_known_rule() -> None:
    unknown = [f"{item.path} {item.rule}" for item in (*ROUTES, *ACTIONS) if item.rule not in RULES]
    assert unknown == []


def test_a_reader_may_only_read() -> None:
    writes = [
        f"{route.method} {route.path}" for route in ROUTES if route.method != "GET" and RULES[route.rule] < Need.MEMBER
    ]
    assert writes == []
    # The one action that changes nothing.
    actions = {action.key for action in ACTIONS if RULES[action.rule] < Need.MEMBER}
    assert actions <= {"os-show_image_metadata"}


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        ("-", {"", "service", "reader", "member", "admin"}),
        ("volume:get", {"reader", "member", "admin"}),
        ("volume:create", {"member", "admin"}),
        ("volume_extension:services:index", {"admin"}),
    ],
)
def test_roles(rule: str, allowed: set[str]) -> None:
    roles = ("", "service", "reader", "member", "admin")
    assert {role for role in roles if allows(rule, caller(role))} == allowed


def test_an_unknown_rule_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        allows("volume:gte", caller("admin"))


def test_the_table_has_cinders_rules() -> None:
    """The numbers of Cinder's 161 default policies of August 2026, by persona, and `-`."""
    counts = {need: sum(1 for value in RULES.values() if value is need) for need in Need}
    assert counts == {Need.ANYONE: 1, Need.READER: 27, Need.MEMBER: 56, Need.ADMIN: 78}
