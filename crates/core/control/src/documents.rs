//! Documents of rows that never change, kept decoded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_wire::DecodeError;
use aws_wire::codec::Record;
use longshore_types::{AccountId, TaskDefinitionId};
use model::TaskDefinition;

/// Documents that are kept.
const KEPT_MAX: usize = 1_000;

/// The documents of task definitions as `T`, each read once for all who ask.
#[derive(Debug)]
pub struct Documents<T>(Mutex<BTreeMap<(AccountId, TaskDefinitionId), Arc<T>>>);

impl<T> Default for Documents<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Record> Documents<T> {
    /// The row's document: a revision never changes.
    pub fn read(&self, row: &TaskDefinition) -> Result<Arc<T>, DecodeError> {
        let key = (row.account, row.id.clone());
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = kept.get(&key) {
            return Ok(Arc::clone(found));
        }
        let read: Arc<T> = Arc::new(aws_wire::json::from_slice(row.document.as_str().as_bytes())?);
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert(key, Arc::clone(&read));
        Ok(read)
    }
}
