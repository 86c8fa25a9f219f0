//! Calls that are not built: refused by name, with the reason.

/// Implements calls that answer `Unimplemented` with `$why`.
macro_rules! refuse {
    ($why:literal; $($method:ident, $rpc:ident, $request:ident -> $response:ident;)*) => {
        impl Api {
            $(
                #[doc = concat!("Refused: ", $why, ".")]
                pub async fn $method(
                    &self,
                    caller: &Caller,
                    _: pb::$request,
                ) -> Result<pb::$response, EtcdError> {
                    self.unary(Rpc::$rpc, caller, Some(Content::Other), async {
                        let name = Rpc::$rpc.name();
                        Err(EtcdError::Unimplemented(format!("{name} is not available: {}", $why)))
                    })
                    .await
                }
            )*
        }
    };
}

pub(super) use refuse;
