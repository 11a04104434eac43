//! A resource's own policy, as a row keeps it.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use policy::{Policy, PolicyKind, Principal};
use serde::{Deserialize, Serialize};

/// In place of a document that was accepted once and cannot be read any more: its Deny must not be lost.
const DENY_ALL: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*"}]}"#;

/// A policy of a secret or a key. It means those users and roles that had the ARNs in it when it was written:
/// others that come to have the same ARNs later are not meant.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceText {
    document: Arc<str>,
    /// The unique ids of users and roles that the document names by ARN.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    principals: BTreeMap<String, String>,
    #[serde(skip)]
    compiled: OnceLock<Arc<Policy>>,
}

impl ResourceText {
    pub fn new(document: &str, principals: BTreeMap<String, String>) -> Self {
        Self { document: document.into(), principals, compiled: OnceLock::new() }
    }

    /// As it was written, but for those who are gone: their unique ids show in place of their ARNs.
    pub fn shown(&self, is_there: impl Fn(&str) -> bool) -> String {
        let mut text = self.document.to_string();
        for (arn, id) in self.principals.iter().filter(|(_, id)| !is_there(id)) {
            text = text.replace(&format!("\"{arn}\""), &format!("\"{id}\""));
        }
        text
    }

    pub fn policy(&self) -> &Arc<Policy> {
        self.compiled.get_or_init(|| {
            let compiled =
                self.compile().or_else(|| Policy::parse(DENY_ALL, PolicyKind::Resource).ok());
            Arc::new(compiled.expect("the policy that denies all is one"))
        })
    }

    fn compile(&self) -> Option<Policy> {
        let read = Policy::parse(&self.document, PolicyKind::Resource).ok()?;
        meaning(read, &self.principals)
    }
}

/// A policy with the unique ids of those whom it named by ARN; `None` if there is no such policy.
pub(crate) fn meaning(read: Policy, principals: &BTreeMap<String, String>) -> Option<Policy> {
    if principals.is_empty() {
        return Some(read);
    }
    let meant = read.with_principals(|principal| match principal {
        Principal::Arn(arn) => {
            principals.get(&**arn).map(|id| Principal::UniqueId(id.as_str().into()))
        }
        Principal::Everyone
        | Principal::Account(_)
        | Principal::UniqueId(_)
        | Principal::CanonicalUser(_)
        | Principal::Federated(_)
        | Principal::Service(_) => None,
    });
    meant.ok()
}

impl PartialEq for ResourceText {
    fn eq(&self, other: &Self) -> bool {
        (&self.document, &self.principals) == (&other.document, &other.principals)
    }
}

impl Eq for ResourceText {}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow",
        "Principal":{"AWS":"arn:aws:iam::111122223333:user/ann"},"Action":"kms:*","Resource":"*"}}"#;

    #[test]
    fn a_policy_means_the_user_of_that_time_and_shows_who_is_gone() {
        let arn = "arn:aws:iam::111122223333:user/ann".to_owned();
        let ids = BTreeMap::from([(arn.clone(), "AIDAJQABLZS4A3QDU576Q".to_owned())]);
        let text = ResourceText::new(POLICY, ids);
        assert_eq!(text.shown(|_| true), POLICY);
        assert_eq!(text.shown(|_| false), POLICY.replace(&arn, "AIDAJQABLZS4A3QDU576Q"));
        let [Principal::UniqueId(_)] = text.policy().statements()[0].principals() else {
            panic!("{:?}", text.policy());
        };
        let stored = serde_json::to_string(&text).unwrap();
        assert_eq!(serde_json::from_str::<ResourceText>(&stored).unwrap(), text);
    }

    #[test]
    fn a_document_that_cannot_be_read_any_more_denies() {
        let text = ResourceText::new("{}", BTreeMap::new());
        assert_eq!(&**text.policy().text(), DENY_ALL);
    }
}
