//! The syslog driver, in the three forms that Docker's has.

use std::io;
use std::path::PathBuf;

use futures_util::future::BoxFuture;
use longshore_types::Timestamp;
use tokio::io::AsyncWriteExt as _;

use super::connect::{self, Address, Open, Reach};
use super::tag;
use super::{RemoteRun, Sink, SinkError};
use crate::logdriver::options::{boolean, mode, refuse_unknown};
use crate::logdriver::{LogEvent, OptionError};
use crate::ports::StdStream;

const PORT: u16 = 514;
const PORT_TLS: u16 = 6_514;
const KNOWN: [&str; 15] = [
    "env",
    "env-regex",
    "labels",
    "labels-regex",
    "max-buffer-size",
    "mode",
    "syslog-address",
    "syslog-facility",
    "syslog-format",
    "syslog-tls-ca-cert",
    "syslog-tls-cert",
    "syslog-tls-key",
    "syslog-tls-skip-verify",
    "tag",
    "syslog-tls-server-name",
];
const FACILITIES: [(&str, u8); 20] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];
const DAEMON: u8 = 3;
const ERROR: u8 = 3;
const INFORMATION: u8 = 6;
/// The most that the smallest receivers of a datagram take.
const DATAGRAM_BYTES_MAX: usize = 60_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    /// Without a host, as a machine's own log has it.
    Local,
    Rfc3164,
    Rfc5424,
    Rfc5424Micro,
}

#[derive(Clone, Debug)]
pub(super) struct Options {
    address: Address,
    ca_file: Option<PathBuf>,
    facility: u8,
    format: Format,
    tag: String,
}

impl Options {
    pub(super) fn read(run: &RemoteRun) -> Result<Self, OptionError> {
        let options = &run.options;
        refuse_unknown(options, &KNOWN, "syslog")?;
        mode(options)?;
        let get = |key: &str| options.get(key).map(String::as_str).filter(|text| !text.is_empty());
        for key in ["syslog-tls-cert", "syslog-tls-key", "syslog-tls-server-name"] {
            if get(key).is_some() {
                return Err(OptionError::NotHere { key, driver: "syslog" });
            }
        }
        if boolean(options, "syslog-tls-skip-verify", false)? {
            return Err(OptionError::NotHere { key: "syslog-tls-skip-verify", driver: "syslog" });
        }
        let text = get("syslog-address").unwrap_or("unix:///dev/log");
        let port = if text.starts_with("tcp+tls") { PORT_TLS } else { PORT };
        let invalid = || OptionError::Address { key: "syslog-address", value: text.to_owned() };
        if !text.contains("://") || text.starts_with("http") {
            return Err(invalid());
        }
        let address = Address::parse(text, "", port).ok_or_else(invalid)?;
        let is_local = matches!(address, Address::Unix(_) | Address::Unixgram(_));
        let value = || get("syslog-format").unwrap_or_default().to_owned();
        let format = match get("syslog-format") {
            None if is_local => Format::Local,
            None | Some("rfc3164") => Format::Rfc3164,
            Some("rfc5424") => Format::Rfc5424,
            Some("rfc5424micro") => Format::Rfc5424Micro,
            Some(_) => return Err(OptionError::Value { key: "syslog-format", value: value() }),
        };
        Ok(Self {
            address,
            ca_file: get("syslog-tls-ca-cert").map(PathBuf::from),
            facility: facility(get("syslog-facility"))?,
            format,
            tag: tag::expand(options, &run.id, &run.about)?,
        })
    }
}

fn facility(text: Option<&str>) -> Result<u8, OptionError> {
    let Some(text) = text else { return Ok(DAEMON) };
    let named = FACILITIES.iter().find(|(name, _)| *name == text).map(|(_, number)| *number);
    let numbered = || text.parse().ok().filter(|number: &u8| *number < 24);
    let invalid = || OptionError::Value { key: "syslog-facility", value: text.to_owned() };
    named.or_else(numbered).ok_or_else(invalid)
}

pub(super) struct Syslog {
    options: Options,
    host: String,
    reach: Reach,
    open: Option<Open>,
}

impl Syslog {
    pub(super) fn new(options: Options, run: RemoteRun, reach: Reach) -> Self {
        Self { options, host: run.about.host, reach, open: None }
    }

    async fn write(&mut self, events: &[LogEvent]) -> io::Result<()> {
        let mut open = match self.open.take() {
            Some(open) => open,
            None => {
                let ca_file = self.options.ca_file.as_deref();
                connect::open(&self.options.address, &self.reach, ca_file).await?
            }
        };
        match &mut open {
            Open::Stream(stream) => {
                let mut all = Vec::new();
                for event in events {
                    all.extend_from_slice(&self.framed(event));
                }
                stream.write_all(&all).await?;
                stream.flush().await?;
            }
            Open::Udp(socket) => {
                for event in events {
                    socket.send(&self.datagram(event)).await?;
                }
            }
            Open::Unixgram(socket) => {
                for event in events {
                    socket.send(&self.datagram(event)).await?;
                }
            }
        }
        self.open = Some(open);
        Ok(())
    }

    /// Counted with TLS and the newer form, as RFC 5425 has it; else up to the end of the line.
    fn framed(&self, event: &LogEvent) -> Vec<u8> {
        let line = self.line(event);
        let is_counted = matches!(self.options.address, Address::Tls { .. })
            && matches!(self.options.format, Format::Rfc5424 | Format::Rfc5424Micro);
        if is_counted {
            format!("{} {line}", line.len()).into_bytes()
        } else {
            format!("{line}\n").into_bytes()
        }
    }

    fn datagram(&self, event: &LogEvent) -> Vec<u8> {
        let mut line = self.line(event);
        let mut end = line.len().min(DATAGRAM_BYTES_MAX);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        line.truncate(end);
        line.into_bytes()
    }

    fn line(&self, event: &LogEvent) -> String {
        let severity = match event.stream {
            StdStream::Stdout => INFORMATION,
            StdStream::Stderr => ERROR,
        };
        let Options { facility, tag, format, .. } = &self.options;
        let (priority, pid, host) = (facility * 8 + severity, std::process::id(), &self.host);
        let text = event.text.replace('\n', " ");
        match format {
            Format::Local => format!("<{priority}>{} {tag}[{pid}]: {text}", stamp(event.at)),
            Format::Rfc3164 => {
                format!("<{priority}>{} {host} {tag}[{pid}]: {text}", stamp(event.at))
            }
            Format::Rfc5424 => {
                let at = event.at.iso8601();
                let whole = at.split_once('.').map_or(&*at, |(whole, _)| whole);
                format!("<{priority}>1 {whole}Z {host} {tag} {pid} {tag} - {text}")
            }
            Format::Rfc5424Micro => {
                let at = event.at.iso8601().replace('Z', "000Z");
                format!("<{priority}>1 {at} {host} {tag} {pid} {tag} - {text}")
            }
        }
    }
}

/// `Nov  9 21:10:00`
fn stamp(at: Timestamp) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = at.iso8601();
    let number = |range: std::ops::Range<usize>| text.get(range).and_then(|it| it.parse().ok());
    let month: usize = number(5..7).unwrap_or(1);
    let day: usize = number(8..10).unwrap_or(1);
    let time = text.get(11..19).unwrap_or("00:00:00");
    format!("{} {day:>2} {time}", MONTHS[(month.clamp(1, 12)) - 1])
}

impl Sink for Syslog {
    fn send<'a>(&'a mut self, events: &'a [LogEvent]) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            self.write(events).await.map_err(|why| SinkError::Unreachable {
                address: self.options.address.to_string(),
                why,
            })
        })
    }

    fn check(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        self.send(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logdriver::Reach as Far;
    use crate::logdriver::remote::tag::RunAbout;

    fn run(pairs: &[(&str, &str)]) -> RemoteRun {
        let options = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let about = RunAbout { host: "box".into(), ..RunAbout::default() };
        RemoteRun { id: "0011223344556677".into(), about, options }
    }

    fn line(pairs: &[(&str, &str)], stream: StdStream) -> String {
        let run = run(pairs);
        let syslog = Syslog::new(Options::read(&run).unwrap(), run, Reach::default());
        let at = Timestamp::from_iso8601("2026-11-09T21:10:00.250Z").unwrap();
        let event = LogEvent { at, text: "hello".into(), reach: Far::default(), stream };
        syslog.line(&event).replace(&std::process::id().to_string(), "7")
    }

    #[test]
    fn lines_are_in_dockers_three_forms() {
        let local = line(&[], StdStream::Stdout);
        assert_eq!(local, "<30>Nov  9 21:10:00 001122334455[7]: hello");
        let udp = ("syslog-address", "udp://logs.lan");
        let old = line(&[udp, ("tag", "web"), ("syslog-facility", "local0")], StdStream::Stderr);
        assert_eq!(old, "<131>Nov  9 21:10:00 box web[7]: hello");
        let new = line(&[udp, ("tag", "web"), ("syslog-format", "rfc5424")], StdStream::Stdout);
        assert_eq!(new, "<30>1 2026-11-09T21:10:00Z box web 7 web - hello");
        let fine = line(&[udp, ("tag", "w"), ("syslog-format", "rfc5424micro")], StdStream::Stdout);
        assert_eq!(fine, "<30>1 2026-11-09T21:10:00.250000Z box w 7 w - hello");
    }

    #[test]
    fn wrong_options_are_named() {
        for pairs in [
            [("syslog-address", "logs.lan")],
            [("syslog-address", "http://logs.lan")],
            [("syslog-facility", "nothing")],
            [("syslog-format", "json")],
            [("syslog-tls-skip-verify", "true")],
            [("syslog-tls-key", "/key")],
            [("splunk-token", "x")],
        ] {
            let error = Options::read(&run(&pairs)).unwrap_err().to_string();
            assert!(error.contains(pairs[0].0), "{error}");
        }
        assert_eq!(facility(Some("23")).unwrap(), 23);
    }
}
