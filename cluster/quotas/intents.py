"""Writing limits: of a project, of a class. Names are wire names; the tables hold `<resource>:<type id>`."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, delete, insert
from sqlmodel import col

from cluster.errors import InvalidInputError
from cluster.quotas import usage
from cluster.quotas.records import QuotaClassLimit, QuotaLimit
from cluster.settings import QuotaSettings
from cluster.store.seam import hold


def set_limits(db: Connection, project_id: str, limits: Mapping[str, int]) -> None:
    """Give the project limits of its own (-1: unlimited); others stay.

    Raises InvalidInputError for a resource that does not exist or a limit below what is used now. (Cinder compares
    with the use only where the project had a limit of its own before; its documentation says always, as is done here.)
    """
    # The same name as a claim holds: what is counted here stays true until the limits are written.
    hold(db, f"quota:{project_id}")
    stored = _stored(db, limits, "quota set")
    used = usage.usage(db, project_id)
    for name, limit in limits.items():
        current = used[name].total
        if name != "per_volume_gigabytes" and 0 <= limit < current:
            raise InvalidInputError(
                f"Quota {name} limit must be equal or greater than existing resources. "
                f"Current usage is {current} and the requested limit is {limit}."
            )
    db.execute(
        delete(QuotaLimit).where(col(QuotaLimit.project_id) == project_id, col(QuotaLimit.resource).in_(list(stored)))
    )
    if stored:
        rows = [{"project_id": project_id, "resource": name, "hard_limit": limit} for name, limit in stored.items()]
        db.execute(insert(QuotaLimit), rows)


def forget_limits(db: Connection, project_id: str) -> None:
    """Let the project have the default limits again."""
    db.execute(delete(QuotaLimit).where(col(QuotaLimit.project_id) == project_id))


def set_class_limits(db: Connection, class_name: str, limits: Mapping[str, int]) -> None:
    """Set limits of a class; those of `default` hold for every project that has none of its own. Raises
    InvalidInputError for a resource that does not exist."""
    hold(db, f"quota_class:{class_name}")
    stored = _stored(db, limits, "quota class set")
    db.execute(
        delete(QuotaClassLimit).where(
            col(QuotaClassLimit.class_name) == class_name, col(QuotaClassLimit.resource).in_(list(stored))
        )
    )
    if stored:
        rows = [{"class_name": class_name, "resource": name, "hard_limit": limit} for name, limit in stored.items()]
        db.execute(insert(QuotaClassLimit), rows)


def _stored(db: Connection, limits: Mapping[str, int], what: str) -> dict[str, int]:
    names = {name: name for name in QuotaSettings.model_fields} | usage.stored_names(db)
    bad = sorted(limits.keys() - names.keys())
    if bad:
        raise InvalidInputError(f"Invalid input received: Bad key(s) in {what}: {', '.join(bad)}")
    return {names[name]: limit for name, limit in limits.items()}
