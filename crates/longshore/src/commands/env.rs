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

/// No value needs quoting: addresses, names of regions and our keys have no special characters.
fn exports(region: &RegionFile, root: &Credentials) -> String {
    let endpoint = format!("http://{}", region.endpoint());
    let variables = [
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", root.access_key.as_str()),
        ("AWS_SECRET_ACCESS_KEY", root.secret.reveal()),
        ("AWS_DEFAULT_REGION", region.region.as_str()),
        ("AWS_REGION", region.region.as_str()),
    ];
    variables.iter().map(|(name, value)| format!("export {name}={value}\n")).collect()
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
    }
}
