//! `longshore node token`: what hosts join by.

use ecs_api as ecs;
use longshore_types::{Clock as _, SystemClock, Timestamp};
use region::nodes::{
    CreateJoinToken, CreatedJoinToken, Done, Listed, ListedJoinToken, RevokeJoinToken,
};
use serde_json::json;

use crate::cli::{NodeLs, NodeToken, TokenCreate, TokenRevoke};
use crate::client::Client;
use crate::error::Error;
use crate::logging::tell;
use crate::table;

/// The attribute of hosts that Fargate tasks are placed on.
const FARGATE_ATTRIBUTE: &str = "longshore.fargate";

pub(super) async fn run(client: &Client, command: &NodeToken) -> Result<(), Error> {
    match command {
        NodeToken::Create(args) => create(client, args).await,
        NodeToken::Ls(args) => ls(client, args).await,
        NodeToken::Revoke(args) => revoke(client, args).await,
    }
}

async fn create(client: &Client, args: &TokenCreate) -> Result<(), Error> {
    // A host that comes must find it.
    let input = ecs::CreateClusterRequest {
        cluster_name: Some(args.cluster.to_string()),
        ..ecs::CreateClusterRequest::default()
    };
    let made: ecs::CreateClusterResponse = client.ecs("CreateCluster", &input).await?;
    drop(made);
    let fargate = args.fargate.then(|| (FARGATE_ATTRIBUTE.to_owned(), "true".to_owned()));
    let input = CreateJoinToken {
        cluster: args.cluster.clone(),
        zone: args.zone.clone(),
        attributes: args.attributes.iter().cloned().chain(fargate).collect(),
        valid_ms: args.expires,
        uses_max: (!args.unlimited).then_some(args.uses),
        key_ms: args.keys_expire,
    };
    let created: CreatedJoinToken = client.own("CreateJoinToken", &input).await?;
    let token = created.token.reveal();
    if args.quiet {
        println!("{token}");
        return Ok(());
    }
    let hosts = match input.uses_max {
        None => "any number of hosts".to_owned(),
        Some(1) => "one host".to_owned(),
        Some(count) => format!("{count} hosts"),
    };
    println!(
        "token {} for {hosts} of the cluster {}, until {}; it is shown this once. On the host, as root:\n",
        created.id,
        args.cluster,
        created.expires_at.iso8601()
    );
    println!("longshore agent --join {} --token {token}", created.endpoint);
    if created.endpoint.contains("//127.") || created.endpoint.contains("//localhost") {
        tell!(
            "\nother machines cannot reach {}: start the region with --listen 0.0.0.0:4566, or with --advertise \
             https://HOST",
            created.endpoint
        );
    }
    Ok(())
}

async fn ls(client: &Client, args: &NodeLs) -> Result<(), Error> {
    let tokens: Listed<ListedJoinToken> = client.own("ListJoinTokens", &Done {}).await?;
    if args.json {
        println!("{}", json!({ "tokens": tokens.items }));
        return Ok(());
    }
    if tokens.items.is_empty() {
        println!("no tokens");
        return Ok(());
    }
    let now = SystemClock.now();
    let rows: Vec<Vec<String>> = tokens.items.iter().map(|token| row(token, now)).collect();
    let header = ["TOKEN", "CLUSTER", "ZONE", "ATTRIBUTES", "USED", "STATE"];
    print!("{}", table::render(&header, &rows));
    Ok(())
}

fn row(token: &ListedJoinToken, now: Timestamp) -> Vec<String> {
    let attributes = token.attributes.iter().map(|(name, value)| format!("{name}={value}"));
    let attributes: Vec<String> = attributes.collect();
    let of = token.uses_max.map(|max| format!(" of {max}")).unwrap_or_default();
    let minutes = token.expires_at.since_ms(now) / 60_000;
    let left = if minutes < 120 { format!("{minutes} min") } else { format!("{} h", minutes / 60) };
    vec![
        token.id.clone(),
        token.cluster.clone(),
        token.zone.clone().unwrap_or_else(|| "-".to_owned()),
        if attributes.is_empty() { "-".to_owned() } else { attributes.join(",") },
        format!("{}{of}", token.uses),
        token.over.clone().unwrap_or_else(|| format!("good for {left}")),
    ]
}

async fn revoke(client: &Client, args: &TokenRevoke) -> Result<(), Error> {
    let input = RevokeJoinToken { id: args.id.clone() };
    let Done {} = client.own("RevokeJoinToken", &input).await?;
    println!(
        "{} is revoked; hosts that joined by it stay (longshore node rm removes one)",
        args.id
    );
    Ok(())
}
