//! What one work socket still has to say: a function of the tasks on the instance and of what was
//! said and acknowledged already.
//!
//! Level-triggered: it compares what is wanted of each task with what was last sent, so that a lost
//! wake-up, a lost message and a lost acknowledgement are all mended by looking again.
//!
//! **Invariant:** sequence numbers grow strictly, over sessions and over restarts of the region.

use std::collections::BTreeMap;

use longshore_types::{AccountId, TaskId, Timestamp};
use model::task::{AttachmentPhase, Desired, Phase, Task};

/// How long an acknowledgement may take before the message is sent again.
pub const RESEND_AFTER_MS: u64 = 10_000;
/// Bits of a sequence number that count within a session.
const SESSION_SHIFT: u32 = 24;

/// What an agent is to be told of a task. The order is that of a task's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// An agent that does not make interfaces itself waits for one to appear.
    Attach,
    Run,
    Stop,
}

#[derive(Debug)]
struct Sent {
    account: AccountId,
    order: Order,
    /// The number of the message among those of the session.
    message: Option<u64>,
    at: Timestamp,
    is_acknowledged: bool,
}

/// What was sent in this session, by task.
#[derive(Debug)]
pub struct Outbox {
    agent_makes_interfaces: bool,
    sent: BTreeMap<TaskId, Sent>,
    last_sequence: u64,
    session: u32,
    messages: u64,
}

impl Outbox {
    /// `session` must be larger than that of every earlier session of the instance.
    pub fn new(session: u32, agent_makes_interfaces: bool) -> Self {
        Self {
            agent_makes_interfaces,
            sent: BTreeMap::new(),
            last_sequence: u64::from(session) << SESSION_SHIFT,
            session,
            messages: 0,
        }
    }

    pub fn next_sequence(&mut self) -> u64 {
        self.last_sequence += 1;
        self.last_sequence
    }

    /// Unique for the instance, without chance.
    pub fn next_message_id(&mut self) -> String {
        self.messages += 1;
        format!("{:08x}-{:012x}", self.session, self.messages)
    }

    /// What [`Outbox::next_message_id`] made the id of; `None` if that was another session.
    fn number_of(&self, message_id: &str) -> Option<u64> {
        let (session, number) = message_id.split_once('-')?;
        let is_ours = u32::from_str_radix(session, 16) == Ok(self.session);
        u64::from_str_radix(number, 16).ok().filter(|_| is_ours)
    }

    /// What must be sent now, given every task that occupies the instance.
    pub fn due<'a, T>(&mut self, tasks: T, now: Timestamp) -> Vec<(&'a Task, Order)>
    where
        T: IntoIterator<Item = &'a Task> + Clone,
    {
        if !self.sent.is_empty() {
            let here: std::collections::BTreeSet<TaskId> =
                tasks.clone().into_iter().map(|task| task.id).collect();
            self.sent.retain(|task, _| here.contains(task));
        }
        self.due_among(tasks, now)
    }

    /// The tasks whose last message was not acknowledged. Forgets those of which nothing more is to be heard:
    /// what is remembered does not grow with the tasks of the instance.
    pub fn unanswered<'a>(
        &mut self,
        find: impl Fn(AccountId, TaskId) -> Option<&'a Task>,
    ) -> Vec<&'a Task> {
        let mut tasks = Vec::new();
        self.sent.retain(|id, sent| match find(sent.account, *id) {
            Some(task) if sent.is_acknowledged => task.has_orders(),
            Some(task) => {
                tasks.push(task);
                true
            }
            None => false,
        });
        tasks
    }

    /// What must be sent now of some of the tasks that occupy the instance.
    pub(crate) fn due_among<'a>(
        &self,
        tasks: impl IntoIterator<Item = &'a Task>,
        now: Timestamp,
    ) -> Vec<(&'a Task, Order)> {
        tasks.into_iter().filter_map(|task| Some((task, self.due_of(task, now)?))).collect()
    }

    fn due_of(&self, task: &Task, now: Timestamp) -> Option<Order> {
        let order = self.order(task)?;
        match self.sent.get(&task.id) {
            Some(sent) if sent.order == order => {
                let is_overdue = now.since_ms(sent.at) >= RESEND_AFTER_MS;
                (!sent.is_acknowledged && is_overdue).then_some(order)
            }
            Some(_) | None => Some(order),
        }
    }

    fn order(&self, task: &Task) -> Option<Order> {
        if task.phase == Phase::Stopped {
            return None;
        }
        let has_interface = task
            .interface
            .as_ref()
            .is_none_or(|interface| interface.phase >= AttachmentPhase::Attached);
        Some(match task.desired_of_agent() {
            Desired::Stopped => Order::Stop,
            Desired::Running if has_interface || self.agent_makes_interfaces => Order::Run,
            Desired::Running => Order::Attach,
        })
    }

    /// Remembers that `order` left in the message `message_id`.
    pub fn sent(&mut self, task: &Task, order: Order, message_id: &str, now: Timestamp) {
        let account = task.scope.account;
        let message = self.number_of(message_id);
        let sent = Sent { account, order, message, at: now, is_acknowledged: false };
        self.sent.insert(task.id, sent);
    }

    /// The task whose message was acknowledged, and what it said.
    pub fn acknowledged(&mut self, message_id: &str) -> Option<(AccountId, TaskId, Order)> {
        let message = Some(self.number_of(message_id)?);
        let found = self.sent.iter_mut().find(|(_, sent)| sent.message == message);
        let (task, sent) = found.filter(|(_, sent)| !sent.is_acknowledged)?;
        sent.is_acknowledged = true;
        Some((sent.account, *task, sent.order))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::testing::rows::task;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn orders(outbox: &mut Outbox, tasks: &[Task], now: Timestamp) -> Vec<Order> {
        outbox.due(tasks, now).into_iter().map(|(_, order)| order).collect()
    }

    #[test]
    fn a_message_is_repeated_until_it_is_acknowledged() {
        let mut outbox = Outbox::new(1, true);
        let tasks = [task(1)];
        assert_eq!(orders(&mut outbox, &tasks, NOW), [Order::Run]);
        let message = outbox.next_message_id();
        outbox.sent(&tasks[0], Order::Run, &message, NOW);
        assert_eq!(orders(&mut outbox, &tasks, NOW), []);
        let later = NOW.plus_ms(RESEND_AFTER_MS);
        assert_eq!(orders(&mut outbox, &tasks, later), [Order::Run]);
        assert_eq!(
            outbox.acknowledged(&message),
            Some((tasks[0].scope.account, tasks[0].id, Order::Run))
        );
        assert_eq!(outbox.acknowledged(&message), None);
        for anothers in ["00000002-000000000001", "1", ""] {
            assert_eq!(outbox.acknowledged(anothers), None, "{anothers}");
        }
        assert_eq!(orders(&mut outbox, &tasks, later), []);
    }

    #[test]
    fn of_tasks_that_run_nothing_is_remembered_once_they_were_acknowledged() {
        let mut outbox = Outbox::new(1, true);
        let mut tasks = [task(1), task(2)];
        for task in &tasks {
            let message = outbox.next_message_id();
            outbox.sent(task, Order::Run, &message, NOW);
        }
        let (first, second) = (tasks[0].id, tasks[1].id);
        outbox.acknowledged("00000001-000000000001");
        let unanswered = |outbox: &mut Outbox, tasks: &[Task]| -> Vec<TaskId> {
            let find = |_, id| tasks.iter().find(|task| task.id == id);
            outbox.unanswered(find).into_iter().map(|task| task.id).collect()
        };
        assert_eq!(unanswered(&mut outbox, &tasks), [second]);
        assert_eq!(outbox.sent.len(), 2, "one that does not run yet must not be sent anew");
        tasks.iter_mut().for_each(|task| task.phase = Phase::Running);
        assert_eq!(unanswered(&mut outbox, &tasks), [second], "it is sent again until it is");
        assert_eq!(outbox.sent.keys().collect::<Vec<_>>(), [&second]);
        assert_eq!(unanswered(&mut outbox, &tasks[..1]), [], "{first} is all there is");
        assert!(outbox.sent.is_empty());
    }

    #[test]
    fn a_stop_follows_whatever_was_sent_before() {
        let mut outbox = Outbox::new(1, true);
        let mut tasks = [task(1)];
        let message = outbox.next_message_id();
        outbox.sent(&tasks[0], Order::Run, &message, NOW);
        tasks[0].desired = Desired::Stopped;
        assert_eq!(orders(&mut outbox, &tasks, NOW), [Order::Stop]);
        tasks[0].phase = Phase::Stopped;
        assert_eq!(orders(&mut outbox, &tasks, NOW), []);
    }

    #[test]
    fn an_agent_that_makes_no_interfaces_is_sent_one_first() {
        let mut tasks = [task(1)];
        assert_eq!(orders(&mut Outbox::new(1, true), &tasks, NOW), [Order::Run]);
        assert_eq!(orders(&mut Outbox::new(1, false), &tasks, NOW), [Order::Attach]);
        tasks[0].interface.as_mut().unwrap().phase = AttachmentPhase::Attached;
        assert_eq!(orders(&mut Outbox::new(1, false), &tasks, NOW), [Order::Run]);
        tasks[0].interface = None;
        assert_eq!(orders(&mut Outbox::new(1, false), &tasks, NOW), [Order::Run]);
    }

    #[test]
    fn sequence_numbers_grow_over_sessions() {
        let mut first = Outbox::new(1, true);
        let last = (0..1000).map(|_| first.next_sequence()).last().unwrap();
        assert!(last < Outbox::new(2, true).next_sequence());
    }
}
