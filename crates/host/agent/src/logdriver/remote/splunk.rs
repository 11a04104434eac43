//! The splunk driver: lines as events of Splunk's HTTP event collector.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::future::BoxFuture;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use longshore_types::Token;
use serde_json::{Value, json};

use super::connect::{self, Address, Open, Reach};
use super::tag;
use super::{RemoteRun, Sink, SinkError};
use crate::logdriver::options::{boolean, mode, refuse_unknown};
use crate::logdriver::{LogEvent, OptionError};
use crate::ports::StdStream;

const PORT: u16 = 8_088;
const KNOWN: [&str; 21] = [
    "env",
    "env-regex",
    "labels",
    "labels-regex",
    "max-buffer-size",
    "mode",
    "splunk-caname",
    "splunk-capath",
    "splunk-format",
    "splunk-gzip",
    "splunk-gzip-level",
    "splunk-index",
    "splunk-index-acknowledgment",
    "splunk-insecureskipverify",
    "splunk-source",
    "splunk-sourcetype",
    "splunk-token",
    "splunk-url",
    "splunk-verify-connection",
    "tag",
    "cache-disabled",
];
const PATH: &str = "/services/collector/event/1.0";
const ANSWER: Duration = Duration::from_secs(30);
const ANSWER_BYTES_MAX: usize = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Inline,
    Json,
    Raw,
}

#[derive(Clone, Debug)]
pub(super) struct Options {
    address: Address,
    authority: String,
    path: String,
    token: Token,
    ca_file: Option<PathBuf>,
    format: Format,
    gzip: Option<u32>,
    verifies: bool,
    tag: String,
    /// `source`, `sourcetype` and `index`, as far as they are given.
    members: Vec<(&'static str, String)>,
}

impl Options {
    pub(super) fn read(run: &RemoteRun) -> Result<Self, OptionError> {
        let options = &run.options;
        refuse_unknown(options, &KNOWN, "splunk")?;
        mode(options)?;
        let get = |key: &str| options.get(key).map(String::as_str).filter(|text| !text.is_empty());
        let text = get("splunk-url").ok_or(OptionError::Missing { key: "splunk-url" })?;
        let token = get("splunk-token").ok_or(OptionError::Missing { key: "splunk-token" })?;
        let invalid = || OptionError::Address { key: "splunk-url", value: text.to_owned() };
        let uri: http::Uri = text.parse().map_err(|_| invalid())?;
        let authority = uri.authority().ok_or_else(invalid)?.to_string();
        let scheme = uri.scheme_str().filter(|it| matches!(*it, "http" | "https"));
        let scheme = scheme.ok_or_else(invalid)?;
        let address = Address::parse(&format!("{scheme}://{authority}"), "", PORT);
        for (key, is_set) in [
            ("splunk-insecureskipverify", boolean(options, "splunk-insecureskipverify", false)?),
            ("splunk-caname", get("splunk-caname").is_some()),
            (
                "splunk-index-acknowledgment",
                boolean(options, "splunk-index-acknowledgment", false)?,
            ),
        ] {
            if is_set {
                return Err(OptionError::NotHere { key, driver: "splunk" });
            }
        }
        let value = |key: &'static str| OptionError::Value {
            key,
            value: options.get(key).cloned().unwrap_or_default(),
        };
        let format = match get("splunk-format") {
            None | Some("inline") => Format::Inline,
            Some("json") => Format::Json,
            Some("raw") => Format::Raw,
            Some(_) => return Err(value("splunk-format")),
        };
        let level = match get("splunk-gzip-level") {
            None => 6,
            Some(text) => {
                let level = text.parse().ok().filter(|level| *level <= 9);
                level.ok_or_else(|| value("splunk-gzip-level"))?
            }
        };
        let members = [
            ("source", "splunk-source"),
            ("sourcetype", "splunk-sourcetype"),
            ("index", "splunk-index"),
        ];
        let members =
            members.into_iter().filter_map(|(name, key)| Some((name, get(key)?.to_owned())));
        let path = uri.path().trim_end_matches('/');
        Ok(Self {
            address: address.ok_or_else(invalid)?,
            authority,
            path: if path.is_empty() { PATH.to_owned() } else { format!("{path}{PATH}") },
            token: Token::from_text(token.to_owned()),
            ca_file: get("splunk-capath").map(PathBuf::from),
            format,
            gzip: boolean(options, "splunk-gzip", false)?.then_some(level),
            verifies: boolean(options, "splunk-verify-connection", true)?,
            tag: tag::expand(options, &run.id, &run.about)?,
            members: members.collect(),
        })
    }
}

pub(super) struct Splunk {
    options: Options,
    run: RemoteRun,
    reach: Reach,
}

impl Splunk {
    pub(super) fn new(options: Options, run: RemoteRun, reach: Reach) -> Self {
        Self { options, run, reach }
    }

    fn event(&self, event: &LogEvent) -> Value {
        let source = match event.stream {
            StdStream::Stdout => "stdout",
            StdStream::Stderr => "stderr",
        };
        let Options { tag, format, members, .. } = &self.options;
        let described = |line: Value| {
            let mut told = json!({ "line": line, "source": source });
            if !tag.is_empty() {
                told["tag"] = tag.clone().into();
            }
            if !self.run.about.extra.is_empty() {
                told["attrs"] = json!(self.run.about.extra);
            }
            told
        };
        let told = match format {
            Format::Inline => described(event.text.clone().into()),
            Format::Json => {
                let read = serde_json::from_str::<Value>(&event.text);
                described(read.unwrap_or_else(|_| event.text.clone().into()))
            }
            Format::Raw => {
                let extra =
                    self.run.about.extra.iter().map(|(key, value)| format!("{key}={value} "));
                let extra: String = extra.collect();
                let tag = if tag.is_empty() { String::new() } else { format!("{tag} ") };
                format!("{tag}{extra}{}", event.text).into()
            }
        };
        let (seconds, ms) = (event.at.0 / 1000, event.at.0 % 1000);
        let mut message = json!({
            "event": told,
            "time": format!("{seconds}.{ms:03}000"),
            "host": self.run.about.host,
        });
        for (name, value) in members {
            message[*name] = value.clone().into();
        }
        message
    }

    async fn ask(&self, method: Method, body: Vec<u8>) -> Result<(), SinkError> {
        let address = self.options.address.to_string();
        let unreachable = |why| SinkError::Unreachable { address: address.clone(), why };
        let asking = self.exchange(method, body);
        let answered = match tokio::time::timeout(ANSWER, asking).await {
            Ok(answered) => answered.map_err(unreachable)?,
            Err(_) => return Err(unreachable(io::Error::from(io::ErrorKind::TimedOut))),
        };
        let (status, text) = answered;
        match status {
            200..=299 => Ok(()),
            408 | 429 | 500..=599 => {
                let why = io::Error::other(format!("it answered {status}: {text}"));
                Err(unreachable(why))
            }
            _ => Err(SinkError::Refused { address, status, text }),
        }
    }

    async fn exchange(&self, method: Method, body: Vec<u8>) -> io::Result<(u16, String)> {
        let Options { address, ca_file, authority, path, token, gzip, .. } = &self.options;
        let stream = match connect::open(address, &self.reach, ca_file.as_deref()).await? {
            Open::Stream(stream) => stream,
            Open::Udp(_) | Open::Unixgram(_) => {
                return Err(io::Error::other("splunk is spoken to by HTTP"));
            }
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let mut request = Request::builder()
            .method(method)
            .uri(path.as_str())
            .header(header::HOST, authority.as_str())
            .header(header::AUTHORIZATION, format!("Splunk {}", token.reveal()))
            .header(header::CONTENT_TYPE, "application/json");
        let body = match gzip {
            Some(level) if !body.is_empty() => {
                request = request.header(header::CONTENT_ENCODING, "gzip");
                let mut encoder = GzEncoder::new(Vec::new(), Compression::new(*level));
                encoder.write_all(&body)?;
                encoder.finish()?
            }
            Some(_) | None => body,
        };
        let request = request.body(Full::new(Bytes::from(body))).map_err(io::Error::other)?;
        let asked = async {
            let answer = sender.send_request(request).await.map_err(io::Error::other)?;
            let status = answer.status().as_u16();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
            let bytes = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            let text: String = String::from_utf8_lossy(&bytes).chars().take(300).collect();
            Ok((status, text))
        };
        // It ends with the answer at the latest; what went wrong with it is told to who asks.
        let carried = async {
            drop(connection.await);
            std::future::pending::<std::convert::Infallible>().await
        };
        tokio::select! {
            answered = asked => answered,
            never = carried => match never {},
        }
    }
}

impl Sink for Splunk {
    fn send<'a>(&'a mut self, events: &'a [LogEvent]) -> BoxFuture<'a, Result<(), SinkError>> {
        let body: String = events.iter().map(|event| self.event(event).to_string()).collect();
        Box::pin(async move { self.ask(Method::POST, body.into_bytes()).await })
    }

    fn check(&mut self) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            if self.options.verifies { self.ask(Method::OPTIONS, Vec::new()).await } else { Ok(()) }
        })
    }
}

#[cfg(test)]
mod tests {
    use longshore_types::Timestamp;

    use super::*;
    use crate::logdriver::Reach as Far;
    use crate::logdriver::remote::tag::RunAbout;

    fn run(pairs: &[(&str, &str)]) -> RemoteRun {
        let url = [("splunk-url", "https://logs.lan:8088"), ("splunk-token", "t")];
        let all = url.iter().chain(pairs);
        let options = all.map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let about = RunAbout { host: "box".into(), ..RunAbout::default() };
        RemoteRun { id: "0011223344556677".into(), about, options }
    }

    fn event(pairs: &[(&str, &str)], text: &str) -> Value {
        let run = run(pairs);
        let splunk = Splunk::new(Options::read(&run).unwrap(), run, Reach::default());
        let (at, stream) = (Timestamp(1_500_250), StdStream::Stderr);
        splunk.event(&LogEvent { at, text: text.into(), reach: Far::default(), stream })
    }

    #[test]
    fn an_event_has_its_line_as_text_as_json_or_raw() {
        let inline = event(&[("splunk-index", "main")], "hello");
        let told = json!({"line": "hello", "source": "stderr", "tag": "001122334455"});
        let expected =
            json!({"event": told, "time": "1500.250000", "host": "box", "index": "main"});
        assert_eq!(inline, expected);
        let read = event(&[("splunk-format", "json"), ("tag", "")], r#"{"a": 1}"#);
        assert_eq!(read["event"], json!({"line": {"a": 1}, "source": "stderr"}));
        let raw = event(&[("splunk-format", "raw"), ("tag", "web")], "hello");
        assert_eq!(raw["event"], "web hello");
    }

    #[test]
    fn wrong_options_are_named_and_the_token_is_not_shown() {
        for (key, value) in [
            ("splunk-format", "xml"),
            ("splunk-gzip-level", "10"),
            ("splunk-insecureskipverify", "true"),
            ("splunk-url", "ftp://x"),
        ] {
            let error = Options::read(&run(&[(key, value)])).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
        let options = Options::read(&run(&[("splunk-token", "hidden")])).unwrap();
        assert!(!format!("{options:?}").contains("hidden"));
    }
}
