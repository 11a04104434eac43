//! The public parameters of Systems Manager: Amazon's, the same for every account, below `/aws/service/`.
//!
//! They are no rows: nobody puts them, and they are found by their names and paths alone, as Amazon's are.

use std::sync::Arc;

use longshore_types::{AccountId, Uuid};
use model::parameter::{ParameterTier, ParameterValue};
use model::{Parameter, ParameterVersion};
use serde_json::json;

use crate::machine_images::{IMAGES, ImageSystem, MachineImage, PUBLISHED_AT};

const PATH: &str = "/aws/service";
const TEXT: &str = "text";
const IMAGE: &str = "aws:ec2:image";
/// Of the tags that AWS for Fluent Bit has in Amazon's public registry, those that move.
const FLUENT_BIT_TAGS: &[&str] =
    &["debug-latest", "init-debug-latest", "init-latest", "latest", "stable"];
const FLUENT_BIT: &str = "public.ecr.aws/aws-observability/aws-for-fluent-bit";

/// Whether a name, or the path of some, is below Amazon's.
pub fn is_public(name: &str) -> bool {
    name.strip_prefix(PATH).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A parameter of everybody's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicParameter {
    pub name: String,
    pub value: String,
    data_type: &'static str,
}

impl PublicParameter {
    fn new(name: String, value: impl Into<String>, data_type: &'static str) -> Self {
        Self { name, value: value.into(), data_type }
    }

    /// As the row that an account of its own would have.
    pub fn row(&self, reader: AccountId) -> (Parameter, ParameterVersion) {
        let uid = Uuid::from_random([0; 16]);
        let parameter = Parameter {
            account: reader,
            name: self.name.as_str().into(),
            has_slash: false,
            uid,
            oldest: 1,
            latest: 1,
            labels: std::collections::BTreeMap::new(),
            tags: model::Tags::new(),
            expires_at: None,
            notices: Vec::new(),
        };
        let version = ParameterVersion {
            account: reader,
            id: parameter.version_id(1),
            value: ParameterValue::Text(self.value.clone()),
            description: None,
            allowed_pattern: None,
            tier: ParameterTier::Standard,
            data_type: self.data_type.to_owned(),
            policies: vec![],
            modified_at: PUBLISHED_AT,
            modified_by: String::new(),
        };
        (parameter, version)
    }
}

/// All of them, by name.
pub fn all(region: &str) -> Vec<PublicParameter> {
    let mut all: Vec<PublicParameter> = IMAGES.iter().flat_map(of_image).collect();
    all.extend(FLUENT_BIT_TAGS.iter().map(|tag| {
        let name = format!("{PATH}/aws-for-fluent-bit/{tag}");
        PublicParameter::new(name, format!("{FLUENT_BIT}:{tag}"), TEXT)
    }));
    let name = format!("{PATH}/global-infrastructure/regions/{region}");
    all.push(PublicParameter::new(name, region, TEXT));
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// The one of a name, as rows.
pub(crate) fn find(
    region: &str,
    reader: AccountId,
    name: &str,
) -> Option<(Arc<Parameter>, Arc<ParameterVersion>)> {
    let (parameter, version) = all(region).iter().find(|it| it.name == name)?.row(reader);
    Some((Arc::new(parameter), Arc::new(version)))
}

fn of_image(image: &'static MachineImage) -> Vec<PublicParameter> {
    let named = image.published_as.iter();
    let named = named.flat_map(|path| match (image.system, image.is_for_ecs) {
        (ImageSystem::Bottlerocket, _) => vec![
            PublicParameter::new(format!("{PATH}/{path}/latest/image_id"), image.id(), IMAGE),
            PublicParameter::new(
                format!("{PATH}/{path}/latest/image_version"),
                image.version(),
                TEXT,
            ),
        ],
        (ImageSystem::AmazonLinux2 | ImageSystem::AmazonLinux2023, true) => {
            recommended(image, &format!("{PATH}/{path}/recommended"))
        }
        (ImageSystem::AmazonLinux2 | ImageSystem::AmazonLinux2023, false) => {
            vec![PublicParameter::new(format!("{PATH}/{path}"), image.id(), IMAGE)]
        }
    });
    named.collect()
}

/// What ECS says of an image, in one and by each member.
fn recommended(image: &MachineImage, path: &str) -> Vec<PublicParameter> {
    let members = [
        ("ecs_agent_version", env!("CARGO_PKG_VERSION").to_owned()),
        ("ecs_runtime_version", "Longshore".to_owned()),
        ("image_id", image.id()),
        ("image_name", image.name()),
        ("image_version", image.version()),
        ("os", image.os().to_owned()),
    ];
    let mut whole = serde_json::Map::new();
    let mut each = Vec::new();
    for (member, value) in members {
        let data_type = if member == "image_id" { IMAGE } else { TEXT };
        each.push(PublicParameter::new(format!("{path}/{member}"), value.clone(), data_type));
        whole.insert(member.to_owned(), json!(value));
    }
    whole.insert("schema_version".to_owned(), json!(1));
    each.push(PublicParameter::new(format!("{path}/schema_version"), "1", TEXT));
    let whole = serde_json::Value::Object(whole).to_string();
    each.push(PublicParameter::new(path.to_owned(), whole, TEXT));
    each
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_public_below_amazons_path_alone() {
        assert!(is_public("/aws/service") && is_public("/aws/service/x"));
        assert!(!is_public("/aws/servicex") && !is_public("aws/service/x") && !is_public("/aws"));
    }

    #[test]
    fn every_image_is_led_to_by_the_parameter_that_it_names() {
        let all = all("us-east-1");
        assert!(all.windows(2).all(|pair| pair[0].name < pair[1].name), "each once, by name");
        for image in IMAGES {
            let name = image.parameter().unwrap();
            let found = all.iter().find(|it| it.name == name).unwrap();
            assert_eq!((found.value.as_str(), found.data_type), (image.id().as_str(), IMAGE));
        }
    }
}
