//! Bytes between the network and files, without blocking the one or waiting for the other.

use std::fs::File;
use std::future::Future as _;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use image::{BlobError, BlobWriter};
use tokio::task::JoinHandle;

use crate::error::RegistryError;

/// How much is read from a file at once.
const READ_BYTES: u64 = 512 << 10;
/// How much is collected from the network before it is written.
const WRITE_BYTES: usize = 1 << 20;

/// Part of a file as a body; one piece is read ahead.
#[derive(Debug)]
pub(crate) struct FileBody {
    /// What is still to be handed out.
    left: u64,
    reading: Option<JoinHandle<io::Result<(File, Bytes)>>>,
}

impl FileBody {
    pub(crate) fn new(mut file: File, offset: u64, length: u64) -> io::Result<Self> {
        if offset > 0 {
            file.seek(SeekFrom::Start(offset))?;
        }
        let reading = (length > 0).then(|| read_piece(file, length));
        Ok(Self { left: length, reading })
    }
}

fn read_piece(file: File, left: u64) -> JoinHandle<io::Result<(File, Bytes)>> {
    tokio::task::spawn_blocking(move || {
        let want = left.min(READ_BYTES);
        let mut piece = Vec::with_capacity(usize::try_from(want).unwrap_or(0));
        (&file).take(want).read_to_end(&mut piece)?;
        if piece.len() as u64 != want {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok((file, piece.into()))
    })
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Some(reading) = self.reading.as_mut() else { return Poll::Ready(None) };
        let read = std::task::ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        let (file, piece) = match read {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => return Poll::Ready(Some(Err(error))),
            Err(error) => return Poll::Ready(Some(Err(io::Error::other(error)))),
        };
        self.left -= piece.len() as u64;
        if self.left > 0 {
            self.reading = Some(read_piece(file, self.left));
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.reading.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Writes a body to `writer`: one piece is written while the next arrives. Gives the writer back
/// with what arrived, also if the body broke off; it is gone only if the writing itself panicked.
pub(crate) async fn pour<B>(
    mut body: B,
    writer: BlobWriter,
    bytes_max: u64,
) -> (Option<BlobWriter>, Result<(), RegistryError>)
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let mut room = bytes_max.saturating_sub(writer.written());
    let mut idle = Some(writer);
    let mut writing: Option<JoinHandle<(BlobWriter, Result<(), BlobError>)>> = None;
    let mut end = None;
    while end.is_none() {
        let pieces = match collect(&mut body, &mut room, bytes_max, &mut end).await {
            pieces if pieces.is_empty() => continue,
            pieces => pieces,
        };
        if let Some(running) = writing.take() {
            match running.await {
                Ok((writer, Ok(()))) => idle = Some(writer),
                Ok((writer, Err(error))) => return (Some(writer), Err(error.into())),
                Err(_) => return (None, Err(RegistryError::Body("writing it failed".to_owned()))),
            }
        }
        let Some(mut writer) = idle.take() else { break };
        writing = Some(tokio::task::spawn_blocking(move || {
            let written = pieces.iter().try_for_each(|piece| writer.write(piece));
            (writer, written)
        }));
    }
    if let Some(running) = writing {
        match running.await {
            Ok((writer, Ok(()))) => idle = Some(writer),
            Ok((writer, Err(error))) => return (Some(writer), Err(error.into())),
            Err(_) => return (None, Err(RegistryError::Body("writing it failed".to_owned()))),
        }
    }
    (idle, end.unwrap_or(Ok(())))
}

/// Takes pieces until they are worth writing. `end` is set when there are no more.
async fn collect<B>(
    body: &mut B,
    room: &mut u64,
    bytes_max: u64,
    end: &mut Option<Result<(), RegistryError>>,
) -> Vec<Bytes>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let (mut pieces, mut collected) = (Vec::new(), 0);
    while collected < WRITE_BYTES {
        match body.frame().await {
            None => {
                *end = Some(Ok(()));
                break;
            }
            Some(Err(error)) => {
                *end = Some(Err(RegistryError::Body(error.to_string())));
                break;
            }
            Some(Ok(frame)) => {
                let Ok(piece) = frame.into_data() else { continue };
                let Some(rest) = room.checked_sub(piece.len() as u64) else {
                    *end = Some(Err(BlobError::TooLarge { max: bytes_max }.into()));
                    break;
                };
                *room = rest;
                collected += piece.len();
                pieces.push(piece);
            }
        }
    }
    pieces
}

/// Reads a body that must be small.
pub(crate) async fn read_small<B>(body: B, bytes_max: usize) -> Result<Bytes, RegistryError>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let mut room = bytes_max as u64;
    let (mut body, mut end, mut bytes) = (body, None, Vec::new());
    while end.is_none() {
        for piece in collect(&mut body, &mut room, bytes_max as u64, &mut end).await {
            bytes.extend_from_slice(&piece);
        }
    }
    match end {
        Some(Err(RegistryError::Blob(BlobError::TooLarge { .. }))) => {
            Err(RegistryError::ManifestTooLarge { max: bytes_max })
        }
        Some(Err(error)) => Err(error),
        Some(Ok(())) | None => Ok(bytes.into()),
    }
}
