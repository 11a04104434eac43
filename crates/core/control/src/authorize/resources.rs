//! What of a request differs from resource to resource: its account, its tags, the policies that it has itself.
//!
//! A request may be about a hundred. So what is alike for all is found out once, and of each only what policies ask for.

use longshore_types::AccountId;
use model::View;
use policy::{Context, Inquiry};

use super::owner_of;
use crate::iam::{may_have_policies, tags_of};

/// Resources whose ARNs begin alike, up to the account's number: they are of one service and one account.
#[derive(Debug, Default)]
pub(super) struct Group<'a> {
    /// Ends with the colon behind the account; empty before the first, and of what has no such beginning.
    start: &'a str,
    pub(super) owner: Option<AccountId>,
    pub(super) may_have_policies: bool,
}

impl<'a> Group<'a> {
    /// Goes on to the next resource, and says whether it is of the group that the one before it was of.
    pub(super) fn take(&mut self, arn: &'a str) -> bool {
        if !self.start.is_empty() && arn.starts_with(self.start) {
            return true;
        }
        let ends = arn.match_indices(':').nth(4).map(|(colon, _)| colon + 1);
        *self = Self {
            start: ends.and_then(|end| arn.get(..end)).unwrap_or_default(),
            owner: owner_of(arn),
            may_have_policies: may_have_policies(arn),
        };
        false
    }
}

/// The condition keys about a resource, as far as policies ask for them.
#[derive(Debug)]
pub(super) struct AboutResource<'a> {
    /// As policies write them: those of tags with the tag's key.
    tags: Vec<(&'a str, &'a str)>,
    account: bool,
}

impl<'a> AboutResource<'a> {
    pub(super) fn asked_by(inquiry: &Inquiry<'a>, action: &str) -> Self {
        let service = action.split(':').next().unwrap_or_default();
        let (mut tags, mut account) = (Vec::new(), false);
        for key in inquiry.keys_about_resource() {
            let (of, name) = key.split_once(':').unwrap_or_default();
            let is_known = ["aws", service].iter().any(|known| known.eq_ignore_ascii_case(of));
            match name.split_once('/') {
                Some((_, tag)) if is_known => tags.push((key, tag)),
                Some(_) => {}
                None => account |= of.eq_ignore_ascii_case("aws"),
            }
        }
        Self { tags, account }
    }

    /// Those of a resource, which is a row or an account's.
    pub(super) fn of(&self, view: &View, arn: &str, owner: Option<AccountId>) -> Context {
        let mut context = Context::new();
        let asked = !self.tags.is_empty();
        for (key, value) in asked.then(|| tags_of(view, arn)).flatten().into_iter().flatten() {
            for (name, _) in self.tags.iter().filter(|(_, tag)| tag.eq_ignore_ascii_case(key)) {
                context.set((*name).to_owned(), value.clone());
            }
        }
        if let Some(owner) = owner.filter(|_| self.account) {
            context.set("aws:ResourceAccount", owner.to_string());
        }
        context
    }
}
