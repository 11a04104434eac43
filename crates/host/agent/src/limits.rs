//! Every limit of the agent, named in one place.

/// How long a container may take to stop after its signal, unless it says otherwise.
pub(crate) const STOP_TIMEOUT_MS: u64 = 30_000;
/// A process that outlives SIGKILL is asked again.
pub(crate) const KILL_RETRY_MS: u64 = 5_000;
/// A change of one container waits this long for company.
pub(crate) const CONTAINER_CHANGE_MS: u64 = 250;
/// Containers being created or started at a time, all tasks together.
pub(crate) const STARTS_MAX: usize = 8;
/// Events on their way to the region at a time.
pub(crate) const SUBMITS_MAX: usize = 10;
/// No step of a start may hang: each has a deadline after which it has failed.
pub(crate) const PREPARE_MS_MAX: u64 = 60_000;
pub(crate) const CREATE_MS_MAX: u64 = 120_000;
pub(crate) const START_MS_MAX: u64 = 60_000;
pub(crate) const PULL_MS_MAX: u64 = 2 * 3_600_000;
/// How long a release may hold up the STOPPED event; what is left is tried again later.
pub(crate) const RELEASE_MS_MAX: u64 = 10_000;
/// How long the last lines of a container may hold up its end.
pub(crate) const DRAIN_MS_MAX: u64 = 30_000;
/// The same for a task that is over a limit.
pub(crate) const URGENT_DRAIN_MS_MAX: u64 = 2_000;

/// The longest reason of a task that the region takes.
pub(crate) const TASK_REASON_MAX: usize = 1024;
pub(crate) const CONTAINER_REASON_MAX: usize = 1024;
/// How much of a container's last line goes into a reason.
pub(crate) const LAST_LINE_MAX: usize = 200;

/// A task's file is written anew before it grows beyond this.
pub(crate) const TASK_LOG_BYTES_MAX: usize = 128 << 10;
/// Tasks that this agent holds at a time; more are refused.
pub(crate) const TASKS_MAX: usize = 10_000;
/// Ended tasks whose ARN is remembered, so that a payload sent again starts nothing.
pub(crate) const TOMBSTONES_MAX: usize = 4_096;

pub(crate) const API_TIMEOUT_MS: u64 = 42_000;
/// Hosts whose region has let go of all of them come back spread over this.
pub(crate) const RECONNECT_JITTER_MS: u64 = 500;
/// A link that was cut and is whole again is not waited for by way of an old attempt for longer than this.
pub(crate) const HANDSHAKE_TIMEOUT_MS: u64 = 10_000;
/// A frame that takes longer to leave means that nobody reads any more.
pub(crate) const FRAME_LEAVES_MS_MAX: u64 = 10_000;
/// A frame that is larger closes the socket.
pub(crate) const FRAME_BYTES_MAX: usize = 4 << 20;
/// Read from a socket at a time; held for as long as it is open.
pub(crate) const READ_BUFFER_BYTES: usize = 16 << 10;
pub(crate) const RESPONSE_BYTES_MAX: usize = 4 << 20;
pub(crate) const POLL_ENDPOINT_CACHE_MS: u64 = 12 * 3_600_000;

pub(crate) const STARVATION_MS: u64 = 60_000;
pub(crate) const STARVATION_JITTER_MS: u32 = 60_000;
pub(crate) const SESSION_MS: u64 = 30 * 60_000;
pub(crate) const SESSION_JITTER_MS: u32 = 5 * 60_000;
pub(crate) const INACTIVE_WAIT_MS: u64 = 3_600_000;
/// A session that lasted this long was a healthy one, and not dropped right after the handshake.
pub(crate) const HEALTHY_SESSION_MS: u64 = 1_000;
/// A server that drops right after the handshake gets this many immediate tries.
pub(crate) const IMMEDIATE_RECONNECTS_MAX: u32 = 3;

pub(crate) const METRICS_INTERVAL_MS: u64 = 20_000;
pub(crate) const SAMPLE_INTERVAL_MS: u64 = 5_000;
pub(crate) const METRIC_TASKS_MAX: usize = 10;

/// Processes and threads of a task, unless the host says otherwise, and what it may say.
pub const TASK_PIDS_DEFAULT: u64 = 4_096;
pub const TASK_PIDS_LEAST: u64 = 16;
/// The kernel knows no more process ids than this.
pub const TASK_PIDS_MOST: u64 = 4_194_304;
/// Ephemeral storage of a Fargate task that asks for none, as ECS has it.
pub(crate) const EPHEMERAL_STORAGE_GIB: u64 = 20;
/// A task may have as many files as a file system of its size would be made for.
pub(crate) const STORAGE_BYTES_PER_FILE: u64 = 16 << 10;
/// How often the room on the disk is asked for while there are tasks.
pub(crate) const STORAGE_LOOK_MS: u64 = 500;
/// And how often while it fills fast.
pub(crate) const STORAGE_LOOK_MS_LEAST: u64 = 20;
/// Files are counted when the room has shrunk by this since they last were, and every so often.
pub(crate) const STORAGE_GROWTH_BYTES: u64 = 64 << 20;
pub(crate) const STORAGE_GROWTH_FILES: u64 = 16 << 10;
pub(crate) const STORAGE_ALL_MS: u64 = 30_000;
/// Between two counts lies this many times what one took.
pub(crate) const STORAGE_PAUSE_TIMES: u64 = 10;
/// What is reserved for the host itself of the disk that tasks write to: a share of it, up to this.
pub(crate) const HOST_ROOM_PERCENT: u64 = 5;
pub(crate) const HOST_ROOM_BYTES_MAX: u64 = 2 << 30;
pub(crate) const HOST_FILES_MAX: u64 = 64 << 10;
/// A task that takes less is not stopped for the sake of the host: it would help nobody.
pub(crate) const VICTIM_BYTES_MIN: u64 = 64 << 20;
/// The files of a stopped task take a moment to be removed; until then no other is chosen.
pub(crate) const VICTIM_PAUSE_MS: u64 = 3_000;
/// Open files of a process whose task definition does not say.
pub(crate) const NOFILE_DEFAULT: u64 = 65_535;

/// Connections of containers to their agent at a time, and how long one may last.
pub(crate) const ENDPOINT_CONNECTIONS_MAX: usize = 1_024;
/// Of those, from one address of a container, and from those of the host, which all tasks on its network share.
pub(crate) const ENDPOINT_CONNECTIONS_OF_TASK_MAX: usize = 16;
pub(crate) const ENDPOINT_CONNECTIONS_OF_HOST_MAX: usize = 512;
pub(crate) const ENDPOINT_PATIENCE_MS: u64 = 5_000;
/// Questions a second from one address of a container, as with Amazon's agent, and from those of the host.
pub(crate) const ENDPOINT_REQUESTS_OF_TASK_MAX: u32 = 40;
pub(crate) const ENDPOINT_REQUESTS_OF_HOST_MAX: u32 = 1_000;
pub(crate) const ENDPOINT_BODY_BYTES_MAX: usize = 4 << 10;
/// How long a container waits for an answer about its protection.
pub(crate) const PROTECTION_MS_MAX: u64 = 4_000;
/// Two moments of stats are compared that are so far apart at least; who asks first waits so long for the second.
pub(crate) const STATS_APART_MS: u64 = 1_000;
pub(crate) const STATS_FIRST_MS: u64 = 200;
/// Runs of containers whose last stats are remembered.
pub(crate) const STATS_KEPT_MAX: usize = 1_024;
/// How old a count of a task's files may be that is shown to it.
pub(crate) const STORAGE_SHOWN_MS: u64 = 10_000;
/// How much of what a health check says is kept.
pub(crate) const HEALTH_OUTPUT_MAX: usize = 1_024;

/// Names that Parameter Store is asked for at once, and requests for secrets that are under way at a time for a task.
pub(crate) const PARAMETERS_MAX: usize = 10;
pub(crate) const SECRETS_AT_A_TIME: usize = 10;
/// A secret that is refused is asked for once more, as ECS does.
pub(crate) const SECRET_TRIES_MAX: u32 = 2;
/// What the kernel takes of one variable, with its name and the byte that ends it.
pub(crate) const VARIABLE_BYTES_MAX: usize = 128 << 10;
/// A program's arguments and variables are a quarter of its stack at most, with a pointer to each: this is what files may bring
/// where a stack is 8 MiB, with room for what an image and a task definition say.
pub(crate) const FILES_VARIABLES_BYTES_MAX: usize = (2 << 20) - (256 << 10);
/// A store of objects that does not answer is asked so often for one of them.
pub(crate) const OBJECT_TRIES_MAX: u32 = 2;

/// Lines that are on their way to another driver's address at a time, and how long one waits to be tried again.
pub(crate) const REMOTE_BATCH_BYTES: usize = 32 << 10;
pub(crate) const REMOTE_BATCH_EVENTS: usize = 512;
pub(crate) const REMOTE_RETRY_MS_MIN: u64 = 100;
pub(crate) const REMOTE_RETRY_MS_MAX: u64 = 5_000;
/// How often an address is tried before a container that needs it is not started.
pub(crate) const REMOTE_CHECK_TRIES: u32 = 4;
/// How long an address may take over one batch: one that takes connections and reads nothing is as good as away.
pub(crate) const REMOTE_SEND_MS_MAX: u64 = 60_000;
/// What is read of a file of certificates that a task definition names.
pub(crate) const REMOTE_CA_BYTES_MAX: u64 = 1 << 20;
/// How long output of an ended container waits for an address that does not take it.
pub(crate) const REMOTE_LINGER_MS: u64 = 10 * 60_000;

/// Connections of operators who look at the agent.
pub(crate) const INTROSPECTION_CONNECTIONS_MAX: usize = 32;
/// Connections of containers to the region by way of the agent, of which one address has so many, and the host's.
pub(crate) const RELAY_CONNECTIONS_MAX: usize = 2_048;
pub(crate) const RELAY_CONNECTIONS_OF_TASK_MAX: usize = 64;
pub(crate) const RELAY_CONNECTIONS_OF_HOST_MAX: usize = 512;
pub(crate) const RELAY_BUFFER_BYTES: usize = 8 << 10;
pub(crate) const RELAY_CONNECT_MS: u64 = 5_000;

/// How often unused images and other leftovers are looked for.
pub(crate) const HOUSEKEEPING_MS: u64 = 10 * 60_000;
/// How long logs of the json-file driver outlive their task.
pub(crate) const JSON_LOGS_MS: u64 = 3 * 3_600_000;
/// What such logs may take together; the oldest go first.
pub(crate) const JSON_LOGS_BYTES_MAX: u64 = 1 << 30;

/// How often it is looked whether memory can be given back, and how rarely where it could not.
pub(crate) const MEMORY_LOOK_MS: u64 = 10_000;
pub(crate) const MEMORY_LOOK_MS_MOST: u64 = 600_000;
/// What the agent may have grown by without being looked at.
pub(crate) const MEMORY_GROWTH_BYTES: u64 = 8 << 20;
/// What makes looking worth it.
pub(crate) const MEMORY_WORTH_BYTES: u64 = 1 << 20;
/// How often flows are told that the kernel counted.
pub(crate) const FLOWS_PERIOD_MS: u64 = 20_000;
/// After so many periods without any it is said that there were none.
pub(crate) const FLOWS_QUIET_PERIODS: u32 = 3;
/// Flows of one report.
pub(crate) const FLOWS_PER_REPORT_MAX: usize = 2_000;
/// Reports that wait for a region that is away; then the oldest are lost.
pub(crate) const FLOW_REPORTS_WAITING_MAX: usize = 16;

/// Images that are fetched before a task asks for them: how long one may take, how long the credentials that came with them are
/// good for, and how many messages of one account wait.
pub(crate) const PRE_PULL_MS_MAX: u64 = 10 * 60_000;
pub(crate) const PRE_PULL_STALE_MS: u64 = 50 * 60_000;
pub(crate) const PRE_PULLS_OF_ACCOUNT_MAX: usize = 64;
/// Where less is left of the disk than the smaller of these, nothing is fetched that nobody needs yet.
pub(crate) const PRE_PULL_DISK_PERCENT_FREE_MIN: u64 = 15;
pub(crate) const PRE_PULL_DISK_BYTES_FREE_MIN: u64 = 8 << 30;
