//! When images are fetched, for whom, and what is served where that fails.
//!
//! What is here is served without asking, a tag for a day after upstream was asked what it means. After that it is
//! asked again by the next pull; where it does not answer, or the caller may not import, what is here is served on.
//! A tag that was pushed here is what was pushed: whoever may only pull must not move it to what upstream has.
//! One fetch of a name runs at a time, and goes on although whoever wanted it has gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use aws_wire::Caller;
use control::{Control, Permission};
use image::{Auth, ClientConfig, Egress, Flights, Reference, Transport, Upstream};
use longshore_types::{AccountId, Digest, ImageTag, RepositoryName, Timestamp};
use model::{EcrPullThroughRule, EcrTag, MadeFor, NamePrefix, View};
use registry::{Identifier, RegistryError, Repository, Supplier, Supplying};
use store::Batch;
use tokio::sync::Semaphore;

use super::fetch::{Fetch, FetchError, is_fixed_tag};
use super::{credentials, rules};
use crate::authorizer::refusal;
use crate::catalog::{RegionRegistry, manifest_id, tag_id};
use crate::making;
use crate::request::repository_arn;

/// Upstream is asked what a tag means at most once in this time.
const CHECK_MS: u64 = 24 * 3600 * 1000;
/// After an upstream did not answer, what is here is served for so long before it is asked again.
const AWAY_MS: u64 = 5 * 60 * 1000;
/// Images that are fetched for one account at the same time; others wait.
const IMAGES_OF_ACCOUNT_MAX: usize = 8;

/// Brings images of other registries, and makes repositories that are wanted.
#[derive(Debug)]
pub(crate) struct PullThrough {
    control: Arc<Control>,
    registry: Weak<RegionRegistry>,
    /// Itself: a fetch outlives the request that began it.
    me: Weak<Self>,
    transport: Transport,
    images: Flights<(Repository, Identifier)>,
    blobs: Arc<Flights<(Repository, Digest)>>,
    seats: Mutex<BTreeMap<AccountId, Weak<Semaphore>>>,
    /// When upstreams of rules last did not answer.
    away: Mutex<BTreeMap<(AccountId, NamePrefix), Timestamp>>,
}

/// What is here of an image that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Here {
    /// It is served without asking.
    Fresh,
    /// It is served unless upstream has something newer.
    Stale,
    Nothing,
}

impl PullThrough {
    pub(crate) fn new(
        control: Arc<Control>,
        registry: &Arc<RegionRegistry>,
        egress: Egress,
    ) -> Arc<Self> {
        let config = ClientConfig { egress, retries_max: 2, ..ClientConfig::default() };
        Arc::new_cyclic(|me| Self {
            control,
            registry: Arc::downgrade(registry),
            me: Weak::clone(me),
            transport: Transport::new(config),
            images: Flights::default(),
            blobs: Arc::default(),
            seats: Mutex::default(),
            away: Mutex::default(),
        })
    }

    /// Brings what a caller asks for if it comes by a rule and is not here, or may be older than upstream's.
    pub(crate) async fn bring(
        &self,
        caller: &Caller,
        repository: &Repository,
        wanted: &Identifier,
    ) -> Result<(), RegistryError> {
        let view = self.control.view();
        let Some((rule, there)) = rules::of(&view, repository) else { return Ok(()) };
        let here = here(&view, repository, wanted, self.control.clock.now());
        match here {
            Here::Fresh => return Ok(()),
            Here::Stale if self.is_away(&rule) => return Ok(()),
            Here::Stale | Here::Nothing => {}
        }
        if let Err(denied) = self.may_import(&view, caller, repository) {
            return if here == Here::Stale { Ok(()) } else { Err(denied) };
        }
        let shown = format!("{}:{wanted}", repository.name);
        let wants = Wants {
            caller: caller.clone(),
            repository: repository.clone(),
            wanted: wanted.clone(),
            rule,
            there,
        };
        let Some(me) = self.me.upgrade() else { return Ok(()) };
        #[expect(
            clippy::disallowed_methods,
            reason = "what was begun is of use to whoever asks next; a panic of it is contained"
        )]
        let fetched = tokio::spawn(async move { me.fetch(wants).await }).await;
        let error = match fetched.unwrap_or(Err(FetchError::Worker)) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        match here {
            Here::Stale => {
                tracing::info!(image = %shown, error = %longshore_types::Chain(&error), "image served as it is here");
                Ok(())
            }
            Here::Fresh | Here::Nothing => Err(error.into_refusal(&shown)),
        }
    }

    /// Whether a rule's upstream takes its credentials; the sentence says why not.
    pub(super) async fn check(&self, view: &View, rule: &EcrPullThroughRule) -> Result<(), String> {
        // The name of a repository is none of what is checked.
        let name = "longshore/check".parse().expect("it is a repository's name");
        let upstream = self.upstream(view, rule, name).map_err(|error| error.to_string())?;
        upstream.check().await.map_err(|error| error.to_string())
    }

    fn may_import(
        &self,
        view: &View,
        caller: &Caller,
        repository: &Repository,
    ) -> Result<(), RegistryError> {
        let region = &self.control.config.region;
        let arn = repository_arn(region, repository.account, repository.name.as_str());
        let permission = Permission::to("ecr:BatchImportUpstreamImage").on(arn);
        self.control.authorize(view, caller, &permission).map_err(refusal)
    }

    fn is_away(&self, rule: &EcrPullThroughRule) -> bool {
        let away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (rule.account, NamePrefix::new(&rule.prefix));
        let now = self.control.clock.now();
        away.get(&key).is_some_and(|since| now.since_ms(*since) < AWAY_MS)
    }

    fn note_answer(&self, rule: &EcrPullThroughRule, has_answered: bool) {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.control.clock.now();
        away.retain(|_, since| now.since_ms(*since) < AWAY_MS);
        if !has_answered {
            away.insert((rule.account, NamePrefix::new(&rule.prefix)), now);
        }
    }

    fn seats_of(&self, account: AccountId) -> Arc<Semaphore> {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        seats.retain(|_, seats| seats.strong_count() > 0);
        let known = seats.get(&account).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let fresh = Arc::new(Semaphore::new(IMAGES_OF_ACCOUNT_MAX));
            seats.insert(account, Arc::downgrade(&fresh));
            fresh
        })
    }

    fn upstream(
        &self,
        view: &View,
        rule: &EcrPullThroughRule,
        there: RepositoryName,
    ) -> Result<Upstream, FetchError> {
        let host = rules::host_of(&rule.upstream_url).unwrap_or_default();
        let auth = match &rule.credential {
            None => Auth::none(),
            Some(arn) => {
                let now = self.control.clock.now();
                let basic = credentials::read(&self.control, view, rule.account, arn, now);
                let basic = basic.map_err(|why| FetchError::Credentials(why.to_string()))?;
                Auth::none().with(host.clone(), basic)
            }
        };
        let reference = Reference { registry: host, repository: there, tag: None, digest: None };
        Ok(Upstream::new(&self.transport, &reference, &auth))
    }

    /// One fetch of a name at a time, and not of one that came meanwhile.
    async fn fetch(&self, wants: Wants) -> Result<(), FetchError> {
        let Some(registry) = self.registry.upgrade() else { return Ok(()) };
        let _flight = self.images.enter((wants.repository.clone(), wants.wanted.clone())).await;
        let seats = self.seats_of(wants.repository.account);
        let _seat = seats.acquire().await;
        let view = self.control.view();
        let here = here(&view, &wants.repository, &wants.wanted, self.control.clock.now());
        if here == Here::Fresh {
            return Ok(());
        }
        let fetched = self.fetch_now(registry, &view, &wants).await;
        let is_answer = match &fetched {
            Ok(()) => true,
            Err(error) => error.is_not_found() || is_fixed_tag(error),
        };
        self.note_answer(&wants.rule, is_answer);
        if let (true, Identifier::Tag(tag)) = (is_answer, &wants.wanted) {
            self.note_checked(&wants.repository, tag).await;
        }
        fetched
    }

    async fn fetch_now(
        &self,
        registry: Arc<RegionRegistry>,
        view: &View,
        wants: &Wants,
    ) -> Result<(), FetchError> {
        let Wants { caller, repository, wanted, rule, there } = wants;
        let upstream = Arc::new(self.upstream(view, rule, there.clone())?);
        let (digest, tag) = match wanted {
            Identifier::Digest(digest) => (*digest, None),
            Identifier::Tag(tag) => (upstream.resolve(tag.as_str()).await?, Some(tag)),
        };
        let is_same = tag.is_some_and(|tag| {
            let row = view.ecr_tags.get(repository.account, &tag_id(repository, tag.clone()));
            row.is_some_and(|row| row.digest == digest)
        });
        if is_same {
            return Ok(());
        }
        let (repository, blobs) = (repository.clone(), Arc::clone(&self.blobs));
        let fetch = Fetch { registry, upstream, repository, blobs };
        // A repository is made for what there is.
        let root = fetch.manifest(&digest).await?;
        let made =
            making::make(&self.control, caller, &fetch.repository, MadeFor::PullThroughCache);
        made.await.map_err(|error| FetchError::Registry(refusal(error)))?;
        fetch.image(root, tag.cloned()).await?;
        tracing::info!(
            repository = %fetch.repository.name, upstream = fetch.upstream.host(), image = %wanted,
            "image fetched from upstream"
        );
        Ok(())
    }

    /// A note that is lost has upstream asked once more.
    async fn note_checked(&self, repository: &Repository, tag: &ImageTag) {
        let noted = self.control.decide(|view, now| {
            let mut batch = Batch::on(view);
            let id = tag_id(repository, tag.clone());
            if let Some(row) = view.ecr_tags.get(repository.account, &id) {
                batch.put(EcrTag { checked_at: Some(now), ..row.as_ref().clone() });
            }
            Ok((batch, ()))
        });
        if let Err(error) = noted.await {
            tracing::warn!(error = %error.message, "a look upstream could not be noted");
        }
    }
}

/// What a fetch is for.
struct Wants {
    caller: Caller,
    repository: Repository,
    wanted: Identifier,
    rule: Arc<EcrPullThroughRule>,
    /// What the repository is called upstream.
    there: RepositoryName,
}

fn here(view: &View, repository: &Repository, wanted: &Identifier, now: Timestamp) -> Here {
    let account = repository.account;
    match wanted {
        Identifier::Digest(digest) => {
            match view.ecr_manifests.get(account, &manifest_id(repository, *digest)) {
                Some(_) => Here::Fresh,
                None => Here::Nothing,
            }
        }
        Identifier::Tag(tag) => {
            let Some(row) = view.ecr_tags.get(account, &tag_id(repository, tag.clone())) else {
                return Here::Nothing;
            };
            match row.checked_at {
                Some(at) if CHECK_MS <= now.since_ms(at) => Here::Stale,
                Some(_) | None => Here::Fresh,
            }
        }
    }
}

impl Supplier<Caller> for PullThrough {
    fn image<'a>(
        &'a self,
        caller: &'a Caller,
        repository: &'a Repository,
        wanted: &'a Identifier,
    ) -> Supplying<'a> {
        Box::pin(self.bring(caller, repository, wanted))
    }

    fn repository<'a>(&'a self, caller: &'a Caller, repository: &'a Repository) -> Supplying<'a> {
        Box::pin(async move {
            let made = making::make(&self.control, caller, repository, MadeFor::CreateOnPush);
            made.await.map_err(refusal)
        })
    }
}
