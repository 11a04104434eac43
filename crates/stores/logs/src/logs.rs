//! The store as its users see it: a handle that is cheap to clone.
//!
//! Changes go to the writer thread and are answered once durable. Reads of events run on the
//! blocking pool and share nothing with the writer but a lock that is held for microseconds.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::{Arc, OnceLock, RwLock};

use longshore_types::{AccountId, Clock, Timestamp};
use tokio::sync::{mpsc, oneshot};

use crate::catalog::{Group, GroupClass, GroupPolicy, GroupSettings, State, Stream};
use crate::checkpoint;
use crate::error::LogsError;
use crate::event::{Gap, InputEvent};
use crate::filter::{self, Candidate, FilterQuery, Filtered, StreamChoice};
use crate::format;
use crate::journal::Journal;
use crate::limits::{QUEUE_MAX, RETENTION_DAYS, TAGS_MAX};
use crate::names::{GroupName, StreamName};
use crate::put::{self, Accepted, PutKey};
use crate::read::{Events, GetQuery, Shared};
use crate::sealing::{self, Opener, SealedGroup, Sealer};
use crate::stream_file::StreamFiles;
use crate::writer::{Ask, Edit, Message, Request, Writer};

/// The log store.
#[derive(Clone)]
pub struct Logs {
    writer: mpsc::Sender<Message>,
    inner: Arc<Inner>,
}

struct Inner {
    state: Arc<RwLock<State>>,
    files: StreamFiles,
    clock: Arc<dyn Clock>,
    sealer: OnceLock<Arc<dyn Sealer>>,
    /// Held for as long as the store is open; released by the kernel if we are killed.
    _lock: File,
}

impl std::fmt::Debug for Logs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logs").field("dir", &self.inner.files.dir()).finish_non_exhaustive()
    }
}

/// A group as it is described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupInfo {
    pub name: GroupName,
    pub class: GroupClass,
    pub created_ms: u64,
    pub stored_bytes: u64,
    pub settings: GroupSettings,
}

/// A stream as it is described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    pub name: StreamName,
    pub created_ms: u64,
    pub first_event_ms: Option<u64>,
    pub last_event_ms: Option<u64>,
    pub last_ingestion_ms: Option<u64>,
    pub upload_sequence_token: String,
    pub stored_bytes: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamOrder {
    #[default]
    Name,
    LastEventTime,
}

/// Which streams of a group are described.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamsPage {
    pub order: StreamOrder,
    pub is_descending: bool,
    pub prefix: Option<String>,
    /// Skips streams up to and including this one, in the order asked for.
    pub after: Option<StreamPlace>,
    pub limit: usize,
}

/// A stream's place in the order asked for: its last event's time, or zero, and its name.
pub type StreamPlace = (u64, StreamName);

impl Logs {
    /// Opens the store in `dir`, which is created if it is missing, and starts its writer.
    pub fn open(dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, LogsError> {
        files::private::make_dirs(dir).map_err(LogsError::fault("create the log store"))?;
        let lock = lock(dir)?;
        files::format::raise(dir, format::STEPS)?;
        files::whole::sweep(dir).map_err(LogsError::fault("sweep the log store"))?;
        let files = StreamFiles::open(dir).map_err(LogsError::fault("create the log store"))?;
        let recovered = checkpoint::recover(dir, &files)?;
        let journal = Journal::create(dir, recovered.next_journal)
            .map_err(LogsError::fault("begin a log journal"))?;
        let state = Arc::new(RwLock::new(recovered.state));
        let mut writer = Writer {
            dir: dir.to_owned(),
            files: files.clone(),
            state: Arc::clone(&state),
            journal,
            clock: Arc::clone(&clock),
            dirty: recovered.dirty,
            poisoned: false,
            recover_from: Timestamp(0),
            checkpoint: None,
        };
        let (sender, inbox) = mpsc::channel(QUEUE_MAX);
        let run = move || {
            // What was replayed need not be replayed again.
            writer.checkpoint_if_due(0);
            writer.run(inbox);
        };
        std::thread::Builder::new()
            .name("logs-writer".to_owned())
            .spawn(run)
            .map_err(LogsError::fault("start the log writer"))?;
        let sealer = OnceLock::new();
        let inner = Inner { state, files, clock, sealer, _lock: lock };
        Ok(Self { writer: sender, inner: Arc::new(inner) })
    }

    /// Has events of groups that have a key sealed and opened. The first one stays.
    pub fn seal_with(&self, sealer: Arc<dyn Sealer>) {
        drop(self.inner.sealer.set(sealer));
    }

    pub async fn create_group(
        &self,
        account: AccountId,
        name: GroupName,
        class: GroupClass,
        settings: GroupSettings,
    ) -> Result<(), LogsError> {
        check_settings(&settings)?;
        self.change(account, name, Ask::CreateGroup { class, settings }).await
    }

    pub async fn delete_group(&self, account: AccountId, name: GroupName) -> Result<(), LogsError> {
        self.change(account, name, Ask::DeleteGroup).await
    }

    /// `None`: keep events for ever.
    pub async fn set_retention(
        &self,
        account: AccountId,
        name: GroupName,
        days: Option<u32>,
    ) -> Result<(), LogsError> {
        check_retention(days)?;
        let edit: Edit = Box::new(move |settings| {
            settings.retention_days = days;
            Ok(())
        });
        self.change(account, name, Ask::EditGroup(edit)).await
    }

    pub async fn set_deletion_protection(
        &self,
        account: AccountId,
        name: GroupName,
        is_protected: bool,
    ) -> Result<(), LogsError> {
        let edit: Edit = Box::new(move |settings| {
            settings.deletion_protected = is_protected;
            Ok(())
        });
        self.change(account, name, Ask::EditGroup(edit)).await
    }

    /// What seals the events that are put from now on; `None`: nothing.
    pub async fn set_key(
        &self,
        account: AccountId,
        name: GroupName,
        key: Option<String>,
    ) -> Result<(), LogsError> {
        let edit: Edit = Box::new(move |settings| {
            settings.key = key;
            Ok(())
        });
        self.change(account, name, Ask::EditGroup(edit)).await
    }

    /// Gives a group another policy, or none, if the one that it has is of the revision that is expected.
    pub async fn set_policy(
        &self,
        account: AccountId,
        name: GroupName,
        expected: Option<String>,
        policy: Option<GroupPolicy>,
    ) -> Result<(), LogsError> {
        let edit: Edit = Box::new(move |settings| {
            let found = settings.policy.as_ref().map(|known| &known.revision);
            if found != expected.as_ref() {
                return Err(LogsError::OtherRevision);
            }
            settings.policy = policy;
            Ok(())
        });
        self.change(account, name, Ask::EditGroup(edit)).await
    }

    pub async fn tag_group(
        &self,
        account: AccountId,
        name: GroupName,
        tags: BTreeMap<String, String>,
    ) -> Result<(), LogsError> {
        let edit: Edit = Box::new(move |settings| {
            settings.tags.extend(tags);
            check_settings(settings)
        });
        self.change(account, name, Ask::EditGroup(edit)).await
    }

    pub async fn untag_group(
        &self,
        account: AccountId,
        name: GroupName,
        keys: Vec<String>,
    ) -> Result<(), LogsError> {
        let edit: Edit = Box::new(move |settings| {
            settings.tags.retain(|key, _| !keys.contains(key));
            Ok(())
        });
        self.change(account, name, Ask::EditGroup(edit)).await
    }

    pub async fn create_stream(
        &self,
        account: AccountId,
        group: GroupName,
        stream: StreamName,
    ) -> Result<(), LogsError> {
        self.change(account, group, Ask::CreateStream(stream)).await
    }

    pub async fn delete_stream(
        &self,
        account: AccountId,
        group: GroupName,
        stream: StreamName,
    ) -> Result<(), LogsError> {
        self.change(account, group, Ask::DeleteStream(stream)).await
    }

    /// Appends events, which are in order of time. Answered once they are durable. What a writer put
    /// under the same key just before is not appended again.
    pub async fn put(
        &self,
        account: AccountId,
        group: GroupName,
        stream: StreamName,
        events: Vec<InputEvent>,
        key: Option<PutKey>,
    ) -> Result<Accepted, LogsError> {
        put::check(&events)?;
        let events = self.sealed(account, &group, events).await?;
        self.ask(account, group, Ask::Put { stream, events, key }).await
    }

    async fn sealed(
        &self,
        account: AccountId,
        group: &GroupName,
        events: Vec<InputEvent>,
    ) -> Result<Vec<InputEvent>, LogsError> {
        let key = {
            let state = self.read_state();
            state.group(account, group).and_then(|group| group.settings.key.clone())
        };
        let Some(key) = key else { return Ok(events) };
        let sealer = self.inner.sealer.get().ok_or_else(no_sealer)?;
        let (sealer, name) = (Arc::clone(sealer), group.clone());
        let seal =
            move || sealing::seal(sealer.as_ref(), &SealedGroup { account, name }, &key, events);
        let failed = |error| LogsError::Fault {
            doing: "seal log events",
            source: std::io::Error::other(error),
        };
        tokio::task::spawn_blocking(seal).await.map_err(failed)?
    }

    fn opener(&self, account: AccountId, group: &GroupName) -> Option<Box<dyn Opener>> {
        let sealer = self.inner.sealer.get()?;
        Some(sealer.opener(&SealedGroup { account, name: group.clone() }))
    }

    /// Gives back the space of events that are older than their group keeps them. Readers do not
    /// see such events either way.
    pub async fn sweep(&self) -> Result<(), LogsError> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Sweep(reply)).await?;
        answer.await.map_err(|_| writer_is_gone())?.map(drop)
    }

    pub fn group(&self, account: AccountId, name: &GroupName) -> Result<GroupInfo, LogsError> {
        let state = self.read_state();
        let group = state.group(account, name).ok_or(LogsError::GroupNotFound)?;
        Ok(describe_group(&state, group))
    }

    /// Up to `limit` groups of the account, by name, after `after`, that satisfy `wanted`.
    pub fn groups(
        &self,
        account: AccountId,
        after: Option<&GroupName>,
        limit: usize,
        wanted: impl Fn(&GroupName, GroupClass) -> bool,
    ) -> Vec<GroupInfo> {
        let state = self.read_state();
        let groups = state.groups.values().filter(|group| group.account == account);
        let groups = groups.filter(|group| after.is_none_or(|after| group.name > *after));
        let groups = groups.filter(|group| wanted(&group.name, group.class));
        groups.take(limit).map(|group| describe_group(&state, group)).collect()
    }

    /// One page of a group's streams, and where the next one begins.
    pub fn streams(
        &self,
        account: AccountId,
        group: &GroupName,
        page: &StreamsPage,
    ) -> Result<(Vec<StreamInfo>, Option<StreamPlace>), LogsError> {
        let state = self.read_state();
        let group = state.group(account, group).ok_or(LogsError::GroupNotFound)?;
        let prefix = page.prefix.as_deref().unwrap_or("");
        let streams = group.streams.iter().filter(|(name, _)| name.as_str().starts_with(prefix));
        let streams = streams.filter_map(|(_, uid)| state.streams.get(uid));
        let key = |stream: &Stream| match page.order {
            StreamOrder::Name => (0, stream.name.clone()),
            StreamOrder::LastEventTime => (stream.last_ms.unwrap_or(0), stream.name.clone()),
        };
        let mut keyed: Vec<_> = streams.map(|stream| (key(stream), stream)).collect();
        if page.order == StreamOrder::LastEventTime {
            keyed.sort_by(|(a, _), (b, _)| a.cmp(b));
        }
        if page.is_descending {
            keyed.reverse();
        }
        if let Some(after) = &page.after {
            keyed.retain(|(key, _)| if page.is_descending { key < after } else { key > after });
        }
        let is_more = keyed.len() > page.limit;
        keyed.truncate(page.limit);
        let next = if is_more { keyed.last().map(|(key, _)| key.clone()) } else { None };
        let cutoff_ms = group.settings.cutoff_ms(self.inner.clock.now().0);
        let streams = keyed.into_iter().map(|(_, stream)| describe_stream(stream, cutoff_ms));
        Ok((streams.collect(), next))
    }

    /// One page of a stream's events.
    pub async fn get(
        &self,
        account: AccountId,
        group: &GroupName,
        stream: &StreamName,
        query: GetQuery,
    ) -> Result<Events, LogsError> {
        let (uid, cutoff_ms) = {
            let state = self.read_state();
            let group = state.group(account, group).ok_or(LogsError::GroupNotFound)?;
            let stream = state.stream(group, stream).ok_or(LogsError::StreamNotFound)?;
            (stream.uid, group.settings.cutoff_ms(self.inner.clock.now().0))
        };
        let mut opener = self.opener(account, group);
        self.on_the_blocking_pool(move |shared| {
            let mut page = shared.page(uid, cutoff_ms, &query)?;
            let mut events = Vec::with_capacity(page.events.len());
            for mut event in std::mem::take(&mut page.events) {
                if sealing::open(opener.as_mut(), &mut event)? {
                    events.push(event);
                }
            }
            Ok(Events { events, ..page })
        })
        .await
    }

    /// One page of a search.
    pub async fn filter(
        &self,
        account: AccountId,
        group: &GroupName,
        query: FilterQuery,
    ) -> Result<Filtered, LogsError> {
        let (candidates, cutoff_ms) = {
            let state = self.read_state();
            let group = state.group(account, group).ok_or(LogsError::GroupNotFound)?;
            let cutoff_ms = group.settings.cutoff_ms(self.inner.clock.now().0);
            (candidates(&state, group, &query)?, cutoff_ms)
        };
        let opener = self.opener(account, group);
        let run =
            move |shared: &Shared<'_>| filter::run(shared, candidates, cutoff_ms, &query, opener);
        self.on_the_blocking_pool(run).await
    }

    async fn change(
        &self,
        account: AccountId,
        group: GroupName,
        ask: Ask,
    ) -> Result<(), LogsError> {
        self.ask(account, group, ask).await.map(drop)
    }

    async fn ask(
        &self,
        account: AccountId,
        group: GroupName,
        ask: Ask,
    ) -> Result<Accepted, LogsError> {
        let (reply, answer) = oneshot::channel();
        self.send(Message::Request(Request { account, group, ask, reply })).await?;
        answer.await.map_err(|_| writer_is_gone())?
    }

    async fn send(&self, message: Message) -> Result<(), LogsError> {
        self.writer.send(message).await.map_err(|_| writer_is_gone())
    }

    async fn on_the_blocking_pool<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared<'_>) -> Result<T, LogsError> + Send + 'static,
    ) -> Result<T, LogsError> {
        let inner = Arc::clone(&self.inner);
        let work = move || work(&Shared { state: &inner.state, files: &inner.files });
        let joined = tokio::task::spawn_blocking(work).await;
        let failed = |error| LogsError::Fault {
            doing: "read log events",
            source: std::io::Error::other(error),
        };
        joined.map_err(failed)?
    }

    fn read_state(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.inner.state.read().expect("no holder of this lock panics")
    }
}

fn lock(dir: &Path) -> Result<File, LogsError> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).open(dir.join("lock"));
    let file = file.map_err(LogsError::fault("open the log store's lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(LogsError::InUse(dir.to_owned())),
        Err(std::fs::TryLockError::Error(source)) => {
            Err(LogsError::Fault { doing: "lock the log store", source })
        }
    }
}

fn no_sealer() -> LogsError {
    LogsError::Fault {
        doing: "seal log events",
        source: std::io::Error::other("nobody seals events here"),
    }
}

fn writer_is_gone() -> LogsError {
    LogsError::Fault {
        doing: "reach the log writer",
        source: std::io::Error::other("its thread has ended"),
    }
}

fn check_retention(days: Option<u32>) -> Result<(), LogsError> {
    match days {
        Some(days) if !RETENTION_DAYS.contains(&days) => {
            let allowed = RETENTION_DAYS.map(|days| days.to_string()).join(", ");
            Err(LogsError::invalid(format!(
                "1 validation error detected: Value '{days}' at 'retentionInDays' failed to satisfy constraint: Member must satisfy enum value set: [{allowed}]"
            )))
        }
        _ => Ok(()),
    }
}

fn check_settings(settings: &GroupSettings) -> Result<(), LogsError> {
    if settings.tags.len() > TAGS_MAX {
        return Err(LogsError::TooManyTags);
    }
    check_retention(settings.retention_days)
}

fn describe_group(state: &State, group: &Group) -> GroupInfo {
    let streams = group.streams.values().filter_map(|uid| state.streams.get(uid));
    GroupInfo {
        name: group.name.clone(),
        class: group.class,
        created_ms: group.created_ms,
        stored_bytes: streams.map(|stream| stream.billed_bytes).sum(),
        settings: group.settings.clone(),
    }
}

fn describe_stream(stream: &Stream, cutoff_ms: u64) -> StreamInfo {
    let last_event_ms = stream.last_ms.filter(|last| *last >= cutoff_ms);
    let token = Gap {
        timestamp_ms: stream.ingested_ms.unwrap_or(stream.created_ms),
        stream: stream.uid.0,
        seq: stream.next_seq,
    };
    StreamInfo {
        name: stream.name.clone(),
        created_ms: stream.created_ms,
        first_event_ms: last_event_ms.and(stream.first_ms).map(|first| first.max(cutoff_ms)),
        last_event_ms,
        last_ingestion_ms: stream.ingested_ms,
        upload_sequence_token: token.digits(),
        stored_bytes: stream.billed_bytes,
    }
}

/// The streams that a search has to look into.
fn candidates(
    state: &State,
    group: &Group,
    query: &FilterQuery,
) -> Result<Vec<Candidate>, LogsError> {
    let mut found = Vec::new();
    let mut consider = |stream: &Stream| {
        let (Some(first_ms), Some(last_ms)) = (stream.first_ms, stream.last_ms) else { return };
        let is_inside = query.start_ms.is_none_or(|start| start <= last_ms)
            && query.end_ms.is_none_or(|end| first_ms <= end);
        if is_inside {
            let (uid, name) = (stream.uid, stream.name.clone());
            found.push(Candidate { uid, name, first_ms, last_ms });
        }
    };
    match &query.streams {
        StreamChoice::Names(names) => {
            for name in names {
                consider(state.stream(group, name).ok_or(LogsError::StreamNotFound)?);
            }
        }
        StreamChoice::All => {
            group.streams.values().filter_map(|uid| state.streams.get(uid)).for_each(consider);
        }
        StreamChoice::Prefix(prefix) => {
            let named = group.streams.iter().filter(|(name, _)| name.as_str().starts_with(prefix));
            named.filter_map(|(_, uid)| state.streams.get(uid)).for_each(consider);
        }
    }
    // A name given twice is searched once.
    found.sort_by_key(|candidate| candidate.uid);
    found.dedup_by_key(|candidate| candidate.uid);
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}
