//! Every limit of the balancer, with its name.

use std::time::Duration;

/// Bytes of a request's line and headers together, and of any one of them.
pub const HEAD_BYTES_MAX: usize = 64 << 10;
/// Bytes of one header, name and value.
pub const HEADER_BYTES_MAX: usize = 16 << 10;
/// Bytes of the path and query; a longer one answers 414.
pub const URI_BYTES_MAX: usize = 16 << 10;
/// Headers of a request: so many that it is their bytes that decide. For each there is room while a head is read.
pub const HEADERS_MAX: usize = 1024;
/// Bytes of the headers of a request by HTTP/2, each counted with the 32 that its protocol adds. Up to it a request is
/// answered, if only to say that it is too large.
pub const H2_HEAD_BYTES_MAX: usize = 2 * HEAD_BYTES_MAX;
/// How long somebody may take to read that a request was refused.
pub const REFUSAL_WAIT_MAX: Duration = Duration::from_secs(1);
/// Bytes of all headers of a target's answer; more answers 502.
pub const ANSWER_HEAD_BYTES_MAX: usize = 32 << 10;
/// Streams that a client may have open on an HTTP/2 connection.
pub const H2_STREAMS_MAX: u32 = 128;
/// Requests on an HTTP/2 connection after which it is told to go away.
pub const H2_REQUESTS_MAX: u64 = 10_000;
/// Connections of clients that are open at once; more are closed as they come.
pub const CONNECTIONS_MAX: usize = 65_536;
/// Of them, those to balancers of one account: no account leaves the others without any.
pub const ACCOUNT_CONNECTIONS_MAX: usize = CONNECTIONS_MAX / 2;
/// Connections of one address to one VPC endpoint.
pub const ENDPOINT_CONNECTIONS_MAX: usize = 256;
/// How long nothing may go by a connection to a VPC endpoint.
pub const ENDPOINT_IDLE: Duration = Duration::from_secs(350);
/// How long connecting to a target may take; then 504.
pub const CONNECT_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long a connection is kept that goes to an address of which nothing is known yet.
pub const EGRESS_WAIT_MAX: Duration = Duration::from_secs(1);
/// Such connections from one network; more are closed as they come.
pub const EGRESS_WAITING_MAX: usize = 256;
/// How long a network balancer may take to say whose connection it passes on.
pub const INTRODUCTION_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long a client may take for its TLS handshake.
pub const HANDSHAKE_WAIT_MAX: Duration = Duration::from_secs(10);
/// Connections to one target that are kept open unused.
pub const IDLE_CONNECTIONS_MAX: usize = 1024;
/// How long one is kept. Targets whose own time is shorter close it while it is idle, which is noticed.
pub const IDLE_CONNECTION_AGE_MAX: Duration = Duration::from_secs(50);
/// Targets that one request is offered to, if the ones before refused the connection.
pub const TRIES_MAX: usize = 3;
/// How long what comes by Service Connect waits for somebody who takes connections.
pub const CONNECT_PATIENCE_MS: u32 = 3_000;
/// What no end is written as: ten years.
pub const FOREVER_S: u32 = 10 * 365 * 86_400;
/// Names under which requests are counted; what has another is not.
pub const FIGURES_MAX: usize = 1_000;
/// How long a request waits before it looks again for a target, where its balancer is patient.
pub const PATIENCE_PAUSE: Duration = Duration::from_millis(25);
/// Failures of a target within [`OUTLIER_WINDOW_MS`] after which it is left alone, where outliers are avoided.
pub const OUTLIER_FAILURES: u32 = 5;
pub const OUTLIER_WINDOW_MS: u64 = 30_000;
/// For how long at first, and then that much longer each time.
pub const OUTLIER_AVOIDED_MS: u64 = 30_000;
pub const OUTLIER_AVOIDED_MS_MAX: u64 = 300_000;
/// How long a target that refused a connection is asked only if no other is there; a passed check ends it.
pub const SUSPECT_MS: u64 = 10_000;
/// Checks of targets that are under way at once.
pub const CHECKS_MAX: usize = 512;
/// Bytes of a check's answer that are read.
pub const CHECK_ANSWER_BYTES_MAX: usize = 64 << 10;
/// How long open requests may go on after the balancer was told to end.
pub const GRACE_MAX: Duration = Duration::from_secs(15);
/// How long a kept connection may wait for its last request then.
pub const IDLE_GRACE: Duration = Duration::from_secs(1);
/// How long what is open may go on with a process whose place another has taken.
pub const HANDED_OVER_MAX: Duration = Duration::from_secs(3_600);
/// How long a kept connection may wait for its last request there: most clients let go of it by then.
pub const HANDED_OVER_IDLE: Duration = Duration::from_secs(60);
/// How often it is looked whether something is still open.
pub const HANDED_OVER_LOOK: Duration = Duration::from_millis(20);
/// How long the other may take to serve; then this one goes on as before.
pub const TAKE_OVER_MAX: Duration = Duration::from_secs(20);
/// Bytes of what the two say to each other at once. A report of all targets is the largest.
pub const WORD_BYTES_MAX: usize = 64 << 20;
/// How long the region may let a read of the table wait.
pub const READ_WAIT: Duration = Duration::from_secs(20);
/// The same while a socket is missing, which may come to be there at any moment.
pub const MISSING_WAIT: Duration = Duration::from_millis(500);
/// How long a place is left alone first that cannot be listened at, and then twice as long each time.
pub const REFUSED_PAUSE: Duration = Duration::from_millis(20);
pub const REFUSED_PAUSE_MAX: Duration = Duration::from_secs(2);
/// How long after a failed read or report the next one waits.
pub const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Changes of what is reported within this time go out together.
pub const REPORT_PAUSE: Duration = Duration::from_millis(10);
/// Log records that wait to be written; more are dropped and counted.
pub const LOG_RECORDS_MAX: usize = 65_536;
/// Bytes of lines that are kept in memory; with more the files are closed early.
pub const LOG_BYTES_MAX: usize = 64 << 20;
/// Log files that are open, each of which has some hundred kilobytes to compress by; with more all are closed early.
pub const LOG_FILES_MAX: usize = 512;
/// How often log files are closed and begun anew.
pub const LOG_PERIOD: Duration = Duration::from_secs(300);
/// Bytes of a user agent that a log line repeats.
pub const LOGGED_AGENT_BYTES_MAX: usize = 8 << 10;
/// Bytes of the copying buffers of a passed-through connection, for each direction.
pub const TUNNEL_BUFFER_BYTES: usize = 16 << 10;
/// Time within which failures of a target are compared with those of the others.
pub const ANOMALY_PERIOD: Duration = Duration::from_secs(5);
/// Bytes of the largest datagram.
pub const DATAGRAM_BYTES_MAX: usize = 65_535;
/// Datagrams of a flow that wait for its target; more are lost.
pub const FLOW_DATAGRAMS_MAX: usize = 64;
/// Flows of datagrams that are open at once, and those of one account. They are counted apart from connections: whoever
/// sends from many ports makes many of them.
pub const ALL_FLOWS_MAX: usize = 65_536;
pub const ACCOUNT_FLOWS_MAX: usize = ALL_FLOWS_MAX / 2;
/// Flows of one listener at one address; those beyond are not taken.
pub const FLOWS_MAX: usize = 16_384;
/// How long a flow of datagrams may be silent.
pub const FLOW_IDLE: Duration = Duration::from_secs(120);
