//! The envelope of an event.

use longshore_types::{AccountId, RegionName, Timestamp, Uuid};

use crate::Json;

/// Something that happened, as it is told to targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub id: Uuid,
    pub source: String,
    pub detail_type: String,
    pub account: AccountId,
    pub region: RegionName,
    pub time: Timestamp,
    pub resources: Vec<String>,
    /// An object.
    pub detail: Json,
}

impl Event {
    /// What patterns, paths and templates look at.
    pub fn to_value(&self) -> Json {
        let resources = self.resources.iter().map(|each| Json::from(each.as_str())).collect();
        let members = [
            ("version", Json::from("0")),
            ("id", Json::from(self.id.to_string())),
            ("detail-type", Json::from(self.detail_type.as_str())),
            ("source", Json::from(self.source.as_str())),
            ("account", Json::from(self.account.to_string())),
            ("time", Json::from(seconds(self.time))),
            ("region", Json::from(self.region.to_string())),
            ("resources", Json::List(resources)),
            ("detail", self.detail.clone()),
        ];
        Json::Object(members.map(|(key, value)| (key.to_owned(), value)).to_vec())
    }

    /// As targets get it.
    pub fn to_json(&self) -> String {
        self.to_value().to_string()
    }
}

/// `2026-11-29T11:20:07Z`
pub(crate) fn seconds(at: Timestamp) -> String {
    format!("{}Z", at.iso8601().get(..19).unwrap_or_default())
}
