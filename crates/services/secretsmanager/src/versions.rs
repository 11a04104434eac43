//! How a secret's versions and their stages change: decisions on one row.
//!
//! **Invariant:** a stage is on one version at most; as long as there is a version, one is current unless its value was
//! never set.

use longshore_types::Timestamp;
use model::Secret;
use model::secret::{CURRENT, PREVIOUS};

use crate::limits::{VERSION_AGE_MS_MIN, VERSIONS_MAX};

/// Moves a stage to a version. What was current before is the previous one then.
pub(crate) fn move_stage(secret: &mut Secret, stage: &str, version: &str, now: Timestamp) {
    let before = take_stage(secret, stage);
    if stage == CURRENT && before.as_deref() != Some(version) {
        secret.current_since = Some(now);
    }
    if let Some(info) = secret.versions.get_mut(version) {
        info.stages.insert(stage.to_owned());
    }
    if let Some(before) = before.filter(|before| stage == CURRENT && before != version) {
        take_stage(secret, PREVIOUS);
        if let Some(info) = secret.versions.get_mut(&before) {
            info.stages.insert(PREVIOUS.to_owned());
        }
        if let Some(info) = secret.versions.get_mut(version) {
            info.stages.remove(PREVIOUS);
        }
    }
}

/// Takes a stage away from the version that has it.
pub(crate) fn take_stage(secret: &mut Secret, stage: &str) -> Option<String> {
    let holder = secret.staged(stage)?.to_owned();
    secret.versions.get_mut(&holder)?.stages.remove(stage);
    Some(holder)
}

/// The versions that make room for more: without a stage, old enough, the oldest first. `None`: there is no room.
pub(crate) fn superfluous(secret: &Secret, now: Timestamp) -> Option<Vec<String>> {
    let over = secret.versions.len().saturating_sub(VERSIONS_MAX);
    let mut old: Vec<(Timestamp, &String)> = secret
        .versions
        .iter()
        .filter(|(_, info)| info.stages.is_empty())
        .filter(|(_, info)| VERSION_AGE_MS_MIN <= now.since_ms(info.created_at))
        .map(|(id, info)| (info.created_at, id))
        .collect();
    old.sort();
    if old.len() < over {
        return None;
    }
    Some(old.into_iter().take(over).map(|(_, id)| id.clone()).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use longshore_types::Uuid;
    use model::secret::VersionInfo;

    use super::*;

    const NOW: Timestamp = Timestamp(7);

    fn secret(versions: usize) -> Secret {
        let version = |n: usize| {
            let created_at = Timestamp(u64::try_from(n).unwrap());
            let key = Some(Uuid::from_random([1; 16]));
            let info = VersionInfo { created_at, stages: [].into(), accessed_on: None, key };
            (format!("v{n:03}"), info)
        };
        Secret {
            account: "000000000000".parse().unwrap(),
            name: "db".into(),
            uid: Uuid::from_random([2; 16]),
            suffix: "abcdef".to_owned(),
            description: None,
            kms_key: None,
            created_at: Timestamp(0),
            changed_at: Timestamp(0),
            accessed_on: None,
            deletion: None,
            tags: BTreeMap::new(),
            policy: None,
            rotation: None,
            current_since: None,
            versions: (0..versions).map(version).collect(),
        }
    }

    #[test]
    fn what_was_current_is_the_previous_one_and_no_stage_is_twice() {
        let mut it = secret(3);
        move_stage(&mut it, CURRENT, "v000", NOW);
        assert_eq!((it.staged(CURRENT), it.staged(PREVIOUS)), (Some("v000"), None));
        move_stage(&mut it, CURRENT, "v000", Timestamp(8));
        assert_eq!(it.current_since, Some(NOW), "it is current since it became that");
        move_stage(&mut it, CURRENT, "v001", NOW);
        move_stage(&mut it, CURRENT, "v001", NOW);
        assert_eq!((it.staged(CURRENT), it.staged(PREVIOUS)), (Some("v001"), Some("v000")));
        move_stage(&mut it, CURRENT, "v002", NOW);
        assert_eq!((it.staged(CURRENT), it.staged(PREVIOUS)), (Some("v002"), Some("v001")));
        assert!(it.versions["v000"].stages.is_empty());
        move_stage(&mut it, CURRENT, "v001", NOW);
        assert_eq!((it.staged(CURRENT), it.staged(PREVIOUS)), (Some("v001"), Some("v002")));
        move_stage(&mut it, "blue", "v001", NOW);
        move_stage(&mut it, "blue", "v000", NOW);
        assert_eq!(it.staged("blue"), Some("v000"));
        assert_eq!(it.staged(CURRENT), Some("v001"));
    }

    #[test]
    fn the_oldest_versions_without_a_stage_go_but_none_of_today() {
        let mut it = secret(VERSIONS_MAX + 2);
        move_stage(&mut it, CURRENT, "v000", NOW);
        let later = Timestamp(VERSION_AGE_MS_MIN + 1_000);
        assert_eq!(superfluous(&it, later), Some(vec!["v001".to_owned(), "v002".to_owned()]));
        assert_eq!(superfluous(&it, Timestamp(1_000)), None, "they are of today");
        assert_eq!(superfluous(&secret(VERSIONS_MAX), later), Some(vec![]));
    }
}
