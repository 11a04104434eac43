//! `longshore net explain`: whether a connection is let through, and what decides that.

use std::net::Ipv4Addr;

use serde::Deserialize;
use serde_json::json;

use crate::cli::NetExplain;
use crate::client::Client;
use crate::commands::connect;
use crate::data_dir::DataDir;
use crate::error::Error;
use crate::tasks;

/// The region's answer; members that this release does not know are left aside.
#[derive(Debug, Deserialize)]
struct Explained {
    passes: bool,
    steps: Vec<Step>,
    notes: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Step {
    interface: String,
    address: String,
    /// None of a load balancer's.
    task: Option<String>,
    way: String,
    passes: bool,
    because: String,
}

pub(crate) async fn explain(data: &DataDir, args: &NetExplain) -> Result<(), Error> {
    let client = connect(data)?;
    let (to, port) = split_port(&args.to)?;
    let question = json!({
        "from": end(&client, &args.from).await?,
        "to": end(&client, to).await?,
        "protocol": args.protocol,
        "port": port,
    });
    let explained: Explained = client.explain(&question).await?;
    print!("{}", page(&explained));
    Ok(())
}

/// `TASK:PORT`; a port is not asked of every protocol.
fn split_port(text: &str) -> Result<(&str, Option<u16>), Error> {
    match text.rsplit_once(':') {
        // An ARN has colons too.
        Some((before, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            let parsed = port.parse().ok();
            let refused = || Error::message(format!("{port} is no port: it is from 0 to 65535"));
            Ok((before, Some(parsed.ok_or_else(refused)?)))
        }
        Some(_) | None => Ok((text, None)),
    }
}

/// An address or an interface's id as it is; a task's interface.
async fn end(client: &Client, text: &str) -> Result<String, Error> {
    if text.parse::<Ipv4Addr>().is_ok() || text.starts_with("eni-") {
        return Ok(text.to_owned());
    }
    let task = tasks::find(client, text).await?;
    let none = || {
        Error::message(format!(
            "task {} has no interface of its own: only awsvpc tasks have",
            tasks::id(&task)
        ))
    };
    tasks::interface(&task).ok_or_else(none)
}

fn page(explained: &Explained) -> String {
    let mut page = String::new();
    for step in &explained.steps {
        let word = if step.passes { "passes" } else { "dropped" };
        let Step { way, interface, address, because, .. } = step;
        let task = step.task.as_ref().map(|task| format!(", task {task}")).unwrap_or_default();
        page += &format!("{word} {way} of {interface} ({address}{task}): {because}\n");
    }
    for note in &explained.notes {
        page += &format!("note: {note}\n");
    }
    page + if explained.passes { "it is let through\n" } else { "it is not let through\n" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_follows_the_last_colon() {
        assert_eq!(split_port("172.31.0.4:80").unwrap(), ("172.31.0.4", Some(80)));
        assert_eq!(split_port("0123abc").unwrap(), ("0123abc", None));
        let arn = "arn:aws:ecs:us-east-1:000000000000:task/demo/0123";
        assert_eq!(split_port(arn).unwrap(), (arn, None));
        assert!(split_port("x:65536").is_err());
    }

    #[test]
    fn each_step_is_a_line_and_the_last_line_is_the_outcome() {
        let answer = serde_json::json!({ "passes": false, "notes": ["so"], "steps": [{
            "interface": "eni-1", "address": "172.31.0.4", "task": "01", "way": "in", "passes": false,
            "because": "no ingress rule of sg-1 (web) lets it pass" }] });
        let page = page(&serde_json::from_value(answer).unwrap());
        assert_eq!(
            page,
            "dropped in of eni-1 (172.31.0.4, task 01): no ingress rule of sg-1 (web) lets it pass\n\
             note: so\nit is not let through\n"
        );
    }
}
