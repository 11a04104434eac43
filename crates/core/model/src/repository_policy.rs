//! The policy of a repository or a registry, as it was given, with what it was compiled to.

use std::sync::{Arc, OnceLock};

use policy::{Policy, PolicyKind};
use serde::{Deserialize, Serialize};

/// A document that names principals.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResourcePolicyText {
    text: Arc<str>,
    #[serde(skip)]
    compiled: OnceLock<Arc<Policy>>,
}

/// In place of a document that was accepted once and cannot be read any more: its Deny must not be lost.
const DENY_ALL: &str = r#"{"Version":"2012-10-17","Statement":[
    {"Effect":"Deny","Principal":"*","Action":"*","Resource":"*"}]}"#;

impl ResourcePolicyText {
    /// `text` is the document as it was given, which shows as it was.
    pub fn new(text: &str, policy: Policy) -> Self {
        Self { text: text.into(), compiled: OnceLock::from(Arc::new(policy)) }
    }

    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    pub fn policy(&self) -> &Arc<Policy> {
        self.compiled.get_or_init(|| {
            let read = Policy::parse(&self.text, PolicyKind::Repository);
            let read = read.or_else(|_| Policy::parse(&self.text, PolicyKind::Resource));
            let read = read.or_else(|_| Policy::parse(DENY_ALL, PolicyKind::Resource));
            Arc::new(read.expect("the policy that denies all is one"))
        })
    }
}

impl PartialEq for ResourcePolicyText {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for ResourcePolicyText {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_any_more_denies() {
        let stored: ResourcePolicyText = serde_json::from_str("\"{}\"").unwrap();
        assert_eq!(&**stored.text(), "{}");
        assert_eq!(stored.policy().statements().len(), 1);
        let own = r#"{"Version":"2012-10-17","Statement":[
            {"Effect":"Allow","Principal":"*","Action":"ecr:*"}]}"#;
        let text = serde_json::to_string(own).unwrap();
        let stored: ResourcePolicyText = serde_json::from_str(&text).unwrap();
        assert_eq!(stored.policy().text(), stored.text());
    }
}
