//! Events of groups that have a key: sealed before they are written, opened when they are read.
//!
//! What is sealed begins with a byte that no text begins with. So a group has events of both sorts: a key is for what
//! comes after it was given, and what it sealed stays sealed when it is taken away.

use std::fmt;

use bytes::Bytes;
use longshore_types::AccountId;

use crate::error::LogsError;
use crate::event::{Event, InputEvent};
use crate::names::GroupName;

/// No text in UTF-8 has this byte.
const MARK: u8 = 0xFF;

/// Whose events are sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedGroup {
    pub account: AccountId,
    pub name: GroupName,
}

/// Why an event is neither sealed nor opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// By whom the key belongs to: it is disabled, or its policy says no.
    #[error("{0}")]
    Refused(String),
    /// It will never be opened: its key is deleted.
    #[error("{0}")]
    Lost(String),
    /// Ours.
    #[error("{0}")]
    Failed(String),
}

/// What knows keys. It is given to a store once, before anything is put.
pub trait Sealer: fmt::Debug + Send + Sync {
    /// Seals texts of a group by its key.
    fn seal(
        &self,
        group: &SealedGroup,
        key: &str,
        texts: &[Bytes],
    ) -> Result<Vec<Vec<u8>>, SealError>;

    /// What opens events of a group, for as long as one request takes.
    fn opener(&self, group: &SealedGroup) -> Box<dyn Opener>;
}

/// Opens what a [`Sealer`] sealed.
pub trait Opener: Send {
    fn open(&mut self, sealed: &[u8]) -> Result<Vec<u8>, SealError>;
}

impl From<SealError> for LogsError {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Refused(why) | SealError::Lost(why) => Self::Key(why),
            SealError::Failed(why) => {
                Self::Fault { doing: "seal or open log events", source: std::io::Error::other(why) }
            }
        }
    }
}

pub(crate) fn seal(
    sealer: &dyn Sealer,
    group: &SealedGroup,
    key: &str,
    mut events: Vec<InputEvent>,
) -> Result<Vec<InputEvent>, LogsError> {
    let texts: Vec<Bytes> = events.iter().map(|event| event.message.clone()).collect();
    let sealed = sealer.seal(group, key, &texts)?;
    for (event, sealed) in events.iter_mut().zip(sealed) {
        event.message = [&[MARK], sealed.as_slice()].concat().into();
    }
    Ok(events)
}

/// Makes an event what was put. False: it is lost; that keeps nobody from what is beside it.
pub(crate) fn open(
    opener: Option<&mut Box<dyn Opener>>,
    event: &mut Event,
) -> Result<bool, LogsError> {
    let Some((&MARK, sealed)) = event.message.split_first() else { return Ok(true) };
    let nobody = || SealError::Failed("nobody opens sealed events here".to_owned());
    match opener.ok_or_else(nobody)?.open(sealed) {
        Ok(text) => {
            event.message = text.into();
            Ok(true)
        }
        Err(SealError::Lost(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
