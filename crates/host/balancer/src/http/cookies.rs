//! Stickiness cookies: what a client is to come back to, sealed so that it can neither be read nor made up.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::COOKIE;
use longshore_types::{IdSource, Timestamp};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use routing::TargetKey;

/// How long browsers keep the balancer's own cookie; how long it counts is the group's setting.
const COOKIE_AGE_MS: u64 = 7 * 24 * 3600 * 1000;

pub(crate) const TARGET: &str = "AWSALB";
pub(crate) const TARGET_CORS: &str = "AWSALBCORS";
pub(crate) const GROUP: &str = "AWSALBTG";
pub(crate) const GROUP_CORS: &str = "AWSALBTGCORS";
pub(crate) const APP: &str = "AWSALBAPP-0";

/// The key that cookies are sealed with.
pub(crate) struct CookieKey(LessSafeKey);

impl std::fmt::Debug for CookieKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CookieKey(…)")
    }
}

impl CookieKey {
    pub(crate) const BYTES: usize = 32;

    /// Of the balancer, where its table says one.
    pub(crate) fn of(balancer: &routing::Balancer) -> Option<Self> {
        balancer.cookie_key.as_ref().map(|key| Self::new(&key.0))
    }

    pub(crate) fn new(key: &[u8; Self::BYTES]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, key).expect("the key has the cipher's length");
        Self(LessSafeKey::new(key))
    }

    /// Seals a text for one purpose: opened for another it is nothing.
    fn seal(&self, purpose: &str, text: &str, ids: &dyn IdSource) -> Option<String> {
        let mut nonce = [0; NONCE_LEN];
        ids.fill(&mut nonce);
        let mut sealed = text.as_bytes().to_vec();
        let (unique, about) = (Nonce::assume_unique_for_key(nonce), Aad::from(purpose.as_bytes()));
        self.0.seal_in_place_append_tag(unique, about, &mut sealed).ok()?;
        Some(URL_SAFE_NO_PAD.encode([nonce.as_slice(), &sealed].concat()))
    }

    fn open(&self, purpose: &str, cookie: &str) -> Option<String> {
        let mut bytes = URL_SAFE_NO_PAD.decode(cookie).ok()?;
        if bytes.len() < NONCE_LEN {
            return None;
        }
        let mut sealed = bytes.split_off(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(&bytes).ok()?;
        let text = self.0.open_in_place(nonce, Aad::from(purpose.as_bytes()), &mut sealed).ok()?;
        String::from_utf8(text.to_vec()).ok()
    }

    /// A cookie's value for one target of a group.
    pub(crate) fn seal_target(
        &self,
        group: &str,
        target: &TargetKey,
        now: Timestamp,
        ids: &dyn IdSource,
    ) -> Option<String> {
        let text = format!("{} {} {}", now.0, target.port, target.id);
        self.seal(&format!("target {group}"), &text, ids)
    }

    /// The target that a cookie of a group names, if it is not older than `seconds`.
    pub(crate) fn open_target(
        &self,
        group: &str,
        cookie: &str,
        seconds: u32,
        now: Timestamp,
    ) -> Option<TargetKey> {
        let text = self.open(&format!("target {group}"), cookie)?;
        let mut parts = text.splitn(3, ' ');
        let made = Timestamp(parts.next()?.parse().ok()?);
        let port = parts.next()?.parse().ok()?;
        let id = parts.next()?.to_owned();
        (now.since_ms(made) <= u64::from(seconds) * 1000).then_some(TargetKey { id, port })
    }

    /// A cookie's value for the group that a rule chose.
    pub(crate) fn seal_group(
        &self,
        rule: &str,
        group: &str,
        now: Timestamp,
        ids: &dyn IdSource,
    ) -> Option<String> {
        self.seal(&format!("group {rule}"), &format!("{} {group}", now.0), ids)
    }

    pub(crate) fn open_group(
        &self,
        rule: &str,
        cookie: &str,
        seconds: u32,
        now: Timestamp,
    ) -> Option<String> {
        let text = self.open(&format!("group {rule}"), cookie)?;
        let (made, group) = text.split_once(' ')?;
        let made = Timestamp(made.parse().ok()?);
        (now.since_ms(made) <= u64::from(seconds) * 1000).then(|| group.to_owned())
    }
}

/// The value of a cookie that came with a request.
pub(crate) fn value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|header| header.to_str().ok())
        .flat_map(|header| header.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

/// The `Set-Cookie` values of a cookie and of its twin for requests from other sites.
pub(crate) fn pair(name: &str, twin: &str, value: &str, now: Timestamp) -> [String; 2] {
    let expires = now.plus_ms(COOKIE_AGE_MS).civil();
    let expires = expires.strftime("%a, %d %b %Y %H:%M:%S GMT");
    [
        format!("{name}={value}; Expires={expires}; Path=/"),
        format!("{twin}={value}; Expires={expires}; Path=/; SameSite=None; Secure"),
    ]
}

#[cfg(test)]
mod tests {
    use longshore_types::OsIds;

    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn target() -> TargetKey {
        TargetKey { id: "10.0.0.7".to_owned(), port: 8080 }
    }

    #[test]
    fn a_cookie_names_its_target_until_its_time_is_over() {
        let key = CookieKey::new(&[7; 32]);
        let cookie = key.seal_target("g", &target(), NOW, &OsIds).unwrap();
        let open = |at| key.open_target("g", &cookie, 60, at);
        assert_eq!(open(NOW.plus_ms(60_000)), Some(target()));
        assert_eq!(open(NOW.plus_ms(60_001)), None);
    }

    #[test]
    fn a_cookie_of_another_group_another_key_or_one_made_up_names_nothing() {
        let key = CookieKey::new(&[7; 32]);
        let cookie = key.seal_target("g", &target(), NOW, &OsIds).unwrap();
        assert_eq!(key.open_target("h", &cookie, 60, NOW), None);
        assert_eq!(CookieKey::new(&[8; 32]).open_target("g", &cookie, 60, NOW), None);
        let group = key.seal_group("g", "x", NOW, &OsIds).unwrap();
        assert_eq!(key.open_target("g", &group, 60, NOW), None);
        let mut forged = cookie.clone().into_bytes();
        forged[20] ^= 1;
        let forged = String::from_utf8_lossy(&forged).into_owned();
        for cookie in ["", "AAAA", "%%%", &forged] {
            assert_eq!(key.open_target("g", cookie, 60, NOW), None, "{cookie}");
        }
    }

    #[test]
    fn a_cookie_is_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, "a=1; AWSALB=x; b=2".parse().unwrap());
        headers.append(COOKIE, "c=3".parse().unwrap());
        assert_eq!(value(&headers, "AWSALB"), Some("x"));
        assert_eq!(value(&headers, "c"), Some("3"));
        assert_eq!(value(&headers, "AWS"), None);
    }

    #[test]
    fn a_cookie_expires_in_a_week() {
        let [own, twin] = pair("AWSALB", "AWSALBCORS", "v", NOW);
        assert_eq!(own, "AWSALB=v; Expires=Fri, 22 Jan 2027 08:00:00 GMT; Path=/");
        assert!(twin.ends_with("; SameSite=None; Secure"));
    }
}
