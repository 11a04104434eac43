//! What is kept of the samples of a metric.

use serde::{Deserialize, Serialize};

/// Samples of one time, put together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatisticSet {
    pub count: f64,
    pub sum: f64,
    pub min: f64,
    pub max: f64,
}

impl StatisticSet {
    /// One sample.
    pub fn one(value: f64) -> Self {
        Self::of(value, 1.0)
    }

    /// So many samples of one value.
    pub fn of(value: f64, count: f64) -> Self {
        Self { count, sum: value * count, min: value, max: value }
    }

    /// Puts samples to these.
    pub fn add(&mut self, more: &Self) {
        self.count += more.count;
        self.sum += more.sum;
        self.min = self.min.min(more.min);
        self.max = self.max.max(more.max);
    }

    /// The mean; none of no samples.
    pub fn average(&self) -> f64 {
        if self.count > 0.0 { self.sum / self.count } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_put_together_are_the_set_of_all_samples() {
        let mut set = StatisticSet::one(4.0);
        set.add(&StatisticSet::of(1.0, 2.0));
        assert_eq!(set, StatisticSet { count: 3.0, sum: 6.0, min: 1.0, max: 4.0 });
        assert_eq!(set.average(), 2.0);
    }
}
