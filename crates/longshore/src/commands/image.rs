//! `longshore image load|ls|rm`: the region's registry without Docker.
//!
//! Images are pushed as `docker push` does it, with a token of ECR's; the repository is created if
//! it is missing.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ecr_api as ecr;
use image::{
    Auth, Basic, ClientConfig, Digest, Egress, Event, ImageTag, Progress, Pusher, Reference,
    RepositoryName, Transport, archive,
};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use longshore_types::Timestamp;

use crate::cli::{ImageLoad, ImageRm};
use crate::client::Client;
use crate::commands::connect;
use crate::data_dir::DataDir;
use crate::error::Error;
use crate::table;

/// A repository and what is meant of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name {
    repository: RepositoryName,
    tag: Option<ImageTag>,
    digest: Option<Digest>,
}

impl Name {
    /// `name`, `name:tag` or `name@digest`; a registry before it is not looked at.
    fn parse(text: &str) -> Result<Self, Error> {
        let unfit = |why: String| Error::message(format!("{text} is not an image name: {why}"));
        let reference: Reference =
            text.parse().map_err(|why: image::ReferenceError| unfit(why.to_string()))?;
        let repository = reference.repository.as_str();
        let short = repository.strip_prefix("library/").filter(|_| reference.is_docker_hub());
        let repository = match short {
            Some(short) => short.parse().map_err(|_| unfit("its repository".to_owned()))?,
            None => reference.repository.clone(),
        };
        Ok(Self { repository, tag: reference.tag, digest: reference.digest })
    }
}

pub(crate) async fn load(data: &DataDir, args: &ImageLoad) -> Result<(), Error> {
    let client = connect(data)?;
    let mut standard_input = None;
    let path = if args.path == Path::new("-") {
        standard_input.insert(spool_standard_input(data)?).path().to_owned()
    } else {
        args.path.clone()
    };
    let loaded = read_archive(path, data.root().to_owned()).await?;
    let targets = targets(&loaded, args.name.as_deref())?;
    let auth = login(&client).await?;
    let pusher = Pusher::new(Transport::new(ClientConfig {
        egress: Egress::anywhere(),
        // Without TLS, as all that this machine asks of its region.
        plain_http: vec![client.endpoint().to_string()],
        ..ClientConfig::default()
    }));
    for (image, name) in targets {
        create_repository(&client, &name.repository).await?;
        let reference = Reference {
            registry: client.endpoint().to_string(),
            repository: name.repository,
            tag: name.tag,
            digest: None,
        };
        let bars = Bars::new();
        pusher
            .push(image, &reference, &auth, &bars.progress())
            .await
            .map_err(Error::other("push the image"))?;
        bars.finish();
        println!("{reference}");
    }
    Ok(())
}

fn spool_standard_input(data: &DataDir) -> Result<tempfile::NamedTempFile, Error> {
    let spool = || -> io::Result<tempfile::NamedTempFile> {
        let mut file = tempfile::Builder::new().prefix(".load").tempfile_in(data.root())?;
        io::copy(&mut io::stdin().lock(), &mut file)?;
        file.flush()?;
        Ok(file)
    };
    spool().map_err(Error::io("store the archive from standard input"))
}

async fn read_archive(
    path: PathBuf,
    temp_dir: PathBuf,
) -> Result<Vec<archive::LoadedImage>, Error> {
    let bar = ProgressBar::new(0).with_style(style());
    bar.set_message("reading");
    let read = tokio::task::spawn_blocking(move || {
        let loaded = archive::load(&path, &temp_dir, &|done, of| {
            bar.set_length(of);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        loaded
    });
    read.await.map_err(Error::other("read the archive"))?.map_err(Error::other("read the archive"))
}

/// Which image goes where.
fn targets<'a>(
    loaded: &'a [archive::LoadedImage],
    name: Option<&str>,
) -> Result<Vec<(&'a archive::LoadedImage, Name)>, Error> {
    let with_tag = |text: &str| {
        let mut name = Name::parse(text)?;
        name.tag.get_or_insert_with(ImageTag::latest);
        Ok::<_, Error>(name)
    };
    match (loaded, name) {
        ([], _) => Err(Error::message("the archive holds no image")),
        ([image], Some(name)) => Ok(vec![(image, with_tag(name)?)]),
        (several, Some(_)) => Err(Error::message(format!(
            "the archive holds {} images, so they cannot all be loaded as one name",
            several.len()
        ))),
        (all, None) => {
            let mut targets = Vec::new();
            for image in all {
                for name in &image.names {
                    targets.push((image, with_tag(name)?));
                }
            }
            if targets.is_empty() {
                return Err(Error::message("the archive names no image; say --name NAME:TAG"));
            }
            Ok(targets)
        }
    }
}

async fn login(client: &Client) -> Result<Auth, Error> {
    let input = ecr::GetAuthorizationTokenRequest::default();
    let answer: ecr::GetAuthorizationTokenResponse =
        client.ecr("GetAuthorizationToken", &input).await?;
    let data = answer.authorization_data.unwrap_or_default().into_iter().next();
    let token = data.and_then(|data| data.authorization_token);
    let basic = token.as_deref().and_then(Basic::from_authorization_token);
    let basic = basic.ok_or_else(|| Error::message("the region gave no registry token"))?;
    Ok(Auth::none().with(client.endpoint().to_string(), basic))
}

async fn create_repository(client: &Client, name: &RepositoryName) -> Result<(), Error> {
    let input = ecr::CreateRepositoryRequest {
        repository_name: Some(name.to_string()),
        ..ecr::CreateRepositoryRequest::default()
    };
    let created = client.ecr::<_, ecr::CreateRepositoryResponse>("CreateRepository", &input).await;
    match created {
        Ok(_) => Ok(()),
        Err(error) if error.is("RepositoryAlreadyExistsException") => Ok(()),
        Err(error) => Err(error.into()),
    }
}

pub(crate) async fn ls(data: &DataDir) -> Result<(), Error> {
    let client = connect(data)?;
    let mut rows = Vec::new();
    for repository in repositories(&client).await? {
        for image in images(&client, &repository).await? {
            let tags = image.image_tags.unwrap_or_default();
            let digest = image.image_digest.unwrap_or_default();
            let size = image.image_size_in_bytes.and_then(|size| u64::try_from(size).ok());
            let row = |tag: String| {
                vec![
                    repository.clone(),
                    tag,
                    digest.chars().take(19).collect(),
                    indicatif::HumanBytes(size.unwrap_or(0)).to_string(),
                    image.image_pushed_at.map(Timestamp::iso8601).unwrap_or_default(),
                ]
            };
            if tags.is_empty() {
                rows.push(row("-".to_owned()));
            }
            rows.extend(tags.into_iter().map(row));
        }
    }
    print!("{}", table::render(&["REPOSITORY", "TAG", "DIGEST", "SIZE", "PUSHED"], &rows));
    Ok(())
}

async fn repositories(client: &Client) -> Result<Vec<String>, Error> {
    let mut input = ecr::DescribeRepositoriesRequest::default();
    let mut names = Vec::new();
    loop {
        let page: ecr::DescribeRepositoriesResponse =
            client.ecr("DescribeRepositories", &input).await?;
        let found = page.repositories.unwrap_or_default();
        names.extend(found.into_iter().filter_map(|repository| repository.repository_name));
        input.next_token = page.next_token;
        if input.next_token.is_none() {
            return Ok(names);
        }
    }
}

async fn images(client: &Client, repository: &str) -> Result<Vec<ecr::ImageDetail>, Error> {
    let mut input = ecr::DescribeImagesRequest {
        repository_name: Some(repository.to_owned()),
        ..ecr::DescribeImagesRequest::default()
    };
    let mut found = Vec::new();
    loop {
        let page: ecr::DescribeImagesResponse = client.ecr("DescribeImages", &input).await?;
        found.extend(page.image_details.unwrap_or_default());
        input.next_token = page.next_token;
        if input.next_token.is_none() {
            return Ok(found);
        }
    }
}

pub(crate) async fn rm(data: &DataDir, args: &ImageRm) -> Result<(), Error> {
    let client = connect(data)?;
    for text in &args.images {
        let name = Name::parse(text)?;
        if name.tag.is_none() && name.digest.is_none() {
            return Err(Error::message(format!("say which image of {text}: {text}:TAG")));
        }
        let id = ecr::ImageIdentifier {
            image_digest: name.digest.map(|digest| digest.to_string()),
            image_tag: name.tag.map(|tag| tag.to_string()),
        };
        let input = ecr::BatchDeleteImageRequest {
            repository_name: Some(name.repository.to_string()),
            image_ids: Some(vec![id]),
            ..ecr::BatchDeleteImageRequest::default()
        };
        let answer: ecr::BatchDeleteImageResponse = client.ecr("BatchDeleteImage", &input).await?;
        if let Some(failure) = answer.failures.unwrap_or_default().into_iter().next() {
            let why = failure.failure_reason.unwrap_or_default();
            return Err(Error::message(format!("cannot remove {text}: {why}")));
        }
        println!("removed {text}");
    }
    Ok(())
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{msg:14} {bar:30} {bytes:>10}/{total_bytes:<10} {bytes_per_sec}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// A bar a layer, drawn on standard error if that is a terminal.
struct Bars {
    all: MultiProgress,
    bars: std::sync::Arc<Mutex<HashMap<Digest, ProgressBar>>>,
}

impl Bars {
    fn new() -> Self {
        Self { all: MultiProgress::new(), bars: std::sync::Arc::default() }
    }

    fn progress(&self) -> Progress {
        let (all, bars) = (self.all.clone(), std::sync::Arc::clone(&self.bars));
        Progress::new(move |event| {
            let mut bars = bars.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match event {
                Event::Resolved { layers, .. } => {
                    for (digest, size) in layers {
                        let bar = all.add(ProgressBar::new(size).with_style(style()));
                        let short: String = digest.to_string().chars().skip(7).take(12).collect();
                        bar.set_message(short);
                        bars.insert(digest, bar);
                    }
                }
                Event::Fetched { layer, bytes } | Event::Sent { layer, bytes } => {
                    if let Some(bar) = bars.get(&layer) {
                        bar.set_position(bytes);
                    }
                }
                Event::Present { layer } | Event::Done { layer } => {
                    if let Some(bar) = bars.get(&layer) {
                        bar.finish();
                    }
                }
                Event::Unpacking { .. } => {}
            }
        })
    }

    fn finish(&self) {
        let _ = self.all.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let name = Name::parse(text).unwrap();
        let tag = name.tag.map(|tag| format!(":{tag}")).unwrap_or_default();
        format!("{}{tag}", name.repository)
    }

    #[test]
    fn a_name_in_an_archive_loses_its_registry() {
        assert_eq!(shown("hello:1"), "hello:1");
        assert_eq!(shown("docker.io/library/hello:1"), "hello:1");
        assert_eq!(shown("docker.io/team/hello:1"), "team/hello:1");
        assert_eq!(shown("127.0.0.1:4566/a/b:2"), "a/b:2");
        assert!(Name::parse("Hello:1").is_err());
        assert!(Name::parse("").is_err());
    }
}
