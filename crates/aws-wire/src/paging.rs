//! Answers in pages, without remembering anything between two of them.
//!
//! A token is the key of the last item that was given out, sealed: nobody can make one up, or use one of
//! another list, account or filter. A page begins after that key, whether or not the item still exists.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use longshore_types::Token;
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// Bytes of the seal within a token.
const SEAL_BYTES: usize = 16;

/// Makes and opens page tokens.
#[derive(Clone, Debug)]
pub struct PageTokens {
    secret: Token,
}

/// Some items, and where the next ones begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// The key to go on after; `None` if this was the last page.
    pub next: Option<String>,
}

impl PageTokens {
    pub fn new(secret: Token) -> Self {
        Self { secret }
    }

    /// The token for going on after `key` in the list that `scope` describes: operation, account, filters.
    pub fn seal(&self, scope: &str, key: &str) -> String {
        let mut bytes = self.mac(scope, key).to_vec();
        bytes.extend_from_slice(key.as_bytes());
        BASE64.encode(bytes)
    }

    /// The key within a token, if we made it for this `scope`.
    pub fn open(&self, scope: &str, token: &str) -> Option<String> {
        let bytes = BASE64.decode(token).ok()?;
        let (seal, key) = bytes.split_at_checked(SEAL_BYTES)?;
        let key = std::str::from_utf8(key).ok()?;
        bool::from(self.mac(scope, key).ct_eq(seal)).then(|| key.to_owned())
    }

    fn mac(&self, scope: &str, key: &str) -> [u8; SEAL_BYTES] {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.reveal().as_bytes())
            .expect("HMAC takes a key of any length");
        // The length keeps scope and key apart.
        for part in ["page", &scope.len().to_string(), scope, key] {
            mac.update(part.as_bytes());
            mac.update(b"\n");
        }
        let full: [u8; 32] = mac.finalize().into_bytes().into();
        let mut seal = [0; SEAL_BYTES];
        seal.copy_from_slice(&full[..SEAL_BYTES]);
        seal
    }
}

/// At most `max` of the items whose keys come after `after`. `sorted` is in the order of its keys.
pub fn page<K: AsRef<str>, T>(
    sorted: impl IntoIterator<Item = (K, T)>,
    after: Option<&str>,
    max: usize,
) -> Page<T> {
    let mut items = vec![];
    let mut last: Option<K> = None;
    let rest = sorted.into_iter().skip_while(|(key, _)| after.is_some_and(|at| key.as_ref() <= at));
    for (key, item) in rest {
        if items.len() == max {
            let next = last.map(|key| key.as_ref().to_owned());
            return Page { items, next };
        }
        items.push(item);
        last = Some(key);
    }
    Page { items, next: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> PageTokens {
        PageTokens::new(Token::from_text("secret".to_owned()))
    }

    #[test]
    fn all_pages_together_are_the_whole_list() {
        let list: Vec<String> = (10..95).map(|n| format!("item-{n}")).collect();
        for max in [1, 7, 84, 85, 86] {
            let (mut seen, mut token) = (vec![], None::<String>);
            loop {
                let after = token.map(|token| tokens().open("list", &token).unwrap());
                let keyed = list.iter().map(|item| (item, item.clone()));
                let page = page(keyed, after.as_deref(), max);
                assert!(page.items.len() <= max);
                seen.extend(page.items);
                token = page.next.map(|key| tokens().seal("list", &key));
                if token.is_none() {
                    break;
                }
            }
            assert_eq!(seen, list, "in pages of {max}");
        }
    }

    #[test]
    fn a_page_goes_on_after_an_item_that_is_gone() {
        let page = page([("a", 1), ("c", 3)], Some("b"), 10);
        assert_eq!(page, Page { items: vec![3], next: None });
    }

    #[test]
    fn a_token_of_another_list_or_maker_does_not_open() {
        let token = tokens().seal("ListTasks 1", "a");
        assert_eq!(tokens().open("ListTasks 1", &token).as_deref(), Some("a"));
        assert_eq!(tokens().open("ListTasks 2", &token), None);
        let other = PageTokens::new(Token::from_text("other".to_owned()));
        assert_eq!(other.open("ListTasks 1", &token), None);
        for broken in ["", "a", "====", &token[1..], &format!("{token}AAAA")] {
            assert_eq!(tokens().open("ListTasks 1", broken), None, "{broken}");
        }
    }
}
