//! CloudWatch's metrics: samples by metric and unit, put together by second, minute, five minutes and hour.
//!
//! All is in memory, in rings of points that are bounded in time and number ([`limits`]), and on disk as a snapshot and a
//! journal of what came after it. What is put is durable once [`Metrics::put`] returns; what is noted by the way
//! ([`Metrics::note`]) may be lost with the machine, up to some seconds of it. Who reads waits for nobody who waits for the
//! disk: writers take turns at that, and hold what readers need for as long as they change it.
//!
//! **Invariant:** a sample that was put counts once, whether or not the region was killed since.

mod disk;
pub mod limits;
mod series;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longshore_types::{AccountId, Clock, StatisticSet, Timestamp};
use serde::{Deserialize, Serialize};

use disk::Disk;
use limits::{
    ENCODED_AT_ONCE, JOURNAL_BYTES_MAX, LISTED_S, NAME_BYTES_MAX, NOTED_AT_ONCE, POINTS_MAX,
    SERIES_MAX, SHARE_STEPS,
};
use series::Series;

/// The steps that raise a directory to the version of this release.
const FORMAT_STEPS: &[files::format::Step] = &[];

/// Names a metric.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricId {
    pub account: AccountId,
    pub namespace: String,
    pub name: String,
    pub dimensions: BTreeMap<String, String>,
}

impl MetricId {
    /// Whether callers put it. Those of `AWS/` come by themselves, and as many as there are things that they are of.
    fn is_put(&self) -> bool {
        !self.namespace.starts_with("AWS/")
    }

    /// Whether a dimension is among its own, of any value or of one.
    pub fn has(&self, name: &str, value: Option<&str>) -> bool {
        self.dimensions.get(name).is_some_and(|its| value.is_none_or(|value| its == value))
    }
}

/// A metric's samples of one unit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct SeriesId {
    metric: MetricId,
    unit: String,
}

impl SeriesId {
    /// What comes before all series of an account.
    fn least(account: AccountId) -> Self {
        let metric = MetricId {
            account,
            namespace: String::new(),
            name: String::new(),
            dimensions: BTreeMap::new(),
        };
        Self { metric, unit: String::new() }
    }
}

/// The bytes of a series' names.
fn name_bytes(metric: &MetricId, unit: &str) -> usize {
    let dimensions = metric.dimensions.iter().map(|(name, value)| name.len() + value.len());
    metric.namespace.len() + metric.name.len() + unit.len() + dimensions.sum::<usize>()
}

/// Samples of one time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Datum {
    pub metric: MetricId,
    pub unit: String,
    pub at: Timestamp,
    pub set: StatisticSet,
    /// Whether it can be asked for by the second.
    pub is_fine: bool,
}

/// Why samples were not taken.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    #[error("an account has up to {SERIES_MAX} metrics")]
    TooMany,
    #[error(
        "the names, dimensions and units of an account's metrics have up to {NAME_BYTES_MAX} bytes together"
    )]
    TooLongNames,
    #[error("what is put at once is too long to be written down: put less at once")]
    TooLong,
    #[error("a metric's samples are numbers, and neither endless nor none")]
    NotANumber,
    #[error("failed to write metrics down")]
    Disk(#[source] io::Error),
}

/// The store.
pub struct Metrics {
    clock: Arc<dyn Clock>,
    /// Whoever changes what there is has this first, and for as long as it takes.
    disk: Mutex<Disk>,
    all: Mutex<All>,
}

#[derive(Debug, Default)]
struct All {
    series: BTreeMap<SeriesId, Series>,
    counts: BTreeMap<AccountId, Count>,
    points: usize,
    /// Up to so many points nothing is gained by looking for some to drop: the last look found too few.
    points_spared: usize,
}

/// What an account has.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Count {
    /// Of series that are put.
    series: usize,
    name_bytes: usize,
    /// Of all its series.
    points: usize,
}

impl Count {
    fn add(&mut self, id: &SeriesId) {
        if id.metric.is_put() {
            self.series += 1;
            self.name_bytes += name_bytes(&id.metric, &id.unit);
        }
    }

    fn take(&mut self, id: &SeriesId) {
        if id.metric.is_put() {
            self.series = self.series.saturating_sub(1);
            self.name_bytes = self.name_bytes.saturating_sub(name_bytes(&id.metric, &id.unit));
        }
    }
}

/// The most that each may have of `most`, where those that have less leave the rest of theirs to the others.
fn fair_share(has: impl Iterator<Item = usize>, most: usize) -> usize {
    let mut has: Vec<usize> = has.collect();
    has.sort_unstable();
    let (mut left, count) = (most, has.len());
    for (position, its) in has.into_iter().enumerate() {
        let share = left / (count - position);
        if share < its {
            return share;
        }
        left -= its;
    }
    usize::MAX
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("series", &self.all().series.len()).finish_non_exhaustive()
    }
}

impl All {
    /// Takes a series in as it was written down.
    fn take_series(&mut self, id: SeriesId, series: Series) {
        let count = self.counts.entry(id.metric.account).or_default();
        count.add(&id);
        count.points += series.len();
        self.points += series.len();
        self.series.insert(id, series);
    }

    fn take(&mut self, datum: Datum, now_s: u64) {
        let Datum { metric, unit, at, set, is_fine } = datum;
        let count = self.counts.entry(metric.account).or_default();
        let id = SeriesId { metric, unit };
        if !self.series.contains_key(&id) {
            count.add(&id);
        }
        let series = self.series.entry(id).or_default();
        let points = series.add(at.seconds(), &set, is_fine, now_s);
        count.points += points;
        self.points += points;
    }

    /// Whether an account may have metrics with these.
    fn check(&self, data: &[Datum]) -> Result<(), PutError> {
        let bytes_at_most: usize = data.iter().map(|it| name_bytes(&it.metric, &it.unit)).sum();
        let mut new: BTreeSet<(&MetricId, &str)> = BTreeSet::new();
        let mut added: BTreeMap<AccountId, Count> = BTreeMap::new();
        for datum in data {
            let account = datum.metric.account;
            let has = self.counts.get(&account).copied().unwrap_or_default();
            // Far from it nothing is looked up.
            let is_far = has.series + data.len() <= SERIES_MAX
                && has.name_bytes + bytes_at_most <= NAME_BYTES_MAX;
            let id = (&datum.metric, datum.unit.as_str());
            if is_far || self.of(id.0, Some(id.1)).next().is_some() || !new.insert(id) {
                continue;
            }
            let added = added.entry(account).or_default();
            added.series += 1;
            added.name_bytes += name_bytes(id.0, id.1);
            if SERIES_MAX < has.series + added.series {
                return Err(PutError::TooMany);
            }
            if NAME_BYTES_MAX < has.name_bytes + added.name_bytes {
                return Err(PutError::TooLongNames);
            }
        }
        Ok(())
    }

    /// Forgets what is too old.
    fn forget(&mut self, now_s: u64) {
        let Self { series, counts, points, .. } = self;
        series.retain(|id, series| {
            let gone = series.forget(now_s);
            let is_kept = 0 < series.len();
            *points = points.saturating_sub(gone);
            if let Some(count) = counts.get_mut(&id.metric.account) {
                count.points = count.points.saturating_sub(gone);
                if !is_kept {
                    count.take(id);
                }
            }
            is_kept
        });
        counts.retain(|_, count| *count != Count::default());
    }

    /// Where all points are more than `most`, drops the oldest of the accounts that have more than their share, and leaves some
    /// room. Others keep what they have. Where so many metrics are there that even their last points are more, it is tried
    /// again once there are a sixteenth more.
    fn shorten(&mut self, most: usize, now_s: u64) {
        if self.points <= most.max(self.points_spared) {
            return;
        }
        let share = fair_share(self.counts.values().map(|count| count.points), most / 4 * 3);
        let Self { series, counts, points, .. } = self;
        for (account, count) in counts.iter_mut().filter(|(_, count)| share < count.points) {
            for step in 1..=SHARE_STEPS {
                let its = series.range_mut(SeriesId::least(*account)..);
                let its = its.take_while(|(id, _)| id.metric.account == *account);
                let gone: usize = its.map(|(_, series)| series.cut(step, now_s)).sum();
                *points = points.saturating_sub(gone);
                count.points = count.points.saturating_sub(gone);
                if count.points <= share {
                    break;
                }
            }
        }
        self.points_spared = if most < self.points { self.points + most / 16 } else { 0 };
    }

    /// The series of a metric, of one unit or of all.
    fn of<'a>(
        &'a self,
        metric: &MetricId,
        unit: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a SeriesId, &'a Series)> + use<'a> {
        let metric = metric.clone();
        let first = SeriesId { metric: metric.clone(), unit: String::new() };
        let range = self.series.range((Bound::Included(first), Bound::Unbounded));
        let its = range.take_while(move |(id, _)| id.metric == metric);
        its.filter(move |(id, _)| unit.is_none_or(|unit| id.unit == unit))
    }
}

/// Others could not be read again.
fn is_of_numbers(datum: &Datum) -> bool {
    let StatisticSet { count, sum, min, max } = datum.set;
    [count, sum, min, max].into_iter().all(f64::is_finite)
}

impl Metrics {
    /// Opens the store in a directory, which is created.
    pub fn open(dir: &Path, clock: Arc<dyn Clock>) -> io::Result<Self> {
        files::private::make_dirs(dir)?;
        files::whole::sweep(dir)?;
        files::format::raise(dir, FORMAT_STEPS)?;
        let now_s = clock.now().seconds();
        let all = std::cell::RefCell::new(All::default());
        let disk = Disk::open(
            dir,
            |id, series| all.borrow_mut().take_series(id, series),
            |data| {
                let mut all = all.borrow_mut();
                data.into_iter().for_each(|datum| all.take(datum, now_s));
            },
        )?;
        let mut all = all.into_inner();
        all.forget(now_s);
        all.shorten(POINTS_MAX, now_s);
        Ok(Self { clock, disk: Mutex::new(disk), all: Mutex::new(all) })
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes samples in for good: all of them, or none. It waits for the disk.
    pub fn put(&self, data: Vec<Datum>) -> Result<(), PutError> {
        if !data.iter().all(is_of_numbers) {
            return Err(PutError::NotANumber);
        }
        let mut disk = self.disk();
        self.all().check(&data)?;
        self.take(&mut disk, data, true)
    }

    /// Takes samples in that come by themselves, of all accounts: those that are numbers. They are no caller's quota.
    pub fn note(&self, mut data: Vec<Datum>) -> Result<(), PutError> {
        data.retain(is_of_numbers);
        while !data.is_empty() {
            let rest = data.split_off(data.len().min(NOTED_AT_ONCE));
            self.take(&mut self.disk(), data, false)?;
            data = rest;
        }
        Ok(())
    }

    fn take(&self, disk: &mut Disk, data: Vec<Datum>, is_durable: bool) -> Result<(), PutError> {
        let now_s = self.clock.now().seconds();
        disk.write(&data, is_durable).map_err(|error| match error.kind() {
            io::ErrorKind::FileTooLarge => PutError::TooLong,
            _ => PutError::Disk(error),
        })?;
        let mut all = self.all();
        data.into_iter().for_each(|datum| all.take(datum, now_s));
        all.shorten(POINTS_MAX, now_s);
        Ok(())
    }

    /// Forgets what is too old, and puts a long journal together. To be called now and then; it waits for the disk.
    pub fn tidy(&self) -> io::Result<()> {
        let now_s = self.clock.now().seconds();
        let mut disk = self.disk();
        self.all().forget(now_s);
        match disk.is_due(JOURNAL_BYTES_MAX) {
            true => self.checkpoint(&mut disk),
            false => Ok(()),
        }
    }

    /// Writes everything down anew. Nothing changes meanwhile, and so it is read a part at a time.
    fn checkpoint(&self, disk: &mut Disk) -> io::Result<()> {
        disk.checkpoint(|out| {
            let mut after: Option<SeriesId> = None;
            loop {
                let all = self.all();
                let first = after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
                let range = all.series.range((first, Bound::Unbounded));
                let mut last = None;
                for (id, series) in range.take(ENCODED_AT_ONCE) {
                    disk::put_series(out, id, series)?;
                    last = Some(id);
                }
                let Some(last) = last.cloned() else { return Ok(()) };
                after = Some(last);
            }
        })
    }

    /// The samples of `count` periods from `start` on, of one unit or of all.
    pub fn read(
        &self,
        metric: &MetricId,
        unit: Option<&str>,
        (start, period_s): (Timestamp, u32),
        count: usize,
    ) -> Vec<Option<StatisticSet>> {
        let mut out = vec![None; count];
        let now_s = self.clock.now().seconds();
        let all = self.all();
        for (_, series) in all.of(metric, unit) {
            series.read(start.seconds(), u64::from(period_s.max(1)), now_s, &mut out);
        }
        out
    }

    /// The units of a metric's samples.
    pub fn units(&self, metric: &MetricId) -> Vec<String> {
        self.all().of(metric, None).map(|(id, _)| id.unit.clone()).collect()
    }

    /// The metrics of an account that had samples of late and that `is_asked` for, in order and after one, as many as
    /// `count`.
    pub fn list(
        &self,
        account: AccountId,
        after: Option<&MetricId>,
        count: usize,
        is_asked: impl Fn(&MetricId) -> bool,
        since: Option<Timestamp>,
    ) -> Vec<MetricId> {
        let now_s = self.clock.now().seconds();
        let since_s = since.map_or(now_s.saturating_sub(LISTED_S), Timestamp::seconds);
        let first = after.map_or_else(
            || SeriesId::least(account),
            |metric| SeriesId { metric: metric.clone(), unit: String::new() },
        );
        let all = self.all();
        let range = all.series.range((Bound::Included(first), Bound::Unbounded));
        let mut found: Vec<MetricId> = Vec::new();
        for (id, series) in range.take_while(|(id, _)| id.metric.account == account) {
            let metric = &id.metric;
            let is_known = Some(metric) == after || found.last() == Some(metric);
            if is_known || !is_asked(metric) || series.last_s().is_none_or(|last| last < since_s) {
                continue;
            }
            found.push(metric.clone());
            if count <= found.len() {
                break;
            }
        }
        found
    }
}

#[cfg(test)]
mod tests;
