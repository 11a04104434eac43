//! [`Runtime`] by the sandbox.

use std::io;
use std::path::{Path, PathBuf};

use futures_util::future::BoxFuture;
use longshore_types::Chain;
use sandbox::{
    ContainerId, ContainerSpec, DiskRoom, ExecResult, ExecSpec, Exit, GroupId, GroupLimits,
    LogItem, LogReader, Position, Recovered, SandboxError, Sandboxes, Started, Stats, StorageUse,
    Stream, Usage,
};
use tracing::warn;

use crate::ports::{Output, OutputItem, Piece, Runtime, Signal, StdStream, Surroundings};

/// Containers of this host.
#[derive(Clone)]
pub struct SandboxRuntime(pub Sandboxes);

impl std::fmt::Debug for SandboxRuntime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SandboxRuntime")
    }
}

impl Runtime for SandboxRuntime {
    fn create_group(
        &self,
        group: GroupId,
        limits: GroupLimits,
    ) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(async move { self.0.create_group(&group, limits).await })
    }

    fn remove_group(&self, group: GroupId) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(async move { self.0.remove_group(&group).await })
    }

    fn groups(&self) -> BoxFuture<'_, Result<Vec<GroupId>, SandboxError>> {
        Box::pin(self.0.groups())
    }

    fn create(
        &self,
        spec: ContainerSpec,
        _around: Surroundings,
    ) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(self.0.create(spec))
    }

    fn start(&self, id: ContainerId) -> BoxFuture<'_, Result<Started, SandboxError>> {
        Box::pin(async move { self.0.start(&id).await })
    }

    fn hold(&self, spec: ContainerSpec) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(self.0.hold(spec))
    }

    fn signal(&self, id: ContainerId, signal: Signal) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(async move {
            let known = sandbox::Signal::try_from(signal.0).map_err(|_| SandboxError::Invalid {
                what: "stop signal".to_owned(),
                why: format!("signal {} is not one that can be sent", signal.0),
            })?;
            self.0.signal(&id, known).await
        })
    }

    fn wait(&self, id: ContainerId) -> BoxFuture<'_, Result<Exit, SandboxError>> {
        Box::pin(async move { self.0.wait(&id).await })
    }

    fn exec(
        &self,
        id: ContainerId,
        exec: ExecSpec,
    ) -> BoxFuture<'_, Result<ExecResult, SandboxError>> {
        Box::pin(async move { self.0.exec(&id, exec).await })
    }

    fn stats(&self, id: ContainerId) -> BoxFuture<'_, Result<Stats, SandboxError>> {
        Box::pin(async move { self.0.stats(&id).await })
    }

    fn usage(&self, id: ContainerId) -> BoxFuture<'_, Result<Usage, SandboxError>> {
        Box::pin(async move { self.0.usage(&id).await })
    }

    fn delete(&self, id: ContainerId) -> BoxFuture<'_, Result<(), SandboxError>> {
        Box::pin(async move { self.0.delete(&id).await })
    }

    fn recover(&self) -> BoxFuture<'_, Result<Vec<Recovered>, SandboxError>> {
        Box::pin(self.0.recover())
    }

    fn storage(
        &self,
        group: GroupId,
        trees: Vec<PathBuf>,
    ) -> BoxFuture<'_, Result<StorageUse, SandboxError>> {
        Box::pin(async move { self.0.storage(&group, trees).await })
    }

    fn disk_room(&self, path: PathBuf) -> BoxFuture<'_, Result<DiskRoom, SandboxError>> {
        Box::pin(self.0.disk_room(path))
    }

    fn output(&self, spool: &Path, position: Position) -> io::Result<Box<dyn Output>> {
        let reader = self.0.logs(spool, position).map_err(to_io)?;
        Ok(Box::new(SpoolOutput(reader)))
    }
}

fn to_io(error: SandboxError) -> io::Error {
    io::Error::other(Chain(&error).to_string())
}

struct SpoolOutput(LogReader);

impl Output for SpoolOutput {
    fn next(&mut self) -> BoxFuture<'_, io::Result<OutputItem>> {
        Box::pin(async move {
            Ok(match self.0.next().await.map_err(to_io)? {
                LogItem::Record(record) => OutputItem::Piece(Piece {
                    at: record.at,
                    stream: match record.stream {
                        Stream::Stdout => StdStream::Stdout,
                        Stream::Stderr => StdStream::Stderr,
                    },
                    is_partial: record.partial,
                    bytes: record.bytes,
                    next: self.0.position(),
                }),
                LogItem::Dropped { bytes } => OutputItem::Lost { bytes },
                LogItem::End => OutputItem::End,
            })
        })
    }

    fn acknowledge(&mut self, position: Position) {
        if let Err(error) = self.0.acknowledge(position) {
            warn!(error = %Chain(&error), "shipped output not deleted");
        }
    }
}
