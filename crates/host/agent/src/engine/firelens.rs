//! FireLens: what a task's router is configured with, and what leads output to it.
//!
//! The router listens at a socket in a directory of its task's, mounted at `/var/run`, and on port 24224 for those who
//! speak to it themselves. Its configuration is made from the log configurations of the other containers. Values
//! that are kept elsewhere are in no file: the configuration names variables of the router's environment.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::state::{Phase, TaskState};
use crate::spec::{
    ConfigFile, FirelensSpec, LogDriver, NetworkMode, Router, SecretSpec, SecretTarget, TaskSpec,
};
use crate::state_dir::StateDir;

/// Below a task's volumes; no volume can have this name.
const DIR: &str = ".firelens";
pub(super) const SOCKETS_IN_CONTAINER: &str = "/var/run";
const SOCKET: &str = "/var/run/fluent.sock";
pub(super) const PORT: u16 = 24_224;
/// Who is asked whether the router lives, answers here.
const HEALTH_PORT: u16 = 8_877;
/// Options that are the driver's and not the router's.
const OF_DRIVER: [&str; 7] = [
    "include-pattern",
    "exclude-pattern",
    "log-driver-buffer-limit",
    "mode",
    "max-buffer-size",
    "Name",
    "@type",
];

/// Which container is the router, and how.
pub(super) fn router(spec: &TaskSpec) -> Option<(usize, &FirelensSpec)> {
    let mut containers = spec.containers.iter().enumerate();
    containers.find_map(|(index, container)| Some((index, container.firelens.as_ref()?)))
}

/// Whether a task has a router that has ended, and will not be restarted.
pub(super) fn has_router_ended(spec: &TaskSpec, state: &TaskState) -> bool {
    router(spec).is_some_and(|(index, _)| Phase::Exited <= state.containers[index].phase)
}

/// Where the router's socket is on this host.
pub(super) fn sockets(dirs: &StateDir, spec: &TaskSpec) -> PathBuf {
    dirs.volumes().join(spec.arn.id.to_string()).join(DIR)
}

/// Whether a directory is one of a router's socket.
pub(super) fn is_sockets(dir: &Path) -> bool {
    dir.file_name().is_some_and(|name| name == DIR)
}

/// Where routers of both kinds look for their configuration.
pub(super) fn config_path(router: Router) -> &'static Path {
    Path::new(match router {
        Router::Fluentbit => "/fluent-bit/etc/fluent-bit.conf",
        Router::Fluentd => "/fluentd/etc/fluent.conf",
    })
}

/// Where a router of a kind finds what was read from S3.
pub(super) fn object_path(router: Router) -> &'static str {
    match router {
        Router::Fluentbit => "/fluent-bit/etc/external.conf",
        Router::Fluentd => "/fluentd/etc/external.conf",
    }
}

/// The file that its configuration takes in.
fn config_file(firelens: &FirelensSpec) -> Option<&str> {
    Some(match firelens.config_file.as_ref()? {
        ConfigFile::OfImage(path) => path,
        ConfigFile::Object(_) => object_path(firelens.router),
    })
}

/// The variable of the router that has the value of another container's secret option.
fn variable(container: usize, option: usize) -> String {
    format!("FIRELENS_OPTION_{container}_{option}")
}

fn secret_options(spec: &TaskSpec, container: usize) -> impl Iterator<Item = (usize, &SecretSpec)> {
    let secrets = spec.containers[container].secrets.iter();
    secrets.filter(|secret| secret.target == SecretTarget::LogDriver).enumerate()
}

fn users(spec: &TaskSpec) -> impl Iterator<Item = usize> + '_ {
    let is_user = |index: &usize| spec.containers[*index].log.driver == LogDriver::Firelens;
    (0..spec.containers.len()).filter(is_user)
}

/// What the router's environment has beside its own, by variable.
pub(super) fn secrets(spec: &TaskSpec) -> Vec<(String, &SecretSpec)> {
    let of_user =
        |user| secret_options(spec, user).map(move |(option, it)| (variable(user, option), it));
    users(spec).flat_map(of_user).collect()
}

/// The options of one container's output, those that are kept elsewhere as the router's reference to them.
fn options(spec: &TaskSpec, user: usize, router: Router) -> BTreeMap<String, String> {
    let mut all = spec.containers[user].log.options.clone();
    for (option, secret) in secret_options(spec, user) {
        let name = variable(user, option);
        let reference = match router {
            Router::Fluentbit => format!("${{{name}}}"),
            Router::Fluentd => format!("\"#{{ENV['{name}']}}\""),
        };
        all.insert(secret.name.clone(), reference);
    }
    all
}

/// The whole configuration of a task's router.
pub(super) fn configuration(
    spec: &TaskSpec,
    index: usize,
    firelens: &FirelensSpec,
    cluster: &str,
) -> String {
    let mut metadata: Vec<(&str, String)> = Vec::new();
    if firelens.adds_metadata {
        let definition = format!("{}:{}", spec.family, spec.version);
        metadata.push(("ecs_cluster", cluster.to_owned()));
        metadata.push(("ecs_task_arn", spec.arn.to_string()));
        metadata.push(("ecs_task_definition", definition));
    }
    // Containers of one interface share its loopback.
    let listen = match spec.containers[index].network {
        NetworkMode::Awsvpc => Some("127.0.0.1"),
        NetworkMode::Bridge => Some("0.0.0.0"),
        NetworkMode::Host | NetworkMode::None => None,
    };
    match firelens.router {
        Router::Fluentbit => fluentbit(spec, firelens, &metadata, listen),
        Router::Fluentd => fluentd(spec, firelens, &metadata, listen),
    }
}

fn fluentbit(
    spec: &TaskSpec,
    firelens: &FirelensSpec,
    metadata: &[(&str, String)],
    listen: Option<&str>,
) -> String {
    let mut text = format!("[INPUT]\n    Name forward\n    unix_path {SOCKET}\n");
    if let Some(listen) = listen {
        let _ = write!(text, "\n[INPUT]\n    Name forward\n    Listen {listen}\n    Port {PORT}\n");
    }
    let _ = write!(
        text,
        "\n[INPUT]\n    Name tcp\n    Tag firelens-healthcheck\n    Listen 127.0.0.1\n    Port {HEALTH_PORT}\n"
    );
    if !metadata.is_empty() {
        text.push_str("\n[FILTER]\n    Name record_modifier\n    Match *\n");
        for (key, value) in metadata {
            let _ = writeln!(text, "    Record {key} {value}");
        }
    }
    for user in users(spec) {
        let name = &spec.containers[user].name;
        let given = &spec.containers[user].log.options;
        for (option, word) in [("include-pattern", "Regex"), ("exclude-pattern", "Exclude")] {
            if let Some(pattern) = given.get(option) {
                let _ = write!(
                    text,
                    "\n[FILTER]\n    Name grep\n    Match {name}-firelens*\n    {word} log {pattern}\n"
                );
            }
        }
    }
    if let Some(file) = config_file(firelens) {
        let _ = write!(text, "\n@INCLUDE {file}\n");
    }
    text.push_str("\n[OUTPUT]\n    Name null\n    Match firelens-healthcheck\n");
    for user in users(spec) {
        let name = &spec.containers[user].name;
        let given = options(spec, user, firelens.router);
        let Some(plugin) = given.get("Name") else { continue };
        let _ = write!(text, "\n[OUTPUT]\n    Name {plugin}\n    Match {name}-firelens*\n");
        for (key, value) in given.iter().filter(|(key, _)| !OF_DRIVER.contains(&&***key)) {
            let _ = writeln!(text, "    {key} {value}");
        }
    }
    text
}

fn fluentd(
    spec: &TaskSpec,
    firelens: &FirelensSpec,
    metadata: &[(&str, String)],
    listen: Option<&str>,
) -> String {
    let mut text = format!("<source>\n    @type unix\n    path {SOCKET}\n</source>\n");
    if let Some(listen) = listen {
        let _ = write!(
            text,
            "\n<source>\n    @type forward\n    bind {listen}\n    port {PORT}\n</source>\n"
        );
    }
    for user in users(spec) {
        let name = &spec.containers[user].name;
        let given = &spec.containers[user].log.options;
        for (option, word) in [("include-pattern", "regexp"), ("exclude-pattern", "exclude")] {
            if let Some(pattern) = given.get(option) {
                let _ = write!(
                    text,
                    "\n<filter {name}-firelens**>\n    @type grep\n    <{word}>\n        key log\n        \
                     pattern {pattern}\n    </{word}>\n</filter>\n"
                );
            }
        }
    }
    if !metadata.is_empty() {
        text.push_str("\n<filter **>\n    @type record_transformer\n    <record>\n");
        for (key, value) in metadata {
            let _ = writeln!(text, "        {key} {value}");
        }
        text.push_str("    </record>\n</filter>\n");
    }
    if let Some(file) = config_file(firelens) {
        let _ = write!(text, "\n@include {file}\n");
    }
    for user in users(spec) {
        let name = &spec.containers[user].name;
        let given = options(spec, user, firelens.router);
        let Some(plugin) = given.get("@type") else { continue };
        let _ = write!(text, "\n<match {name}-firelens**>\n    @type {plugin}\n");
        for (key, value) in given.iter().filter(|(key, _)| !OF_DRIVER.contains(&&***key)) {
            let _ = writeln!(text, "    {key} {value}");
        }
        text.push_str("</match>\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn task(kind: &str, router_options: &Value, options: &Value) -> TaskSpec {
        let host = json!({"LogConfig": {"Type": "awsfirelens", "Config": options}}).to_string();
        let task = json!({
            "arn": "arn:aws:ecs:us-east-1:000000000000:task/demo/00112233445566778899aabbccddeeff",
            "family": "web", "version": "3",
            "containers": [
                {"name": "app", "image": "a", "essential": true, "dockerConfig": {"hostConfig": host},
                 "secrets": [{"name": "apikey", "valueFrom": "key", "target": "LOG_DRIVER"}]},
                {"name": "router", "image": "b", "essential": true,
                 "firelensConfiguration": {"type": kind, "options": router_options}},
            ],
        });
        let spec = crate::spec::parse(&serde_json::from_value(task).unwrap()).unwrap();
        assert_eq!(spec.containers.iter().find_map(|it| it.refusal.clone()), None);
        spec
    }

    fn configured(spec: &TaskSpec) -> String {
        let (index, firelens) = router(spec).unwrap();
        configuration(spec, index, firelens, "demo")
    }

    #[test]
    fn a_fluent_bit_is_told_of_inputs_filters_and_outputs() {
        let options = json!({"Name": "http", "Host": "logs.lan", "include-pattern": "^E"});
        let file = json!({"config-file-type": "file", "config-file-value": "/extra.conf"});
        let spec = task("fluentbit", &file, &options);
        let expected = "[INPUT]
    Name forward
    unix_path /var/run/fluent.sock

[INPUT]
    Name forward
    Listen 0.0.0.0
    Port 24224

[INPUT]
    Name tcp
    Tag firelens-healthcheck
    Listen 127.0.0.1
    Port 8877

[FILTER]
    Name record_modifier
    Match *
    Record ecs_cluster demo
    Record ecs_task_arn arn:aws:ecs:us-east-1:000000000000:task/demo/00112233445566778899aabbccddeeff
    Record ecs_task_definition web:3

[FILTER]
    Name grep
    Match app-firelens*
    Regex log ^E

@INCLUDE /extra.conf

[OUTPUT]
    Name null
    Match firelens-healthcheck

[OUTPUT]
    Name http
    Match app-firelens*
    Host logs.lan
    apikey ${FIRELENS_OPTION_0_0}
";
        assert_eq!(configured(&spec), expected);
        assert_eq!(secrets(&spec)[0].0, "FIRELENS_OPTION_0_0");
        let depends: Vec<usize> = spec.containers[0].depends_on.iter().map(|it| it.on).collect();
        assert_eq!(depends, [1], "the router is there first");
    }

    #[test]
    fn a_fluentd_is_told_the_same_in_its_own_words() {
        let options = json!({"@type": "stdout", "exclude-pattern": "x"});
        let quiet = json!({"enable-ecs-log-metadata": "false"});
        let told = configured(&task("fluentd", &quiet, &options));
        let expected = "<source>
    @type unix
    path /var/run/fluent.sock
</source>

<source>
    @type forward
    bind 0.0.0.0
    port 24224
</source>

<filter app-firelens**>
    @type grep
    <exclude>
        key log
        pattern x
    </exclude>
</filter>

<match app-firelens**>
    @type stdout
    apikey \"#{ENV['FIRELENS_OPTION_0_0']}\"
</match>
";
        assert_eq!(told, expected);
    }
}
