//! Load balancers beside nginx and HAProxy, in one run and before the same two tasks; then deployments under load.

use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::client::Connection;
use crate::report::{Report, percentile};
use crate::traffic::{self, Seen};
use crate::world::{MEMORY_MIB, World};

/// How long each rate is measured.
const WINDOW: Duration = Duration::from_secs(5);
const CONNECTIONS: [usize; 4] = [1, 32, 256, 1024];
/// As many as a process may hold twice within the 20,000 files that some machines allow.
const IDLE: usize = 9_500;
/// Of the service that is deployed under load.
const TASKS: usize = 10;
const PATIENCE: Duration = Duration::from_secs(300);
/// Of a task that some thousand connections come to, from several balancers at once.
const CROWDED_MIB: u32 = 2_048;
/// How long targets have to become healthy.
const STARTED: Duration = Duration::from_secs(30);

/// A load balancer that stands before the same targets, and where it is reached.
struct Door {
    name: &'static str,
    http: u16,
    https: u16,
    tcp: u16,
    child: Option<Child>,
}

impl Drop for Door {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Killed outright, nginx leaves its workers.
            let _ = Command::new("kill").arg(child.id().to_string()).status();
            let _ = child.wait();
        }
    }
}

/// Requests a second, latencies, handshakes and memory.
pub(crate) async fn beside_peers(world: &World, report: &mut Report) -> io::Result<()> {
    let definition = world.define_quiet("bench-balance", "1", CROWDED_MIB).await?;
    let mut connection = Connection::open(&world.target).await?;
    let answer = connection.ecs("RunTask", &world.run_request(&definition, 2)).await?;
    let arns = crate::wire::started(&answer)?;
    crate::tasks::wait_all(world, &arns, "RUNNING", Duration::from_secs(60)).await?;
    let targets = addresses(&mut connection, &arns).await?;
    let folder = world.folder.path().join("doors");
    std::fs::create_dir_all(&folder)?;
    let certificate = Certificate::make(&folder)?;
    let ours = ours(world, &mut connection, &targets, &certificate).await?;
    let mut doors = vec![ours];
    let mut absent = Vec::new();
    for made in [nginx(&folder, &targets), haproxy(&folder, &targets)] {
        match made {
            Ok(door) => doors.push(door),
            Err(why) => absent.push(why.to_string()),
        }
    }
    for door in &doors {
        let answered = traffic::until_answered(door.http, STARTED).await;
        answered.map_err(|error| io::Error::other(format!("{}: {error}", door.name)))?;
    }
    for connections in CONNECTIONS {
        let mut cells = Vec::new();
        for door in &doors {
            let seen = traffic::kept(door.http, connections, WINDOW).await?;
            cells.push((door.name, rate_and_late(seen, WINDOW)));
        }
        let direct = traffic::kept_at(&targets[0], connections, WINDOW).await?;
        cells.push(("the task itself", rate_and_late(direct, WINDOW)));
        add(
            report,
            format!("HTTP/1.1 requests, {connections} kept-alive connections"),
            cells,
            &absent,
        );
    }
    let mut cells = Vec::new();
    for door in &doors {
        let seen = traffic::streams(door.https, &certificate.pem, 64, WINDOW).await?;
        cells.push((door.name, rate_and_late(seen, WINDOW)));
    }
    add(report, "HTTP/2 requests by TLS, 64 streams of one connection".to_owned(), cells, &absent);
    let mut cells = Vec::new();
    for door in &doors {
        let seen = traffic::handshakes(door.https, &certificate.pem, 32, WINDOW).await?;
        cells.push((door.name, rate_and_late(seen, WINDOW)));
    }
    add(report, "TLS handshakes with a request each, 32 clients".to_owned(), cells, &absent);
    let mut cells = Vec::new();
    for door in doors.iter().filter(|door| door.tcp > 0) {
        let seen = traffic::kept(door.tcp, 32, WINDOW).await?;
        cells.push((door.name, rate_and_late(seen, WINDOW)));
    }
    add(
        report,
        "requests through a network load balancer (TCP), 32 connections".to_owned(),
        cells,
        &absent,
    );
    crate::hold::raise_open_files(IDLE + 200);
    let mut cells = Vec::new();
    for door in &doors {
        let pids = match &door.child {
            Some(child) => world.descendants(child.id()),
            None => world.pids_of("balancer"),
        };
        cells.push((door.name, idle_memory(world, door.http, &pids).await?));
    }
    add(report, format!("memory of {IDLE} idle connections"), cells, &absent);
    drop(doors);
    // Nothing was said on the first connection for longer than the region keeps one.
    let mut connection = Connection::open(&world.target).await?;
    for arn in arns {
        connection.ecs("StopTask", &json!({"cluster": "bench", "task": arn})).await?;
    }
    Ok(())
}

fn add(report: &mut Report, what: String, cells: Vec<(&'static str, String)>, absent: &[String]) {
    let mut cells = cells.into_iter();
    let ours = cells.next().map(|(_, text)| text).unwrap_or_default();
    let mut peers: Vec<String> = cells.map(|(name, text)| format!("{name} {text}")).collect();
    peers.extend(absent.iter().cloned());
    report.add(what, "–", ours, peers.join("; "));
}

fn rate_and_late(mut seen: Seen, window: Duration) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a count of answers")]
    let rate = seen.seconds.len() as f64 / window.as_secs_f64();
    let [p50, p99] = [0.5, 0.99].map(|share| percentile(&mut seen.seconds, share) * 1e3);
    let lost = if seen.lost == 0 { String::new() } else { format!(", {} lost", seen.lost) };
    format!("{rate:.0}/s, p50 {p50:.2} ms, p99 {p99:.2} ms{lost}")
}

/// Proportional memory before and with connections that say nothing.
async fn idle_memory(world: &World, port: u16, pids: &[u32]) -> io::Result<String> {
    let before = world.resident_kib(pids);
    let mut held = Vec::with_capacity(IDLE);
    for _ in 0..IDLE {
        match TcpStream::connect(("127.0.0.1", port)).await {
            Ok(stream) => held.push(stream),
            Err(error) => return Ok(format!("refused after {}: {error}", held.len())),
        }
    }
    sleep(Duration::from_secs(2)).await;
    let after = world.resident_kib(pids);
    // Who was turned away has been told so by now.
    let open = held.iter().filter(|stream| traffic::is_open(stream)).count();
    Ok(format!(
        "{:.0} MB ({open} held, {:.0} MB before)",
        (after - before) / 1024.0,
        before / 1024.0
    ))
}

async fn addresses(connection: &mut Connection, arns: &[String]) -> io::Result<Vec<String>> {
    let described =
        connection.ecs("DescribeTasks", &json!({"cluster": "bench", "tasks": arns})).await?;
    let tasks = described["tasks"].as_array().cloned().unwrap_or_default();
    let address = |task: &Value| {
        let details = task["attachments"][0]["details"].as_array()?;
        let own = details.iter().find(|it| it["name"] == "privateIPv4Address")?;
        own["value"].as_str().map(str::to_owned)
    };
    Ok(tasks.iter().filter_map(address).collect())
}

/// Certificate and key in files, by the program that everybody has.
struct Certificate {
    pem: String,
    key: String,
}

impl Certificate {
    fn make(folder: &Path) -> io::Result<Self> {
        let (key, pem, both) =
            (folder.join("key.pem"), folder.join("cert.pem"), folder.join("both.pem"));
        let subject = [
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-days",
            "2",
        ];
        crate::peers::run(
            Command::new("openssl")
                .args([
                    "req",
                    "-x509",
                    "-nodes",
                    "-newkey",
                    "ec",
                    "-pkeyopt",
                    "ec_paramgen_curve:prime256v1",
                ])
                .args(subject)
                .arg("-keyout")
                .arg(&key)
                .arg("-out")
                .arg(&pem),
        )?;
        let (pem, key) = (std::fs::read_to_string(pem)?, std::fs::read_to_string(key)?);
        std::fs::write(both, format!("{pem}{key}"))?;
        Ok(Self { pem, key })
    }
}

/// An application and a network load balancer of ours with the targets.
async fn ours(
    world: &World,
    connection: &mut Connection,
    targets: &[String],
    certificate: &Certificate,
) -> io::Result<Door> {
    let [http, https, tcp] = free_ports()?;
    let vpc = world.vpc().await?;
    let text = base64::engine::general_purpose::STANDARD;
    let import = json!({"Certificate": text.encode(&certificate.pem), "PrivateKey": text.encode(&certificate.key)});
    let answer = connection
        .call("acm", "CertificateManager.ImportCertificate", import.to_string().as_bytes())
        .await?;
    let answer: Value = serde_json::from_slice(&answer)?;
    let certificate = answer["CertificateArn"].as_str().unwrap_or_default().to_owned();
    let web = group(connection, "bench-web", "HTTP", &vpc).await?;
    let raw = group(connection, "bench-raw", "TCP", &vpc).await?;
    for group in [&web, &raw] {
        for (place, target) in targets.iter().enumerate() {
            let member = format!("Targets.member.{}.Id={target}", place + 1);
            elb(connection, "RegisterTargets", &[("TargetGroupArn", group)], &member).await?;
        }
    }
    let door = self::door(world, connection, "bench-web", "application").await?;
    let network = self::door(world, connection, "bench-raw", "network").await?;
    listener(connection, &door, "HTTP", http, &web, "").await?;
    let with = format!("Certificates.member.1.CertificateArn={certificate}");
    listener(connection, &door, "HTTPS", https, &web, &with).await?;
    listener(connection, &network, "TCP", tcp, &raw, "").await?;
    Ok(Door { name: "Longshore", http, https, tcp, child: None })
}

/// A load balancer in two subnets; its ARN.
async fn door(
    world: &World,
    connection: &mut Connection,
    name: &str,
    kind: &str,
) -> io::Result<String> {
    let subnets = world.subnets().await?;
    let [one, other, ..] = subnets.as_slice() else {
        return Err(io::Error::other("the region has no two subnets"));
    };
    let asked =
        [("Name", name), ("Type", kind), ("Subnets.member.1", one), ("Subnets.member.2", other)];
    tag(&elb(connection, "CreateLoadBalancer", &asked, "").await?, "LoadBalancerArn")
}

async fn group(
    connection: &mut Connection,
    name: &str,
    protocol: &str,
    vpc: &str,
) -> io::Result<String> {
    let asked = [
        ("Name", name),
        ("Protocol", protocol),
        ("Port", "8080"),
        ("VpcId", vpc),
        ("TargetType", "ip"),
        ("HealthCheckIntervalSeconds", "5"),
        ("HealthCheckTimeoutSeconds", "2"),
        ("HealthyThresholdCount", "2"),
    ];
    tag(&elb(connection, "CreateTargetGroup", &asked, "").await?, "TargetGroupArn")
}

async fn listener(
    connection: &mut Connection,
    door: &str,
    protocol: &str,
    port: u16,
    group: &str,
    more: &str,
) -> io::Result<String> {
    let port = port.to_string();
    let asked = [
        ("LoadBalancerArn", door),
        ("Protocol", protocol),
        ("Port", port.as_str()),
        ("DefaultActions.member.1.Type", "forward"),
        ("DefaultActions.member.1.TargetGroupArn", group),
    ];
    tag(&elb(connection, "CreateListener", &asked, more).await?, "ListenerArn")
}

async fn elb(
    connection: &mut Connection,
    action: &str,
    asked: &[(&str, &str)],
    more: &str,
) -> io::Result<String> {
    let mut body = format!("Action={action}&Version=2015-12-01");
    for (name, value) in asked {
        body += &format!("&{name}={value}");
    }
    if !more.is_empty() {
        body = format!("{body}&{more}");
    }
    let answer = connection.form("elasticloadbalancing", body.as_bytes()).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The text of the first element of a name.
fn tag(xml: &str, name: &str) -> io::Result<String> {
    let found = xml.split_once(&format!("<{name}>")).and_then(|(_, rest)| rest.split_once("</"));
    let missing = || io::Error::other(format!("no {name} in {xml}"));
    found.map(|(text, _)| text.to_owned()).ok_or_else(missing)
}

fn free_ports() -> io::Result<[u16; 3]> {
    let held = [(); 3].map(|()| std::net::TcpListener::bind("127.0.0.1:0"));
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(held) {
        *port = listener?.local_addr()?.port();
    }
    Ok(ports)
}

fn nginx(folder: &Path, targets: &[String]) -> io::Result<Door> {
    let [http, https, _] = free_ports()?;
    let place = folder.display();
    let servers: Vec<String> = targets.iter().map(|it| format!("server {it}:8080;")).collect();
    let text = format!(
        "worker_processes auto; worker_rlimit_nofile 19900; daemon off; pid {place}/nginx.pid; error_log {place}/nginx.log;\n\
         events {{ worker_connections 9900; }}\n\
         http {{ access_log off; keepalive_requests 1000000; keepalive_timeout 600s; client_header_timeout 600s;\n\
         client_body_temp_path {place}/a; proxy_temp_path {place}/b; fastcgi_temp_path {place}/c;\n\
         uwsgi_temp_path {place}/d; scgi_temp_path {place}/e;\n\
         upstream web {{ {} keepalive 1024; keepalive_requests 1000000; }}\n\
         server {{ listen 127.0.0.1:{http} backlog=4096; listen 127.0.0.1:{https} ssl http2;\n\
         ssl_certificate {place}/cert.pem; ssl_certificate_key {place}/key.pem; http2_max_requests 1000000;\n\
         location / {{ proxy_pass http://web; proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }} }}\n",
        servers.join(" ")
    );
    std::fs::write(folder.join("nginx.conf"), text)?;
    let child = spawn(Command::new("nginx").arg("-c").arg(folder.join("nginx.conf")), "nginx")?;
    Ok(Door { name: "nginx", http, https, tcp: 0, child: Some(child) })
}

fn haproxy(folder: &Path, targets: &[String]) -> io::Result<Door> {
    let [http, https, tcp] = free_ports()?;
    let place = folder.display();
    let servers: Vec<String> = targets
        .iter()
        .enumerate()
        .map(|(number, target)| format!(" server s{number} {target}:8080\n"))
        .collect();
    let servers = servers.concat();
    let text = format!(
        "global\n maxconn 9700\n\
         defaults\n timeout connect 5s\n timeout client 600s\n timeout server 600s\n timeout http-request 600s\n http-reuse always\n\
         frontend web\n mode http\n bind 127.0.0.1:{http}\n bind 127.0.0.1:{https} ssl crt {place}/both.pem alpn h2,http/1.1\n\
          default_backend webs\n\
         backend webs\n mode http\n{servers}\
         frontend raw\n mode tcp\n bind 127.0.0.1:{tcp}\n default_backend raws\n\
         backend raws\n mode tcp\n{servers}"
    );
    std::fs::write(folder.join("haproxy.cfg"), text)?;
    let child =
        spawn(Command::new("haproxy").arg("-f").arg(folder.join("haproxy.cfg")), "haproxy")?;
    Ok(Door { name: "HAProxy", http, https, tcp, child: Some(child) })
}

fn spawn(command: &mut Command, name: &str) -> io::Result<Child> {
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    spawned.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::other(format!("{name}: absent")),
        _ => error,
    })
}

/// A rolling, a blue/green and a canary deployment of ten tasks under 2,000 requests a second, half of them on
/// connections that are kept, half on new ones.
pub(crate) async fn deployments(world: &World, report: &mut Report) -> io::Result<()> {
    let mut connection = Connection::open(&world.target).await?;
    let vpc = world.vpc().await?;
    let [port, ..] = free_ports()?;
    let blue = group(&mut connection, "bench-blue", "HTTP", &vpc).await?;
    let green = group(&mut connection, "bench-green", "HTTP", &vpc).await?;
    let door = self::door(world, &mut connection, "bench-roll", "application").await?;
    let listener = listener(&mut connection, &door, "HTTP", port, &blue, "").await?;
    let asked = [
        ("ListenerArn", listener.as_str()),
        ("Priority", "1"),
        ("Conditions.member.1.Field", "path-pattern"),
        ("Conditions.member.1.Values.member.1", "/*"),
        ("Actions.member.1.Type", "forward"),
        ("Actions.member.1.ForwardConfig.TargetGroups.member.1.TargetGroupArn", &blue),
        ("Actions.member.1.ForwardConfig.TargetGroups.member.1.Weight", "1"),
        ("Actions.member.1.ForwardConfig.TargetGroups.member.2.TargetGroupArn", &green),
        ("Actions.member.1.ForwardConfig.TargetGroups.member.2.Weight", "0"),
    ];
    let rule = tag(&elb(&mut connection, "CreateRule", &asked, "").await?, "RuleArn")?;
    let role = shifting_role(&mut connection).await?;
    for (name, group) in [("bench-blue", &blue), ("bench-green", &green)] {
        let delay = "Attributes.member.1.Key=deregistration_delay.timeout_seconds&Attributes.member.1.Value=10";
        let changed = elb(
            &mut connection,
            "ModifyTargetGroupAttributes",
            &[("TargetGroupArn", group)],
            delay,
        )
        .await;
        changed.map_err(|error| io::Error::other(format!("{name}: {error}")))?;
    }
    let first = world.define_quiet("bench-roll", "1", MEMORY_MIB).await?;
    connection
        .ecs("CreateService", &json!({
            "cluster": "bench", "serviceName": "roll", "taskDefinition": first, "desiredCount": TASKS,
            "launchType": "EC2",
            "loadBalancers": [{"targetGroupArn": blue, "containerName": "web", "containerPort": 8080,
                "advancedConfiguration": {"alternateTargetGroupArn": green, "productionListenerRule": rule, "roleArn": role}}],
            "networkConfiguration": {"awsvpcConfiguration": {"subnets": [world.subnet]}}}))
        .await?;
    wait_steady(&mut connection, &first).await?;
    let canary = json!({"canaryPercent": 20.0, "canaryBakeTimeInMinutes": 0});
    let strategies = [
        ("rolling", json!({"strategy": "ROLLING"})),
        ("blue/green", json!({"strategy": "BLUE_GREEN", "bakeTimeInMinutes": 0})),
        (
            "canary",
            json!({"strategy": "CANARY", "bakeTimeInMinutes": 0, "canaryConfiguration": canary}),
        ),
    ];
    let mut serial = 1;
    for (name, strategy) in strategies {
        serial += 1;
        let next = world.define_quiet("bench-roll", &serial.to_string(), MEMORY_MIB).await?;
        sleep(crate::services::PROVEN).await;
        let load = traffic::Paced::start(port);
        sleep(Duration::from_secs(5)).await;
        let begun = Instant::now();
        connection
            .ecs(
                "UpdateService",
                &json!({"cluster": "bench", "service": "roll", "taskDefinition": next,
                                          "deploymentConfiguration": strategy}),
            )
            .await?;
        wait_steady(&mut connection, &next).await?;
        let took = begun.elapsed().as_secs_f64();
        sleep(Duration::from_secs(5)).await;
        let mut seen = load.end().await?;
        let p99 = percentile(&mut seen.seconds, 0.99) * 1e3;
        let ours = format!(
            "steady after {took:.1} s; {} of {} requests lost; p99 {p99:.1} ms",
            seen.lost,
            seen.lost + seen.seconds.len()
        );
        report.add(
            format!(
                "a {name} deployment of {TASKS} tasks under {} requests a second",
                traffic::PACE
            ),
            "0 of 100,000 lost",
            ours,
            "–".into(),
        );
    }
    connection
        .ecs("DeleteService", &json!({"cluster": "bench", "service": "roll", "force": true}))
        .await?;
    Ok(())
}

/// Waits until all that runs is of a definition, and its deployment is over.
async fn wait_steady(connection: &mut Connection, definition: &str) -> io::Result<()> {
    let end = Instant::now() + PATIENCE;
    let request = json!({"cluster": "bench", "services": ["roll"]});
    let mut last = Value::Null;
    while Instant::now() < end {
        let mut answer = connection.ecs("DescribeServices", &request).await?;
        last = answer["services"][0].take();
        let deployments = last["deployments"].as_array().cloned().unwrap_or_default();
        let is_done = deployments.len() == 1 && deployments[0]["rolloutState"] == "COMPLETED";
        let is_its = last["taskDefinition"] == definition
            && deployments.first().is_some_and(|it| it["taskDefinition"] == definition);
        if is_done && is_its && last["runningCount"] == TASKS {
            return Ok(());
        }
        sleep(Duration::from_millis(50)).await;
    }
    Err(io::Error::other(format!("the service is not steady in time: {last}")))
}

/// The role in whose name traffic is shifted.
async fn shifting_role(connection: &mut Connection) -> io::Result<String> {
    let statement = |more: Value| {
        let mut statement = json!({"Effect": "Allow"});
        if let (Some(statement), Value::Object(more)) = (statement.as_object_mut(), more) {
            statement.extend(more);
        }
        json!({"Version": "2012-10-17", "Statement": [statement]}).to_string()
    };
    let trust = statement(
        json!({"Action": "sts:AssumeRole", "Principal": {"Service": "ecs.amazonaws.com"}}),
    );
    let may = statement(json!({"Action": "elasticloadbalancing:*", "Resource": "*"}));
    let form = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let body = format!(
        "Action=CreateRole&Version=2010-05-08&RoleName=bench-shift&AssumeRolePolicyDocument={}",
        form(&trust)
    );
    let answer = connection.form("iam", body.as_bytes()).await?;
    let arn = tag(&String::from_utf8_lossy(&answer), "Arn")?;
    let body = format!(
        "Action=PutRolePolicy&Version=2010-05-08&RoleName=bench-shift&PolicyName=shift&PolicyDocument={}",
        form(&may)
    );
    connection.form("iam", body.as_bytes()).await?;
    Ok(arn)
}
