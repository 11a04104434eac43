//! The operator's keys for the store: what a request to it is signed with.

use std::path::Path;

use aws_wire::sigv4::Credentials;
use control::StoreKeys;
use longshore_types::Token;

/// A file of keys is small.
const FILE_BYTES_MAX: usize = 64 << 10;

/// Why there are no keys; the texts name files, so they are for the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoKeys {
    #[error("failed to read the store's keys")]
    File(#[source] std::io::Error),
    #[error(
        "the file of the store's keys has no aws_access_key_id and aws_secret_access_key in its section [default]"
    )]
    Incomplete,
}

/// What to sign with; `None` where nothing is to be signed.
pub(crate) async fn current(keys: &StoreKeys) -> Result<Option<Credentials>, NoKeys> {
    match keys {
        StoreKeys::Unsigned => Ok(None),
        StoreKeys::Given(credentials) => Ok(Some(credentials.clone())),
        StoreKeys::File(path) => read(path).await.map(Some),
    }
}

async fn read(path: &Path) -> Result<Credentials, NoKeys> {
    let text = tokio::fs::read(path).await.map_err(NoKeys::File)?;
    let text = String::from_utf8(text).map_err(|_| NoKeys::Incomplete)?;
    parse(&text).filter(|_| text.len() <= FILE_BYTES_MAX).ok_or(NoKeys::Incomplete)
}

/// Reads the section `[default]`, or what stands before any section.
fn parse(text: &str) -> Option<Credentials> {
    let (mut id, mut secret, mut token) = (None, None, None);
    let mut is_meant = true;
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            is_meant = section.trim_end_matches(']').trim() == "default";
        } else if is_meant && let Some((name, value)) = line.split_once('=') {
            let value = Some(value.trim().to_owned()).filter(|value| !value.is_empty());
            match name.trim() {
                "aws_access_key_id" => id = value,
                "aws_secret_access_key" => secret = value,
                "aws_session_token" => token = value,
                _ => {}
            }
        }
    }
    Some(Credentials {
        access_key: id?,
        secret: Token::from_text(secret?),
        session_token: token.map(Token::from_text),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_from_a_file_as_the_aws_cli_has_it() {
        let text = "# of the store\n[other]\naws_access_key_id = no\n\n[default]\naws_access_key_id=AK\n\
                    aws_secret_access_key = a=b/c \nregion = x\n[last]\naws_secret_access_key = no\n";
        let read = parse(text).unwrap();
        assert_eq!((read.access_key.as_str(), read.secret.reveal()), ("AK", "a=b/c"));
        assert!(read.session_token.is_none());
        assert!(
            parse("aws_access_key_id=AK\naws_secret_access_key=s\naws_session_token=t").is_some()
        );
        for lacking in [
            "",
            "[default]\naws_access_key_id=AK",
            "[x]\naws_access_key_id=A\naws_secret_access_key=s",
        ] {
            assert!(parse(lacking).is_none(), "{lacking}");
        }
    }
}
