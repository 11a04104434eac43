//! The policy of a repository or a registry, as it was given, with what it was compiled to.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use policy::{Policy, PolicyKind};
use serde::{Deserialize, Serialize};

use crate::resource_policy::meaning;

/// A document that names principals. It means those users and roles that had the ARNs in it when it was written:
/// others that come to have the same ARNs later are not meant.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct ResourcePolicyText {
    text: Arc<str>,
    /// The unique ids of users and roles that the document names by ARN.
    principals: BTreeMap<String, String>,
    compiled: OnceLock<Arc<Policy>>,
}

/// As a row keeps it.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Stored {
    /// One that names nobody by ARN, or was written before it was kept whom it means.
    Text(Arc<str>),
    Meaning {
        text: Arc<str>,
        principals: BTreeMap<String, String>,
    },
}

impl From<Stored> for ResourcePolicyText {
    fn from(stored: Stored) -> Self {
        let (text, principals) = match stored {
            Stored::Text(text) => (text, BTreeMap::new()),
            Stored::Meaning { text, principals } => (text, principals),
        };
        Self { text, principals, compiled: OnceLock::new() }
    }
}

impl From<ResourcePolicyText> for Stored {
    fn from(policy: ResourcePolicyText) -> Self {
        let ResourcePolicyText { text, principals, .. } = policy;
        match principals.is_empty() {
            true => Self::Text(text),
            false => Self::Meaning { text, principals },
        }
    }
}

/// In place of a document that was accepted once and cannot be read any more: its Deny must not be lost.
const DENY_ALL: &str = r#"{"Version":"2012-10-17","Statement":[
    {"Effect":"Deny","Principal":"*","Action":"*","Resource":"*"}]}"#;

impl ResourcePolicyText {
    /// `text` is the document as it was given, `principals` has the ids of those that it names by ARN.
    pub fn new(text: &str, principals: BTreeMap<String, String>) -> Self {
        Self { text: text.into(), principals, compiled: OnceLock::new() }
    }

    /// As it was written, but for those who are gone: their unique ids show in place of their ARNs.
    pub fn shown(&self, is_there: impl Fn(&str) -> bool) -> String {
        let mut text = self.text.to_string();
        for (arn, id) in self.principals.iter().filter(|(_, id)| !is_there(id)) {
            text = text.replace(&format!("\"{arn}\""), &format!("\"{id}\""));
        }
        text
    }

    pub fn policy(&self) -> &Arc<Policy> {
        self.compiled.get_or_init(|| {
            let read = Policy::parse(&self.text, PolicyKind::Repository);
            let read = read.or_else(|_| Policy::parse(&self.text, PolicyKind::Resource)).ok();
            let read = read.and_then(|read| meaning(read, &self.principals));
            let read = read.or_else(|| Policy::parse(DENY_ALL, PolicyKind::Resource).ok());
            Arc::new(read.expect("the policy that denies all is one"))
        })
    }
}

impl PartialEq for ResourcePolicyText {
    fn eq(&self, other: &Self) -> bool {
        (&self.text, &self.principals) == (&other.text, &other.principals)
    }
}

impl Eq for ResourcePolicyText {}

#[cfg(test)]
mod tests {
    use policy::Principal;

    use super::*;

    #[test]
    fn what_cannot_be_read_any_more_denies() {
        let stored: ResourcePolicyText = serde_json::from_str("\"{}\"").unwrap();
        assert_eq!(stored.shown(|_| true), "{}");
        assert_eq!(stored.policy().statements().len(), 1);
        let own = r#"{"Version":"2012-10-17","Statement":[
            {"Effect":"Allow","Principal":"*","Action":"ecr:*"}]}"#;
        let text = serde_json::to_string(own).unwrap();
        let stored: ResourcePolicyText = serde_json::from_str(&text).unwrap();
        assert_eq!(&**stored.policy().text(), own);
        assert_eq!(serde_json::to_string(&stored).unwrap(), text);
    }

    #[test]
    fn a_policy_means_the_role_of_that_time_and_shows_that_it_is_gone() {
        let arn = "arn:aws:iam::111122223333:role/builder";
        let text = format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"AWS":"{arn}"}},"Action":"ecr:*"}}]}}"#
        );
        let principals = BTreeMap::from([(arn.to_owned(), "AROAJQABLZS4A3QDU576Q".to_owned())]);
        let policy = ResourcePolicyText::new(&text, principals);
        let stored = serde_json::to_string(&policy).unwrap();
        let read: ResourcePolicyText = serde_json::from_str(&stored).unwrap();
        assert_eq!(read, policy);
        let [Principal::UniqueId(id)] = read.policy().statements()[0].principals() else {
            panic!("{read:?}");
        };
        assert_eq!(&**id, "AROAJQABLZS4A3QDU576Q");
        assert_eq!(read.shown(|_| true), text);
        assert_eq!(read.shown(|_| false), text.replace(arn, "AROAJQABLZS4A3QDU576Q"));
    }
}
