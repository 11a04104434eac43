//! Roles that the region assumes as one of its services: what Amazon's services do with the roles that are
//! passed to them.

use std::sync::Arc;

use aws_wire::{Origin, Principal, Session};
use longshore_types::{AccountId, Timestamp, Uuid};
use model::{IamRole, View};
use policy::{Action, Caller, Context, Policies, Request, ResourceKind, evaluate};

use super::role_of;
use super::session::{Credentials, Holder};
use crate::Control;

/// A role, who assumes it, and for what.
#[derive(Clone, Copy, Debug)]
pub struct Assumption<'a> {
    pub role: &'a str,
    /// Such as `ecs-tasks.amazonaws.com`.
    pub service: &'static str,
    /// What the service works for, as `aws:SourceArn` and `aws:SourceAccount` say it.
    pub source: &'a str,
    pub source_account: AccountId,
    pub session_name: &'a str,
    pub lasts_ms: u64,
}

/// Why a role cannot be assumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotAssume {
    #[error("there is no such role")]
    Absent,
    #[error("it is a role of another account")]
    Foreign,
    #[error("its trust policy does not allow it")]
    NotTrusted,
}

impl Control {
    /// Credentials of a role, if its trust policy lets the service assume it for this source.
    pub fn assume(
        &self,
        view: &View,
        asked: &Assumption<'_>,
        now: Timestamp,
    ) -> Result<Credentials, CannotAssume> {
        self.assume_within(view, asked, None, now)
    }

    /// The same, of which no more may be done than a session policy lets.
    pub fn assume_within(
        &self,
        view: &View,
        asked: &Assumption<'_>,
        policy: Option<String>,
        now: Timestamp,
    ) -> Result<Credentials, CannotAssume> {
        let role = self.assumable(view, asked, now)?;
        let holder =
            Holder::Role { id: role.unique_id.to_string(), session: asked.session_name.to_owned() };
        let expires = now.plus_ms(asked.lasts_ms);
        let session = Session { issued_at: now, expires, policy, ..Session::default() };
        Ok(self.access.sessions.issue(self.ids.as_ref(), role.account, holder, session))
    }

    /// Somebody who acts as the role from now on, if its trust policy lets the service assume it for this source.
    pub fn acting_as(
        &self,
        view: &View,
        asked: &Assumption<'_>,
        now: Timestamp,
    ) -> Result<aws_wire::Caller, CannotAssume> {
        let role = self.assumable(view, asked, now)?;
        let issued = self.assume(view, asked, now)?;
        let session = Session { issued_at: now, expires: issued.expires, ..Session::default() };
        Ok(aws_wire::Caller {
            account: role.account,
            region: self.config.region.clone(),
            access_key: issued.access_key_id,
            principal: Principal::Role {
                name: Arc::clone(&role.name),
                id: Arc::clone(&role.unique_id),
                session: asked.session_name.into(),
            },
            session: Some(Arc::new(session)),
            origin: Origin::default(),
            request_id: Uuid::mint(self.ids.as_ref()),
            now,
        })
    }

    pub(super) fn assumable<'v>(
        &self,
        view: &'v View,
        asked: &Assumption<'_>,
        now: Timestamp,
    ) -> Result<&'v IamRole, CannotAssume> {
        let role = role_of(view, asked.role).ok_or(CannotAssume::Absent)?;
        if role.account != asked.source_account {
            return Err(CannotAssume::Foreign);
        }
        let trust = role.trust.policy().cloned();
        let policies = Policies {
            resource: trust.as_slice(),
            resource_kind: ResourceKind::Trust,
            ..Policies::default()
        };
        let action: Action = "sts:AssumeRole".parse().expect("it is an action's name");
        let context = self.circumstances(asked, now);
        let request = Request {
            caller: &Caller::Service(asked.service.into()),
            action: &action,
            resource: asked.role,
            resource_account: Some(role.account),
            context: (&context).into(),
        };
        match evaluate(&request, &policies).is_allowed() {
            true => Ok(role),
            false => Err(CannotAssume::NotTrusted),
        }
    }

    fn circumstances(&self, asked: &Assumption<'_>, now: Timestamp) -> Context {
        let source = (asked.source, asked.source_account);
        let mut context = self.service_context(asked.service, source, now);
        context.set("sts:RoleSessionName", asked.session_name.to_owned());
        context
    }

    /// The condition keys of what a service of the region does by itself, for `source`, an ARN of the account.
    pub(crate) fn service_context(
        &self,
        service: &str,
        (source, account): (&str, AccountId),
        now: Timestamp,
    ) -> Context {
        let mut context = Context::new();
        context.set("aws:SourceArn", source.to_owned());
        context.set("aws:SourceAccount", account.to_string());
        context.set("aws:PrincipalIsAWSService", true);
        context.set("aws:PrincipalServiceName", service.to_owned());
        context.set("aws:RequestedRegion", self.config.region.to_string());
        context.set("aws:CurrentTime", now);
        context.set("aws:EpochTime", i64::try_from(now.seconds()).unwrap_or(i64::MAX));
        context
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::{Grants, Row, Seq, TrustText};

    use super::*;
    use crate::testing::TestControl;

    const TASK: &str =
        "arn:aws:ecs:us-east-1:000000000000:task/demo/0123456789abcdef0123456789abcdef";
    const ROLE: &str = "arn:aws:iam::000000000000:role/app/mine";

    fn view(statement: &str) -> View {
        let trust = format!(r#"{{"Version":"2012-10-17","Statement":[{{{statement}}}]}}"#);
        let role = IamRole {
            account: "000000000000".parse().unwrap(),
            name: "mine".into(),
            path: "/app/".into(),
            unique_id: "AROA0123456789ABCDEF".into(),
            created_at: Timestamp(1),
            description: None,
            max_session_s: 3_600,
            trust: TrustText::new(&trust, BTreeMap::new()),
            tags: BTreeMap::new(),
            boundary: None,
            grants: Grants::default(),
            service: None,
        };
        let mut view = View::default();
        view.put(Seq(1), &Row::IamRole(Arc::new(role)));
        view
    }

    fn asked(role: &str) -> Assumption<'_> {
        Assumption {
            role,
            service: "ecs-tasks.amazonaws.com",
            source: TASK,
            source_account: "000000000000".parse().unwrap(),
            session_name: "0123456789abcdef0123456789abcdef",
            lasts_ms: 1_000,
        }
    }

    #[test]
    fn a_role_is_assumed_by_whom_it_trusts_for_what_it_says() {
        let world = TestControl::new();
        let assume = |statement: &str| {
            world.control.assume(&view(statement), &asked(ROLE), Timestamp(1)).map(drop)
        };
        let trust = r#""Effect":"Allow","Principal":{"Service":"ecs-tasks.amazonaws.com"},"Action":"sts:AssumeRole""#;
        assert_eq!(assume(trust), Ok(()));
        let when = |key: &str, value: &str| {
            format!(
                r#"{trust},"Condition":{{"ArnLike":{{"aws:SourceArn":"{key}"}},"StringEquals":{{"aws:SourceAccount":"{value}"}}}}"#
            )
        };
        let ecs = "arn:aws:ecs:us-east-1:000000000000:*";
        assert_eq!(assume(&when(ecs, "000000000000")), Ok(()));
        assert_eq!(assume(&when(ecs, "111122223333")), Err(CannotAssume::NotTrusted));
        let elsewhere = "arn:aws:ecs:eu-west-1:000000000000:*";
        assert_eq!(assume(&when(elsewhere, "000000000000")), Err(CannotAssume::NotTrusted));
        assert_eq!(assume(&trust.replace("ecs-tasks", "ec2")), Err(CannotAssume::NotTrusted));
    }

    #[test]
    fn a_session_is_called_after_what_it_is_for_and_ends() {
        let world = TestControl::new();
        let view = view(
            r#""Effect":"Allow","Principal":{"Service":"ecs-tasks.amazonaws.com"},"Action":"sts:AssumeRole""#,
        );
        let issued = world.control.assume(&view, &asked(ROLE), Timestamp(5)).unwrap();
        assert_eq!(issued.expires, Timestamp(1_005));
        let token = issued.session_token.reveal();
        let key = world.control.access.find(&view, &issued.access_key_id, Some(token)).unwrap();
        let caller =
            aws_wire::Caller { principal: key.principal, session: key.session, ..world.root() };
        assert_eq!(
            crate::access::principal_arn(&caller),
            "arn:aws:sts::000000000000:assumed-role/mine/0123456789abcdef0123456789abcdef"
        );
    }

    #[test]
    fn a_role_that_is_not_there_or_anothers_is_not_assumed() {
        let world = TestControl::new();
        let view = view(r#""Effect":"Allow","Principal":"*","Action":"sts:AssumeRole""#);
        let assume = |asked: &Assumption<'_>| {
            world.control.assume(&view, asked, Timestamp(1)).map(drop).unwrap_err()
        };
        assert_eq!(
            assume(&asked("arn:aws:iam::000000000000:role/mine")),
            CannotAssume::Absent,
            "its path is another"
        );
        let account = "111122223333".parse().unwrap();
        let foreign = Assumption { source_account: account, ..asked(ROLE) };
        assert_eq!(assume(&foreign), CannotAssume::Foreign);
    }
}
