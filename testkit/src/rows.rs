//! Rows with little in them, and pairs of rows that must be written together or not at all.

use longshore_types::{AccountId, Timestamp};
use model::{AccountSetting, Cluster, ClusterStatus, SettingId, SettingPrincipal};

/// The account of every row here.
pub fn account() -> AccountId {
    "000000000000".parse().expect("twelve digits are an account id")
}

/// An empty cluster. `name` must be a cluster's name.
pub fn cluster(name: &str) -> Cluster {
    Cluster {
        account: account(),
        name: name.parse().expect("the name is a cluster's"),
        status: ClusterStatus::Active,
        created_at: Timestamp(0),
        deleted_at: None,
        settings: [].into(),
        configuration: None,
        capacity_providers: Vec::new(),
        default_strategy: Vec::new(),
        tags: [].into(),
        connect_namespace: None,
    }
}

/// A setting that nothing reads.
pub fn setting(name: &str, value: &str) -> AccountSetting {
    let setting = SettingId { principal: SettingPrincipal::Default, name: name.to_owned() };
    AccountSetting { account: account(), setting, value: value.to_owned() }
}
