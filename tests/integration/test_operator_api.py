"""The operator's API on PostgreSQL: those of its unit tests that rest on what the two engines do differently."""

from __future__ import annotations

import pytest

from tests.integration.databases import postgresql  # noqa: F401 - fixture
from tests.integration.postgresql_server import PostgresqlServer
from tests.unit.operator_api.conftest import api  # noqa: F401 - fixture
from tests.unit.operator_api.test_default_types import test_a_project_gets_its_own_default  # noqa: F401
from tests.unit.operator_api.test_messages import (  # noqa: F401
    test_expired_messages_are_pruned,
    test_filters_and_pages,
    test_messages_stay_in_their_project,
)
from tests.unit.operator_api.test_quotas import (  # noqa: F401
    test_a_limit_of_a_type_follows_its_name,
    test_change_and_reset,
    test_classes,
    test_limits,
)
from tests.unit.operator_api.test_services import (  # noqa: F401
    test_disable_and_enable,
    test_pools,
    test_the_list_of_some,
    test_zones,
)
from tests.unit.operator_api.test_volume_types import (  # noqa: F401
    test_delete,
    test_extra_specs,
    test_filter_by_extra_specs,
    test_pages,
    test_private_types,
)


@pytest.fixture
def database(postgresql: PostgresqlServer) -> str:  # noqa: F811
    """An empty database on PostgreSQL, where the unit tests have one on SQLite."""
    return postgresql.new_database()
