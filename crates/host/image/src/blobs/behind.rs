//! Content that comes from the network is hashed and written by a thread, so that who receives it waits for no disk.

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{BlobError, BlobWriter};

/// Pieces on their way to the thread.
const PIECES_MAX: usize = 16;

/// A writer that is on its thread until [`WriteBehind::end`] gives it back.
#[derive(Debug)]
pub(crate) struct WriteBehind {
    pieces: mpsc::Sender<Bytes>,
    thread: JoinHandle<(BlobWriter, Result<(), BlobError>)>,
}

impl WriteBehind {
    pub(crate) fn start(mut writer: BlobWriter) -> Self {
        let (pieces, mut incoming) = mpsc::channel::<Bytes>(PIECES_MAX);
        let thread = tokio::task::spawn_blocking(move || {
            let mut result = Ok(());
            while let Some(piece) = incoming.blocking_recv() {
                result = writer.write(&piece);
                if result.is_err() {
                    break;
                }
            }
            (writer, result)
        });
        Self { pieces, thread }
    }

    /// Whether the thread takes it. If not, [`WriteBehind::end`] says why.
    pub(crate) async fn write(&self, piece: Bytes) -> bool {
        self.pieces.send(piece).await.is_ok()
    }

    /// The writer, unless its thread died; and why not all was written, or else what became of receiving it.
    pub(crate) async fn end<E: From<BlobError>>(
        self,
        received: Result<(), E>,
    ) -> (Option<BlobWriter>, Result<(), E>) {
        drop(self.pieces);
        match self.thread.await {
            Ok((writer, Ok(()))) => (Some(writer), received),
            Ok((writer, Err(error))) => (Some(writer), Err(error.into())),
            Err(_) => (None, received),
        }
    }
}
