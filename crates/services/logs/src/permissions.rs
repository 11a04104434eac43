//! What a request asks to do, and to what, as policies name it.
//!
//! Groups are not rows: what is allowed is asked before the store is. A group is to most actions
//! `log-group:NAME:log-stream:`, so that a policy's `log-group:NAME:*` means it and its streams; only those that name a
//! group by its ARN know it without.

use std::collections::BTreeMap;

use aws_wire::{ApiError, Caller};
use control::{Permission, is_root};

use crate::CloudWatchLogs;
use crate::common::{arn_of_group, group_of_identifier};

/// What an action is on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum On<'a> {
    /// No group by name.
    Account,
    /// A group, by name or by ARN.
    Group(Option<&'a String>),
    Stream(Option<&'a String>, Option<&'a String>),
    /// A group as those operations see it that take its ARN.
    Resource(Option<&'a String>),
}

impl<'a> On<'a> {
    fn group(self) -> Option<&'a String> {
        match self {
            Self::Account => None,
            Self::Group(group) | Self::Stream(group, _) | Self::Resource(group) => group,
        }
    }

    /// The group alone, as tagging it is on it.
    pub(crate) fn resource(self, caller: &Caller) -> String {
        On::Resource(self.group()).arn(caller)
    }

    fn arn(self, caller: &Caller) -> String {
        let group = self.group().map_or("", String::as_str);
        let group = match group.starts_with("arn:") {
            true => group.strip_suffix(":*").unwrap_or(group).to_owned(),
            false => arn_of_group(&caller.region, caller.account, group),
        };
        match self {
            Self::Account | Self::Group(_) => format!("{group}:log-stream:"),
            Self::Stream(_, stream) => {
                format!("{group}:log-stream:{}", stream.map_or("", String::as_str))
            }
            Self::Resource(_) => group,
        }
    }
}

impl CloudWatchLogs {
    /// An action of a caller.
    pub(crate) fn permission(
        &self,
        caller: &Caller,
        action: &'static str,
        on: On<'_>,
    ) -> Permission {
        if is_root(caller) {
            let arns = on.group().is_some().then(|| on.arn(caller));
            return Permission::to(action).naming(arns);
        }
        let permission = Permission::to(action).on(on.arn(caller));
        let Some(group) = on.group() else { return permission };
        let Ok(name) = group_of_identifier(caller, group) else { return permission };
        match self.logs.group(caller.account, &name) {
            Ok(group) => permission.tagged(&group.settings.tags),
            Err(_) => permission,
        }
    }

    /// Whether the caller may do the action.
    pub(crate) fn check(
        &self,
        caller: &Caller,
        action: &'static str,
        on: On<'_>,
    ) -> Result<(), ApiError> {
        self.allow(caller, &self.permission(caller, action, on))
    }

    /// The same of a request with tags.
    pub(crate) fn check_tagging(
        &self,
        caller: &Caller,
        action: &'static str,
        on: On<'_>,
        tags: Option<&BTreeMap<String, String>>,
    ) -> Result<(), ApiError> {
        let permission = self.permission(caller, action, on);
        let none = BTreeMap::new();
        self.allow(caller, &permission.tagging(tags.unwrap_or(&none)))
    }

    /// The same of a request that takes tags away.
    pub(crate) fn check_untagging(
        &self,
        caller: &Caller,
        action: &'static str,
        on: On<'_>,
        keys: Option<&Vec<String>>,
    ) -> Result<(), ApiError> {
        let permission = self.permission(caller, action, on);
        self.allow(caller, &permission.about_tags(keys.into_iter().flatten()))
    }

    pub(crate) fn allow(&self, caller: &Caller, permission: &Permission) -> Result<(), ApiError> {
        self.control.read(caller, permission).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use aws_wire::{Origin, Principal};
    use longshore_types::{Timestamp, Uuid};

    use super::*;

    #[test]
    fn a_group_is_named_so_that_policies_with_a_star_at_their_end_mean_it() {
        let caller = Caller {
            account: "000000000000".parse().unwrap(),
            region: "eu-north-1".parse().unwrap(),
            access_key: "AKIA".to_owned(),
            principal: Principal::Anonymous,
            session: None,
            origin: Origin::default(),
            request_id: Uuid::from_random([0; 16]),
            now: Timestamp(0),
        };
        let start = "arn:aws:logs:eu-north-1:000000000000:log-group:";
        let (name, stream) = ("/ecs/web".to_owned(), "a/b".to_owned());
        let (arn, starred) = (format!("{start}{name}"), format!("{start}{name}:*"));
        for (on, expected) in [
            (On::Account, ":log-stream:"),
            (On::Group(Some(&name)), "/ecs/web:log-stream:"),
            (On::Group(Some(&arn)), "/ecs/web:log-stream:"),
            (On::Group(Some(&starred)), "/ecs/web:log-stream:"),
            (On::Stream(Some(&name), Some(&stream)), "/ecs/web:log-stream:a/b"),
            (On::Resource(Some(&starred)), "/ecs/web"),
        ] {
            assert_eq!(on.arn(&caller), format!("{start}{expected}"), "{on:?}");
        }
    }
}
