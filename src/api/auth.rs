//! The Auth service. Authentication cannot be switched on in this version: its status says so, and every
//! call that would change a user or a role is refused.

use super::refuse::refuse;
use super::slow::Content;
use super::{Api, Caller, Rpc};
use rusd_proto::EtcdError;
use rusd_proto::etcdserverpb as pb;

/// The auth revision of a store whose users and roles were never changed.
const FIRST_AUTH_REVISION: u64 = 1;

impl Api {
    /// Says that authentication is off.
    pub async fn auth_status(
        &self,
        caller: &Caller,
        _: pb::AuthStatusRequest,
    ) -> Result<pb::AuthStatusResponse, EtcdError> {
        self.unary(Rpc::AuthStatus, caller, Some(Content::Other), async {
            Ok(pb::AuthStatusResponse {
                header: Some(self.context.header()),
                enabled: false,
                auth_revision: FIRST_AUTH_REVISION,
            })
        })
        .await
    }

    /// Refused, as authentication is off.
    pub async fn authenticate(
        &self,
        caller: &Caller,
        _: pb::AuthenticateRequest,
    ) -> Result<pb::AuthenticateResponse, EtcdError> {
        self.unary(Rpc::Authenticate, caller, Some(Content::Other), async {
            Err(EtcdError::AuthNotEnabled)
        })
        .await
    }
}

refuse! { "this version of rusd has no users, roles or permissions";
    auth_enable, AuthEnable, AuthEnableRequest -> AuthEnableResponse;
    auth_disable, AuthDisable, AuthDisableRequest -> AuthDisableResponse;
    user_add, UserAdd, AuthUserAddRequest -> AuthUserAddResponse;
    user_get, UserGet, AuthUserGetRequest -> AuthUserGetResponse;
    user_list, UserList, AuthUserListRequest -> AuthUserListResponse;
    user_delete, UserDelete, AuthUserDeleteRequest -> AuthUserDeleteResponse;
    user_change_password, UserChangePassword, AuthUserChangePasswordRequest -> AuthUserChangePasswordResponse;
    user_grant_role, UserGrantRole, AuthUserGrantRoleRequest -> AuthUserGrantRoleResponse;
    user_revoke_role, UserRevokeRole, AuthUserRevokeRoleRequest -> AuthUserRevokeRoleResponse;
    role_add, RoleAdd, AuthRoleAddRequest -> AuthRoleAddResponse;
    role_get, RoleGet, AuthRoleGetRequest -> AuthRoleGetResponse;
    role_list, RoleList, AuthRoleListRequest -> AuthRoleListResponse;
    role_delete, RoleDelete, AuthRoleDeleteRequest -> AuthRoleDeleteResponse;
    role_grant_permission, RoleGrantPermission, AuthRoleGrantPermissionRequest -> AuthRoleGrantPermissionResponse;
    role_revoke_permission, RoleRevokePermission, AuthRoleRevokePermissionRequest -> AuthRoleRevokePermissionResponse;
}
