//! `longshore configure`: a profile in the AWS CLI's own files.
//!
//! Only the profile's own section is written; every other line of the files stays as it is.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use files::whole::{self, Durability};

use crate::cli::Configure;
use crate::commands::{Environment, root_credentials};
use crate::data_dir::DataDir;
use crate::error::Error;

pub(crate) fn run(
    data: &DataDir,
    environment: &Environment,
    args: &Configure,
) -> Result<(), Error> {
    let region = data.region()?;
    let root = root_credentials(data)?;
    let profile = Profile {
        name: &args.profile,
        region: region.region.as_str(),
        endpoint: &region.told(),
        authority: region.authority_for_clients().map(Path::new),
    };
    let keys = [
        ("aws_access_key_id", root.access_key.as_str()),
        ("aws_secret_access_key", root.secret.reveal()),
    ];
    profile.write(environment, &keys)?;
    println!(
        "wrote the profile {0}; use it with: aws --profile {0} ecs list-clusters",
        args.profile
    );
    Ok(())
}

/// A profile of the AWS CLI: where a region is.
pub(super) struct Profile<'a> {
    pub(super) name: &'a str,
    pub(super) region: &'a str,
    pub(super) endpoint: &'a str,
    /// The file of whom to believe, unless the system knows it.
    pub(super) authority: Option<&'a Path>,
}

impl Profile<'_> {
    /// Writes it, with keys.
    pub(super) fn write(
        &self,
        environment: &Environment,
        keys: &[(&str, &str)],
    ) -> Result<(), Error> {
        let in_home =
            |file: &str| environment.home.as_ref().map(|home| home.join(".aws").join(file));
        let config = environment.aws_config_file.clone().or_else(|| in_home("config"));
        let credentials =
            environment.aws_credentials_file.clone().or_else(|| in_home("credentials"));
        let (config, credentials) = config.zip(credentials).ok_or(Error::NoHome)?;
        let authority = self.authority.map(|path| path.display().to_string());
        let section = format!("profile {}", self.name);
        let mut settings = vec![("region", self.region), ("endpoint_url", self.endpoint)];
        settings.extend(authority.as_deref().map(|path| ("ca_bundle", path)));
        update(&config, &section, &settings)?;
        update(&credentials, self.name, keys)
    }
}

fn update(path: &PathBuf, section: &str, settings: &[(&str, &str)]) -> Result<(), Error> {
    let old = match fs::read_to_string(path) {
        Ok(old) => old,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(source) => return Err(Error::DataDir { path: path.clone(), source }),
    };
    write_private(path, &replace_section(&old, section, settings))
        .map_err(|source| Error::DataDir { path: path.clone(), source })
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    whole::write(path, text.as_bytes(), Durability::Synced)
}

/// The text with the section's settings replaced, or the section added at the end.
fn replace_section(old: &str, section: &str, settings: &[(&str, &str)]) -> String {
    let header = format!("[{section}]");
    let mut out = String::new();
    let mut is_inside = false;
    for line in old.lines() {
        if line.trim_start().starts_with('[') {
            is_inside = line.trim() == header;
        }
        if !is_inside {
            out.push_str(line);
            out.push('\n');
        }
    }
    if !out.is_empty() && !out.ends_with("\n\n") {
        out.push('\n');
    }
    out.push_str(&header);
    out.push('\n');
    for (name, value) in settings {
        out.push_str(&format!("{name} = {value}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_sections_stay_and_ours_is_replaced() {
        let old =
            "[default]\nregion = x\n\n[profile ls]\nregion = old\nkey = v\n[profile z]\na = b\n";
        let new = replace_section(old, "profile ls", &[("region", "new")]);
        assert_eq!(
            new,
            "[default]\nregion = x\n\n[profile z]\na = b\n\n[profile ls]\nregion = new\n"
        );
        assert_eq!(replace_section(&new, "profile ls", &[("region", "new")]), new);
        assert_eq!(replace_section("", "ls", &[("a", "b")]), "[ls]\na = b\n");
    }
}
