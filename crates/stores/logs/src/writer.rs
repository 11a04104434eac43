//! The one thread that changes the store.
//!
//! It takes what waits, decides each request on the state as it is, writes all records with one
//! flush, applies them and answers. A request that depends on another of the same batch waits for
//! the next one. **Invariant:** nothing is applied, hence visible, before it is durable.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;

use bytes::BytesMut;
use longshore_types::{AccountId, Chain, Clock, Timestamp};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error, info, warn};

use crate::catalog::{
    Change, Group, GroupClass, GroupSettings, GroupUid, State, Stream, StreamUid,
};
use crate::checkpoint::Checkpoint;
use crate::error::LogsError;
use crate::event::{Gap, InputEvent};
use crate::frame::{self, Header};
use crate::journal::{AppendError, Journal, Record};
use crate::limits::{COMMIT_BYTES_MAX, GROUPS_MAX, JOURNAL_BYTES_MAX, RECOVER_PAUSE_MS};
use crate::names::{GroupName, StreamName};
use crate::put::{self, Accepted, PutKey};
use crate::stream_file::StreamFiles;

pub(crate) type Outcome = Result<Accepted, LogsError>;
pub(crate) type Reply = oneshot::Sender<Outcome>;

/// What somebody wants, and whom to answer.
pub(crate) struct Request {
    pub(crate) account: AccountId,
    pub(crate) group: GroupName,
    pub(crate) ask: Ask,
    pub(crate) reply: Reply,
}

/// Changes a group's settings, or says why not.
pub(crate) type Edit = Box<dyn FnOnce(&mut GroupSettings) -> Result<(), LogsError> + Send>;

pub(crate) enum Ask {
    CreateGroup { class: GroupClass, settings: GroupSettings },
    DeleteGroup,
    EditGroup(Edit),
    CreateStream(StreamName),
    DeleteStream(StreamName),
    Put { stream: StreamName, events: Vec<InputEvent>, key: Option<PutKey> },
}

pub(crate) enum Message {
    Request(Request),
    /// Applies retention; answered when done.
    Sweep(Reply),
}

pub(crate) struct Writer {
    pub(crate) dir: PathBuf,
    pub(crate) files: StreamFiles,
    pub(crate) state: Arc<RwLock<State>>,
    pub(crate) journal: Journal,
    pub(crate) clock: Arc<dyn Clock>,
    /// Streams written since the journal began.
    pub(crate) dirty: BTreeSet<StreamUid>,
    /// A flush failed, and what it came to is not known yet.
    pub(crate) poisoned: bool,
    /// When it is next asked for.
    pub(crate) recover_from: Timestamp,
    pub(crate) checkpoint: Option<JoinHandle<Result<(), BTreeSet<StreamUid>>>>,
}

/// What one flush will make durable.
#[derive(Default)]
struct Batch {
    bytes: BytesMut,
    staged: Vec<Staged>,
    /// Groups and streams that a staged change creates, deletes or edits.
    groups: BTreeSet<(AccountId, GroupName)>,
    streams: BTreeSet<(AccountId, GroupName, StreamName)>,
    /// Writers with a put on its way, whose next may be the same one.
    writers: BTreeSet<(AccountId, GroupName, StreamName, u64)>,
    /// Where the next frame of a stream goes, past what is staged: offset and seq.
    ends: BTreeMap<StreamUid, (u64, u64)>,
    uids: u64,
    /// Whoever asked for a sweep is answered once the batch is dealt with.
    sweeps: Vec<(Reply, Outcome)>,
}

struct Staged {
    record: Record,
    answer: Accepted,
    reply: Reply,
}

/// What a request comes to on the present state.
#[expect(clippy::large_enum_variant, reason = "one at a time, on the stack of who writes it")]
enum Decision {
    Write(Record, Accepted),
    /// Taken, but there is nothing to write.
    Nothing(Accepted),
}

impl Writer {
    /// Works until every sender is gone.
    pub(crate) fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        let mut held = None;
        while let Some(first) = held.take().or_else(|| inbox.blocking_recv()) {
            self.recover();
            let mut batch = Batch::default();
            let mut next = Some(first);
            while let Some(message) = next.take() {
                match message {
                    Message::Request(request) if batch.conflicts(&request) => {
                        held = Some(Message::Request(request));
                        break;
                    }
                    Message::Request(request) => self.stage(&mut batch, request),
                    Message::Sweep(reply) => self.sweep(&mut batch, reply),
                }
                if batch.bytes.len() < COMMIT_BYTES_MAX {
                    next = inbox.try_recv().ok();
                }
            }
            let sweeps = std::mem::take(&mut batch.sweeps);
            self.commit(batch);
            for (reply, result) in sweeps {
                let _ = reply.send(result);
            }
            self.checkpoint_if_due(JOURNAL_BYTES_MAX);
        }
        if let Some(running) = self.checkpoint.take() {
            let _ = running.join();
        }
    }

    /// After a flush that failed: goes on once the disk says what is there. That is asked now and then.
    fn recover(&mut self) {
        let now = self.clock.now();
        if !self.poisoned || now.0 < self.recover_from.0 {
            return;
        }
        self.recover_from = now.plus_ms(RECOVER_PAUSE_MS);
        let number = self.journal.number + 1;
        let new = self.journal.cut_unknown().and_then(|()| Journal::create(&self.dir, number));
        match new {
            Ok(journal) => {
                self.journal = journal;
                self.poisoned = false;
                info!("the log store takes writes again");
            }
            Err(error) => debug!(error = %Chain(&error), "the log store's disk still fails"),
        }
    }

    fn stage(&self, batch: &mut Batch, request: Request) {
        if self.poisoned {
            let _ = request.reply.send(Err(LogsError::Poisoned));
            return;
        }
        let key = (request.account, request.group.clone());
        let (is_group, stream) = match &request.ask {
            Ask::CreateGroup { .. } | Ask::DeleteGroup | Ask::EditGroup(_) => (true, None),
            Ask::CreateStream(name) | Ask::DeleteStream(name) => (false, Some(name.clone())),
            Ask::Put { .. } => (false, None),
        };
        let writer = writer_of(&request);
        match self.decide(batch, request.account, &request.group, request.ask) {
            Ok(Decision::Write(record, answer)) => {
                record.encode(&mut batch.bytes);
                batch.staged.push(Staged { record, answer, reply: request.reply });
                batch.writers.extend(writer);
                if let Some(stream) = stream {
                    batch.streams.insert((key.0, key.1, stream));
                } else if is_group {
                    batch.groups.insert(key);
                }
            }
            Ok(Decision::Nothing(answer)) => drop(request.reply.send(Ok(answer))),
            Err(error) => drop(request.reply.send(Err(error))),
        }
    }

    fn decide(
        &self,
        batch: &mut Batch,
        account: AccountId,
        name: &GroupName,
        ask: Ask,
    ) -> Result<Decision, LogsError> {
        let state = self.state.read().expect("no holder of this lock panics");
        let found = state.group(account, name);
        if let Ask::CreateGroup { class, settings } = ask {
            if found.is_some() {
                return Err(LogsError::GroupExists);
            }
            if state.groups.len() >= GROUPS_MAX {
                return Err(LogsError::TooManyGroups);
            }
            let group = Group {
                uid: GroupUid(batch.next_uid(&state)),
                account,
                name: name.clone(),
                class,
                created_ms: self.clock.now().0,
                settings,
                streams: BTreeMap::new(),
            };
            return Ok(Decision::change(Change::GroupCreated(group)));
        }
        let group = found.ok_or(LogsError::GroupNotFound)?;
        let stream_named = |name| state.stream(group, name).ok_or(LogsError::StreamNotFound);
        match ask {
            Ask::CreateGroup { .. } => unreachable!("answered above"),
            Ask::DeleteGroup if group.settings.deletion_protected => Err(LogsError::Protected),
            Ask::DeleteGroup => Ok(Decision::change(Change::GroupDeleted { uid: group.uid })),
            Ask::EditGroup(edit) => {
                let mut settings = group.settings.clone();
                edit(&mut settings)?;
                if settings == group.settings {
                    return Ok(Decision::Nothing(Accepted::default()));
                }
                Ok(Decision::change(Change::GroupSet { uid: group.uid, settings }))
            }
            Ask::CreateStream(name) => {
                if group.streams.contains_key(&name) {
                    return Err(LogsError::StreamExists);
                }
                let (uid, at_ms) = (StreamUid(batch.next_uid(&state)), self.clock.now().0);
                Ok(Decision::change(Change::StreamCreated { uid, group: group.uid, name, at_ms }))
            }
            Ask::DeleteStream(name) => {
                Ok(Decision::change(Change::StreamDeleted { uid: stream_named(&name)?.uid }))
            }
            Ask::Put { stream, events, key } => {
                let cutoff_ms = group.settings.cutoff_ms(self.clock.now().0);
                Ok(self.decide_put(batch, stream_named(&stream)?, &events, key, cutoff_ms))
            }
        }
    }

    fn decide_put(
        &self,
        batch: &mut Batch,
        stream: &Stream,
        events: &[InputEvent],
        key: Option<PutKey>,
        cutoff_ms: u64,
    ) -> Decision {
        let now_ms = self.clock.now().0;
        let (taken, mut answer) = put::sort_out(events, now_ms, cutoff_ms);
        let end = batch.ends.entry(stream.uid).or_insert((stream.end, stream.next_seq));
        let (offset, seq) = *end;
        let next_seq = seq + taken.len() as u64;
        let token = Gap { timestamp_ms: now_ms, stream: stream.uid.0, seq: next_seq };
        answer.next_sequence_token = token.digits();
        if taken.is_empty() || key.is_some_and(|key| stream.puts.contains(&key)) {
            return Decision::Nothing(answer);
        }
        let frame = frame::encode(&events[taken], seq, now_ms);
        *end = (offset + frame.len() as u64, next_seq);
        Decision::Write(Record::Frame { stream: stream.uid, offset, frame, key }, answer)
    }

    /// Makes the batch durable, applies it and answers.
    fn commit(&mut self, batch: Batch) {
        if batch.staged.is_empty() {
            return;
        }
        if let Err(failure) = self.journal.append(&batch.bytes) {
            let source = match failure {
                AppendError::Unwritten(source) => source,
                AppendError::Unknown(source) => {
                    error!(error = %Chain(&source), "the log store stops taking writes");
                    self.poisoned = true;
                    source
                }
            };
            for staged in batch.staged {
                let again = std::io::Error::new(source.kind(), source.to_string());
                let fault = LogsError::Fault { doing: "write the log journal", source: again };
                let _ = staged.reply.send(Err(fault));
            }
            return;
        }
        let failed = self.write_frames(&batch);
        let mut answers = Vec::with_capacity(batch.staged.len());
        let mut gone = Vec::new();
        let mut trimmed = Vec::new();
        {
            let mut state = self.state.write().expect("no holder of this lock panics");
            for Staged { record, answer, reply } in batch.staged {
                let mut result = Ok(answer);
                match record {
                    Record::Change(change) => {
                        if let Change::Trimmed { uid, head, .. } = &change {
                            trimmed.push((*uid, *head));
                        }
                        gone.extend(state.apply(change));
                    }
                    Record::Frame { stream, offset, frame, key } => match failed.get(&stream) {
                        Some(from) if *from <= offset => {
                            let source = std::io::Error::other("an earlier line says why");
                            result = Err(LogsError::Fault { doing: "write a log stream", source });
                        }
                        _ => {
                            let header = Header::read(&frame).expect("we encoded this frame");
                            state.apply_frame(stream, offset, &header, key);
                            self.dirty.insert(stream);
                        }
                    },
                }
                answers.push((reply, result));
            }
        }
        for (reply, result) in answers {
            let _ = reply.send(result);
        }
        self.reclaim(&gone, &trimmed);
    }

    /// Writes the frames to their files. Answers from which offset on a stream's frames failed.
    fn write_frames(&self, batch: &Batch) -> BTreeMap<StreamUid, u64> {
        let mut failed = BTreeMap::new();
        for staged in &batch.staged {
            if let Record::Frame { stream, offset, frame, .. } = &staged.record
                && !failed.contains_key(stream)
                && let Err(error) = self.files.write(*stream, *offset, frame)
            {
                warn!(error = %Chain(&error), "could not write a log stream");
                failed.insert(*stream, *offset);
            }
        }
        failed
    }

    /// Gives back the space of what is gone. Failing costs space until the next start.
    fn reclaim(&mut self, gone: &[StreamUid], trimmed: &[(StreamUid, u64)]) {
        for uid in gone {
            self.dirty.remove(uid);
            if let Err(error) = self.files.remove(*uid) {
                warn!(error = %Chain(&error), "could not remove a deleted log stream");
            }
        }
        for (uid, head) in trimmed {
            if let Err(error) = self.files.punch(*uid, *head) {
                debug!(error = %Chain(&error), "could not give back the space of expired events");
            }
        }
    }

    /// Stages a trim for each stream whose first frames are expired.
    fn sweep(&self, batch: &mut Batch, reply: Reply) {
        if self.poisoned {
            let _ = reply.send(Err(LogsError::Poisoned));
            return;
        }
        let now_ms = self.clock.now().0;
        let mut due = Vec::new();
        {
            let state = self.state.read().expect("no holder of this lock panics");
            for group in state.groups.values().filter(|g| g.settings.retention_days.is_some()) {
                let cutoff_ms = group.settings.cutoff_ms(now_ms);
                let streams = group.streams.values().filter_map(|uid| state.streams.get(uid));
                let old = streams.filter(|s| s.first_ms.is_some_and(|first| first < cutoff_ms));
                due.extend(old.map(|s| (s.uid, s.head, s.end, s.first_ms, cutoff_ms)));
            }
        }
        let mut result = Ok(Accepted::default());
        for (uid, head, end, first_ms, cutoff_ms) in due {
            let (mut new_head, mut billed_bytes) = (head, 0);
            let scanned = self.files.scan(uid, head, end, |offset, header| {
                if header.max_ms >= cutoff_ms {
                    return false;
                }
                new_head = offset + header.frame_len();
                billed_bytes += u64::from(header.billed_bytes);
                true
            });
            if let Err(error) = scanned {
                warn!(error = %Chain(&error), "could not apply a log group's retention");
                result = Err(error);
            }
            if new_head == head || batch.ends.contains_key(&uid) {
                continue; // nothing is expired, or the stream is just being written: next time
            }
            // The old lower bound stays true of what is kept; an empty stream has none.
            let first_ms = if new_head == end { None } else { first_ms };
            let change = Change::Trimmed { uid, head: new_head, billed_bytes, first_ms };
            let record = Record::Change(change);
            record.encode(&mut batch.bytes);
            let (unheard, _) = oneshot::channel();
            batch.staged.push(Staged { record, answer: Accepted::default(), reply: unheard });
        }
        batch.sweeps.push((reply, result));
    }

    /// Starts a checkpoint if the journal is longer than `limit` and none is running.
    pub(crate) fn checkpoint_if_due(&mut self, limit: u64) {
        if self.poisoned || (self.journal.len() < limit && limit > 0) {
            return;
        }
        if let Some(running) = self.checkpoint.take() {
            if !running.is_finished() && self.journal.len() < limit.saturating_mul(8) {
                self.checkpoint = Some(running);
                return;
            }
            if let Ok(Err(unflushed)) = running.join() {
                self.dirty.extend(unflushed);
            }
        }
        let number = self.journal.number + 1;
        match Journal::create(&self.dir, number) {
            Ok(journal) => self.journal = journal,
            Err(error) => {
                warn!(error = %Chain(&error), "could not begin a new log journal");
                return;
            }
        }
        let snapshot = self.state.read().expect("no holder of this lock panics").snapshot(number);
        let dirty = std::mem::take(&mut self.dirty);
        let (dir, files) = (self.dir.clone(), self.files.clone());
        self.start_checkpoint(Checkpoint { dir, files, snapshot, dirty });
    }

    fn start_checkpoint(&mut self, checkpoint: Checkpoint) {
        let dirty = checkpoint.dirty.clone();
        let run = move || match checkpoint.run() {
            Ok(()) => Ok(()),
            Err(error) => {
                warn!(error = %Chain(&error), "could not complete a log checkpoint");
                Err(checkpoint.dirty)
            }
        };
        match std::thread::Builder::new().name("logs-checkpoint".to_owned()).spawn(run) {
            Ok(handle) => self.checkpoint = Some(handle),
            Err(error) => {
                warn!(error = %Chain(&error), "could not start a log checkpoint");
                self.dirty.extend(dirty);
            }
        }
    }
}

impl Decision {
    fn change(change: Change) -> Self {
        Self::Write(Record::Change(change), Accepted::default())
    }
}

impl Batch {
    fn next_uid(&mut self, state: &State) -> u64 {
        self.uids += 1;
        // Zero is no number, so that a gap at the start of all streams has one.
        state.next_uid.max(1) + self.uids - 1
    }

    /// Whether the request can only be decided once the batch is applied.
    fn conflicts(&self, request: &Request) -> bool {
        if self.groups.contains(&(request.account, request.group.clone())) {
            return true;
        }
        if writer_of(request).is_some_and(|writer| self.writers.contains(&writer)) {
            return true;
        }
        match &request.ask {
            Ask::CreateGroup { .. } | Ask::DeleteGroup => {
                let mut streams = self.streams.iter();
                streams.any(|(account, group, _)| {
                    *account == request.account && *group == request.group
                })
            }
            Ask::EditGroup(_) => false,
            Ask::CreateStream(name) | Ask::DeleteStream(name) | Ask::Put { stream: name, .. } => {
                let key = (request.account, request.group.clone(), name.clone());
                self.streams.contains(&key)
            }
        }
    }
}

fn writer_of(request: &Request) -> Option<(AccountId, GroupName, StreamName, u64)> {
    let Ask::Put { stream, key: Some(key), .. } = &request.ask else { return None };
    Some((request.account, request.group.clone(), stream.clone(), key.writer))
}
