//! How metrics are kept on disk: a snapshot of all, and a journal of what came after it.
//!
//! The snapshot names its generation, and the journal of that generation goes on from it. A checkpoint begins the next
//! journal, and then writes its snapshot whole; whatever journal is of another generation is of no use any more. While it is
//! not known which snapshot is there, as its write failed half way, nothing is written to either journal. Without a snapshot all
//! journals go on from nothing, in their order; one that is not whole is set aside, since metrics are not worth that all else
//! stands still, and so is a journal that the disk cannot read. A torn tail of a
//! journal, which is short or not as its checksum says, belongs to a put that nobody was answered about, and is cut off.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use files::whole::{self, Durability};
use longshore_types::StatisticSet;

use crate::limits::RECORD_BYTES_MAX;
use crate::series::{Point, Ring, Series};
use crate::{Datum, SeriesId};

const SNAPSHOT: &str = "snapshot";
/// One that was not whole.
const BAD_SNAPSHOT: &str = "snapshot.bad";
/// A journal that the disk cannot read.
const BAD_JOURNAL: &str = "bad-journal";
/// The disk cannot read it.
const EIO: i32 = 5;
const MAGIC: &[u8; 8] = b"lsmetr02";
/// Bytes of a point: its time and four numbers.
const POINT_BYTES: usize = 40;

/// The journal that is written to.
#[derive(Debug)]
pub(crate) struct Disk {
    dir: PathBuf,
    generation: u64,
    journal: File,
    bytes: u64,
    /// A failed write may have left something behind the journal's `bytes`.
    is_torn: bool,
    /// The snapshot may be of the next generation, as the last checkpoint failed.
    is_in_doubt: bool,
}

fn journal_path(dir: &Path, generation: u64) -> PathBuf {
    dir.join(format!("journal-{generation:012}"))
}

fn open_journal(dir: &Path, generation: u64) -> io::Result<File> {
    let path = journal_path(dir, generation);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(&path)?;
    whole::sync_parent(&path)?;
    Ok(file)
}

/// What a journal says, which need not be there. One that the disk cannot read is set aside.
fn read_journal(dir: &Path, generation: u64) -> io::Result<Vec<u8>> {
    let path = journal_path(dir, generation);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) if is_unreadable(&error) => {
            let aside = dir.join(BAD_JOURNAL);
            std::fs::rename(&path, &aside)?;
            whole::sync_parent(&aside)?;
            tracing::error!(
                %error, kept_as = %aside.display(),
                "a journal of metrics cannot be read and is set aside, with the samples of its time"
            );
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// Whether it is the disk that cannot.
fn is_unreadable(error: &io::Error) -> bool {
    error.raw_os_error() == Some(EIO)
}

/// The generations of the journals that are there, in order.
fn journals(dir: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("journal-"));
        found.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

fn remove_journals_but(dir: &Path, generation: u64) -> io::Result<()> {
    let mut others = journals(dir)?.into_iter().filter(|it| *it != generation);
    others.try_for_each(|other| std::fs::remove_file(journal_path(dir, other)))
}

impl Disk {
    /// Whether a checkpoint is due, for `bytes_max` of the journal.
    pub(crate) fn is_due(&self, bytes_max: u64) -> bool {
        self.is_in_doubt || bytes_max <= self.bytes
    }

    /// Opens what is there, and hands out first all series of the snapshot, then each put after it.
    pub(crate) fn open(
        dir: &Path,
        mut series: impl FnMut(SeriesId, Series),
        mut put: impl FnMut(Vec<Datum>),
    ) -> io::Result<Self> {
        let snapshot = load_snapshot(dir)?;
        let (before, generation) = match &snapshot {
            Some(snapshot) => {
                remove_journals_but(dir, snapshot.generation)?;
                (Vec::new(), snapshot.generation)
            }
            None => {
                let mut all = journals(dir)?;
                let last = all.pop().unwrap_or_default();
                (all, last)
            }
        };
        snapshot.into_iter().flat_map(|it| it.series).for_each(|(id, its)| series(id, its));
        for generation in before {
            replay(&read_journal(dir, generation)?, &mut put);
        }
        let bytes = read_journal(dir, generation)?;
        let mut journal = open_journal(dir, generation)?;
        let good = replay(&bytes, &mut put);
        if good < bytes.len() {
            tracing::warn!(cut = bytes.len() - good, "the journal of metrics had a torn tail");
        }
        let bytes = u64::try_from(good).unwrap_or(u64::MAX);
        journal.set_len(bytes)?;
        journal.seek(SeekFrom::Start(bytes))?;
        let dir = dir.to_owned();
        Ok(Self { dir, generation, journal, bytes, is_torn: false, is_in_doubt: false })
    }

    /// Writes a put down; it is durable once this returns, where `is_durable`. What could not be read again is not written.
    pub(crate) fn write(&mut self, data: &[Datum], is_durable: bool) -> io::Result<()> {
        let body = serde_json::to_vec(data)?;
        if RECORD_BYTES_MAX < body.len() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let length = u32::try_from(body.len()).map_err(io::Error::other)?;
        let mut record = Vec::with_capacity(body.len() + 8);
        record.extend_from_slice(&length.to_le_bytes());
        record.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
        record.extend_from_slice(&body);
        if self.is_in_doubt {
            return Err(io::Error::other(
                "the last checkpoint failed, and is to be repeated first",
            ));
        }
        self.mend()?;
        // What is half written is taken back, so that what follows is read.
        self.is_torn = true;
        let written = self.journal.write_all(&record).and_then(|()| match is_durable {
            true => self.journal.sync_data(),
            false => Ok(()),
        });
        match written {
            Ok(()) => {
                self.is_torn = false;
                self.bytes += u64::from(length) + 8;
                Ok(())
            }
            Err(error) => {
                // Where this fails too, it is done before the next write.
                if let Err(error) = self.mend() {
                    tracing::warn!(%error, "failed to take back what was half written to the journal of metrics");
                }
                Err(error)
            }
        }
    }

    /// Cuts off what a failed write left.
    fn mend(&mut self) -> io::Result<()> {
        if self.is_torn {
            self.journal.set_len(self.bytes)?;
            self.journal.seek(SeekFrom::Start(self.bytes))?;
            self.is_torn = false;
        }
        Ok(())
    }

    /// Writes all down anew, and begins another journal. `encode` puts each series to the bytes, by [`put_series`].
    pub(crate) fn checkpoint(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
    ) -> io::Result<()> {
        let next = self.generation + 1;
        let mut out = Vec::new();
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&next.to_le_bytes());
        encode(&mut out)?;
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        // The journal comes first: without its snapshot it is of no use, and a snapshot without it would end the one before.
        let journal = open_journal(&self.dir, next)?;
        journal.set_len(0)?;
        let path = self.dir.join(SNAPSHOT);
        if let Err(error) = whole::write(&path, &out, Durability::Synced) {
            self.is_in_doubt = self.is_in_doubt || !is_before(&path, next);
            return Err(error);
        }
        (self.journal, self.generation, self.bytes) = (journal, next, 0);
        (self.is_torn, self.is_in_doubt) = (false, false);
        remove_journals_but(&self.dir, next)
    }
}

/// Whether the snapshot is surely one of before a generation, or none.
fn is_before(path: &Path, generation: u64) -> bool {
    let mut head = [0; 16];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    match read {
        Ok(()) => head[8..] != generation.to_le_bytes(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Puts a series to the bytes of a snapshot.
pub(crate) fn put_series(out: &mut Vec<u8>, id: &SeriesId, series: &Series) -> io::Result<()> {
    let name = serde_json::to_vec(id)?;
    out.extend_from_slice(&u32::try_from(name.len()).map_err(io::Error::other)?.to_le_bytes());
    out.extend_from_slice(&name);
    for ring in &series.rings {
        out.extend_from_slice(&ring.from_s.to_le_bytes());
        let count = u32::try_from(ring.points.len()).map_err(io::Error::other)?;
        out.extend_from_slice(&count.to_le_bytes());
        ring.points.iter().for_each(|point| put_point(out, point));
    }
    Ok(())
}

fn put_point(out: &mut Vec<u8>, (slot, set): &Point) {
    out.extend_from_slice(&slot.to_le_bytes());
    for number in [set.count, set.sum, set.min, set.max] {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

/// Takes bytes from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(torn)?;
        self.0 = rest;
        Ok(taken)
    }

    fn eight(&mut self) -> io::Result<[u8; 8]> {
        self.take(8)?.try_into().map_err(|_| torn())
    }

    fn length(&mut self) -> io::Result<usize> {
        let bytes: [u8; 4] = self.take(4)?.try_into().map_err(|_| torn())?;
        usize::try_from(u32::from_le_bytes(bytes)).map_err(io::Error::other)
    }
}

fn torn() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the snapshot of metrics is not whole")
}

/// What a snapshot says.
struct Snapshot {
    generation: u64,
    series: Vec<(SeriesId, Series)>,
}

/// The snapshot that is there. One that is not whole is set aside.
fn load_snapshot(dir: &Path) -> io::Result<Option<Snapshot>> {
    let path = dir.join(SNAPSHOT);
    let read = std::fs::read(&path).and_then(|bytes| read_snapshot(&bytes));
    let error = match read {
        Ok(snapshot) => return Ok(Some(snapshot)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => error,
    };
    let is_bad = error.kind() == io::ErrorKind::InvalidData || is_unreadable(&error);
    if !is_bad {
        return Err(error);
    }
    let aside = dir.join(BAD_SNAPSHOT);
    std::fs::rename(&path, &aside)?;
    whole::sync_parent(&aside)?;
    tracing::error!(
        %error, kept_as = %aside.display(),
        "the snapshot of metrics cannot be read and is set aside: metrics begin anew, but for those of the journal; alarms \
         have insufficient data until there are new ones"
    );
    Ok(None)
}

fn read_snapshot(bytes: &[u8]) -> io::Result<Snapshot> {
    let at = bytes.len().checked_sub(4).ok_or_else(torn)?;
    let (body, crc) = bytes.split_at(at);
    if crc32fast::hash(body).to_le_bytes() != crc {
        return Err(torn());
    }
    let mut bytes = Bytes(body);
    if bytes.take(MAGIC.len())? != MAGIC {
        return Err(torn());
    }
    let generation = u64::from_le_bytes(bytes.eight()?);
    let mut series = Vec::new();
    while !bytes.0.is_empty() {
        let length = bytes.length()?;
        let id = serde_json::from_slice(bytes.take(length)?).map_err(|_| torn())?;
        let mut read = Series::default();
        for ring in &mut read.rings {
            *ring = read_ring(&mut bytes)?;
        }
        series.push((id, read));
    }
    Ok(Snapshot { generation, series })
}

fn read_ring(bytes: &mut Bytes<'_>) -> io::Result<Ring> {
    let from_s = u64::from_le_bytes(bytes.eight()?);
    let count = bytes.length()?;
    let mut points = Bytes(bytes.take(count.checked_mul(POINT_BYTES).ok_or_else(torn)?)?);
    let mut ring = Ring { from_s, ..Ring::default() };
    for _ in 0..count {
        let slot = u64::from_le_bytes(points.eight()?);
        let mut number = || points.eight().map(f64::from_le_bytes);
        let set = StatisticSet { count: number()?, sum: number()?, min: number()?, max: number()? };
        ring.points.push_back((slot, set));
    }
    Ok(ring)
}

/// Hands out whole records; says how many bytes they are. A record is whole by its checksum: one that is and yet cannot be read
/// was answered, and is never a reason to cut off what came after it.
fn replay(bytes: &[u8], put: &mut impl FnMut(Vec<Datum>)) -> usize {
    let mut good = 0;
    loop {
        let mut rest = Bytes(&bytes[good..]);
        let Ok(length) = rest.length() else { return good };
        let Ok(crc) = rest.take(4) else { return good };
        let Ok(body) = rest.take(length) else { return good };
        if crc32fast::hash(body).to_le_bytes() != crc {
            return good;
        }
        match serde_json::from_slice::<Vec<Datum>>(body) {
            Ok(data) => put(data),
            Err(error) => {
                tracing::error!(%error, at = good, length, "a record of metrics cannot be read and is passed over");
            }
        }
        good += length + 8;
    }
}
