//! STS: who am I.

use aws_wire::{ApiError, Caller, Principal};
use sts_api::{GetCallerIdentityRequest, GetCallerIdentityResponse, Sts};

use crate::access::principal_arn;
use crate::region::Region;

impl Sts for Region {
    async fn get_caller_identity(
        &self,
        caller: &Caller,
        _: GetCallerIdentityRequest,
    ) -> Result<GetCallerIdentityResponse, ApiError> {
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
    use super::*;
    use crate::testing::TestRegion;

    #[tokio::test]
    async fn the_root_user_is_told_its_account() {
        let world = TestRegion::new();
        let caller = world.root_of("123456789012");
        let request = GetCallerIdentityRequest {};
        let answer = world.region.get_caller_identity(&caller, request).await.unwrap();
        assert_eq!(answer.account.as_deref(), Some("123456789012"));
        assert_eq!(answer.user_id.as_deref(), Some("123456789012"));
        assert_eq!(answer.arn.as_deref(), Some("arn:aws:iam::123456789012:root"));
    }
}
