//! The Auth service. Authentication cannot be switched on in this version: its status says so, and every
//! call that would change a user or a role is refused.

use super::Context;
use super::context::status;
use rusd_proto::EtcdError;
use rusd_proto::etcdserverpb as pb;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The auth revision of a store whose users and roles were never changed.
const FIRST_AUTH_REVISION: u64 = 1;

/// Handlers of `etcdserverpb.Auth`.
#[derive(Debug)]
pub struct AuthService {
    context: Arc<Context>,
}

impl AuthService {
    /// Over the shared context.
    pub fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

fn unavailable<T>(call: &str) -> Result<Response<T>, Status> {
    Err(status(EtcdError::Unimplemented(format!(
        "{call} is not available: this version of rusd has no users, roles or permissions"
    ))))
}

macro_rules! refuse {
    ($($method:ident, $call:literal, $request:ident, $response:ident;)*) => {
        #[tonic::async_trait]
        impl pb::auth_server::Auth for AuthService {
            async fn auth_status(
                &self,
                _: Request<pb::AuthStatusRequest>,
            ) -> Result<Response<pb::AuthStatusResponse>, Status> {
                Ok(Response::new(pb::AuthStatusResponse {
                    header: Some(self.context.header()),
                    enabled: false,
                    auth_revision: FIRST_AUTH_REVISION,
                }))
            }

            async fn authenticate(
                &self,
                _: Request<pb::AuthenticateRequest>,
            ) -> Result<Response<pb::AuthenticateResponse>, Status> {
                Err(status(EtcdError::AuthNotEnabled))
            }

            $(async fn $method(&self, _: Request<pb::$request>) -> Result<Response<pb::$response>, Status> {
                unavailable($call)
            })*
        }
    };
}

refuse! {
    auth_enable, "AuthEnable", AuthEnableRequest, AuthEnableResponse;
    auth_disable, "AuthDisable", AuthDisableRequest, AuthDisableResponse;
    user_add, "UserAdd", AuthUserAddRequest, AuthUserAddResponse;
    user_get, "UserGet", AuthUserGetRequest, AuthUserGetResponse;
    user_list, "UserList", AuthUserListRequest, AuthUserListResponse;
    user_delete, "UserDelete", AuthUserDeleteRequest, AuthUserDeleteResponse;
    user_change_password, "UserChangePassword", AuthUserChangePasswordRequest, AuthUserChangePasswordResponse;
    user_grant_role, "UserGrantRole", AuthUserGrantRoleRequest, AuthUserGrantRoleResponse;
    user_revoke_role, "UserRevokeRole", AuthUserRevokeRoleRequest, AuthUserRevokeRoleResponse;
    role_add, "RoleAdd", AuthRoleAddRequest, AuthRoleAddResponse;
    role_get, "RoleGet", AuthRoleGetRequest, AuthRoleGetResponse;
    role_list, "RoleList", AuthRoleListRequest, AuthRoleListResponse;
    role_delete, "RoleDelete", AuthRoleDeleteRequest, AuthRoleDeleteResponse;
    role_grant_permission, "RoleGrantPermission", AuthRoleGrantPermissionRequest, AuthRoleGrantPermissionResponse;
    role_revoke_permission, "RoleRevokePermission", AuthRoleRevokePermissionRequest, AuthRoleRevokePermissionResponse;
}
