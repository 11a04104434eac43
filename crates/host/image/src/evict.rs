//! Which images make room for others: the least recently used first, and none that something needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use longshore_types::Digest;

use crate::store::ImageRecord;

/// The images that go so that the layers of the others take `bytes_max` at most, or as little as they can: those that
/// are needed stay. A layer that several images share counts once, and goes with the last of them.
pub(crate) fn beyond<'r>(
    images: impl Iterator<Item = (&'r ImageRecord, bool)>,
    bytes_of: impl Fn(&Digest) -> u64,
    bytes_max: u64,
) -> Vec<ImageRecord> {
    let mut uses: BTreeMap<Digest, usize> = BTreeMap::new();
    let mut unneeded = Vec::new();
    for (record, is_needed) in images {
        for layer in layers_of(record) {
            *uses.entry(layer).or_default() += 1;
        }
        if !is_needed {
            unneeded.push(record);
        }
    }
    let mut bytes: u64 = uses.keys().map(&bytes_of).sum();
    unneeded.sort_by_key(|record| (record.last_used, record.digest));
    let mut gone = Vec::new();
    for record in unneeded {
        if bytes <= bytes_max {
            break;
        }
        for layer in layers_of(record) {
            if let Some(count) = uses.get_mut(&layer) {
                *count -= 1;
                if *count == 0 {
                    bytes = bytes.saturating_sub(bytes_of(&layer));
                }
            }
        }
        gone.push(record.clone());
    }
    gone
}

fn layers_of(record: &ImageRecord) -> BTreeSet<Digest> {
    record.diff_ids.iter().copied().collect()
}

/// What a layer's files take of the disk. What cannot be looked at counts as nothing.
pub(crate) fn tree_bytes(root: &Path) -> u64 {
    let mut bytes = 0;
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            let Ok(about) = entry.metadata() else { continue };
            bytes += about.blocks() * 512;
            if about.is_dir() {
                dirs.push(entry.path());
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use longshore_types::Timestamp;

    use super::*;

    fn layer(number: u8) -> Digest {
        Digest::Sha256([number; 32])
    }

    fn image(number: u8, last_used: u64, layers: &[u8]) -> ImageRecord {
        ImageRecord {
            digest: Digest::Sha256([100 + number * 10; 32]),
            manifest: Digest::Sha256([101 + number * 10; 32]),
            config: Digest::Sha256([102 + number * 10; 32]),
            diff_ids: layers.iter().map(|it| layer(*it)).collect(),
            layers: Vec::new(),
            given_by: BTreeSet::new(),
            bytes: 0,
            pulled_at: Timestamp(0),
            last_used: Timestamp(last_used),
        }
    }

    #[test]
    fn the_least_recently_used_go_first_and_none_that_is_needed() {
        let images =
            [image(1, 10, &[1]), image(2, 30, &[2]), image(3, 20, &[3]), image(4, 5, &[4])];
        let gone = |needed: &[usize], bytes_max| -> Vec<u64> {
            let with = images.iter().enumerate().map(|(at, it)| (it, needed.contains(&at)));
            beyond(with, |_| 100, bytes_max).iter().map(|it| it.last_used.0).collect()
        };
        assert_eq!(gone(&[], 400), [0; 0], "they fit");
        assert_eq!(gone(&[], 399), [5]);
        assert_eq!(gone(&[], 200), [5, 10]);
        assert_eq!(gone(&[3], 200), [10, 20], "the oldest is in use");
        assert_eq!(gone(&[0, 1, 2, 3], 0), [0; 0]);
        assert_eq!(gone(&[1], 0), [5, 10, 20], "as little as can be");
    }

    #[test]
    fn a_shared_layer_counts_once_and_goes_with_the_last_image_that_has_it() {
        let images = [image(1, 1, &[1, 2, 2]), image(2, 2, &[1, 3]), image(3, 3, &[4])];
        let with = || images.iter().map(|it| (it, false));
        assert_eq!(beyond(with(), |_| 100, 400).len(), 0);
        assert_eq!(beyond(with(), |_| 100, 300).len(), 1);
        assert_eq!(beyond(with(), |_| 100, 299).len(), 2, "the base goes with the second");
        assert_eq!(beyond(with(), |_| 100, 100).len(), 2);
    }
}
