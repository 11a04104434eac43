//! The store of objects that a region is told of, checked before anything starts.

use std::net::IpAddr;

use aws_wire::sigv4::Credentials;
use control::{Addressing, ObjectStore, StoreKeys};
use longshore_types::Token;

use crate::cli::{ObjectStoreArgs, S3Addressing};
use crate::error::Error;

/// `None` where no store is named.
pub(crate) fn of(args: &ObjectStoreArgs) -> Result<Option<ObjectStore>, Error> {
    let Some(endpoint) = args.s3_endpoint.clone() else { return Ok(None) };
    let addressing = match args.s3_addressing {
        S3Addressing::Path => Addressing::Path,
        S3Addressing::Virtual => Addressing::Virtual,
    };
    let is_number = endpoint.host().trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    if is_number && addressing == Addressing::Virtual {
        let text = "--s3-addressing virtual needs a name in --s3-endpoint: buckets go before it";
        return Err(Error::Refused(text.to_owned()));
    }
    let keys = keys(args)?;
    let (region, buckets) = (args.s3_region.clone(), args.s3_buckets.clone());
    Ok(Some(ObjectStore { endpoint, region, addressing, keys, buckets }))
}

fn keys(args: &ObjectStoreArgs) -> Result<StoreKeys, Error> {
    if args.s3_unsigned {
        return Ok(StoreKeys::Unsigned);
    }
    if let Some(path) = &args.s3_credentials {
        // So that a wrong name is said now and not by the first task that needs it.
        if let Err(why) = std::fs::read(path) {
            let path = path.display();
            return Err(Error::Refused(format!("--s3-credentials {path} can't be read: {why}")));
        }
        return Ok(StoreKeys::File(path.clone()));
    }
    let Some((id, secret)) = args.given() else {
        return Err(Error::Refused(
            "--s3-endpoint needs the store's keys: --s3-credentials FILE, or LONGSHORE_S3_ACCESS_KEY_ID and \
             LONGSHORE_S3_SECRET_ACCESS_KEY in the environment, or --s3-unsigned for a store that asks for none"
                .to_owned(),
        ));
    };
    Ok(StoreKeys::Given(Credentials {
        access_key: id.to_owned(),
        secret: Token::from_text(secret.to_owned()),
        session_token: None,
    }))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Told {
        #[command(flatten)]
        store: ObjectStoreArgs,
    }

    fn told(words: &[&str]) -> Result<Option<ObjectStore>, Error> {
        of(&Told::try_parse_from(std::iter::once(&"x").chain(words)).unwrap().store)
    }

    #[test]
    fn a_store_is_named_with_its_keys_or_said_to_need_none() {
        assert!(told(&[]).unwrap().is_none());
        let endpoint = ["--s3-endpoint", "http://10.0.0.9:9000"];
        let with = |more: &[&str]| told(&[&endpoint, more].concat());
        assert!(with(&[]).unwrap_err().to_string().contains("--s3-unsigned"));
        let store = with(&["--s3-unsigned", "--s3-bucket", "conf=*"]).unwrap().unwrap();
        assert!(matches!(store.keys, StoreKeys::Unsigned));
        assert_eq!((store.addressing, store.buckets.len()), (Addressing::Path, 1));
        let keys = ["--s3-access-key-id", "a", "--s3-secret-access-key", "geheim"];
        let store = with(&keys).unwrap().unwrap();
        assert!(matches!(&store.keys, StoreKeys::Given(keys) if keys.access_key == "a"));
        assert!(!format!("{store:?}").contains("geheim"));
        let missing = with(&["--s3-credentials", "/no/such"]).unwrap_err().to_string();
        assert!(missing.contains("/no/such"), "{missing}");
        assert!(with(&["--s3-unsigned", "--s3-addressing", "virtual"]).is_err());
        for alone in
            [["--s3-unsigned"].as_slice(), &["--s3-region", "x"], &["--s3-bucket", "abc=*"]]
        {
            assert!(Told::try_parse_from(std::iter::once(&"x").chain(alone)).is_err(), "{alone:?}");
        }
    }

    #[test]
    fn another_process_is_told_the_same_and_no_secret_by_its_arguments() {
        let words = [
            "x",
            "--s3-endpoint",
            "https://s3.lan/p",
            "--s3-region",
            "garage",
            "--s3-addressing",
            "virtual",
            "--s3-bucket",
            "conf=111111111111",
            "--s3-access-key-id",
            "a",
            "--s3-secret-access-key",
            "geheim",
        ];
        let first = Told::try_parse_from(words).unwrap().store;
        let args = first.to_args();
        assert!(!format!("{args:?} {first:?}").contains("geheim"));
        let again = Told::try_parse_from(std::iter::once("x".into()).chain(args)).unwrap().store;
        assert_eq!(again.to_args(), first.to_args());
        assert_eq!(first.to_env().len(), 2);
    }
}
