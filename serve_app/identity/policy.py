"""Who may do what: each of Cinder's policy rules and the role it asks for by default.

Roles imply the ones below: admin → member → reader. Who is not an administrator acts inside its own project; queries
see to that. Source: Cinder's default policies of 2026 (personas since Xena); `-` is what Cinder asks nothing for but a
valid token.
"""

from __future__ import annotations

from enum import IntEnum

from cluster.caller import Caller


class Need(IntEnum):
    """What a rule asks of the caller."""

    ANYONE = 0
    READER = 1
    MEMBER = 2
    ADMIN = 3


_READER = """
    backup:get backup:get_all
    group:get group:get_all group:get_all_group_snapshots group:get_group_snapshot
    limits_extension:used_limits message:get message:get_all
    volume:get volume:get_all volume:get_all_snapshots volume:get_all_transfers volume:get_snapshot
    volume:get_snapshot_metadata volume:get_transfer volume:get_volume_metadata
    volume_extension:access_types_extra_specs volume_extension:extended_snapshot_attributes
    volume_extension:quotas:show volume_extension:type_get volume_extension:type_get_all
    volume_extension:types_extra_specs:index volume_extension:types_extra_specs:show
    volume_extension:volume_encryption_metadata volume_extension:volume_image_metadata:show
    volume_extension:volume_tenant_attribute
"""
_MEMBER = """
    backup:create backup:delete backup:restore backup:update
    group:create group:create_group_snapshot group:delete group:delete_group_snapshot group:disable_replication
    group:enable_replication group:failover_replication group:list_replication_targets group:update
    group:update_group_snapshot
    message:delete snapshot_extension:snapshot_actions:update_snapshot_status
    volume:accept_transfer volume:attachment_complete volume:attachment_create volume:attachment_delete
    volume:attachment_update volume:create volume:create_from_image volume:create_snapshot volume:create_transfer
    volume:create_volume_metadata volume:delete volume:delete_snapshot volume:delete_snapshot_metadata
    volume:delete_transfer volume:delete_volume_metadata volume:extend volume:extend_attached_volume volume:multiattach
    volume:multiattach_bootable_volume volume:reimage volume:reimage_reserved volume:retype volume:revert_to_snapshot
    volume:update volume:update_readonly_flag volume:update_snapshot volume:update_snapshot_metadata
    volume:update_volume_metadata
    volume_extension:volume_actions:attach volume_extension:volume_actions:begin_detaching
    volume_extension:volume_actions:detach volume_extension:volume_actions:initialize_connection
    volume_extension:volume_actions:reserve volume_extension:volume_actions:roll_detaching
    volume_extension:volume_actions:terminate_connection volume_extension:volume_actions:unreserve
    volume_extension:volume_actions:upload_image volume_extension:volume_image_metadata:remove
    volume_extension:volume_image_metadata:set volume_extension:volume_type_access
"""
_ADMIN = """
    backup:backup-import backup:backup_project_attribute backup:export-import
    clusters:get clusters:get_all clusters:update
    group:access_group_types_specs group:group_project_attribute group:group_snapshot_project_attribute
    group:group_types:create group:group_types:delete group:group_types:update group:group_types_specs:create
    group:group_types_specs:delete group:group_types_specs:get group:group_types_specs:get_all
    group:group_types_specs:update group:reset_group_snapshot_status group:reset_status
    scheduler_extension:scheduler_stats:get_pools
    snapshot_extension:list_manageable snapshot_extension:snapshot_manage snapshot_extension:snapshot_unmanage
    volume:failover_host volume:force_delete volume:freeze_host volume:thaw_host volume:update_volume_admin_metadata
    volume_extension:access_types_qos_specs_id
    volume_extension:backup_admin_actions:force_delete volume_extension:backup_admin_actions:reset_status
    volume_extension:capabilities
    volume_extension:default_get volume_extension:default_get_all volume_extension:default_set_or_update
    volume_extension:default_unset volume_extension:hosts volume_extension:list_manageable
    volume_extension:qos_specs_manage:create volume_extension:qos_specs_manage:delete
    volume_extension:qos_specs_manage:get volume_extension:qos_specs_manage:get_all
    volume_extension:qos_specs_manage:update volume_extension:quota_classes:get volume_extension:quota_classes:update
    volume_extension:quotas:delete volume_extension:quotas:update
    volume_extension:services:index volume_extension:services:update
    volume_extension:snapshot_admin_actions:force_delete volume_extension:snapshot_admin_actions:reset_status
    volume_extension:type_create volume_extension:type_delete volume_extension:type_update
    volume_extension:types_extra_specs:create volume_extension:types_extra_specs:delete
    volume_extension:types_extra_specs:read_sensitive volume_extension:types_extra_specs:update
    volume_extension:volume_actions:upload_public
    volume_extension:volume_admin_actions:extend_volume_completion
    volume_extension:volume_admin_actions:force_delete volume_extension:volume_admin_actions:force_detach
    volume_extension:volume_admin_actions:migrate_volume
    volume_extension:volume_admin_actions:migrate_volume_completion
    volume_extension:volume_admin_actions:reset_status
    volume_extension:volume_host_attribute volume_extension:volume_manage volume_extension:volume_mig_status_attribute
    volume_extension:volume_type_access:addProjectAccess volume_extension:volume_type_access:get_all_for_type
    volume_extension:volume_type_access:removeProjectAccess
    volume_extension:volume_type_encryption
    volume_extension:volume_type_encryption:create volume_extension:volume_type_encryption:delete
    volume_extension:volume_type_encryption:get volume_extension:volume_type_encryption:update
    volume_extension:volume_unmanage workers:cleanup
"""

RULES: dict[str, Need] = {
    "-": Need.ANYONE,
    **dict.fromkeys(_READER.split(), Need.READER),
    **dict.fromkeys(_MEMBER.split(), Need.MEMBER),
    **dict.fromkeys(_ADMIN.split(), Need.ADMIN),
}
_ENOUGH: dict[Need, frozenset[str]] = {
    Need.READER: frozenset(("reader", "member", "admin")),
    Need.MEMBER: frozenset(("member", "admin")),
    Need.ADMIN: frozenset(("admin",)),
}


def allows(rule: str, caller: Caller) -> bool:
    """Whether `caller` may do what `rule` guards. Raises KeyError for a rule that is not in the table."""
    need = RULES[rule]
    return need is Need.ANYONE or caller.is_admin or not _ENOUGH[need].isdisjoint(caller.roles)
