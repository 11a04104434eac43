//! `longshore ps`: the processes of this data directory, and the tasks of its region.

use ecs_api as ecs;
use longshore_types::{Clock as _, SystemClock, Timestamp};
use region::nodes::ListeningOn;

use crate::cli::Ps;
use crate::commands::balancer::BALANCER_DIR;
use crate::commands::connect;
use crate::data_dir::{DataDir, Role};
use crate::error::Error;
use crate::{instances, listening, table, tasks};

pub(crate) async fn run(data: &DataDir, args: &Ps) -> Result<(), Error> {
    let rows = Role::ALL.map(|role| process_row(data, role)).to_vec();
    print!("{}", table::render(&["PROCESS", "PID", "MEMORY", "STATE"], &rows));
    let client = connect(data);
    let (hosts, elsewhere) = match &client {
        Ok(client) => (instances::all(client).await, listening::elsewhere(client).await),
        Err(_) => (Ok(Vec::new()), Ok(Vec::new())),
    };
    // What listens here is known without the region.
    let (on_hosts, of_hosts) = (elsewhere.as_deref(), hosts.as_deref());
    print_listening(data, on_hosts.unwrap_or_default(), of_hosts.unwrap_or_default());
    let (client, hosts) = (client?, hosts?);
    elsewhere?;
    let found = tasks::all(&client, args.all).await?;
    println!();
    if found.is_empty() {
        println!("no tasks");
        return Ok(());
    }
    let now = SystemClock.now();
    let names = instances::names(&hosts);
    // With one host there is nothing to tell apart.
    let has_hosts = hosts.len() > 1;
    let rows: Vec<Vec<String>> = found
        .iter()
        .map(|task| {
            let text = |text: Option<&str>| text.unwrap_or("-").to_owned();
            let cluster = task.cluster_arn.as_deref().map(tasks::id_of);
            let host = task.container_instance_arn.as_deref();
            let host = host.and_then(|arn| names.get(arn).copied());
            let address = tasks::address(task);
            // A port of another machine is not on this one's loopback.
            let address = match (host.filter(|name| *name != "-"), address) {
                (Some(name), Some(address)) => {
                    Some(address.replace("127.0.0.1:", &format!("{name}:")))
                }
                (_, address) => address,
            };
            let mut row = vec![
                text(cluster),
                tasks::id(task).to_owned(),
                tasks::definition(task).to_owned(),
                text(task.launch_type.as_ref().map(|launch| launch.as_str())),
                tasks::status(task).to_owned(),
                text(address.as_deref()),
                age(task.stopped_at.or(task.started_at).or(task.created_at), now),
                reason(task),
            ];
            if has_hosts {
                row.insert(2, text(host));
            }
            row
        })
        .collect();
    let mut header =
        vec!["CLUSTER", "TASK", "DEFINITION", "TYPE", "STATUS", "ADDRESS", "SINCE", "REASON"];
    if has_hosts {
        header.insert(2, "HOST");
    }
    print!("{}", table::render(&header, &rows));
    Ok(())
}

/// Where load balancers are reached from outside their VPCs: at this machine, whether or not the region is there, and at
/// others, as the region says.
fn print_listening(data: &DataDir, elsewhere: &[ListeningOn], hosts: &[instances::Host]) {
    let mut here = balancer::listening(&data.root().join(BALANCER_DIR));
    if data.holder(Role::Balancer).is_none() {
        here.clear();
    }
    let names = instances::names(hosts);
    let here = here.iter().map(|it| {
        let name = listening::protocol_name(it.protocol);
        ("-", listening::row(&it.balancer, name, it.port, it.address))
    });
    let there = elsewhere.iter().map(|it| {
        let host = it.instance.as_deref().and_then(|arn| names.get(arn).copied());
        (host.unwrap_or("-"), listening::row(&it.balancer, &it.protocol, it.port, it.address))
    });
    let mut rows: Vec<(&str, Vec<String>)> = here.chain(there).collect();
    rows.sort();
    rows.sort_by(|(_, a), (_, b)| a.first().cmp(&b.first()));
    if rows.is_empty() {
        return;
    }
    let mut header = vec!["BALANCER", "LISTENER", "ADDRESS"];
    let mut shown = Vec::new();
    for (host, mut row) in rows {
        // With one host there is nothing to tell apart.
        if !elsewhere.is_empty() {
            row.insert(2, host.to_owned());
        }
        shown.push(row);
    }
    if !elsewhere.is_empty() {
        header.insert(2, "HOST");
    }
    println!();
    print!("{}", table::render(&header, &shown));
}

/// Why a task stopped, or what one that has no place yet waits for.
fn reason(task: &ecs::Task) -> String {
    if task.stopped_at.is_some() {
        return tasks::why_stopped(task);
    }
    tasks::waits_for(task).map(|why| format!("waits for room: {why}")).unwrap_or_default()
}

fn process_row(data: &DataDir, role: Role) -> Vec<String> {
    let pid = data.holder(role);
    let memory =
        pid.and_then(resident_kib).map(|kib| format!("{:.1} MiB", f64::from(kib) / 1024.0));
    vec![
        role.name().to_owned(),
        pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string()),
        memory.unwrap_or_else(|| "-".to_owned()),
        if pid.is_some() { "running" } else { "down" }.to_owned(),
    ]
}

fn resident_kib(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// `3h`, `2m`, `45s`: the largest unit that fits.
fn age(since: Option<Timestamp>, now: Timestamp) -> String {
    let Some(since) = since else { return "-".to_owned() };
    let seconds = now.since_ms(since) / 1000;
    let units = [("d", 86_400), ("h", 3600), ("m", 60)];
    let fitting = units.iter().find(|(_, size)| seconds >= *size);
    fitting
        .map_or_else(|| format!("{seconds}s"), |(unit, size)| format!("{}{unit}", seconds / size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_one_unit() {
        let now = Timestamp(1_700_000_000_000);
        let ago = |s: u64| age(Some(Timestamp(now.0 - s * 1000)), now);
        assert_eq!([ago(5), ago(61), ago(7200), ago(200_000)], ["5s", "1m", "2h", "2d"]);
        assert_eq!(age(None, now), "-");
        assert_eq!(age(Some(Timestamp(now.0 + 5)), now), "0s");
    }

    #[test]
    fn our_own_memory_can_be_seen() {
        assert!(resident_kib(std::process::id()).unwrap() > 100);
    }
}
