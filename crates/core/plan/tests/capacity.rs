//! How tasks are shared among capacity providers.

use model::StrategyItem;
use plan::capacity::share;
use proptest::prelude::{Strategy, any, proptest};

fn item(name: &str, weight: u32, base: u32) -> StrategyItem {
    StrategyItem { capacity_provider: name.to_owned(), weight, base }
}

fn counts(strategy: &[StrategyItem], count: usize) -> Vec<usize> {
    let shared = share(strategy, |_| 0, count);
    assert_eq!(shared.len(), count);
    strategy.iter().map(|item| shared.iter().filter(|each| **each == item).count()).collect()
}

#[test]
fn the_base_comes_first_and_the_rest_follows_the_weights() {
    let strategy = [item("FARGATE", 1, 2), item("FARGATE_SPOT", 3, 0)];
    assert_eq!(counts(&strategy, 1), [1, 0]);
    assert_eq!(counts(&strategy, 2), [2, 0]);
    assert_eq!(counts(&strategy, 10), [4, 6]);
    assert_eq!(counts(&[item("FARGATE", 0, 0)], 3), [3]);
    assert_eq!(counts(&[item("FARGATE", 0, 1), item("FARGATE_SPOT", 1, 0)], 3), [1, 2]);
    assert!(share(&[], |_| 0, 3).is_empty());
}

#[test]
fn what_was_lost_is_replaced_where_it_is_missing() {
    let strategy = [item("base", 1, 2), item("spot", 4, 0)];
    let running = |item: &StrategyItem| if item.base > 0 { 1 } else { 9 };
    let names: Vec<_> =
        share(&strategy, running, 3).iter().map(|item| item.capacity_provider.as_str()).collect();
    assert_eq!(names, ["base", "base", "base"]);
}

fn strategy() -> impl Strategy<Value = Vec<StrategyItem>> {
    let weights = proptest::collection::vec(0_u32..1000, 1..6);
    (weights, any::<proptest::sample::Index>(), 0_u32..20).prop_map(|(weights, with_base, base)| {
        let with_base = with_base.index(weights.len());
        let items = weights.iter().enumerate();
        items
            .map(|(at, weight)| {
                item(&at.to_string(), *weight, if at == with_base { base } else { 0 })
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn a_service_that_grows_step_by_step_ends_where_one_that_starts_at_once_does(
        strategy in strategy(),
        steps in proptest::collection::vec(1_usize..20, 1..6),
    ) {
        let mut grown = vec![0_u32; strategy.len()];
        for step in &steps {
            let before = grown.clone();
            let running = |item: &StrategyItem| before[index(item)];
            for item in share(&strategy, running, *step) {
                grown[index(item)] += 1;
            }
        }
        let grown: Vec<usize> = grown.iter().map(|count| *count as usize).collect();
        assert_eq!(grown, counts(&strategy, steps.iter().sum()));
    }

    #[test]
    fn the_base_is_kept_and_no_provider_gets_less_than_its_share_rounded_down(
        strategy in strategy(),
        count in 0_usize..200,
    ) {
        let counts = counts(&strategy, count);
        let base = strategy.iter().map(|item| item.base as usize).sum::<usize>();
        let weights: u32 = strategy.iter().map(|item| item.weight).sum();
        if weights == 0 {
            return Ok(());
        }
        for (item, got) in strategy.iter().zip(&counts) {
            assert!(*got >= count.min(item.base as usize), "{item:?} got {got} of {count}");
            let beyond = count.saturating_sub(base);
            let floor = beyond * item.weight as usize / weights as usize;
            let own = got.saturating_sub(item.base as usize);
            assert!(own >= floor, "{item:?} got {own} of {beyond}, {floor} would be its share");
            assert!(item.weight > 0 || own == 0, "{item:?} got {own} without a weight");
        }
    }
}

fn index(item: &StrategyItem) -> usize {
    item.capacity_provider.parse().expect("named by number")
}
