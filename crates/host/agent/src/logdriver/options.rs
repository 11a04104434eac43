//! The options of the log drivers, checked as Docker checks them.

use std::collections::BTreeMap;

use regex::bytes::Regex;

use super::remote::tag;
use super::{RunLog, SPOOL_BYTES_MAX, wanted_of_container};
use crate::engine::parse_size;

const KNOWN: [&str; 16] = [
    "awslogs-create-group",
    "awslogs-create-stream",
    "awslogs-credentials-endpoint",
    "awslogs-datetime-format",
    "awslogs-endpoint",
    "awslogs-force-flush-interval-seconds",
    "awslogs-format",
    "awslogs-group",
    "awslogs-max-buffered-events",
    "awslogs-multiline-pattern",
    "awslogs-region",
    "awslogs-stream",
    "awslogs-stream-prefix",
    "max-buffer-size",
    "mode",
    "tag",
];
const KNOWN_JSON: [&str; 10] = [
    "compress",
    "env",
    "env-regex",
    "labels",
    "labels-regex",
    "max-buffer-size",
    "max-file",
    "max-size",
    "mode",
    "tag",
];
const NON_BLOCKING_BYTES: u64 = 10 << 20;
const SPOOL_BYTES_MIN: u64 = 2 << 20;
const FORCE_FLUSH_S: u64 = 5;
/// What a json-file log is held to if nobody said a size.
const JSON_BYTES_DEFAULT: u64 = 32 << 20;

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogTarget {
    pub group: String,
    pub stream: String,
    /// Not the region's own.
    pub endpoint: Option<String>,
}

/// What is wrong with the options of a log driver, in Docker's words.
#[derive(Debug, thiserror::Error)]
pub enum OptionError {
    #[error("unknown log opt '{key}' for {driver} log driver")]
    Unknown { key: String, driver: &'static str },
    #[error("must specify a value for log opt '{key}'")]
    Missing { key: &'static str },
    #[error("must specify a positive integer for log opt '{key}'")]
    NotPositive { key: &'static str },
    #[error("must specify valid value for log opt '{key}': {value}")]
    NotABoolean { key: &'static str, value: String },
    #[error("invalid value for {key}: {value}")]
    NotASize { key: &'static str, value: String },
    #[error(
        "you cannot configure log opt 'awslogs-datetime-format' and 'awslogs-multiline-pattern' at the same time"
    )]
    TwoPatterns,
    #[error("awslogs could not parse log opt '{key}' \"{pattern}\": {why}")]
    Pattern { key: &'static str, pattern: String, why: regex::Error },
    #[error("log opt 'awslogs-datetime-format': unknown directive %{directive}")]
    UnknownDirective { directive: char },
    #[error("log opt 'awslogs-datetime-format' ends with a bare %")]
    NoDirective,
    #[error("compress cannot be true when max-file is less than 2 or max-size is not set")]
    NothingToCompress,
    #[error("max-file cannot be less than 1: {value}")]
    TooFewFiles { value: String },
    #[error("cannot set max-file without max-size")]
    FilesWithoutSize,
    #[error("invalid value for log opt '{key}': {value}")]
    Value { key: &'static str, value: String },
    #[error("{key} should be in form proto://address, got {value}")]
    Address { key: &'static str, value: String },
    #[error("log opt '{key}' of the {driver} log driver is not available on this host")]
    NotHere { key: &'static str, driver: &'static str },
    #[error("failed to parse log tag: {template}")]
    Tag { template: String },
    #[error("logger: driver mode \"{value}\" is not supported")]
    Mode { value: String },
    #[error("logger: max-buffer-size option is only supported with mode=non-blocking")]
    BufferWhileBlocking,
}

#[derive(Clone, Debug)]
pub(super) struct AwslogsOptions {
    pub(super) target: LogTarget,
    pub(super) creates_group: bool,
    pub(super) creates_stream: bool,
    /// A line that it matches begins an event.
    pub(super) event_start: Option<Regex>,
    pub(super) force_flush_ms: u64,
}

impl AwslogsOptions {
    pub(super) fn read(log: &RunLog) -> Result<Self, OptionError> {
        let options = &log.options();
        refuse_unknown(options, &KNOWN, "awslogs")?;
        mode(options)?;
        let get = |key: &str| options.get(key).map(String::as_str).filter(|text| !text.is_empty());
        let group = get("awslogs-group").ok_or(OptionError::Missing { key: "awslogs-group" })?;
        let prefixed = |prefix: &str| format!("{prefix}/{}/{}", log.container, log.task.id);
        let stream = get("awslogs-stream")
            .map(str::to_owned)
            .or(get("awslogs-stream-prefix").map(prefixed))
            .or(get("tag").filter(|tag| !tag.contains("{{")).map(str::to_owned))
            .unwrap_or_else(|| log.runtime_id.clone());
        let event_start = match (get("awslogs-datetime-format"), get("awslogs-multiline-pattern")) {
            (Some(_), Some(_)) => return Err(OptionError::TwoPatterns),
            (Some(format), None) => {
                Some(compile("awslogs-datetime-format", &datetime_regex(format)?)?)
            }
            (None, Some(pattern)) => Some(compile("awslogs-multiline-pattern", pattern)?),
            (None, None) => None,
        };
        let seconds = match get("awslogs-force-flush-interval-seconds") {
            None => FORCE_FLUSH_S,
            Some(text) => {
                text.parse().ok().filter(|n| *n > 0).ok_or(OptionError::NotPositive {
                    key: "awslogs-force-flush-interval-seconds",
                })?
            }
        };
        Ok(Self {
            target: LogTarget {
                group: group.to_owned(),
                stream,
                endpoint: get("awslogs-endpoint").map(str::to_owned),
            },
            creates_group: boolean(options, "awslogs-create-group", false)?,
            creates_stream: boolean(options, "awslogs-create-stream", true)?,
            event_start,
            force_flush_ms: seconds.saturating_mul(1000),
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JsonOptions {
    pub(super) bytes_max: u64,
    pub(super) files_max: u32,
    /// Whether files that are full are kept compressed.
    pub(super) compresses: bool,
    /// What each line says of its container.
    pub(super) attributes: BTreeMap<String, String>,
}

impl JsonOptions {
    pub(super) fn read(log: &RunLog) -> Result<Self, OptionError> {
        let options = &log.options();
        refuse_unknown(options, &KNOWN_JSON, "json-file")?;
        mode(options)?;
        let files_max = match options.get("max-file") {
            None => 1,
            Some(text) => text
                .parse()
                .ok()
                .filter(|n| *n > 0)
                .ok_or_else(|| OptionError::TooFewFiles { value: text.clone() })?,
        };
        let bytes_max = match options.get("max-size").map(String::as_str) {
            None => JSON_BYTES_DEFAULT,
            Some("-1") => u64::MAX,
            Some(text) => parse_size(text)
                .filter(|size| *size > 0)
                .ok_or_else(|| OptionError::NotASize { key: "max-size", value: text.to_owned() })?,
        };
        if files_max > 1 && !options.contains_key("max-size") {
            return Err(OptionError::FilesWithoutSize);
        }
        let compresses = boolean(options, "compress", false)?;
        if compresses && (files_max < 2 || bytes_max == u64::MAX) {
            return Err(OptionError::NothingToCompress);
        }
        Ok(Self { bytes_max, files_max, compresses, attributes: attributes(log, options)? })
    }
}

/// The labels and variables that are wanted, and the tag if there is one.
fn attributes(
    log: &RunLog,
    options: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, OptionError> {
    let about = log.about.clone().unwrap_or_default();
    // What fits them was found when the container was described; patterns that nobody can read are said here.
    wanted_of_container(options, &BTreeMap::new(), &BTreeMap::new())?;
    let tag = options.contains_key("tag").then(|| tag::expand(options, &log.runtime_id, &about));
    let mut attributes = about.extra;
    if let Some(tag) = tag.transpose()? {
        attributes.insert("tag".to_owned(), tag);
    }
    Ok(attributes)
}

pub(super) fn refuse_unknown(
    options: &BTreeMap<String, String>,
    known: &[&str],
    driver: &'static str,
) -> Result<(), OptionError> {
    match options.keys().find(|key| !known.contains(&&***key)) {
        Some(key) => Err(OptionError::Unknown { key: key.clone(), driver }),
        None => Ok(()),
    }
}

pub(super) fn boolean(
    options: &BTreeMap<String, String>,
    key: &'static str,
    default: bool,
) -> Result<bool, OptionError> {
    match options.get(key).map(String::as_str) {
        None | Some("") => Ok(default),
        Some("true" | "True" | "TRUE" | "t" | "T" | "1") => Ok(true),
        Some("false" | "False" | "FALSE" | "f" | "F" | "0") => Ok(false),
        Some(text) => Err(OptionError::NotABoolean { key, value: text.to_owned() }),
    }
}

/// True for non-blocking.
pub(super) fn mode(options: &BTreeMap<String, String>) -> Result<bool, OptionError> {
    let is_non_blocking = match options.get("mode").map(String::as_str) {
        None | Some("" | "non-blocking") => true,
        Some("blocking") => false,
        Some(text) => return Err(OptionError::Mode { value: text.to_owned() }),
    };
    if let Some(text) = options.get("max-buffer-size") {
        if !is_non_blocking {
            return Err(OptionError::BufferWhileBlocking);
        }
        let invalid = || OptionError::NotASize { key: "max-buffer-size", value: text.clone() };
        parse_size(text).ok_or_else(invalid)?;
    }
    Ok(is_non_blocking)
}

/// How much output may lie on disk unshipped. In non-blocking mode the definition says so, within what a
/// host can be asked for.
pub(super) fn spool_bytes_max(options: &BTreeMap<String, String>) -> u64 {
    match mode(options) {
        Ok(true) => {
            let asked = options.get("max-buffer-size").and_then(|text| parse_size(text));
            asked.unwrap_or(NON_BLOCKING_BYTES).clamp(SPOOL_BYTES_MIN, SPOOL_BYTES_MAX)
        }
        Ok(false) | Err(_) => SPOOL_BYTES_MAX,
    }
}

fn compile(key: &'static str, pattern: &str) -> Result<Regex, OptionError> {
    let pattern = pattern.to_owned();
    Regex::new(&pattern).map_err(|why| OptionError::Pattern { key, pattern, why })
}

/// The strftime directives that Docker knows, as what they look like in a line.
fn datetime_regex(format: &str) -> Result<String, OptionError> {
    let mut pattern = String::new();
    let mut rest = format.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            pattern.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
            continue;
        }
        let directive = rest.next();
        pattern.push_str(match directive {
            Some('A') => r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day",
            Some('a') => r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)",
            Some('B') => {
                r"(?:January|February|March|April|May|June|July|August|September|October|November|December)"
            }
            Some('b') => r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)",
            Some('Y') => r"\d{4}",
            Some('y' | 'd' | 'm' | 'H' | 'I' | 'M' | 'S' | 'U' | 'W') => r"\d{2}",
            Some('e') => r"[\d ]\d",
            Some('f') => r"\d{6}",
            Some('L') => r"\d{3}",
            Some('j') => r"\d{3}",
            Some('w') => r"[0-6]",
            Some('p') => r"[AaPp][Mm]",
            Some('s') => r"\d{1,11}",
            Some('Z') => r"[A-Z]{1,5}",
            Some('z') => r"[+-]\d{4}",
            Some('T') => r"\d{2}:\d{2}:\d{2}",
            Some('F') => r"\d{4}-\d{2}-\d{2}",
            Some('%') => "%",
            Some(other) => {
                return Err(OptionError::UnknownDirective { directive: other });
            }
            None => return Err(OptionError::NoDirective),
        });
    }
    Ok(pattern)
}

#[cfg(test)]
pub(super) mod tests {
    use longshore_types::Token;

    use super::super::{LogError, RunAbout, SinkError};
    use super::*;
    use crate::spec::{LogDriver, LogSpec};

    pub(in crate::logdriver) fn log(options: &[(&str, &str)]) -> RunLog {
        let pairs = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        RunLog {
            id: "run".into(),
            task: "arn:aws:ecs:us-east-1:000000000000:task/demo/00112233445566778899aabbccddeeff"
                .parse()
                .unwrap(),
            container: "web".into(),
            runtime_id: "00112233445566778899aabbccddeeff-0000000001".into(),
            spec: LogSpec {
                driver: LogDriver::Awslogs,
                execution_role: false,
                options: pairs.collect(),
            },
            is_tty: false,
            secret_options: BTreeMap::new(),
            about: None,
        }
    }

    #[test]
    fn the_stream_is_named_as_ecs_names_it() {
        let stream = |options: &[(&str, &str)]| {
            let mut all = vec![("awslogs-group", "g")];
            all.extend_from_slice(options);
            AwslogsOptions::read(&log(&all)).unwrap().target.stream
        };
        let prefixed = "ecs/web/00112233445566778899aabbccddeeff";
        assert_eq!(stream(&[("awslogs-stream-prefix", "ecs")]), prefixed);
        assert_eq!(stream(&[("awslogs-stream", "mine"), ("awslogs-stream-prefix", "ecs")]), "mine");
        assert_eq!(stream(&[]), "00112233445566778899aabbccddeeff-0000000001");
    }

    #[test]
    fn wrong_options_are_refused_in_dockers_words() {
        let error =
            |options: &[(&str, &str)]| AwslogsOptions::read(&log(options)).unwrap_err().to_string();
        assert_eq!(error(&[]), "must specify a value for log opt 'awslogs-group'");
        let group = ("awslogs-group", "g");
        assert_eq!(error(&[group, ("x", "")]), "unknown log opt 'x' for awslogs log driver");
        assert!(error(&[group, ("mode", "maybe")]).contains("maybe"));
        assert!(error(&[group, ("awslogs-multiline-pattern", "(")]).contains("could not parse"));
        let both = [group, ("awslogs-multiline-pattern", "a"), ("awslogs-datetime-format", "%Y")];
        assert!(error(&both).contains("at the same time"));
    }

    #[test]
    fn values_that_are_kept_elsewhere_are_in_no_error() {
        let mut run = log(&[]);
        let whole = r#"{"token":"geheim"}"#;
        run.secret_options = [("splunk-url", whole), ("gelf-address", "udp://logs.lan:1")]
            .map(|(key, text)| (key.to_owned(), Token::from_text(text.to_owned())))
            .into();
        let value = whole.to_owned();
        let error = OptionError::Address { key: "splunk-url", value };
        let said = run.without_secrets(error.into()).to_string();
        assert_eq!(said, "splunk-url should be in form proto://address, got ***");
        let why = std::io::Error::other("away");
        let error = SinkError::Unreachable { address: "udp://logs.lan:1".to_owned(), why };
        let said = run.without_secrets(LogError::Remote(error)).to_string();
        assert!(said.starts_with("failed to reach") && !said.contains("logs.lan"), "{said}");
        let plain = LogError::Option(OptionError::Missing { key: "gelf-address" });
        assert!(matches!(run.without_secrets(plain), LogError::Option(_)));
    }

    #[test]
    fn a_date_format_finds_its_dates() {
        let regex = compile("x", &datetime_regex("[%b %d, %Y %H:%M:%S]").unwrap()).unwrap();
        assert!(regex.is_match(b"[May 01, 2017 19:00:01] begin"));
        assert!(!regex.is_match(b"  at frame 3"));
        assert!(datetime_regex("%Q").is_err());
    }

    #[test]
    fn a_json_file_needs_a_size_to_be_rotated_and_more_than_one_to_be_compressed() {
        let read = |pairs: &[(&str, &str)]| JsonOptions::read(&log(pairs));
        let (three, size) = (("max-file", "3"), ("max-size", "10k"));
        assert!(read(&[three]).is_err());
        let attributes = BTreeMap::new();
        let options =
            JsonOptions { bytes_max: 10 << 10, files_max: 3, compresses: false, attributes };
        assert_eq!(read(&[three, size]).unwrap(), options);
        assert_eq!(read(&[three, size, ("compress", "false")]).unwrap(), options);
        let options = JsonOptions { compresses: true, ..options };
        assert_eq!(read(&[three, size, ("compress", "true")]).unwrap(), options);
        let compress = ("compress", "true");
        for wrong in [&[compress][..], &[size, compress], &[size, ("max-file", "1"), compress]] {
            let error = read(wrong).unwrap_err();
            assert!(matches!(error, OptionError::NothingToCompress), "{error}");
        }
        assert!(read(&[three, size, ("compress", "maybe")]).is_err());
    }

    #[test]
    fn lines_of_a_json_file_say_of_their_container_what_options_ask_for() {
        let read = |pairs: &[(&str, &str)]| {
            let extra = [("team".to_owned(), "x".to_owned())].into();
            let about = RunAbout { name: "ecs-web".into(), extra, ..RunAbout::default() };
            JsonOptions::read(&RunLog { about: Some(about), ..log(pairs) })
        };
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let attributes = |pairs: &[(&str, &str)]| read(pairs).unwrap().attributes;
        assert_eq!(attributes(&[("labels", "team")]), [pair("team", "x")].into());
        let both = [pair("tag", "ecs-web/001122334455"), pair("team", "x")];
        assert_eq!(attributes(&[("tag", "{{.Name}}/{{.ID}}")]), both.into());
        for wrong in [("tag", "{{.None}}"), ("labels-regex", "("), ("env-regex", "(")] {
            assert!(read(&[wrong]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn no_definition_may_have_the_host_keep_more_output_than_the_most() {
        let max = |pairs: &[(&str, &str)]| spool_bytes_max(&log(pairs).spec.options);
        assert_eq!(max(&[]), NON_BLOCKING_BYTES);
        assert_eq!(max(&[("max-buffer-size", "1")]), SPOOL_BYTES_MIN);
        assert_eq!(max(&[("max-buffer-size", "900g")]), SPOOL_BYTES_MAX);
        assert_eq!(max(&[("mode", "blocking")]), SPOOL_BYTES_MAX);
    }
}
