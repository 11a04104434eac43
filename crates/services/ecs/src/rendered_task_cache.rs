//! Tasks as JSON, kept for whoever asks again.
//!
//! **Invariant:** a text is of the very row that it is asked for: a row that has changed since is
//! another one, and so is an instance that is out of reach. What is kept is bounded, and is lost without harm.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_wire::json;
use bytes::Bytes;
use longshore_types::TaskId;
use model::Task;

use super::render_task::{Seen, render_seen};

/// Texts kept at most, by their length; beyond it they are gathered anew.
const BYTES_MAX: usize = 8 << 20;

/// What DescribeTasks has answered lately.
#[derive(Debug, Default)]
pub(crate) struct RenderedTaskCache {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// By the task, and whether its tags are in it.
    texts: HashMap<(TaskId, bool), Text>,
    bytes: usize,
}

#[derive(Debug)]
struct Text {
    /// Held, so that no other row can take its place in memory and be taken for it.
    row: Arc<Task>,
    seen: Seen,
    json: Bytes,
}

impl RenderedTaskCache {
    /// Each task's JSON, in the same order.
    pub(super) fn texts(&self, tasks: &[(Arc<Task>, Seen)], with_tags: bool) -> Vec<Bytes> {
        let known: Vec<Option<Bytes>> = {
            let kept = self.kept();
            tasks.iter().map(|(task, seen)| kept.find(task, *seen, with_tags)).collect()
        };
        let mut made = Vec::new();
        let texts = tasks.iter().zip(known).map(|((task, seen), known)| {
            known.unwrap_or_else(|| {
                let json = Bytes::from(json::to_vec(&render_seen(task, with_tags, *seen)));
                made.push(Text { row: Arc::clone(task), seen: *seen, json: json.clone() });
                json
            })
        });
        let texts = texts.collect();
        if !made.is_empty() {
            self.kept().keep(made, with_tags);
        }
        texts
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn find(&self, task: &Arc<Task>, seen: Seen, with_tags: bool) -> Option<Bytes> {
        let text = self.texts.get(&(task.id, with_tags))?;
        (Arc::ptr_eq(&text.row, task) && text.seen == seen).then(|| text.json.clone())
    }

    fn keep(&mut self, texts: Vec<Text>, with_tags: bool) {
        for text in texts {
            if BYTES_MAX < self.bytes + text.json.len() {
                *self = Self::default();
            }
            self.bytes += text.json.len();
            if let Some(before) = self.texts.insert((text.row.id, with_tags), text) {
                self.bytes = self.bytes.saturating_sub(before.json.len());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use longshore_types::Timestamp;
    use model::task::{Input, step};

    use super::*;
    use crate::render_task::render;
    use control::testing::rows::task;

    fn seen(task: &Arc<Task>) -> (Arc<Task>, Seen) {
        (Arc::clone(task), Seen::default())
    }

    #[test]
    fn a_task_that_changed_is_written_anew() {
        let shown = RenderedTaskCache::default();
        let before = Arc::new(task(1));
        let first = shown.texts(&[seen(&before)], false);
        assert_eq!(first, [json::to_vec(&render(&before, false))]);
        assert_eq!(shown.texts(&[seen(&before)], false)[0].as_ptr(), first[0].as_ptr());
        let stopped = Input::StopRequested { reason: None };
        let after = Arc::new(step(&before, &stopped, Timestamp(9)).unwrap());
        let rows = [seen(&after), seen(&before)];
        let texts = shown.texts(&rows, false);
        assert_eq!(texts, [json::to_vec(&render(&after, false)), first[0].to_vec()]);
    }

    #[test]
    fn texts_with_tags_are_others() {
        let shown = RenderedTaskCache::default();
        let mut tagged = task(1);
        tagged.tags.insert("team".to_owned(), "a".to_owned());
        let rows = [seen(&Arc::new(tagged))];
        let plain = shown.texts(&rows, false);
        assert_ne!(shown.texts(&rows, true), plain);
        assert_eq!(shown.texts(&rows, false), plain);
    }

    #[test]
    fn no_more_is_kept_than_may_be() {
        let shown = RenderedTaskCache::default();
        let mut large = task(1);
        large.group = "g".repeat(BYTES_MAX / 3);
        for number in 2..9 {
            let row = Task { id: task(number).id, ..large.clone() };
            shown.texts(&[seen(&Arc::new(row))], false);
            let kept = shown.kept();
            let sum: usize = kept.texts.values().map(|text| text.json.len()).sum();
            assert_eq!(kept.bytes, sum);
            assert!(sum <= BYTES_MAX && !kept.texts.is_empty());
        }
    }
}
