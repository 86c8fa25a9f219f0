//! Requests in the log that the state machine does not carry out: which of them mean nothing here, and which must
//! stop it.

use rusd_proto::etcdserverpb::InternalRaftRequest;

/// Whether the request only reads. Such an entry changes nothing on any member, and nobody can wait for it here:
/// reads do not go through the log.
pub(crate) fn only_reads(request: &InternalRaftRequest) -> bool {
    request.range.is_some()
        || request.auth_status.is_some()
        || request.auth_user_get.is_some()
        || request.auth_user_list.is_some()
        || request.auth_role_get.is_some()
        || request.auth_role_list.is_some()
        || request.downgrade_version_test.is_some()
}

/// The name of a request that changes something this version does not keep.
pub(crate) fn unsupported(request: &InternalRaftRequest) -> Option<&'static str> {
    let kinds = [
        (request.auth_enable.is_some(), "auth_enable"),
        (request.auth_disable.is_some(), "auth_disable"),
        (request.authenticate.is_some(), "authenticate"),
        (request.auth_user_add.is_some(), "auth_user_add"),
        (request.auth_user_delete.is_some(), "auth_user_delete"),
        (
            request.auth_user_change_password.is_some(),
            "auth_user_change_password",
        ),
        (
            request.auth_user_grant_role.is_some(),
            "auth_user_grant_role",
        ),
        (
            request.auth_user_revoke_role.is_some(),
            "auth_user_revoke_role",
        ),
        (request.auth_role_add.is_some(), "auth_role_add"),
        (request.auth_role_delete.is_some(), "auth_role_delete"),
        (
            request.auth_role_grant_permission.is_some(),
            "auth_role_grant_permission",
        ),
        (
            request.auth_role_revoke_permission.is_some(),
            "auth_role_revoke_permission",
        ),
    ];
    kinds
        .into_iter()
        .find(|(present, _)| *present)
        .map(|(_, name)| name)
}
