//! `serviceConnectConfiguration` of a service: the namespace that its tasks are in, and what they offer there.
//!
//! Each offer has a service of Cloud Map, which is made with the revision that offers it and taken away once none does
//! (`services/connect`). A name has the same address wherever the namespace is known, so it is chosen here.
//!
//! **Invariant:** of a namespace's endpoints no two have the same name and port; a name has one address in its namespace,
//! and no other name of the account has the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_wire::{ApiError, json};
use control::Control;
use control::authority::authority_arn;
use ecs_api as api;
use longshore_types::{IdSource, Scope, Timestamp};
use model::discovery::{MapConnect, MapId, id_of, new_id};
use model::service::{
    ConnectEndpoint, ConnectOffer, ConnectProtocol, OfferTls, Rank, ServiceConnect, ServiceStatus,
    TestHeader, VIP_NUMBER_MAX,
};
use model::{
    Cluster, Document, MapNamespace, MapService, NetworkMode, ServiceId, TaskDefinition, View,
};

use crate::errors::Refusal;
use crate::render_task_definition;
use crate::services::connect::may_sign;

/// Idle times where none are given, as at Amazon.
const HTTP_IDLE_S: u32 = 300;
const TCP_IDLE_S: u32 = 3_600;
/// How long a request may take where nothing is said.
const REQUEST_S: u32 = 15;
const SECONDS_MAX: i32 = 2_147_483;
/// Where the proxy takes what goes out of a task.
const CONNECT_PORT: u16 = model::service::EGRESS_PORT;
const DISCOVERY_NAME_MAX: usize = 64;
/// What one service may offer: each task is an instance of all of it, in one commit.
const OFFERS_MAX: usize = 100;
const ALIAS_NAME_MAX: usize = 127;
const TEST_HEADER_MAX: usize = 127;
const TEST_VALUE_MAX: usize = 1_024;

/// A configuration that was read, with the services of Cloud Map that it makes or takes over.
#[derive(Clone, Debug)]
pub(crate) struct Connected {
    pub(crate) connect: ServiceConnect,
    pub(crate) services: Vec<MapService>,
}

/// What a configuration is read for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct For<'a> {
    pub(crate) view: &'a View,
    pub(crate) scope: &'a Scope,
    pub(crate) cluster: &'a Cluster,
    pub(crate) service: &'a ServiceId,
    pub(crate) control: &'a Control,
    pub(crate) ids: &'a dyn IdSource,
    pub(crate) now: Timestamp,
}

fn refuse<T>(message: impl Into<String>) -> Result<T, ApiError> {
    Err(Refusal::invalid(message).into())
}

fn unsupported<T>(what: &str, why: &str) -> Result<T, ApiError> {
    Err(Refusal::unsupported(format!("{what} is not supported by this region: {why}.")).into())
}

/// Reads a configuration; none of one that is not there or turns Service Connect off.
pub(crate) fn read(
    it: For<'_>,
    definition: &TaskDefinition,
    given: Option<&api::ServiceConnectConfiguration>,
) -> Result<Option<Connected>, ApiError> {
    let Some(given) = given.filter(|given| given.enabled == Some(true)) else { return Ok(None) };
    check_members(given)?;
    if definition.network_mode != NetworkMode::Awsvpc {
        return unsupported(
            &format!(
                "serviceConnectConfiguration of services with the network mode {}",
                definition.network_mode.as_str()
            ),
            "its proxy is in the network of each task. Use awsvpc",
        );
    }
    let namespace = namespace(it, given.namespace.as_deref())?;
    let document = render_task_definition::document(definition)?;
    let mut taken = Taken::of(it, &namespace.id);
    taken.container_ports = container_ports(&document);
    let mut connected = Connected {
        connect: ServiceConnect {
            namespace: Arc::clone(&namespace.id),
            document: kept(given, namespace)?,
            offers: Vec::new(),
        },
        services: Vec::new(),
    };
    for each in given.services.iter().flatten() {
        let (offer, service) = offer(it, namespace, &document, each, &mut taken)?;
        connected.connect.offers.push(offer);
        connected.services.extend(service);
    }
    Ok(Some(connected))
}

/// A configuration as it was kept.
pub(crate) fn render(
    connect: Option<&ServiceConnect>,
) -> Result<Option<api::ServiceConnectConfiguration>, ApiError> {
    connect
        .map(|connect| json::from_slice(connect.document.as_str().as_bytes()))
        .transpose()
        .map_err(|error| ApiError::fault("failed to read a Service Connect configuration", error))
}

/// What a deployment shows that it made in Cloud Map.
pub(crate) fn render_resources(
    scope: &Scope,
    connect: &ServiceConnect,
) -> Vec<api::ServiceConnectServiceResource> {
    let resource = |offer: &ConnectOffer| api::ServiceConnectServiceResource {
        discovery_name: Some(offer.discovery_name.clone()),
        discovery_arn: Some(model::discovery::arn(scope, "service", &offer.service)),
    };
    connect.offers.iter().map(resource).collect()
}

/// Refuses by name what nothing here would act on.
fn check_members(given: &api::ServiceConnectConfiguration) -> Result<(), ApiError> {
    const PROXY: &str = "its proxies write no logs of their own";
    if given.log_configuration.is_some() {
        return unsupported("serviceConnectConfiguration.logConfiguration", PROXY);
    }
    if given.access_log_configuration.is_some() {
        return unsupported("serviceConnectConfiguration.accessLogConfiguration", PROXY);
    }
    if given.container_configurations.as_ref().is_some_and(|all| !all.is_empty()) {
        return unsupported("serviceConnectConfiguration.containerConfigurations", PROXY);
    }
    if given.services.as_ref().is_some_and(|all| OFFERS_MAX < all.len()) {
        return refuse(format!(
            "serviceConnectConfiguration.services can have at most {OFFERS_MAX} items."
        ));
    }
    Ok(())
}

/// What is kept of a configuration, and shown: what was sent, with the namespace that is meant.
fn kept(
    given: &api::ServiceConnectConfiguration,
    namespace: &MapNamespace,
) -> Result<Document, ApiError> {
    let mut kept = given.clone();
    if kept.namespace.as_deref().is_none_or(str::is_empty) {
        kept.namespace = Some(namespace.arn());
    }
    let text = String::from_utf8_lossy(&json::to_vec(&kept)).into_owned();
    Document::from_text(text)
        .map_err(|error| ApiError::fault("failed to keep a Service Connect configuration", error))
}

fn namespace<'a>(it: For<'a>, given: Option<&str>) -> Result<&'a MapNamespace, ApiError> {
    let is_given = given.is_some_and(|given| !given.is_empty());
    if !is_given && it.cluster.connect_namespace.is_none() {
        return refuse(
            "serviceConnectConfiguration names no namespace, and the cluster has no default namespace.",
        );
    }
    let found = meant_namespace(it.view, it.scope, given, || Some(it.cluster));
    found.ok_or_else(|| Refusal::NamespaceNotFound.into())
}

/// The namespace that a configuration is of: the one that is given, or else its cluster's.
pub(crate) fn meant_namespace<'v>(
    view: &'v View,
    scope: &Scope,
    given: Option<&str>,
    cluster: impl FnOnce() -> Option<&'v Cluster>,
) -> Option<&'v MapNamespace> {
    match given.filter(|given| !given.is_empty()) {
        Some(given) => find_namespace(view, scope, given),
        None => {
            let id = cluster()?.connect_namespace.as_ref()?;
            view.map_namespaces.get(scope.account, id).map(AsRef::as_ref)
        }
    }
}

/// The namespace of a name or an ARN.
pub(crate) fn find_namespace<'v>(
    view: &'v View,
    scope: &Scope,
    given: &str,
) -> Option<&'v MapNamespace> {
    if given.starts_with("arn:") {
        let id: MapId = id_of(scope, "namespace", given)?.into();
        return view.map_namespaces.get(scope.account, &id).map(AsRef::as_ref);
    }
    view.map_namespaces.of(scope.account).find(|row| row.name == given).map(AsRef::as_ref)
}

/// What others offer in a namespace.
#[derive(Debug, Default)]
struct Taken {
    /// With their addresses.
    names: BTreeMap<String, u16>,
    endpoints: BTreeSet<(String, u16)>,
    /// Addresses of names in any of the account's namespaces: whoever asks for a name is not always known by namespace.
    numbers: BTreeSet<u16>,
    discovery_names: BTreeSet<String>,
    /// Ports of the task's containers, and those that the proxy has before them.
    container_ports: BTreeSet<u16>,
}

impl Taken {
    /// Of the service's own revisions only the addresses count: its names keep them.
    fn of(it: For<'_>, namespace: &MapId) -> Self {
        let account = it.scope.account;
        let mut taken = Self::default();
        let all = it.view.map_services.of(account).filter_map(|row| row.connect.as_ref());
        taken.numbers = all.map(|made| made.endpoint.number).collect();
        let mut owners: BTreeSet<&ServiceId> =
            it.view.connect_services_in(account, namespace).map(|(_, made)| &made.owner).collect();
        owners.insert(it.service);
        for owner in owners.into_iter().filter(|owner| is_live(it.view, it.scope, owner)) {
            for offer in offers_of(it.view, it.scope, owner, namespace) {
                let ConnectEndpoint { name, port, number, .. } = &offer.endpoint;
                taken.names.insert(name.clone(), *number);
                taken.numbers.insert(*number);
                if owner != it.service {
                    taken.endpoints.insert((name.clone(), *port));
                }
            }
        }
        taken
    }

    /// The address that a name has, or is to have.
    fn number(&mut self, name: &str) -> Result<u16, ApiError> {
        if let Some(number) = self.names.get(name) {
            return Ok(*number);
        }
        let free = (1..=VIP_NUMBER_MAX).find(|number| !self.numbers.contains(number));
        let Some(number) = free else {
            return refuse(format!(
                "The limit of {VIP_NUMBER_MAX} names of Service Connect in an account has been reached."
            ));
        };
        self.numbers.insert(number);
        self.names.insert(name.to_owned(), number);
        Ok(number)
    }
}

fn is_live(view: &View, scope: &Scope, service: &ServiceId) -> bool {
    let row = view.services.get(scope.account, service);
    row.is_some_and(|row| row.status < ServiceStatus::Inactive)
}

/// What the revisions of a service's deployments offer in a namespace, also those that it may be rolled back to.
fn offers_of<'v>(
    view: &'v View,
    scope: &Scope,
    service: &'v ServiceId,
    namespace: &'v MapId,
) -> impl Iterator<Item = &'v ConnectOffer> {
    let account = scope.account;
    let deployments = view.deployments_of(account, service).filter(|row| row.rank < Rank::Gone);
    let revisions = deployments.map(|row| row.revision);
    revisions
        .chain(view.completed_revision(account, service))
        .filter_map(move |revision| view.revision_of(account, service, revision)?.connect.as_ref())
        .filter(move |connect| connect.namespace == *namespace)
        .flat_map(|connect| &connect.offers)
}

fn offer(
    it: For<'_>,
    namespace: &MapNamespace,
    definition: &api::TaskDefinition,
    given: &api::ServiceConnectService,
    taken: &mut Taken,
) -> Result<(ConnectOffer, Option<MapService>), ApiError> {
    let port_name = given.port_name.as_deref().unwrap_or_default();
    let mappings = definition.container_definitions.iter().flatten();
    let mut mappings = mappings.flat_map(|container| container.port_mappings.iter().flatten());
    let mapping =
        mappings.find(|it| !port_name.is_empty() && it.name.as_deref() == Some(port_name));
    let Some(mapping) = mapping else {
        return refuse(format!(
            "Service Connect: the portName {port_name} is not the name of a port mapping of the task definition."
        ));
    };
    let container_port = mapping.container_port.and_then(|port| u16::try_from(port).ok());
    let is_tcp = mapping.protocol.as_ref().is_none_or(|it| *it == api::TransportProtocol::Tcp);
    let Some(container_port) = container_port.filter(|_| is_tcp) else {
        return refuse(format!(
            "Service Connect: the port mapping {port_name} is not one TCP port."
        ));
    };
    let protocol = match &mapping.app_protocol {
        None => ConnectProtocol::Tcp,
        Some(api::ApplicationProtocol::Http2) => ConnectProtocol::Http2,
        Some(api::ApplicationProtocol::Grpc) => ConnectProtocol::Grpc,
        Some(_) => ConnectProtocol::Http,
    };
    let discovery_name = given.discovery_name.as_deref().filter(|name| !name.is_empty());
    let discovery_name = discovery_name.unwrap_or(port_name).to_owned();
    check_discovery_name(&discovery_name)?;
    if !taken.discovery_names.insert(discovery_name.clone()) {
        return refuse(format!(
            "Service Connect: the discoveryName {discovery_name} is used twice."
        ));
    }
    let (name, port) = alias(given, &discovery_name, namespace, container_port)?;
    if !taken.endpoints.insert((name.clone(), port)) {
        return refuse(format!(
            "Service Connect: the client alias {name}:{port} is already used in {}.",
            namespace.arn()
        ));
    }
    let number = taken.number(&name)?;
    let (idle_s, request_s) = timeouts(given.timeout.as_ref(), protocol)?;
    let endpoint = ConnectEndpoint { name, port, number, protocol, idle_s, request_s };
    let tls = given.tls.as_ref().map(|given| tls(it, given)).transpose()?;
    let ingress_port = given.ingress_port_override.map(|port| ingress(port, taken)).transpose()?;
    let (service, row) = map_service(it, namespace, &discovery_name, &endpoint)?;
    let test = test(given, protocol)?;
    let offer =
        ConnectOffer { service, discovery_name, container_port, endpoint, tls, ingress_port, test };
    Ok((offer, row))
}

/// What tells tests from other requests to an endpoint.
fn test(
    given: &api::ServiceConnectService,
    protocol: ConnectProtocol,
) -> Result<Option<TestHeader>, ApiError> {
    let mut aliases = given.client_aliases.iter().flatten();
    let Some(rules) = aliases.find_map(|alias| alias.test_traffic_rules.as_ref()) else {
        return Ok(None);
    };
    if protocol == ConnectProtocol::Tcp {
        return refuse(
            "testTrafficRules can only be set if the appProtocol of the port mapping is http, http2 or grpc.",
        );
    }
    let header = rules.header.as_ref();
    let name = header.and_then(|header| header.name.clone()).unwrap_or_default();
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || TEST_HEADER_MAX < name.len() || !name.bytes().all(is_token) {
        return refuse(format!(
            "testTrafficRules.header.name '{name}' is not the name of an HTTP header: it has up to {TEST_HEADER_MAX} \
             letters, numbers and hyphens."
        ));
    }
    let value = header.and_then(|header| header.value.as_ref()).map(|value| &value.exact);
    match value {
        None => Ok(Some(TestHeader { name, value: None })),
        Some(Some(exact)) if !exact.is_empty() && exact.len() <= TEST_VALUE_MAX => {
            Ok(Some(TestHeader { name, value: Some(exact.clone()) }))
        }
        Some(_) => refuse(format!(
            "testTrafficRules.header.value.exact must have between 1 and {TEST_VALUE_MAX} characters."
        )),
    }
}

/// The TCP ports that the containers of a definition have.
fn container_ports(definition: &api::TaskDefinition) -> BTreeSet<u16> {
    let containers = definition.container_definitions.iter().flatten();
    let mappings = containers.flat_map(|container| container.port_mappings.iter().flatten());
    mappings.filter_map(|it| u16::try_from(it.container_port?).ok()).collect()
}

/// The port at which a task's proxy is met in place of its container.
fn ingress(port: i32, taken: &mut Taken) -> Result<u16, ApiError> {
    let Some(port) = u16::try_from(port).ok().filter(|port| *port != 0) else {
        return refuse("The ingressPortOverride of a service is between 1 and 65535.");
    };
    if port == CONNECT_PORT || !taken.container_ports.insert(port) {
        return refuse(format!(
            "Service Connect: the ingressPortOverride {port} is taken by a container or by another service of the task. \
             Choose a port that nothing in the task listens on."
        ));
    }
    Ok(port)
}

/// Who signs the certificate of what is offered, and how its key is kept.
fn tls(it: For<'_>, given: &api::ServiceConnectTlsConfiguration) -> Result<OfferTls, ApiError> {
    let authority = given.issuer_certificate_authority.as_ref();
    let authority = authority.and_then(|it| it.aws_pca_authority_arn.as_deref());
    let own = authority_arn(it.scope);
    match authority.filter(|arn| !arn.is_empty()) {
        None => return refuse("tls.issuerCertificateAuthority.awsPcaAuthorityArn is required."),
        Some(arn) if arn == own => {}
        Some(arn) => {
            return refuse(format!(
                "Service Connect: the certificate authority {arn} does not exist. This region signs with its own authority: \
                 {own}"
            ));
        }
    }
    let kms_key = match given.kms_key.as_deref().filter(|key| !key.is_empty()) {
        None => None,
        Some(key) => {
            let found = it.control.find_key(it.view, it.scope.account, key);
            let found = found.and_then(|it_is| {
                it.control.check_key(&it_is.key)?;
                Ok(it_is.key)
            });
            match found {
                Ok(key) => Some((key.account, key.id)),
                Err(why) => {
                    return refuse(format!("Service Connect: the kmsKey can't be used: {why}"));
                }
            }
        }
    };
    let role = given.role_arn.clone().filter(|role| !role.is_empty());
    let tls = OfferTls { kms_key, role };
    if !may_sign(it.control, it.view, (it.scope, it.service), &tls, it.now) {
        return refuse(format!(
            "Service Connect: ECS was unable to issue a certificate with the role '{}': it has to let ecs.amazonaws.com \
             assume it, and allow acm-pca:IssueCertificate on {own}{}.",
            tls.role.as_deref().unwrap_or_default(),
            if tls.kms_key.is_some() {
                ", and kms:GenerateDataKey and kms:Decrypt with the kmsKey"
            } else {
                ""
            },
        ));
    }
    Ok(tls)
}

fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-'
}

fn check_discovery_name(name: &str) -> Result<(), ApiError> {
    let fits = name.len() <= DISCOVERY_NAME_MAX
        && name.bytes().all(is_label_byte)
        && !name.starts_with('-');
    match fits {
        true => Ok(()),
        false => refuse(format!(
            "Service Connect: the discoveryName {name} must have up to {DISCOVERY_NAME_MAX} lowercase letters, \
             numbers, underscores and hyphens, and can't start with a hyphen."
        )),
    }
}

/// The name and port that clients use.
fn alias(
    given: &api::ServiceConnectService,
    discovery_name: &str,
    namespace: &MapNamespace,
    container_port: u16,
) -> Result<(String, u16), ApiError> {
    let usual = || format!("{discovery_name}.{}", namespace.name).to_ascii_lowercase();
    let alias = match given.client_aliases.as_deref() {
        None | Some([]) => return Ok((usual(), container_port)),
        Some([only]) => only,
        Some(_) => return refuse("clientAliases can have at most 1 items"),
    };
    let port = alias.port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
    let Some(port) = port else {
        return refuse("The port of a client alias is between 1 and 65535.");
    };
    let name = alias.dns_name.clone().filter(|name| !name.is_empty()).unwrap_or_else(usual);
    let is_label =
        |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(is_label_byte);
    let fits =
        name.len() <= ALIAS_NAME_MAX && !name.starts_with('-') && name.split('.').all(is_label);
    match fits {
        true => Ok((name, port)),
        false => refuse(format!(
            "Service Connect: the dnsName {name} must have up to {ALIAS_NAME_MAX} lowercase letters, numbers, \
             underscores, hyphens and periods, and can't start with a hyphen."
        )),
    }
}

fn timeouts(
    given: Option<&api::TimeoutConfiguration>,
    protocol: ConnectProtocol,
) -> Result<(u32, u32), ApiError> {
    let read = |given: Option<i32>, what: &str| match given {
        None => Ok(None),
        Some(seconds) if (0..=SECONDS_MAX).contains(&seconds) => Ok(u32::try_from(seconds).ok()),
        Some(_) => refuse(format!("{what} must be between 0 and {SECONDS_MAX}.")),
    };
    let idle = read(given.and_then(|it| it.idle_timeout_seconds), "idleTimeoutSeconds")?;
    let request = given.and_then(|it| it.per_request_timeout_seconds);
    let request = read(request, "perRequestTimeoutSeconds")?;
    match (protocol, request) {
        (ConnectProtocol::Tcp, Some(_)) => {
            refuse("perRequestTimeoutSeconds can only be set if the appProtocol isn't TCP.")
        }
        (ConnectProtocol::Tcp, None) => Ok((idle.unwrap_or(TCP_IDLE_S), 0)),
        (ConnectProtocol::Http | ConnectProtocol::Http2 | ConnectProtocol::Grpc, request) => {
            Ok((idle.unwrap_or(HTTP_IDLE_S), request.unwrap_or(REQUEST_S)))
        }
    }
}

/// The service of Cloud Map behind an offer: one that it has already, or a new one; none written if it is as it is to be.
fn map_service(
    it: For<'_>,
    namespace: &MapNamespace,
    name: &str,
    endpoint: &ConnectEndpoint,
) -> Result<(MapId, Option<MapService>), ApiError> {
    let account = it.scope.account;
    let mut made = MapConnect {
        owner: it.service.clone(),
        endpoint: endpoint.clone(),
        certificate: None,
        split: None,
    };
    let mut known = it.view.map_services_in(account, &namespace.id);
    let Some(row) = known.find(|row| row.name.eq_ignore_ascii_case(name)) else {
        let id = new_id("srv-", it.ids);
        let row = MapService {
            scope: it.scope.clone(),
            id: Arc::clone(&id),
            namespace: Arc::clone(&namespace.id),
            name: name.to_owned(),
            description: Some("Managed by Amazon ECS".to_owned()),
            dns: None,
            has_custom_health: false,
            created_at: it.now,
            request: None,
            revision: 1,
            attributes: BTreeMap::new(),
            tags: model::Tags::new(),
            connect: Some(made),
        };
        return Ok((id, Some(row)));
    };
    let is_anothers = match &row.connect {
        None => true,
        Some(known) => known.owner != *it.service && is_live(it.view, it.scope, &known.owner),
    };
    if is_anothers {
        return refuse(format!(
            "Service Connect: the discoveryName {name}: SC service is already used by {}",
            namespace.arn()
        ));
    }
    // What its tasks of before speak would no longer be understood.
    let is_changed = row.connect.as_ref().is_some_and(|known| {
        known.owner == *it.service && known.endpoint.protocol != endpoint.protocol
    });
    if is_changed && is_live(it.view, it.scope, it.service) {
        return refuse(format!(
            "Service Connect: the appProtocol of {name} can't be changed: delete the service and create it again."
        ));
    }
    // Whether there is to be one is looked at with the revisions that offer it.
    let before = row.connect.as_ref().filter(|known| known.owner == *it.service);
    if let Some(known) = before {
        (made.certificate, made.split) = (known.certificate.clone(), known.split.clone());
    }
    let next = MapService { connect: Some(made), ..MapService::clone(row) };
    Ok((Arc::clone(&row.id), (next != **row).then_some(next)))
}
