//! `longshore node`: the hosts of a region, and the tokens that they join by.

mod token;
mod upgrade;

use ecs_api as ecs;
use longshore_types::{Clock as _, SystemClock};
use region::nodes::{BetweenHostsOf, Done, Listed, ListedNode, RemoveNode};
use serde_json::{Value, json};

use crate::cli::{Node, NodeDrain, NodeLs, NodeRm, NodeShow};
use crate::client::{Client, ClientError};
use crate::commands::connect;
use crate::data_dir::DataDir;
use crate::error::Error;
use crate::instances::{self, Host};
use crate::{listening, table};

pub(crate) async fn run(data: &DataDir, command: &Node) -> Result<(), Error> {
    let client = connect(data)?;
    match command {
        Node::Token(command) => token::run(&client, command).await,
        Node::Ls(args) => ls(&client, args).await,
        Node::Show(args) => show(&client, args).await,
        Node::Drain(args) => drain(&client, args).await,
        Node::Upgrade(args) => upgrade::run(&client, args).await,
        Node::Rm(args) => rm(&client, args).await,
    }
}

/// How packets go between each instance's host and others; nothing of a region that does not say.
async fn between_hosts(client: &Client) -> Vec<BetweenHostsOf> {
    let listed: Result<Listed<BetweenHostsOf>, ClientError> =
        client.own("ListBetweenHosts", &Done {}).await;
    listed.map(|listed| listed.items).unwrap_or_default()
}

fn said_of<'s>(said: &'s [BetweenHostsOf], host: &Host) -> &'s str {
    said.iter().find(|it| it.instance == host.arn()).map_or("-", |it| it.says.as_str())
}

/// What has joined and is no instance yet, or no more, is listed too: its keys are good.
async fn ls(client: &Client, args: &NodeLs) -> Result<(), Error> {
    let hosts = instances::all(client).await?;
    let nodes: Listed<ListedNode> = client.own("ListNodes", &Done {}).await?;
    let node_of = |host: &Host| {
        nodes.items.iter().find(|it| it.instances.iter().any(|arn| arn == host.arn()))
    };
    let said = between_hosts(client).await;
    let idle = || nodes.items.iter().filter(|node| node.instances.is_empty());
    if args.json {
        let instances = hosts.iter().map(|host| shown(host, node_of(host), said_of(&said, host)));
        let all: Vec<Value> = instances.chain(idle().map(shown_idle)).collect();
        println!("{}", json!({ "hosts": all }));
        return Ok(());
    }
    let row = |host: &Host| row(host, node_of(host), said_of(&said, host));
    let mut rows: Vec<Vec<String>> = hosts.iter().map(row).collect();
    rows.extend(idle().map(|node| {
        let mut row = vec!["-".to_owned(), node.host_name.clone(), node.cluster.clone()];
        row.extend(["-", "joined", "-"].map(str::to_owned));
        row.push(node.release.clone().unwrap_or_else(|| "-".to_owned()));
        row.extend(["-", "-", "-", "-"].map(str::to_owned));
        row
    }));
    if rows.is_empty() {
        println!("no hosts; make a token for one: longshore node token create");
        return Ok(());
    }
    let header = [
        "INSTANCE",
        "HOST",
        "CLUSTER",
        "ZONE",
        "STATUS",
        "AGENT",
        "VERSION",
        "ENCRYPTED",
        "TASKS",
        "CPU",
        "MEMORY",
    ];
    print!("{}", table::render(&header, &rows));
    Ok(())
}

fn row(host: &Host, node: Option<&ListedNode>, said: &str) -> Vec<String> {
    let it = &host.instance;
    let text = |text: Option<&str>| text.unwrap_or("-").to_owned();
    let left = |name: &str| {
        let of = |resources| Host::amount(resources, name);
        let (left, all) = (it.remaining_resources.as_ref(), it.registered_resources.as_ref());
        format!("{}/{}", of(left), of(all))
    };
    vec![
        host.id().to_owned(),
        host.name().to_owned(),
        crate::tasks::id_of(&host.cluster).to_owned(),
        text(host.attribute("ecs.availability-zone")),
        text(it.status.as_deref()),
        if it.agent_connected == Some(true) { "connected" } else { "away" }.to_owned(),
        release(host, node),
        encrypts(said).to_owned(),
        it.running_tasks_count.unwrap_or_default().to_string(),
        left("CPU"),
        left("MEMORY"),
    ]
}

/// A host as programs read it.
fn shown(host: &Host, node: Option<&ListedNode>, said: &str) -> Value {
    let it = &host.instance;
    let amounts = |name: &str| {
        let of = |resources| Host::amount(resources, name);
        json!({
            "remaining": of(it.remaining_resources.as_ref()),
            "registered": of(it.registered_resources.as_ref()),
        })
    };
    json!({
        "instance": host.arn(),
        "node": node.map(|node| &node.id),
        "host": Some(host.name()).filter(|name| *name != "-"),
        "cluster": crate::tasks::id_of(&host.cluster),
        "zone": host.attribute("ecs.availability-zone"),
        "status": it.status,
        "agentConnected": it.agent_connected == Some(true),
        "agentVersion": it.version_info.as_ref().and_then(|it| it.agent_version.as_deref()),
        "isCurrent": node.filter(|node| node.digest.is_some()).map(|node| node.is_current),
        "upgrade": node.and_then(|node| node.upgrade.as_deref()),
        "betweenHosts": Some(said).filter(|said| *said != "-"),
        "runningTasks": it.running_tasks_count.unwrap_or_default(),
        "cpu": amounts("CPU"),
        "memory": amounts("MEMORY"),
    })
}

/// The same of one that has joined and is no instance.
fn shown_idle(node: &ListedNode) -> Value {
    json!({
        "instance": null,
        "node": node.id,
        "host": node.host_name,
        "cluster": node.cluster,
        "status": "joined",
        "agentConnected": false,
        "agentVersion": node.release,
    })
}

/// Whether what goes between hosts is encrypted, from what is said of it.
fn encrypts(said: &str) -> &str {
    match said {
        "-" => "-",
        said if said.starts_with("encrypted") => "yes",
        _ => "no",
    }
}

/// The agent's release, with a mark where it is not the region's, and how far it is with taking that.
fn release(host: &Host, node: Option<&ListedNode>) -> String {
    let version = host.instance.version_info.as_ref().and_then(|it| it.agent_version.as_deref());
    let is_ours = host.attribute("longshore.eni").is_some() || node.is_some();
    let is_other_build = node.is_some_and(|node| node.digest.is_some() && !node.is_current);
    let mut text = match version {
        None => "-".to_owned(),
        Some(version) if is_ours && version != env!("CARGO_PKG_VERSION") => {
            format!("{version} (region {})", env!("CARGO_PKG_VERSION"))
        }
        Some(version) if is_other_build => format!("{version} (other build)"),
        Some(version) => version.to_owned(),
    };
    if let Some(state) = node.and_then(|node| node.upgrade.as_deref()) {
        text.push_str(&format!(", upgrade {state}"));
    }
    text
}

async fn show(client: &Client, args: &NodeShow) -> Result<(), Error> {
    let hosts = instances::all(client).await?;
    let host = instances::find(&hosts, &args.node)?;
    let nodes: Listed<ListedNode> = client.own("ListNodes", &Done {}).await?;
    let node = nodes.items.iter().find(|node| node.instances.iter().any(|arn| arn == host.arn()));
    let it = &host.instance;
    let amounts = |name: &str| {
        let left = Host::amount(it.remaining_resources.as_ref(), name);
        format!("{left} of {} left", Host::amount(it.registered_resources.as_ref(), name))
    };
    let mut lines = vec![
        ("instance", host.arn().to_owned()),
        ("host", host.name().to_owned()),
        ("status", it.status.clone().unwrap_or_default()),
        ("agent", if it.agent_connected == Some(true) { "connected" } else { "away" }.to_owned()),
        ("version", release(host, node)),
        ("tasks", it.running_tasks_count.unwrap_or_default().to_string()),
        ("CPU units", amounts("CPU")),
        ("memory, MiB", amounts("MEMORY")),
    ];
    let said = between_hosts(client).await;
    lines.push(("between hosts", said_of(&said, host).to_owned()));
    let layers = said.iter().find(|it| it.instance == host.arn()).and_then(|it| it.layers.clone());
    lines.push(("layers given", layers.unwrap_or_else(|| "-".to_owned())));
    let listening = listening::elsewhere(client).await?;
    for it in listening.iter().filter(|it| it.instance.as_deref() == Some(host.arn())) {
        let row = listening::row(&it.balancer, &it.protocol, it.port, it.address);
        lines.push(("balancer", row.join(" ")));
    }
    let now = SystemClock.now();
    match node {
        Some(node) => {
            let left_h = node.key_expires_at.since_ms(now) / 3_600_000;
            lines.push(("joined", node.joined_at.iso8601()));
            lines.push(("token", node.token.clone()));
            lines.push(("key", format!("good for {left_h} h, renewed by the host itself")));
        }
        None => lines.push(("joined", "not by a token".to_owned())),
    }
    let attributes = it.attributes.iter().flatten();
    for attribute in attributes {
        let name = attribute.name.as_deref().unwrap_or_default();
        if let Some(value) = attribute.value.as_deref().filter(|_| !name.contains("capability")) {
            lines.push(("attribute", format!("{name}={value}")));
        }
    }
    for (name, value) in lines {
        println!("{name:<13} {value}");
    }
    Ok(())
}

async fn drain(client: &Client, args: &NodeDrain) -> Result<(), Error> {
    let hosts = instances::all(client).await?;
    let host = instances::find(&hosts, &args.node)?;
    let status = if args.undo { "ACTIVE" } else { "DRAINING" };
    let input = ecs::UpdateContainerInstancesStateRequest {
        cluster: Some(host.cluster.clone()),
        container_instances: Some(vec![host.arn().to_owned()]),
        status: Some(status.into()),
    };
    let updated: ecs::UpdateContainerInstancesStateResponse =
        client.ecs("UpdateContainerInstancesState", &input).await?;
    if let Some(failure) = updated.failures.unwrap_or_default().into_iter().next() {
        let why = failure.reason.unwrap_or_default();
        return Err(Error::message(format!("{} was not changed: {why}", host.id())));
    }
    println!("{} is {status}", host.id());
    Ok(())
}

/// Out of the cluster, and its keys are over. What Amazon's operation asks for with tasks on it is asked for here too.
async fn rm(client: &Client, args: &NodeRm) -> Result<(), Error> {
    let hosts = instances::all(client).await?;
    let found = instances::find(&hosts, &args.node);
    let host = found.as_ref().ok().copied();
    if let Some(host) = host {
        let running = host.instance.running_tasks_count.unwrap_or_default();
        if running > 0 && !args.force {
            return Err(Error::message(format!(
                "{} has {running} running tasks: drain it first (longshore node drain {}), or say --force",
                host.id(),
                args.node
            )));
        }
    }
    // One that is no instance is found by its name among those that joined.
    let id = host.map_or(args.node.as_str(), Host::arn);
    let nodes: Listed<ListedNode> = client.own("ListNodes", &Done {}).await?;
    let is_its = |node: &&ListedNode| {
        let is_named = node.id == id || node.host_name == id;
        node.instances.iter().any(|arn| arn == id) || (host.is_none() && is_named)
    };
    // Keys first: the host must not come back in between.
    match nodes.items.iter().find(is_its) {
        Some(node) => {
            let input = RemoveNode { id: node.id.clone() };
            let removed: Result<Done, ClientError> = client.own("RemoveNode", &input).await;
            removed?;
        }
        None => drop(found?),
    }
    if let Some(host) = host {
        let input = ecs::DeregisterContainerInstanceRequest {
            cluster: Some(host.cluster.clone()),
            container_instance: Some(id.to_owned()),
            force: Some(true),
        };
        let gone: ecs::DeregisterContainerInstanceResponse =
            client.ecs("DeregisterContainerInstance", &input).await?;
        drop(gone);
    }
    println!("{} is removed", crate::tasks::id_of(id));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_shown_to_programs_by_its_whole_names_and_numbers() {
        let amount = |name: &str, amount| ecs::Resource {
            name: Some(name.to_owned()),
            integer_value: Some(amount),
            ..Default::default()
        };
        let instance = ecs::ContainerInstance {
            container_instance_arn: Some("arn:aws:ecs:x:1:container-instance/web/7".to_owned()),
            status: Some("ACTIVE".to_owned()),
            registered_resources: Some(vec![amount("CPU", 2048)]),
            remaining_resources: Some(vec![amount("CPU", 512)]),
            running_tasks_count: Some(3),
            ..Default::default()
        };
        let cluster = "arn:aws:ecs:x:1:cluster/web".to_owned();
        let it = shown(&Host { cluster, instance }, None, "-");
        assert_eq!(it["instance"], "arn:aws:ecs:x:1:container-instance/web/7");
        assert_eq!((&it["cluster"], &it["host"]), (&json!("web"), &Value::Null));
        assert_eq!(it["cpu"], json!({"remaining": 512, "registered": 2048}));
        assert_eq!((&it["runningTasks"], &it["agentConnected"]), (&json!(3), &json!(false)));
    }
}
