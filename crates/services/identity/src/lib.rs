//! Who calls: STS.

use std::sync::Arc;

use aws_wire::service::{Answer, Call, Service};
use aws_wire::{ApiError, Caller, Principal};
use control::access::principal_arn;
use control::ports::{BoxFuture, RegionService};
use control::{Control, Permission};
use sts_api::{GetCallerIdentityRequest, GetCallerIdentityResponse};

/// The service.
#[derive(Debug)]
pub struct Identity {
    pub control: Arc<Control>,
}

impl Identity {
    pub fn new(control: Arc<Control>) -> Self {
        Self { control }
    }
}

impl RegionService for Identity {
    fn service(&self) -> &'static Service {
        &sts_api::SERVICE
    }

    fn dispatch<'a>(
        &'a self,
        caller: &'a Caller,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Answer, ApiError>> {
        Box::pin(sts_api::dispatch(self, caller, call))
    }
}

impl sts_api::Sts for Identity {
    async fn get_caller_identity(
        &self,
        caller: &Caller,
        _: GetCallerIdentityRequest,
    ) -> Result<GetCallerIdentityResponse, ApiError> {
        self.control.read(caller, &Permission::to("sts:GetCallerIdentity").on("*"))?;
        let user_id = match caller.principal {
            Principal::Root => caller.account.to_string(),
            Principal::Node { .. } | Principal::TaskExecution => caller.access_key.clone(),
        };
        Ok(GetCallerIdentityResponse {
            user_id: Some(user_id),
            account: Some(caller.account.to_string()),
            arn: Some(principal_arn(caller)),
        })
    }
}

#[cfg(test)]
mod tests {
    use control::testing::TestControl;
    use sts_api::Sts as _;

    use super::*;

    #[tokio::test]
    async fn the_root_user_is_told_its_account() {
        let world = TestControl::new();
        let identity = Identity::new(Arc::clone(&world.control));
        let caller = world.root_of("123456789012");
        let request = GetCallerIdentityRequest {};
        let answer = identity.get_caller_identity(&caller, request).await.unwrap();
        assert_eq!(answer.account.as_deref(), Some("123456789012"));
        assert_eq!(answer.user_id.as_deref(), Some("123456789012"));
        assert_eq!(answer.arn.as_deref(), Some("arn:aws:iam::123456789012:root"));
    }
}
