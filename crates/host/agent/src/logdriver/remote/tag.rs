//! What a line says of where it comes from: tags with Docker's placeholders, and labels and variables that are wanted.

use std::collections::BTreeMap;

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::logdriver::OptionError;

/// A container as its log lines may name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunAbout {
    /// As Docker would call it.
    pub name: String,
    pub image: String,
    pub image_id: String,
    pub command: String,
    /// As ISO 8601 has it.
    pub created: String,
    /// The machine's name.
    pub host: String,
    /// Labels and variables that the driver's options ask for.
    pub extra: BTreeMap<String, String>,
}

/// Labels and variables of a container that the options `labels`, `labels-regex`, `env` and `env-regex` ask for.
pub(crate) fn extra(
    options: &BTreeMap<String, String>,
    labels: &BTreeMap<String, String>,
    environment: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, OptionError> {
    let mut found = BTreeMap::new();
    for (list, pattern, from) in
        [("labels", "labels-regex", labels), ("env", "env-regex", environment)]
    {
        let named: Vec<&str> =
            options.get(list).map(|text| text.split(',').collect()).unwrap_or_default();
        let pattern = match options.get(pattern).filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => Some(Regex::new(text).map_err(|why| OptionError::Pattern {
                key: pattern,
                pattern: text.clone(),
                why,
            })?),
        };
        for (key, value) in from {
            let is_matched = pattern.as_ref().is_some_and(|pattern| pattern.is_match(key));
            if named.contains(&&**key) || is_matched {
                found.insert(key.clone(), value.clone());
            }
        }
    }
    Ok(found)
}

/// A tag with its placeholders filled in; without one, the beginning of the container's id.
pub(in crate::logdriver) fn expand(
    options: &BTreeMap<String, String>,
    id: &str,
    about: &RunAbout,
) -> Result<String, OptionError> {
    let template = options.get("tag").map_or("{{.ID}}", String::as_str);
    let mut tag = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        tag.push_str(before);
        let unknown = || OptionError::Tag { template: template.to_owned() };
        let (name, after) = after.split_once("}}").ok_or_else(unknown)?;
        let short = |text: &str| text.chars().take(12).collect::<String>();
        let image_id = about.image_id.strip_prefix("sha256:").unwrap_or(&about.image_id);
        tag.push_str(&match name.trim() {
            ".ID" => short(id),
            ".FullID" => id.to_owned(),
            ".Name" => about.name.clone(),
            ".ImageID" => short(image_id),
            ".ImageFullID" => about.image_id.clone(),
            ".ImageName" => about.image.clone(),
            ".DaemonName" => "docker".to_owned(),
            ".Command" => about.command.clone(),
            ".Hostname" => about.host.clone(),
            _ => return Err(unknown()),
        });
        rest = after;
    }
    tag.push_str(rest);
    // A newline in it would begin another message, of any priority, at who reads lines.
    Ok(tag.chars().map(|each| if each.is_control() { ' ' } else { each }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_tag_is_one_line() {
        let tag =
            expand(&options(&[("tag", "web\n<0>root: forged\t")]), "id", &RunAbout::default());
        assert_eq!(tag.unwrap(), "web <0>root: forged ");
    }

    #[test]
    fn a_tags_placeholders_are_those_of_docker() {
        let about = RunAbout {
            name: "web".into(),
            image_id: "sha256:0123456789abcdef".into(),
            ..RunAbout::default()
        };
        let tag = |template| expand(&options(&[("tag", template)]), "00112233445566-7", &about);
        assert_eq!(expand(&options(&[]), "00112233445566-7", &about).unwrap(), "001122334455");
        assert_eq!(tag("a/{{.Name}}/{{ .FullID }}").unwrap(), "a/web/00112233445566-7");
        assert_eq!(tag("{{.ImageID}}").unwrap(), "0123456789ab");
        assert_eq!(tag("").unwrap(), "");
        for wrong in ["{{.Nothing}}", "{{.ID", "{{if .ID}}x{{end}}"] {
            assert!(tag(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn labels_and_variables_are_named_or_fit_a_pattern() {
        let all = options(&[("team", "x"), ("tier", "y"), ("other", "z")]);
        let wanted = options(&[("labels", "team,none"), ("env-regex", "^o")]);
        let found = extra(&wanted, &all, &all).unwrap();
        assert_eq!(found, options(&[("team", "x"), ("other", "z")]));
        assert!(extra(&options(&[("labels-regex", "(")]), &all, &all).is_err());
    }
}
