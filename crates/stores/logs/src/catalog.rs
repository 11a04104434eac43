//! What exists: groups, their settings, their streams, and what is known of each stream without
//! opening its file.
//!
//! **Invariant:** the state is what the journal's records, applied in order, make of it;
//! [`State::apply`] and [`State::apply_frame`] are the only writers, at run time and at replay.

use std::collections::{BTreeMap, HashMap};

use longshore_types::AccountId;
use serde::{Deserialize, Serialize};

use crate::frame::Header;
use crate::limits::WRITERS_MAX;
use crate::names::{GroupName, StreamName};
use crate::put::PutKey;

/// A group's number, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct GroupUid(pub(crate) u64);

/// A stream's number, never used twice: a stream created anew under an old name is another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct StreamUid(pub(crate) u64);

/// What the group costs and offers at Amazon; kept and shown, it changes nothing here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum GroupClass {
    #[default]
    Standard,
    InfrequentAccess,
    Delivery,
}

/// Which services may write to a group: a document that the store's user reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPolicy {
    pub name: Option<String>,
    pub document: String,
    /// What whoever changes it must name.
    pub revision: String,
    pub updated_ms: u64,
}

/// What may be changed of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupSettings {
    /// `None`: events are kept for ever.
    pub retention_days: Option<u32>,
    pub tags: BTreeMap<String, String>,
    pub deletion_protected: bool,
    /// What seals events from now on: the name of a key, which is the store's user's to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<GroupPolicy>,
}

impl GroupSettings {
    /// Events before this moment are gone.
    pub(crate) fn cutoff_ms(&self, now_ms: u64) -> u64 {
        let days = self.retention_days.map(|days| u64::from(days) * 86_400_000);
        days.map_or(0, |span| now_ms.saturating_sub(span))
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) uid: GroupUid,
    pub(crate) account: AccountId,
    pub(crate) name: GroupName,
    pub(crate) class: GroupClass,
    pub(crate) created_ms: u64,
    pub(crate) settings: GroupSettings,
    #[serde(skip)]
    pub(crate) streams: BTreeMap<StreamName, StreamUid>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Stream {
    pub(crate) uid: StreamUid,
    pub(crate) group: GroupUid,
    pub(crate) name: StreamName,
    pub(crate) created_ms: u64,
    /// Earliest and latest event that is still kept.
    pub(crate) first_ms: Option<u64>,
    pub(crate) last_ms: Option<u64>,
    pub(crate) ingested_ms: Option<u64>,
    pub(crate) billed_bytes: u64,
    /// The number that the next event gets.
    pub(crate) next_seq: u64,
    /// The file's bytes in `head..end` are frames; what lies before was trimmed.
    pub(crate) head: u64,
    pub(crate) end: u64,
    /// The last put of each writer that names its puts, the latest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) puts: Vec<PutKey>,
    /// Where frames lie, once somebody has read the stream.
    #[serde(skip)]
    pub(crate) index: Option<Vec<Chunk>>,
}

/// A run of adjacent frames that is read in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) min_ms: u64,
    pub(crate) max_ms: u64,
}

/// A change of what exists.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Change {
    GroupCreated(Group),
    GroupSet {
        uid: GroupUid,
        settings: GroupSettings,
    },
    GroupDeleted {
        uid: GroupUid,
    },
    StreamCreated {
        uid: StreamUid,
        group: GroupUid,
        name: StreamName,
        at_ms: u64,
    },
    StreamDeleted {
        uid: StreamUid,
    },
    /// Frames before `head` are expired; `billed_bytes` of them.
    Trimmed {
        uid: StreamUid,
        head: u64,
        billed_bytes: u64,
        first_ms: Option<u64>,
    },
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) next_uid: u64,
    pub(crate) groups: BTreeMap<(AccountId, GroupName), Group>,
    pub(crate) streams: BTreeMap<StreamUid, Stream>,
    keys: HashMap<GroupUid, (AccountId, GroupName)>,
}

/// The state as one file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    /// The first journal that is not contained.
    pub(crate) journal: u64,
    next_uid: u64,
    groups: Vec<Group>,
    streams: Vec<Stream>,
}

impl State {
    pub(crate) fn group(&self, account: AccountId, name: &GroupName) -> Option<&Group> {
        // One clone of two words; a borrowed pair is no key of this map.
        self.groups.get(&(account, name.clone()))
    }

    pub(crate) fn stream(&self, group: &Group, name: &StreamName) -> Option<&Stream> {
        self.streams.get(group.streams.get(name)?)
    }

    /// Applies a change. Streams that are gone by it are returned: their files may go too.
    pub(crate) fn apply(&mut self, change: Change) -> Vec<StreamUid> {
        match change {
            Change::GroupCreated(group) => {
                self.next_uid = self.next_uid.max(group.uid.0 + 1);
                let key = (group.account, group.name.clone());
                self.keys.insert(group.uid, key.clone());
                self.groups.insert(key, group);
            }
            Change::GroupSet { uid, settings } => {
                let key = self.keys.get(&uid);
                if let Some(group) = key.and_then(|key| self.groups.get_mut(key)) {
                    group.settings = settings;
                }
            }
            Change::GroupDeleted { uid } => return self.delete_group(uid),
            Change::StreamCreated { uid, group, name, at_ms } => {
                self.next_uid = self.next_uid.max(uid.0 + 1);
                self.insert_stream(Stream {
                    uid,
                    group,
                    name,
                    created_ms: at_ms,
                    first_ms: None,
                    last_ms: None,
                    ingested_ms: None,
                    billed_bytes: 0,
                    next_seq: 0,
                    head: 0,
                    end: 0,
                    puts: Vec::new(),
                    index: Some(Vec::new()),
                });
            }
            Change::StreamDeleted { uid } => {
                if let Some(stream) = self.streams.remove(&uid) {
                    let key = self.keys.get(&stream.group);
                    if let Some(group) = key.and_then(|key| self.groups.get_mut(key)) {
                        group.streams.remove(&stream.name);
                    }
                }
                return vec![uid];
            }
            Change::Trimmed { uid, head, billed_bytes, first_ms } => {
                if let Some(stream) = self.streams.get_mut(&uid) {
                    stream.trim(head, billed_bytes, first_ms);
                }
            }
        }
        Vec::new()
    }

    fn insert_stream(&mut self, stream: Stream) {
        let key = self.keys.get(&stream.group);
        if let Some(group) = key.and_then(|key| self.groups.get_mut(key)) {
            group.streams.insert(stream.name.clone(), stream.uid);
            self.streams.insert(stream.uid, stream);
        }
    }

    fn delete_group(&mut self, uid: GroupUid) -> Vec<StreamUid> {
        let Some(group) = self.keys.remove(&uid).and_then(|key| self.groups.remove(&key)) else {
            return Vec::new();
        };
        for stream in group.streams.values() {
            self.streams.remove(stream);
        }
        group.streams.into_values().collect()
    }

    /// Notes that a frame with `header` lies at `offset` of the stream's file.
    pub(crate) fn apply_frame(
        &mut self,
        uid: StreamUid,
        offset: u64,
        header: &Header,
        key: Option<PutKey>,
    ) {
        if let Some(stream) = self.streams.get_mut(&uid) {
            stream.append(offset, header);
            if let Some(key) = key {
                stream.remember(key);
            }
        }
    }

    pub(crate) fn snapshot(&self, journal: u64) -> Snapshot {
        let without_index = |stream: &Stream| Stream { index: None, ..stream.clone_bare() };
        Snapshot {
            journal,
            next_uid: self.next_uid,
            groups: self.groups.values().cloned().collect(),
            streams: self.streams.values().map(without_index).collect(),
        }
    }

    pub(crate) fn restore(snapshot: Snapshot) -> Self {
        let mut state = Self { next_uid: snapshot.next_uid, ..Self::default() };
        for group in snapshot.groups {
            state.apply(Change::GroupCreated(group));
        }
        for mut stream in snapshot.streams {
            // An empty stream's index is known without a look at its file.
            stream.index = (stream.head == stream.end).then(Vec::new);
            state.insert_stream(stream);
        }
        state
    }

    /// Index entries in memory.
    pub(crate) fn index_entries(&self) -> usize {
        self.streams.values().filter_map(|stream| stream.index.as_ref().map(Vec::len)).sum()
    }

    /// Forgets every index but that of `keep`. They are read from the files again when needed.
    pub(crate) fn forget_indexes(&mut self, keep: StreamUid) {
        let others = self.streams.values_mut().filter(|stream| stream.uid != keep);
        for stream in others.filter(|stream| stream.head < stream.end) {
            stream.index = None;
        }
    }
}

impl Stream {
    fn append(&mut self, offset: u64, header: &Header) {
        self.first_ms = Some(self.first_ms.map_or(header.min_ms, |ms| ms.min(header.min_ms)));
        self.last_ms = Some(self.last_ms.map_or(header.max_ms, |ms| ms.max(header.max_ms)));
        self.ingested_ms = Some(header.ingestion_ms);
        self.billed_bytes += u64::from(header.billed_bytes);
        self.next_seq = header.first_seq + u64::from(header.events);
        if offset != self.end {
            self.index = None; // a frame that was never answered for is overwritten: look again
        }
        self.end = offset + header.frame_len();
        if let Some(index) = &mut self.index {
            Chunk::extend(index, offset, header);
        }
    }

    fn remember(&mut self, key: PutKey) {
        self.puts.retain(|other| other.writer != key.writer);
        if self.puts.len() == WRITERS_MAX {
            self.puts.remove(0);
        }
        self.puts.push(key);
    }

    fn trim(&mut self, head: u64, billed_bytes: u64, first_ms: Option<u64>) {
        self.head = self.head.max(head);
        self.billed_bytes = self.billed_bytes.saturating_sub(billed_bytes);
        self.first_ms = first_ms;
        if first_ms.is_none() {
            self.last_ms = None;
        }
        if let Some(index) = &mut self.index {
            let straddles = |chunk: &Chunk| chunk.offset < head && head < chunk.offset + chunk.len;
            let is_split = index.iter().any(straddles);
            index.retain(|chunk| chunk.offset >= head);
            if is_split {
                self.index = None; // part of a chunk is kept: look again
            }
        }
    }

    /// A copy that does not copy the index.
    fn clone_bare(&self) -> Self {
        Self {
            uid: self.uid,
            group: self.group,
            name: self.name.clone(),
            created_ms: self.created_ms,
            first_ms: self.first_ms,
            last_ms: self.last_ms,
            ingested_ms: self.ingested_ms,
            billed_bytes: self.billed_bytes,
            next_seq: self.next_seq,
            head: self.head,
            end: self.end,
            puts: self.puts.clone(),
            index: None,
        }
    }
}

impl Chunk {
    /// Adds a frame to an index: to the last chunk if it is adjacent and has room.
    pub(crate) fn extend(index: &mut Vec<Self>, offset: u64, header: &Header) {
        let len = header.frame_len();
        let limit = crate::limits::CHUNK_BYTES_MAX;
        match index.last_mut() {
            Some(last) if last.offset + last.len == offset && last.len + len <= limit => {
                last.len += len;
                last.min_ms = last.min_ms.min(header.min_ms);
                last.max_ms = last.max_ms.max(header.max_ms);
            }
            _ => index.push(Self { offset, len, min_ms: header.min_ms, max_ms: header.max_ms }),
        }
    }
}
