//! Which images of a repository its lifecycle policy lets expire.
//!
//! All rules look at all images. Then, from the first to the last, each takes those of the images it found that no
//! rule before it is about: an image belongs to the first rule whose selection it matches, whether that lets it expire or
//! not. What an index lists expires after the index only.

use std::collections::BTreeSet;

use longshore_types::{Digest, Timestamp};
use model::ecr::wildcard_matches as matches;

use super::rules::{Count, Rule, Selection};

const DAY_MS: u64 = 24 * 3_600_000;

/// An image as rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) digest: Digest,
    pub(crate) tags: Vec<String>,
    pub(crate) pushed_at: Timestamp,
    pub(crate) last_pull_at: Option<Timestamp>,
    /// Whether an index of the repository lists it.
    pub(crate) is_listed: bool,
}

/// An image that expires, by which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expired<'a> {
    pub(crate) image: &'a Image,
    pub(crate) priority: u64,
}

/// The images that expire at a moment, in the order in which they were pushed.
pub(crate) fn expired<'a>(rules: &[Rule], images: &'a [Image], now: Timestamp) -> Vec<Expired<'a>> {
    let mut youngest_first: Vec<&Image> = images.iter().collect();
    youngest_first.sort_by_key(|image| (std::cmp::Reverse(image.pushed_at), image.digest));
    let mut settled: BTreeSet<Digest> = BTreeSet::new();
    let mut expired = Vec::new();
    for rule in rules {
        let selected: Vec<&Image> =
            youngest_first.iter().copied().filter(|image| rule.selection.has(image)).collect();
        let found = rule.count.of(&selected, now);
        let own = found.into_iter().filter(|image| !settled.contains(&image.digest));
        let own = own.filter(|image| !image.is_listed);
        expired.extend(own.map(|image| Expired { image, priority: rule.priority }));
        settled.extend(selected.iter().map(|image| image.digest));
    }
    expired.sort_by_key(|each| (each.image.pushed_at, each.image.digest));
    expired
}

impl Selection {
    fn has(&self, image: &Image) -> bool {
        let tags = &image.tags;
        match self {
            Self::Any => true,
            Self::Untagged => tags.is_empty(),
            Self::Prefixes(all) => {
                all.iter().all(|prefix| tags.iter().any(|tag| tag.starts_with(prefix)))
            }
            Self::Patterns(all) => {
                all.iter().all(|pattern| tags.iter().any(|tag| matches(pattern, tag)))
            }
        }
    }
}

impl Count {
    /// Those of a rule's images, the youngest first, that are too many or too old.
    fn of<'a>(self, selected: &[&'a Image], now: Timestamp) -> Vec<&'a Image> {
        let is_old =
            |since: Timestamp, days: u64| days.saturating_mul(DAY_MS) <= now.since_ms(since);
        let those = selected.iter().copied();
        match self {
            Self::MoreThan(kept) => those.skip(kept).collect(),
            Self::PushedDays(days) => those.filter(|image| is_old(image.pushed_at, days)).collect(),
            Self::PulledDays(days) => {
                let used = |image: &Image| image.last_pull_at.unwrap_or(image.pushed_at);
                those.filter(|image| is_old(used(image), days)).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = DAY_MS;

    /// An image that was pushed on a day, with these tags.
    fn image(day: u8, tags: &[&str]) -> Image {
        Image {
            digest: Digest::Sha256([day; 32]),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            pushed_at: Timestamp(u64::from(day) * DAY),
            last_pull_at: None,
            is_listed: false,
        }
    }

    fn rule(priority: u64, selection: Selection, count: Count) -> Rule {
        Rule { priority, selection, count }
    }

    fn prefixes(texts: &[&str]) -> Selection {
        Selection::Prefixes(texts.iter().map(|text| (*text).to_owned()).collect())
    }

    /// The days of what expires on day 10, each with the rule.
    fn days(rules: &[Rule], images: &[Image]) -> Vec<(u64, u64)> {
        let now = Timestamp(10 * DAY);
        let expired = expired(rules, images, now);
        let again = super::expired(rules, images, now);
        assert_eq!(expired, again);
        expired.iter().map(|each| (each.image.pushed_at.0 / DAY, each.priority)).collect()
    }

    #[test]
    fn the_youngest_are_kept_and_the_old_expire() {
        let images = [image(1, &["a"]), image(5, &[]), image(9, &["b"])];
        let any = |count| [rule(1, Selection::Any, count)];
        assert_eq!(days(&any(Count::MoreThan(1)), &images), [(1, 1), (5, 1)]);
        assert_eq!(days(&any(Count::MoreThan(3)), &images), []);
        assert_eq!(days(&any(Count::PushedDays(5)), &images), [(1, 1), (5, 1)]);
        assert_eq!(days(&any(Count::PushedDays(6)), &images), [(1, 1)]);
        let untagged = [rule(1, Selection::Untagged, Count::PushedDays(1))];
        assert_eq!(days(&untagged, &images), [(5, 1)]);
        let mut pulled = images.clone();
        pulled[0].last_pull_at = Some(Timestamp(9 * DAY));
        assert_eq!(days(&any(Count::PulledDays(5)), &pulled), [(5, 1)]);
    }

    #[test]
    fn an_image_belongs_to_the_first_rule_that_selects_it() {
        let images =
            [image(1, &["prod1"]), image(2, &["prod2"]), image(3, &["dev"]), image(4, &[])];
        let rules = [
            rule(1, prefixes(&["prod"]), Count::MoreThan(1)),
            rule(2, Selection::Any, Count::MoreThan(1)),
        ];
        // The second rule counts them all, and takes what is not the first one's.
        assert_eq!(days(&rules, &images), [(1, 1), (3, 2)]);
    }

    #[test]
    fn all_prefixes_and_patterns_must_be_there() {
        let images = [image(1, &["alpha", "beta"]), image(2, &["alpha"]), image(3, &["beta-rc1"])];
        let both = [rule(1, prefixes(&["alpha", "beta"]), Count::PushedDays(1))];
        assert_eq!(days(&both, &images), [(1, 1)]);
        let patterns = Selection::Patterns(vec!["*a-rc*".to_owned()]);
        assert_eq!(days(&[rule(1, patterns, Count::PushedDays(1))], &images), [(3, 1)]);
    }

    #[test]
    fn what_an_index_lists_expires_after_the_index_only() {
        let mut images = [image(1, &[]), image(2, &["multi"])];
        images[0].is_listed = true;
        let all = [rule(1, Selection::Any, Count::PushedDays(1))];
        assert_eq!(days(&all, &images), [(2, 1)]);
    }
}
