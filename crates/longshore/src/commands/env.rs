//! `longshore env`: what a shell needs for the AWS CLI and SDKs.

use aws_wire::sigv4::Credentials;

use crate::commands::root_credentials;
use crate::data_dir::{DataDir, RegionFile};
use crate::error::Error;

/// Works while the region is down too: where it last listened is where wrappers look for it.
pub(crate) fn run(data: &DataDir) -> Result<(), Error> {
    let text = exports(&data.region()?, &root_credentials(data)?);
    print!("{text}");
    Ok(())
}

/// No value but a path needs quoting: addresses, names of regions and our keys have no special characters.
fn exports(region: &RegionFile, root: &Credentials) -> String {
    let endpoint = region.told();
    let authority = region.authority_for_clients().map(|path| quoted(&path.display().to_string()));
    let variables = [
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", root.access_key.as_str()),
        ("AWS_SECRET_ACCESS_KEY", root.secret.reveal()),
        ("AWS_DEFAULT_REGION", region.region.as_str()),
        ("AWS_REGION", region.region.as_str()),
    ];
    // Node's is added to the authorities that it knows. SSL_CERT_FILE would take the place of all others.
    let trusted = authority.as_deref().into_iter();
    let trusted = trusted.flat_map(|path| [("AWS_CA_BUNDLE", path), ("NODE_EXTRA_CA_CERTS", path)]);
    let all = variables.into_iter().chain(trusted);
    all.map(|(name, value)| format!("export {name}={value}\n")).collect()
}

/// As a shell reads it whole.
fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use longshore_types::Token;

    use super::*;

    #[test]
    fn a_shell_gets_endpoint_keys_and_region() {
        let region = RegionFile {
            address: "127.0.0.1:4566".parse().unwrap(),
            region: "eu-north-1".parse().unwrap(),
            pid: 1,
            vpc: "172.31.0.0/16".to_owned(),
            bridge: "172.30.0.0/20".to_owned(),
            advertised: None,
            authority: Some("/data/tls/ca.pem".into()),
            introduction_token: None,
        };
        let root = Credentials {
            access_key: "AKIAX".to_owned(),
            secret: Token::from_text("s3cret".to_owned()),
            session_token: None,
        };
        assert_eq!(
            exports(&region, &root),
            "export AWS_ENDPOINT_URL=http://127.0.0.1:4566\nexport AWS_ACCESS_KEY_ID=AKIAX\n\
             export AWS_SECRET_ACCESS_KEY=s3cret\nexport AWS_DEFAULT_REGION=eu-north-1\n\
             export AWS_REGION=eu-north-1\n"
        );
        let advertised = Some("https://region.lan".to_owned());
        let text = exports(&RegionFile { advertised, ..region }, &root);
        assert!(text.starts_with("export AWS_ENDPOINT_URL=https://region.lan\n"), "{text}");
        assert!(text.contains("export AWS_CA_BUNDLE=/data/tls/ca.pem\n"), "{text}");
        assert_eq!(quoted("/a b/c'd"), "'/a b/c'\\''d'");
    }
}
