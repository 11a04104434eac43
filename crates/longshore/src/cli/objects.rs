//! The S3-compatible store that tasks' environment files and FireLens configurations are read from.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use control::{BucketOwner, StoreEndpoint};
use longshore_types::RegionName;

/// Where the store's keys are in the environment, besides a file.
pub(crate) const ACCESS_KEY: &str = "LONGSHORE_S3_ACCESS_KEY_ID";
pub(crate) const SECRET_KEY: &str = "LONGSHORE_S3_SECRET_ACCESS_KEY";

#[derive(Args, Clone)]
pub(crate) struct ObjectStoreArgs {
    /// An S3-compatible store (Amazon's, MinIO, Garage, Ceph) that environment files and FireLens configurations are
    /// read from: https://HOST[:PORT][/PATH]. Who may read what is judged by the policies of this region
    #[arg(long, value_name = "URL")]
    pub(crate) s3_endpoint: Option<StoreEndpoint>,
    /// The region that requests to the store are signed for
    #[arg(long, value_name = "NAME", default_value = "us-east-1", requires = "s3_endpoint")]
    pub(crate) s3_region: RegionName,
    /// Whether the store finds buckets in the path or in the host's name
    #[arg(long, value_name = "HOW", default_value = "path", requires = "s3_endpoint")]
    pub(crate) s3_addressing: S3Addressing,
    /// A file with the store's keys, as ~/.aws/credentials has them in its section [default]; it is read for each
    /// request [default: LONGSHORE_S3_ACCESS_KEY_ID and LONGSHORE_S3_SECRET_ACCESS_KEY]
    #[arg(long, value_name = "FILE", requires = "s3_endpoint")]
    pub(crate) s3_credentials: Option<PathBuf>,
    /// Ask the store without keys: its buckets are open to who reaches it
    #[arg(long, requires = "s3_endpoint", conflicts_with = "s3_credentials")]
    pub(crate) s3_unsigned: bool,
    /// Whose users and roles may read a bucket as far as their policies let them; * is all accounts; may be given several
    /// times [default: every bucket is the first account's]
    #[arg(long = "s3-bucket", value_name = "BUCKET=ACCOUNT", requires = "s3_endpoint")]
    pub(crate) s3_buckets: Vec<BucketOwner>,
    #[arg(long, hide = true, env = ACCESS_KEY, hide_env_values = true)]
    s3_access_key_id: Option<String>,
    #[arg(long, hide = true, env = SECRET_KEY, hide_env_values = true)]
    s3_secret_access_key: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum S3Addressing {
    Path,
    Virtual,
}

impl ObjectStoreArgs {
    /// As the environment gave them.
    pub(crate) fn given(&self) -> Option<(&str, &str)> {
        let text = |text: &'_ Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        if !text(&self.s3_access_key_id) || !text(&self.s3_secret_access_key) {
            return None;
        }
        Some((self.s3_access_key_id.as_deref()?, self.s3_secret_access_key.as_deref()?))
    }

    /// The same again, for another process, whose directory may be another; without what must not be an argument.
    pub(crate) fn to_args(&self) -> Vec<OsString> {
        let Some(endpoint) = &self.s3_endpoint else { return Vec::new() };
        let addressing = match self.s3_addressing {
            S3Addressing::Path => "path",
            S3Addressing::Virtual => "virtual",
        };
        let mut told: Vec<OsString> = Vec::new();
        for (name, value) in [
            ("--s3-endpoint", endpoint.to_string()),
            ("--s3-region", self.s3_region.to_string()),
            ("--s3-addressing", addressing.to_owned()),
        ] {
            told.extend([name.into(), value.into()]);
        }
        if let Some(path) = &self.s3_credentials {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            told.extend(["--s3-credentials".into(), path.into_os_string()]);
        }
        if self.s3_unsigned {
            told.push("--s3-unsigned".into());
        }
        for bucket in &self.s3_buckets {
            told.extend(["--s3-bucket".into(), bucket.to_string().into()]);
        }
        told
    }

    /// What the environment of that other process has.
    pub(crate) fn to_env(&self) -> Vec<(OsString, OsString)> {
        let Some((id, secret)) = self.given() else { return Vec::new() };
        vec![(ACCESS_KEY.into(), id.into()), (SECRET_KEY.into(), secret.into())]
    }
}

impl std::fmt::Debug for ObjectStoreArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectStoreArgs").field("told", &self.to_args()).finish_non_exhaustive()
    }
}
