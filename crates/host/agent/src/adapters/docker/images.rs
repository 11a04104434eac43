//! [`Images`] that Docker pulls and keeps.

use std::path::PathBuf;
use std::sync::Arc;

use docker::{Docker, DockerImage};
use futures_util::future::BoxFuture;
use image::{Auth, Mirrors, PullError, Reference};

use crate::adapters::images::known_logins;
use crate::ports::{Images, LocalImage};

/// Images of this host's Docker.
#[derive(Clone, Debug)]
pub struct DockerImages {
    docker: Docker,
    mirrors: Mirrors,
    /// Logins for other registries, as `docker login` writes them; read at each pull.
    logins: Option<PathBuf>,
}

impl DockerImages {
    /// `mirrors` says where images are looked for first.
    pub fn new(docker: Docker, mirrors: Mirrors) -> Self {
        Self { docker, mirrors, logins: None }
    }

    /// Shows other registries the logins of this file, if it is there: Docker's `config.json`.
    #[must_use]
    pub fn with_logins(mut self, file: PathBuf) -> Self {
        self.logins = Some(file);
        self
    }
}

fn local(image: DockerImage) -> LocalImage {
    LocalImage {
        digest: image.digest,
        config: image.config,
        layers: Vec::new(),
        name: Some(image.name),
        // Docker keeps what a container has; until then nobody but an operator removes it.
        lease: Arc::new(()),
    }
}

impl Images for DockerImages {
    fn pull(
        &self,
        reference: Reference,
        login: Auth,
        on_digest: Box<dyn FnOnce(String) + Send>,
    ) -> BoxFuture<'_, Result<LocalImage, Arc<PullError>>> {
        Box::pin(async move {
            let login = login.or(known_logins(self.logins.as_deref()));
            let names = self.mirrors.candidates(&reference);
            let image = self.docker.pull(&names, &login).await.map_err(Arc::new)?;
            on_digest(image.digest.clone());
            Ok(local(image))
        })
    }

    fn find(&self, reference: Reference, digest: String) -> BoxFuture<'_, Option<LocalImage>> {
        Box::pin(async move {
            let names = self.mirrors.candidates(&reference);
            self.docker.find(&names, &digest).await.map(local)
        })
    }

    /// Images are the machine's, which may have others' containers too: Docker's own `image prune` is for that.
    fn collect(&self) -> BoxFuture<'_, usize> {
        Box::pin(async { 0 })
    }
}
