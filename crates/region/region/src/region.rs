//! The region: opened, its services told of each other, its background started.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use acm::Acm;
use aws_wire::ApiError;
use aws_wire::service::Service;
use cloudmap::CloudMap;
use cloudwatch::CloudWatch;
use cloudwatch_logs::CloudWatchLogs;
use control::ports::{RegionService, Tagged};
use control::reconcile::{Driver, Environment, ReconcilerStatus, Status};
use control::{Config, Control, Documents, Keys, KeysError, Parts, RootKeyError, RootKeys};
use ec2::Ec2;
use ecr::Ecr;
use ecs::Ecs;
use elb::Elb;
use eventbridge::EventBridge;
use iam::Iam;
use identity::Identity;
use kms::Kms;
use logs::{Logs, LogsError};
use longshore_types::{Clock, IdSource};
use metrics::Metrics;
use model::vpc::Cidr;
use plan::ranges::Ranges;
use scaling::Scaling;
use secretsmanager::SecretsManager;
use sessions::Sessions;
use ssm::Ssm;
use store::{OpenError, SqliteOptions, SqliteStore, Store as _};
use tagging::Tagging;
use zonalshift::ZonalShifts;

use crate::audit::{AUDIT_DIR, AuditError, Log};
use crate::flows::Flows;
use crate::nodes::Nodes;
use crate::objects::Objects;
use crate::tls::{AcmeRenewal, Renewal, Tls};

/// The store's file within the data directory.
pub const STORE_FILE: &str = "region.sqlite";
/// The directory of CloudWatch Logs within the data directory.
pub const LOGS_DIR: &str = "logs";
/// The directory of CloudWatch's metrics within the data directory.
pub const METRICS_DIR: &str = "metrics";

/// Why a region can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("failed to create {path}")]
    DataDir { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    RootKey(#[from] RootKeyError),
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error("failed to open the log store")]
    Logs { source: LogsError },
    #[error("failed to open the store of metrics")]
    Metrics { source: std::io::Error },
    #[error("failed to open the registry")]
    Registry { source: image::BlobError },
    #[error("failed to read which addresses are denied")]
    Egress { source: image::NotARange },
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// A whole region.
#[derive(Debug)]
pub struct Region {
    pub control: Arc<Control>,
    /// The agents that are connected.
    pub sessions: Arc<Sessions>,
    pub ecs: Arc<Ecs>,
    pub ecr: Arc<Ecr>,
    pub elb: Arc<Elb>,
    pub logs: Arc<CloudWatchLogs>,
    pub iam: Arc<Iam>,
    pub tagging: Arc<Tagging>,
    pub(crate) nodes: Nodes,
    pub(crate) flows: Flows,
    /// Where the operator named a store of objects.
    pub(crate) objects: Option<Objects>,
    services: Vec<Arc<dyn RegionService>>,
    /// What the generated code says of each.
    models: Vec<&'static Service>,
    /// Set once the driver is started.
    reconcilers: OnceLock<Status>,
    /// Set for a region that was opened with all its files.
    pub(crate) audit: OnceLock<Log>,
}

impl Region {
    /// Opens everything under the data directory, and creates what is not there yet.
    pub fn open(
        config: Config,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn IdSource>,
    ) -> Result<Self, StartError> {
        let dir = &config.data_dir;
        files::private::make_dirs(dir)
            .map_err(|source| StartError::DataDir { path: dir.clone(), source })?;
        // The store first: its lock is what tells a second region that it is one.
        let options = SqliteOptions { has_reserve: true, ..SqliteOptions::default() };
        let store = Arc::new(SqliteStore::open(&dir.join(STORE_FILE), &options)?);
        files::whole::sweep(dir)
            .map_err(|source| StartError::DataDir { path: dir.clone(), source })?;
        let keys = Keys::load_or_create(dir, ids.as_ref())?;
        let view = store.durable();
        let root_keys = RootKeys::load(&config.root_key, dir, &view, ids.as_ref())?;
        drop(view);
        let audit = Log::open(&dir.join(AUDIT_DIR), Arc::clone(&clock))?;
        let region = Self::on(Control::new(config, Parts { store, clock, ids, keys, root_keys }))?;
        // It was just made, and has none.
        drop(region.audit.set(audit));
        Ok(region)
    }

    /// The same on a core whose store and keys are open already.
    pub fn on(control: impl Into<Arc<Control>>) -> Result<Self, StartError> {
        let control = control.into();
        let logs_dir = control.config.data_dir.join(LOGS_DIR);
        let logs = Logs::open(&logs_dir, Arc::clone(&control.clock))
            .map_err(|source| StartError::Logs { source })?;
        let metrics_dir = control.config.data_dir.join(METRICS_DIR);
        let metrics = Metrics::open(&metrics_dir, Arc::clone(&control.clock))
            .map_err(|source| StartError::Metrics { source })?;
        let registry =
            ecr::catalog::open(&control).map_err(|source| StartError::Registry { source })?;
        let core = || Arc::clone(&control);
        let documents = Arc::new(Documents::default());
        let sessions = Arc::new(Sessions::new(core(), Arc::clone(&documents)));
        let ecs = Arc::new(Ecs::new(core(), documents));
        let egress =
            image::Egress::of(&control.config.allowed_registries, &control.config.denied_egress)
                .map_err(|source| StartError::Egress { source })?;
        let ecr = Arc::new(Ecr::new(core(), Arc::new(registry), egress));
        let logs = Arc::new(CloudWatchLogs::new(core(), Arc::new(logs)));
        let secrets = Arc::new(SecretsManager::new(core(), ecs.clone()));
        let ssm = Arc::new(Ssm::new(core()));
        let kms = Arc::new(Kms::new(core()));
        let acm = Arc::new(Acm::new(core()));
        let map = Arc::new(CloudMap::new(core()));
        let ec2 = Arc::new(Ec2::new(core()));
        let metrics = Arc::new(metrics);
        let elb = Arc::new(Elb::new(core(), Arc::clone(&metrics)));
        let cloudwatch = Arc::new(CloudWatch::new(core(), Arc::clone(&metrics)));
        let events = Arc::new(EventBridge::new(core(), metrics, ecs.clone(), logs.clone()));
        sessions.report_usage_to(cloudwatch.clone());
        let scaling = Arc::new(Scaling::new(core(), cloudwatch.clone()));
        let tagged: Vec<Arc<dyn Tagged>> = vec![
            ecs.clone(),
            ecr.clone(),
            elb.clone(),
            logs.clone(),
            secrets.clone(),
            ssm.clone(),
            kms.clone(),
            acm.clone(),
            map.clone(),
            ec2.clone(),
            cloudwatch.clone(),
            scaling.clone(),
            events.clone(),
        ];
        let iam = Arc::new(Iam::new(core()));
        let tagging = Arc::new(Tagging::new(core(), tagged));
        let services: Vec<Arc<dyn RegionService>> = vec![
            ecs.clone(),
            ecr.clone(),
            elb.clone(),
            logs.clone(),
            iam.clone(),
            secrets,
            ssm,
            kms,
            acm,
            map,
            Arc::new(Identity::new(core())),
            ec2,
            cloudwatch,
            scaling,
            events,
            Arc::new(ZonalShifts::new(core())),
            tagging.clone(),
        ];
        control.set_event_sources(services.iter().filter_map(|it| it.event_source()).collect());
        let models = services.iter().map(|service| service.service()).collect();
        let reconcilers = OnceLock::new();
        let nodes = Nodes::new(Arc::clone(&control));
        let flows = Flows::new(Arc::clone(&control), Arc::clone(&logs));
        Ok(Self {
            nodes,
            flows,
            objects: Objects::new(&control),
            control,
            sessions,
            ecs,
            ecr,
            elb,
            logs,
            iam,
            tagging,
            services,
            models,
            reconcilers,
            audit: OnceLock::new(),
        })
    }

    /// What answers here.
    pub fn services(&self) -> &[Arc<dyn RegionService>] {
        &self.services
    }

    pub(crate) fn models(&self) -> &[&'static Service] {
        &self.models
    }

    /// Chooses the addresses of tasks; see [`ec2::prepare_network`].
    pub async fn prepare_network(&self, taken: &[Cidr]) -> Result<Ranges, ApiError> {
        ec2::prepare_network(&self.control, taken).await
    }

    /// Readies the state that a crash may have left behind. To be awaited before requests are served.
    pub async fn prepare(&self) -> Result<(), ApiError> {
        self.control.finish_root_key_change().await?;
        self.control.raise_access_keys().await?;
        sessions::prepare(&self.control).await?;
        for service in &self.services {
            service.prepare().await?;
        }
        Ok(())
    }

    /// Starts the driver of all that the region does by itself, once, the renewal of a listener's certificate
    /// included. It ends once the region closes its sessions: whom it does not listen to any more is not silent.
    pub fn start(&self, tls: Option<&Arc<Tls>>) {
        let mut driver = Driver::new(Environment::of(&self.control.store, &self.control.clock));
        if self.reconcilers.set(driver.status()).is_err() {
            return;
        }
        self.sessions.register(&mut driver);
        if let Some(tls) = tls {
            self.nodes.served_with(tls);
            driver.register(Renewal(Arc::clone(tls)));
            if tls.proofs().is_some() {
                driver.register(AcmeRenewal(Arc::clone(tls)));
            }
        }
        for service in &self.services {
            Arc::clone(service).register(&mut driver);
        }
        let sessions = Arc::clone(&self.sessions);
        #[expect(
            clippy::disallowed_methods,
            reason = "it ends with the process; a panic of a pass is contained"
        )]
        tokio::spawn(async move {
            tokio::select! {
                () = driver.run() => {}
                () = sessions.closing() => {}
            }
        });
    }

    /// What each reconciler is doing; nothing before the driver is started.
    pub fn reconcilers(&self) -> Vec<ReconcilerStatus> {
        self.reconcilers.get().map(Status::read).unwrap_or_default()
    }
}
