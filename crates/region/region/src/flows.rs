//! Flow logs: what hosts counted is written to log groups, in the roles that were passed for it.
//!
//! A host tells of the interfaces that are on it, and is believed of those alone. A delivery that fails is said in the flow
//! log's row, and what it was about is not kept: records are of a time, and the next ones come.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use cloudwatch_logs::CloudWatchLogs;
use control::Control;
use control::iam::assume::Assumption;
use control::iam::node_keys::{holder, is_host};
use logs_api::{self as api, Logs as _};
use longshore_types::{AccountId, EniId, InstanceId, RegionName, SubnetId, Timestamp};
use model::elb::BalancerZone;
use model::network::{FlowLog, LoggedTraffic, Network, SubnetRow, flow_fields, flow_version};
use model::vpc::{Interface, InterfaceUser, region_account};
use model::{Key, Task, View};
use store::Batch;
use tracing::debug;
use traffic::flows::{Count, Flow, FlowReport};

/// Flows of one report; a host tells of more in several.
const FLOWS_MAX: usize = 5_000;
/// Interfaces of one report of which there is nothing to tell, or too much.
const INTERFACES_MAX: usize = 5_000;
/// Flows of which lines are made at once: of each there are two for every flow log.
const FLOWS_AT_ONCE: usize = 500;
/// Lines of one put, which has room for a mebibyte: the longest there are have some 1,300 bytes.
const LINES_MAX: usize = 500;
/// How long after its task has stopped an interface's last flows may be told: several times what a host waits.
const ENDED_MS: u64 = 120_000;
const SERVICE: &str = "vpc-flow-logs.amazonaws.com";
const SESSION_MS: u64 = 900_000;

/// See the module's words.
#[derive(Debug)]
pub(crate) struct Flows {
    control: Arc<Control>,
    logs: Arc<CloudWatchLogs>,
}

/// Lines, by the stream that they go to.
type Streams = BTreeMap<String, Vec<api::InputLogEvent>>;

/// An interface in a flow log.
struct Logged<'v> {
    log: Arc<FlowLog>,
    row: &'v Interface,
    az_id: String,
}

/// What is written of one record.
struct Line<'a> {
    flow: Option<&'a Flow>,
    counted: Count,
    action: &'static str,
    status: &'static str,
    times: (u64, u64),
}

impl Flows {
    pub(crate) fn new(control: Arc<Control>, logs: Arc<CloudWatchLogs>) -> Self {
        Self { control, logs }
    }

    /// Writes what a host tells.
    pub(crate) async fn take_in(
        &self,
        caller: &Caller,
        body: &[u8],
    ) -> Result<serde_json::Value, ApiError> {
        let report: FlowReport = serde_json::from_slice(body).map_err(|error| {
            ApiError::client("SerializationException", format!("no report of flows: {error}"))
        })?;
        check(&report)?;
        let view = self.control.view();
        let here = self.interfaces_on(&view, caller, &report);
        let mut outcomes: BTreeMap<_, (Arc<FlowLog>, Option<String>)> = BTreeMap::new();
        for part in parts(report) {
            for (log, lines) in lines_of(&view, &self.control.config.region, &here, &part) {
                let key = (log.account, log.id.to_string());
                let (log, failure) = outcomes.entry(key).or_insert((log, None));
                if failure.is_none() {
                    *failure = self.deliver(&view, log, lines).await.err();
                }
            }
        }
        for (log, failure) in outcomes.into_values() {
            if failure != log.failure {
                self.note(&log, failure).await?;
            }
        }
        Ok(serde_json::json!({}))
    }

    /// The interfaces that are on the caller's host, by id: of its tasks, of balancers, and on the region's own machine of VPC endpoints.
    fn interfaces_on(
        &self,
        view: &View,
        caller: &Caller,
        report: &FlowReport,
    ) -> BTreeMap<EniId, Arc<Interface>> {
        let mut found = BTreeMap::new();
        if !is_host(caller) {
            return found;
        }
        let key = holder(&caller.access_key);
        let own = view.instances.iter().filter(|row| row.access_key.as_deref() == Some(key));
        let own: BTreeSet<InstanceId> = own.map(|row| row.id).collect();
        let is_own_machine = self.control.access.is_own_machine(caller);
        let is_here = |zone: &BalancerZone| {
            zone.stand.host.map_or(is_own_machine, |host| own.contains(&host))
        };
        for row in view.elb_balancers.iter() {
            for zone in row.interfaces().filter(|zone| is_here(zone)) {
                let interface = view.interface_at(row.scope.account, &row.vpc, zone.address);
                found.extend(interface.map(|row| (row.eni.clone(), Arc::clone(row))));
            }
        }
        for task in own.iter().flat_map(|id| view.tasks_on_instance(*id)) {
            let Some(it) = &task.interface else { continue };
            let row = view.interfaces.get(region_account(), &it.row_id());
            // The address alone may be another account's by now.
            let row = row.filter(|row| row.eni == it.eni);
            found.extend(row.map(|row| (row.eni.clone(), Arc::clone(row))));
        }
        if is_own_machine {
            let endpoints = view.vpc_endpoints.iter().flat_map(|row| {
                let zones = row.interface().into_iter().flat_map(|it| &it.zones);
                zones.map(move |zone| (row.account, &row.vpc, zone.address))
            });
            for (account, vpc, address) in endpoints {
                if let Some(row) = view.interface_at(account, vpc, address) {
                    found.insert(row.eni.clone(), Arc::clone(row));
                }
            }
        }
        let told = report.flows.iter().map(|flow| &flow.eni);
        let told = told.chain(&report.quiet).chain(&report.skipped);
        let ended: BTreeSet<&EniId> = told.filter(|eni| !found.contains_key(*eni)).collect();
        if !ended.is_empty() {
            let since = Timestamp(caller.now.0.saturating_sub(ENDED_MS));
            let tasks = own.iter().flat_map(|id| view.tasks_ended_on(*id));
            let is_told = |task: &&Arc<Task>| {
                task.interface.as_ref().is_some_and(|had| ended.contains(&had.eni))
            };
            for task in tasks.filter(is_told) {
                let row = ended_interface(view, &self.control.config.region, task, since);
                found.extend(row.map(|row| (row.eni.clone(), row)));
            }
        }
        found
    }

    /// Puts lines, by stream, in the flow log's role. The error is what the flow log shows.
    async fn deliver(&self, view: &View, log: &FlowLog, lines: Streams) -> Result<(), String> {
        let region = &self.control.config.region;
        let source = format!("arn:aws:ec2:{region}:{}:vpc-flow-log/{}", log.account, log.id);
        let asked = Assumption {
            role: &log.role,
            service: SERVICE,
            source: &source,
            source_account: log.account,
            session_name: "vpc-flow-logs",
            lasts_ms: SESSION_MS,
        };
        let acting = self.control.acting_as(view, &asked, self.control.clock.now());
        let acting = acting.map_err(|why| format!("Access error: {}: {why}", log.role))?;
        for (stream, events) in lines {
            for events in events.chunks(LINES_MAX) {
                let put = self.put(&acting, &log.group, &stream, events).await;
                put.map_err(|error| {
                    debug!(flow_log = %log.id, code = %error.code, "flow log not delivered");
                    match error.code.as_ref() {
                        "AccessDeniedException" => format!("Access error: {}", error.message),
                        _ => format!("Unknown error: {}", error.message),
                    }
                })?;
            }
        }
        Ok(())
    }

    async fn put(
        &self,
        acting: &Caller,
        group: &str,
        stream: &str,
        events: &[api::InputLogEvent],
    ) -> Result<(), ApiError> {
        let request = || api::PutLogEventsRequest {
            log_group_name: Some(group.to_owned()),
            log_stream_name: Some(stream.to_owned()),
            log_events: Some(events.to_vec()),
            ..Default::default()
        };
        match self.logs.put_log_events(acting, request()).await {
            Err(error) if error.code == "ResourceNotFoundException" => {}
            other => return other.map(|_| ()),
        }
        let made = api::CreateLogGroupRequest {
            log_group_name: Some(group.to_owned()),
            ..Default::default()
        };
        let made = self.logs.create_log_group(acting, made).await;
        let stream_made = api::CreateLogStreamRequest {
            log_group_name: Some(group.to_owned()),
            log_stream_name: Some(stream.to_owned()),
        };
        let stream_made = self.logs.create_log_stream(acting, stream_made).await;
        // A role that may not make a group, where it is there, makes the stream alone.
        let is_there = |error: &ApiError| error.code == "ResourceAlreadyExistsException";
        if let Err(error) = stream_made
            && !is_there(&error)
        {
            return Err(made.err().filter(|error| !is_there(error)).unwrap_or(error));
        }
        self.logs.put_log_events(acting, request()).await.map(|_| ())
    }

    async fn note(&self, log: &FlowLog, failure: Option<String>) -> Result<(), ApiError> {
        let decided = self.control.decide(|view, _| {
            let mut batch = Batch::on(view);
            batch.rely(Key::FlowLog(log.account, log.id.clone()));
            if let Some(row) = view.flow_logs.get(log.account, &log.id) {
                batch.put(FlowLog { failure: failure.clone(), ..FlowLog::clone(row) });
            }
            Ok((batch, ()))
        });
        decided.await
    }
}

/// The interface that a task had which has stopped since some time: its host tells of its last seconds once it is over.
fn ended_interface(
    view: &View,
    region: &RegionName,
    task: &Task,
    since: Timestamp,
) -> Option<Arc<Interface>> {
    let had = task.interface.as_ref().filter(|_| Some(since) <= task.times.stopped)?;
    let subnet = subnet_of(view, task.scope.account, region, &had.subnet)?;
    Some(Arc::new(Interface {
        address: had.address,
        eni: had.eni.clone(),
        owner: task.scope.clone(),
        user: InterfaceUser::Task {
            cluster: task.cluster.clone(),
            task: task.id,
            attachment: had.attachment,
        },
        vpc: subnet.vpc.clone(),
        subnet: subnet.id.clone(),
        security_groups: had.security_groups.clone(),
        zone: subnet.zone.clone(),
        mac: had.mac.clone(),
        assign_public_ip: had.assign_public_ip,
        created_at: task.times.created,
        is_apart: had.own_vpc.is_some(),
        public: None,
    }))
}

/// A subnet that is a row, or one of a default VPC that nobody changed.
fn subnet_of(
    view: &View,
    account: AccountId,
    region: &RegionName,
    id: &SubnetId,
) -> Option<Arc<SubnetRow>> {
    let stored = view.subnets.get(account, id).cloned();
    stored.or_else(|| Network::new(view, account, region).subnet(id))
}

fn check(report: &FlowReport) -> Result<(), ApiError> {
    let FlowReport { flows, quiet, skipped, .. } = report;
    let is_small = flows.len() <= FLOWS_MAX && quiet.len().max(skipped.len()) <= INTERFACES_MAX;
    if is_small {
        return Ok(());
    }
    let message = format!(
        "A report has at most {FLOWS_MAX} flows, and tells of {INTERFACES_MAX} interfaces."
    );
    Err(ApiError::client("InvalidParameterException", message))
}

/// A report in parts of which lines can be made without much memory.
fn parts(mut report: FlowReport) -> Vec<FlowReport> {
    let flows = std::mem::take(&mut report.flows);
    let FlowReport { start_s, end_s, .. } = report;
    let of =
        |flows: &[Flow]| FlowReport { start_s, end_s, flows: flows.to_vec(), ..Default::default() };
    let mut parts: Vec<FlowReport> = flows.chunks(FLOWS_AT_ONCE).map(of).collect();
    parts.push(report);
    parts
}

/// What is to be written, by flow log and stream.
fn lines_of(
    view: &View,
    region: &RegionName,
    here: &BTreeMap<EniId, Arc<Interface>>,
    report: &FlowReport,
) -> Vec<(Arc<FlowLog>, Streams)> {
    let times = (report.start_s.min(report.end_s), report.end_s);
    let line = |flow, counted, action, status| Line { flow, counted, action, status, times };
    let mut all: BTreeMap<(AccountId, String), (Arc<FlowLog>, Streams)> = BTreeMap::new();
    let mut zones: BTreeMap<EniId, String> = BTreeMap::new();
    let mut write = |eni: &EniId, line: &Line<'_>| {
        let Some(row) = here.get(eni) else { return };
        for log in view.flow_logs_on(row) {
            let is_logged = match log.traffic {
                LoggedTraffic::All => true,
                LoggedTraffic::Accept => line.action != "REJECT",
                LoggedTraffic::Reject => line.action != "ACCEPT",
            };
            if !is_logged {
                continue;
            }
            let stream = format!("{eni}-{}", log.traffic.suffix());
            let az_id = zones.entry(eni.clone()).or_insert_with(|| {
                let subnet = subnet_of(view, row.owner.account, region, &row.subnet);
                subnet.map(|subnet| subnet.zone_id.clone()).unwrap_or_default()
            });
            let logged = Logged { log: Arc::clone(log), row, az_id: az_id.clone() };
            let event = api::InputLogEvent {
                timestamp: i64::try_from(line.times.0.saturating_mul(1_000)).ok(),
                message: Some(logged.render(region, line)),
            };
            let key = (log.account, log.id.to_string());
            let (_, streams) = all.entry(key).or_insert_with(|| (Arc::clone(log), Streams::new()));
            streams.entry(stream).or_default().push(event);
        }
    };
    for flow in &report.flows {
        for (counted, action) in [(flow.accepted, "ACCEPT"), (flow.rejected, "REJECT")] {
            if !counted.is_empty() {
                write(&flow.eni, &line(Some(flow), counted, action, "OK"));
            }
        }
    }
    for (enis, status) in [(&report.quiet, "NODATA"), (&report.skipped, "SKIPDATA")] {
        for eni in enis {
            write(eni, &line(None, Count::default(), "-", status));
        }
    }
    all.into_values().collect()
}

impl Logged<'_> {
    fn render(&self, region: &RegionName, line: &Line<'_>) -> String {
        let fields = flow_fields(self.log.format()).unwrap_or_default();
        let version = flow_version(&fields);
        let values = fields.iter().map(|field| self.value(field, region, version, line));
        values.collect::<Vec<_>>().join(" ")
    }

    fn value(&self, field: &str, region: &RegionName, version: u8, line: &Line<'_>) -> String {
        let row = self.row;
        let of_flow =
            |value: &dyn Fn(&Flow) -> String| line.flow.map_or_else(|| "-".to_owned(), value);
        match field {
            "version" => version.to_string(),
            "account-id" => row.owner.account.to_string(),
            "interface-id" => row.eni.to_string(),
            "srcaddr" => of_flow(&|flow| flow.key.source.to_string()),
            "dstaddr" => of_flow(&|flow| flow.key.destination.to_string()),
            "srcport" => of_flow(&|flow| flow.key.source_port.to_string()),
            "dstport" => of_flow(&|flow| flow.key.destination_port.to_string()),
            "protocol" => of_flow(&|flow| flow.key.protocol.to_string()),
            "packets" => of_flow(&|_| line.counted.packets.to_string()),
            "bytes" => of_flow(&|_| line.counted.bytes.to_string()),
            "start" => line.times.0.to_string(),
            "end" => line.times.1.to_string(),
            "action" => line.action.to_owned(),
            "log-status" => line.status.to_owned(),
            "vpc-id" => row.vpc.to_string(),
            "subnet-id" => row.subnet.to_string(),
            "type" => of_flow(&|_| "IPv4".to_owned()),
            "region" => region.to_string(),
            "az-id" => self.az_id.clone(),
            "flow-direction" => {
                of_flow(&|flow| if flow.is_egress { "egress" } else { "ingress" }.to_owned())
            }
            ecs => self.of_task(ecs, region).unwrap_or_else(|| "-".to_owned()),
        }
    }

    /// What is known of an interface's task; nothing of others.
    fn of_task(&self, field: &str, region: &RegionName) -> Option<String> {
        let InterfaceUser::Task { cluster, task, .. } = &self.row.user else { return None };
        let account = self.row.owner.account;
        Some(match field {
            "ecs-cluster-name" => cluster.to_string(),
            "ecs-cluster-arn" => format!("arn:aws:ecs:{region}:{account}:cluster/{cluster}"),
            "ecs-task-id" => task.to_string(),
            "ecs-task-arn" => format!("arn:aws:ecs:{region}:{account}:task/{cluster}/{task}"),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use control::testing::rows::task;
    use longshore_types::Timestamp;
    use model::network::FlowLogOf;
    use model::vpc::mac_of;
    use model::{Row, Seq};
    use traffic::flows::FlowKey;

    use super::*;

    const ENI: &str = "eni-00000009";

    fn interface() -> Interface {
        let task = task(1);
        let address = [10, 0, 1, 9].into();
        Interface {
            address,
            eni: ENI.parse().unwrap(),
            owner: task.scope.clone(),
            user: InterfaceUser::Task {
                cluster: "demo".parse().unwrap(),
                task: task.id,
                attachment: task.interface.as_ref().unwrap().attachment,
            },
            vpc: "vpc-00000001".parse().unwrap(),
            subnet: "subnet-00000001".parse().unwrap(),
            security_groups: vec![],
            zone: "us-east-1a".to_owned(),
            mac: mac_of(address),
            assign_public_ip: false,
            created_at: Timestamp(0),
            is_apart: true,
            public: None,
        }
    }

    fn log(number: u8, of: FlowLogOf, traffic: LoggedTraffic, format: Option<&str>) -> Row {
        Row::from(FlowLog {
            account: interface().owner.account,
            id: format!("fl-0000000{number}").parse().unwrap(),
            of,
            traffic,
            group: "/flows".to_owned(),
            role: "arn:aws:iam::000000000000:role/flows".to_owned(),
            interval_s: 60,
            format: format.map(str::to_owned),
            created_at: Timestamp(0),
            failure: None,
        })
    }

    #[test]
    fn a_record_is_written_for_each_flow_log_as_it_asks_and_of_nobody_elses_interface() {
        let row = Arc::new(interface());
        let of_vpc = FlowLogOf::Vpc(row.vpc.clone());
        let of_interface = FlowLogOf::Interface(row.eni.clone());
        let mut view = View::default();
        view.put(Seq(1), &log(1, of_vpc, LoggedTraffic::All, None));
        let format = Some("${action} ${flow-direction} ${ecs-cluster-name} ${version}");
        view.put(Seq(2), &log(2, of_interface, LoggedTraffic::Reject, format));
        let flow = |eni: &str| Flow {
            eni: eni.parse().unwrap(),
            key: FlowKey {
                source: [10, 0, 2, 4].into(),
                destination: row.address,
                protocol: 6,
                source_port: 40_000,
                destination_port: 80,
            },
            is_egress: false,
            accepted: Count { packets: 3, bytes: 180 },
            rejected: Count { packets: 1, bytes: 60 },
        };
        let report = FlowReport {
            start_s: 100,
            end_s: 120,
            flows: vec![flow(ENI), flow("eni-0000000a")],
            quiet: vec![row.eni.clone()],
            skipped: vec![],
        };
        let region: RegionName = "us-east-1".parse().unwrap();
        let here = [(row.eni.clone(), Arc::clone(&row))].into();
        let written: Vec<(String, Vec<String>)> = lines_of(&view, &region, &here, &report)
            .into_iter()
            .flat_map(|(_, streams)| streams)
            .map(|(stream, events)| {
                (stream, events.into_iter().map(|event| event.message.unwrap()).collect())
            })
            .collect();
        let account = row.owner.account;
        let line = |rest: &str| format!("2 {account} {ENI} {rest}");
        let all = [
            line("10.0.2.4 10.0.1.9 40000 80 6 3 180 100 120 ACCEPT OK"),
            line("10.0.2.4 10.0.1.9 40000 80 6 1 60 100 120 REJECT OK"),
            line("- - - - - - - 100 120 - NODATA"),
        ];
        let rejected = ["REJECT ingress demo 7", "- - demo 7"].map(str::to_owned);
        let expected =
            [(format!("{ENI}-all"), all.to_vec()), (format!("{ENI}-reject"), rejected.to_vec())];
        assert_eq!(written, expected);
    }

    #[test]
    fn an_interface_is_told_of_for_a_while_after_its_task_has_stopped() {
        let mut view = View::default();
        let block = "172.31.0.0/16".parse().unwrap();
        let plan = model::vpc::AddressPlan { block, bridge: None, seed: 7 };
        let region: RegionName = "us-east-1".parse().unwrap();
        let mut task = task(1);
        let default = plan.default_network(task.scope.account, &region);
        view.put(Seq(1), &Row::from(plan));
        let mut had = task.interface.clone().unwrap();
        had.subnet = default.subnets[1].id.clone();
        task.interface = Some(had.clone());
        let of = |task: &Task, since| ended_interface(&view, &region, task, Timestamp(since));
        assert_eq!(of(&task, 0), None, "it has not stopped");
        task.times.stopped = Some(Timestamp(5_000));
        let row = of(&task, 5_000).unwrap();
        assert_eq!((&row.eni, &row.vpc), (&had.eni, &default.vpc.id));
        assert_eq!((row.task(), row.zone.as_str()), (Some(task.id), "us-east-1b"));
        assert_eq!(of(&task, 5_001), None, "that is long ago");
    }

    #[test]
    fn a_report_is_taken_in_parts_and_has_an_end() {
        let flow = Flow {
            eni: ENI.parse().unwrap(),
            key: FlowKey {
                source: [10, 0, 2, 4].into(),
                destination: [10, 0, 1, 9].into(),
                protocol: 6,
                source_port: 40_000,
                destination_port: 80,
            },
            is_egress: false,
            accepted: Count { packets: 1, bytes: 60 },
            rejected: Count::default(),
        };
        let quiet = vec![ENI.parse().unwrap()];
        let flows = vec![flow; FLOWS_AT_ONCE + 1];
        let report = FlowReport { start_s: 1, end_s: 2, flows, quiet, skipped: vec![] };
        check(&report).unwrap();
        let parts = parts(report.clone());
        let told: Vec<_> = parts.iter().map(|part| (part.flows.len(), part.quiet.len())).collect();
        assert_eq!(told, [(FLOWS_AT_ONCE, 0), (1, 0), (0, 1)]);
        assert!(parts.iter().all(|part| (part.start_s, part.end_s) == (1, 2)));
        let many = vec![ENI.parse().unwrap(); INTERFACES_MAX + 1];
        assert!(check(&FlowReport { quiet: many.clone(), ..report.clone() }).is_err());
        assert!(check(&FlowReport { skipped: many, ..report }).is_err());
    }
}
