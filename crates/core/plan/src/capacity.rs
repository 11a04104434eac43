//! Capacity provider strategies: which provider each new task goes to.
//!
//! The base is filled first, the rest follows the weights: each task goes to the provider that has the
//! fewest tasks beyond its base for its weight. What runs already counts, so that a service that grows
//! task by task ends where one that starts at once does.

use model::StrategyItem;

/// The provider of each of `count` new tasks, where `running` tells how many an item's provider has
/// already. Ties go to the item named first. Empty if there is no item at all.
pub fn share(
    strategy: &[StrategyItem],
    running: impl Fn(&StrategyItem) -> u32,
    count: usize,
) -> Vec<&StrategyItem> {
    let mut shares: Vec<Share<'_>> =
        strategy.iter().map(|item| Share { item, tasks: running(item) }).collect();
    std::iter::from_fn(|| {
        let next = next(&shares)?;
        let share = &mut shares[next];
        share.tasks = share.tasks.saturating_add(1);
        Some(share.item)
    })
    .take(count)
    .collect()
}

struct Share<'s> {
    item: &'s StrategyItem,
    tasks: u32,
}

impl Share<'_> {
    /// Whether one more task here is less of this item's share than one more there is of the other's.
    fn is_behind(&self, other: &Self) -> bool {
        // Compares tasks/weight without dividing.
        let scaled = |of: &Self, by: &Self| {
            let beyond_base = u64::from(of.tasks.saturating_sub(of.item.base)) + 1;
            beyond_base * u64::from(by.item.weight)
        };
        scaled(self, other) < scaled(other, self)
    }
}

fn next(shares: &[Share<'_>]) -> Option<usize> {
    if let Some(short) = shares.iter().position(|share| share.tasks < share.item.base) {
        return Some(short);
    }
    let weighed = shares.iter().enumerate().filter(|(_, share)| 0 < share.item.weight);
    let behind = weighed.reduce(|best, each| if each.1.is_behind(best.1) { each } else { best });
    // A single provider needs no weight.
    behind.or_else(|| shares.iter().enumerate().next()).map(|(index, _)| index)
}
