//! The commands that run and stop tasks.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use longshore_types::ClusterName;

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Task {
    /// Register a task definition file and run it on Fargate
    Run(TaskRun),
    /// Stop a task
    Stop(TaskStop),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct TaskRun {
    /// What `aws ecs register-task-definition --cli-input-json file://FILE` takes
    pub(crate) file: PathBuf,
    /// The cluster; created if it is missing
    #[arg(long, default_value = "default")]
    pub(crate) cluster: ClusterName,
    /// How many tasks
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=10))]
    pub(crate) count: i32,
    /// Do nothing if the family has a running task in the cluster; show that one
    #[arg(long)]
    pub(crate) once: bool,
    /// Seconds to wait for RUNNING
    #[arg(long, default_value_t = 120)]
    pub(crate) wait: u64,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct TaskStop {
    /// A task's id, the beginning of one, or its ARN
    pub(crate) task: String,
    /// Why; shown as the task's stopped reason
    #[arg(long, default_value = "Stopped by longshore task stop")]
    pub(crate) reason: String,
}

/// What `longshore top` shows, and how often.
#[derive(Args, Clone, Debug)]
pub(crate) struct Top {
    /// Only this cluster's tasks
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: Option<ClusterName>,
    /// Which tasks come first
    #[arg(long, value_enum, default_value_t = TopSort::Cpu)]
    pub(crate) sort: TopSort,
    /// Seconds between two looks; hosts report every twenty
    #[arg(long, value_name = "SECONDS", default_value_t = 2,
          value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub(crate) interval: u64,
    /// Look once, as is done without a terminal too unless JSON is asked for
    #[arg(long)]
    pub(crate) once: bool,
    /// Print a line of JSON for each look
    #[arg(long)]
    pub(crate) json: bool,
}

/// How `longshore connect` shows figures.
#[derive(Args, Clone, Debug)]
pub(crate) struct Connect {
    /// Print JSON, with all that is counted
    #[arg(long)]
    pub(crate) json: bool,
}

/// By what tasks are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TopSort {
    Cpu,
    Memory,
    Network,
}
