//! `longshore agent install` and `uninstall`: this host's agent as a unit of systemd.
//!
//! Joining comes first, so that no token is in the unit: what the host has joined by lies in its data directory alone.
//! What a container has it has from the agent, seccomp filters, capabilities and mount namespaces included, so that the unit
//! takes from the agent only what no container may have.

use std::path::Path;
use std::process::Command;

use files::whole::{self, Durability};
use tracing::info;

use super::home;
use crate::cli::{AgentArgs, BalancerAddress, UnitArgs};
use crate::commands::{Environment, down};
use crate::data_dir::{DataDir, Role};
use crate::error::Error;

const UNIT: &str = "longshore-agent.service";

/// Joins the region if an invitation is given, writes the unit, and starts it.
pub(crate) async fn install(
    data: &DataDir,
    environment: &Environment,
    args: &AgentArgs,
    unit: &UnitArgs,
) -> Result<(), Error> {
    check_root(environment)?;
    data.create()?;
    {
        let _lock = data.take(Role::Agent)?;
        if !home::join(data, args).await? {
            return Err(Error::Refused(
                "this host has joined no region yet: give --join URL and --token TOKEN, or --activation-id ID".to_owned(),
            ));
        }
    }
    let path = unit.unit_dir.join(UNIT);
    let text = unit_text(&environment.program, data.root(), &told(args));
    whole::write(&path, text.as_bytes(), Durability::Synced)
        .map_err(|source| Error::DataDir { path: path.clone(), source })?;
    info!(unit = %path.display(), "unit written");
    if unit.no_start {
        println!("wrote {}; start it with: systemctl enable --now {UNIT}", path.display());
        return Ok(());
    }
    systemctl(&["daemon-reload"])?;
    systemctl(&["enable", "--now", UNIT])?;
    println!("{UNIT} runs now and at each start of this machine");
    Ok(())
}

/// Ends the unit, its containers and what was made for them. The host's keys stay until `longshore node rm` ends them.
pub(crate) async fn uninstall(
    data: &DataDir,
    environment: &Environment,
    unit: &UnitArgs,
) -> Result<(), Error> {
    check_root(environment)?;
    let path = unit.unit_dir.join(UNIT);
    let is_there = path.exists();
    if is_there && !unit.no_start {
        systemctl(&["disable", "--now", UNIT])?;
    }
    if is_there {
        let failed = |source| Error::DataDir { path: path.clone(), source };
        std::fs::remove_file(&path).map_err(failed)?;
        if !unit.no_start {
            systemctl(&["daemon-reload"])?;
        }
    }
    let _lock = data.take(Role::Agent)?;
    for role in [Role::Proxy, Role::Balancer] {
        down::end(data, role).await?;
    }
    super::clean(data, environment).await?;
    println!(
        "the agent is no more, nor are its containers; longshore node rm takes the host out of the region"
    );
    Ok(())
}

fn check_root(environment: &Environment) -> Result<(), Error> {
    if environment.is_root {
        return Ok(());
    }
    Err(Error::Refused(
        "a unit of the system is written as root: sudo longshore agent install …".to_owned(),
    ))
}

/// What the agent is told at each start: all but how it joined.
fn told(args: &AgentArgs) -> Vec<String> {
    let name = args.join.host_name.iter().flat_map(|name| ["--host-name".to_owned(), name.clone()]);
    let doors = args.balancer_address.into_iter().flat_map(BalancerAddress::to_args);
    args.host.to_args().into_iter().chain(args.egress.to_args()).chain(name).chain(doors).collect()
}

/// Its containers outlive it, so that only the agent's own process is ended. It makes namespaces and mounts that must be
/// seen by the next one: nothing here gives it a mount namespace of its own.
fn unit_text(program: &Path, data_dir: &Path, told: &[String]) -> String {
    let words = [
        program.display().to_string(),
        "agent".to_owned(),
        "--data-dir".to_owned(),
        data_dir.display().to_string(),
    ];
    let command: Vec<String> =
        words.into_iter().chain(told.iter().cloned()).map(|word| quoted(&word)).collect();
    let command = command.join(" ");
    format!(
        "[Unit]\n\
         Description=Longshore agent: runs this host's containers\n\
         After=network-online.target docker.service\n\
         Wants=network-online.target\n\
         StartLimitIntervalSec=0\n\
         \n\
         [Service]\n\
         ExecStart={command}\n\
         Restart=always\n\
         RestartSec=2\n\
         RestartPreventExitStatus=78\n\
         KillMode=process\n\
         TimeoutStopSec=30\n\
         Delegate=yes\n\
         UMask=0077\n\
         LimitNOFILE=1048576\n\
         LimitCORE=0\n\
         TasksMax=infinity\n\
         OOMScoreAdjust=-500\n\
         CapabilityBoundingSet=~CAP_SYS_BOOT CAP_SYS_TIME CAP_WAKE_ALARM CAP_MAC_ADMIN CAP_MAC_OVERRIDE CAP_SYSLOG\n\
         KeyringMode=private\n\
         NotifyAccess=none\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n"
    )
}

/// As systemd reads it as one word, and nothing of it as a variable.
fn quoted(word: &str) -> String {
    let escaped =
        word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("\"{escaped}\"")
    }
}

fn systemctl(words: &[&str]) -> Result<(), Error> {
    let done =
        Command::new("systemctl").args(words).output().map_err(Error::io("run systemctl"))?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(Error::message(format!("systemctl {} failed: {}", words.join(" "), said.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_ends_the_agent_alone_and_has_no_token() {
        let told = ["--instance-attribute", "rack=7 a%b"].map(str::to_owned);
        let text =
            unit_text(Path::new("/usr/bin/longshore"), Path::new("/var/lib/long shore"), &told);
        let command = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        assert_eq!(
            command,
            "/usr/bin/longshore agent --data-dir \"/var/lib/long shore\" --instance-attribute \"rack=7 a%%b\""
        );
        assert!(text.contains("\nKillMode=process\n") && !text.contains("token"));
        // Each of these would put it into a mount namespace that the next agent does not see.
        for namespaced in
            ["Protect", "Private", "ReadOnly", "ReadWrite", "Inaccessible", "TemporaryFileSystem"]
        {
            assert!(!text.lines().any(|line| line.starts_with(namespaced)), "{namespaced}");
        }
    }
}
