//! What a scanner printed, read: findings in our own form, or in Trivy's.
//!
//! Ours is `{"findings": [{"name", "severity", "description", "uri", "attributes": {…}}], "sourceUpdatedAt": seconds}`,
//! where only `name` is needed. Trivy's is what `--format json` prints: `{"Results": [{"Vulnerabilities": […]}]}`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limits::{FINDING_CHARS_MAX, FINDINGS_MAX};

/// In ECR's words, the worst first.
const SEVERITIES: [&str; 6] = ["CRITICAL", "HIGH", "MEDIUM", "LOW", "INFORMATIONAL", "UNDEFINED"];

/// Something that a scanner found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Finding {
    pub(crate) name: String,
    /// One of ECR's words.
    #[serde(default)]
    pub(crate) severity: String,
    #[serde(default)]
    pub(crate) description: Option<String>,
    #[serde(default)]
    pub(crate) uri: Option<String>,
    #[serde(default)]
    pub(crate) attributes: BTreeMap<String, String>,
}

/// What a scan found, the worst first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) findings: Vec<Finding>,
    /// As of when the scanner knows of vulnerabilities, in seconds since the epoch.
    #[serde(default, rename = "sourceUpdatedAt")]
    pub(crate) source_updated_at: Option<u64>,
}

/// Why an output is no report.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoReport {
    #[error("the scanner printed no JSON of findings: {0}")]
    Form(String),
    #[error("the scanner found more than {FINDINGS_MAX} things")]
    TooMany,
}

#[derive(Deserialize)]
struct Trivy {
    #[serde(rename = "Results", default)]
    results: Vec<TrivyResult>,
}

#[derive(Deserialize)]
struct TrivyResult {
    #[serde(rename = "Vulnerabilities", default)]
    vulnerabilities: Option<Vec<Vulnerability>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Vulnerability {
    #[serde(rename = "VulnerabilityID")]
    id: String,
    #[serde(default)]
    pkg_name: Option<String>,
    #[serde(default)]
    installed_version: Option<String>,
    #[serde(default)]
    fixed_version: Option<String>,
    #[serde(default)]
    severity: Option<String>,
    #[serde(default)]
    title: Option<String>,
    #[serde(default)]
    description: Option<String>,
    #[serde(default, rename = "PrimaryURL")]
    url: Option<String>,
}

impl From<Vulnerability> for Finding {
    fn from(found: Vulnerability) -> Self {
        let attributes = [
            ("package_name", found.pkg_name),
            ("package_version", found.installed_version),
            ("fixed_version", found.fixed_version),
        ];
        let said = attributes.into_iter().filter_map(|(key, value)| {
            Some((key.to_owned(), value.filter(|value| !value.is_empty())?))
        });
        Self {
            name: found.id,
            severity: found.severity.unwrap_or_default(),
            description: found.description.or(found.title),
            uri: found.url,
            attributes: said.collect(),
        }
    }
}

/// Reads what a scanner printed. Which form it is, one member says, and then all of it must be of that form: what is
/// half of one must not look like a report without findings.
pub(crate) fn read(output: &[u8]) -> Result<Report, NoReport> {
    let form = |error: serde_json::Error| NoReport::Form(error.to_string());
    let value: serde_json::Value = serde_json::from_slice(output).map_err(form)?;
    let has = |member: &str| value.get(member).is_some();
    let mut report = if has("findings") {
        serde_json::from_value(value).map_err(form)?
    } else if has("Results") || has("SchemaVersion") {
        let trivy: Trivy = serde_json::from_value(value).map_err(form)?;
        let results = trivy.results.into_iter();
        let found = results.flat_map(|result| result.vulnerabilities.unwrap_or_default());
        let findings = found.map(Finding::from).collect();
        Report { findings, source_updated_at: None }
    } else {
        return Err(NoReport::Form("it has neither findings nor Results".to_owned()));
    };
    if FINDINGS_MAX < report.findings.len() {
        return Err(NoReport::TooMany);
    }
    for finding in &mut report.findings {
        finding.severity = severity(&finding.severity).to_owned();
        shorten(&mut finding.name);
        finding.description.iter_mut().for_each(shorten);
        finding.uri.iter_mut().for_each(shorten);
        finding.attributes.values_mut().for_each(shorten);
    }
    let rank = |finding: &Finding| SEVERITIES.iter().position(|word| *word == finding.severity);
    report.findings.sort_by(|one, other| {
        (rank(one), &one.name, &one.attributes).cmp(&(rank(other), &other.name, &other.attributes))
    });
    Ok(report)
}

/// ECR's word for a severity.
fn severity(said: &str) -> &'static str {
    let said = said.to_ascii_uppercase();
    let known = SEVERITIES.iter().find(|word| **word == said).copied();
    known.unwrap_or(match said.as_str() {
        "NEGLIGIBLE" | "INFO" => "INFORMATIONAL",
        _ => "UNDEFINED",
    })
}

fn shorten(text: &mut String) {
    if let Some((at, _)) = text.char_indices().nth(FINDING_CHARS_MAX) {
        text.truncate(at);
    }
}

impl Report {
    /// How many findings there are of each severity that there is.
    pub(crate) fn counts(&self) -> BTreeMap<String, u32> {
        let mut counts = BTreeMap::new();
        for finding in &self.findings {
            *counts.entry(finding.severity.clone()).or_default() += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_form_is_read_and_the_worst_comes_first() {
        let printed = br#"{"sourceUpdatedAt": 5, "findings": [
            {"name": "CVE-2", "severity": "low", "uri": "https://x", "attributes": {"package_name": "a"}},
            {"name": "CVE-1"}, {"name": "CVE-3", "severity": "CRITICAL", "description": "bad"}]}"#;
        let report = read(printed).unwrap();
        let shown: Vec<_> = report.findings.iter().map(|it| (&*it.name, &*it.severity)).collect();
        assert_eq!(shown, [("CVE-3", "CRITICAL"), ("CVE-2", "LOW"), ("CVE-1", "UNDEFINED")]);
        assert_eq!(report.source_updated_at, Some(5));
        assert_eq!(report.counts()["LOW"], 1);
        let kept = serde_json::to_vec(&report).unwrap();
        assert_eq!(serde_json::from_slice::<Report>(&kept).unwrap(), report);
    }

    #[test]
    fn trivys_form_is_read() {
        let printed = br#"{"SchemaVersion": 2, "ArtifactName": "x", "Results": [
            {"Target": "t", "Class": "os-pkgs"},
            {"Target": "u", "Vulnerabilities": [{"VulnerabilityID": "CVE-2024-1", "PkgName": "openssl",
              "InstalledVersion": "3.0", "FixedVersion": "", "Severity": "HIGH", "Title": "t",
              "PrimaryURL": "https://avd.aquasec.com/nvd/cve-2024-1", "CVSS": {"nvd": {"V3Score": 7.5}}},
              {"VulnerabilityID": "CVE-2024-2", "Severity": "UNKNOWN"}]}]}"#;
        let report = read(printed).unwrap();
        let first = &report.findings[0];
        assert_eq!((&*first.name, &*first.severity), ("CVE-2024-1", "HIGH"));
        assert_eq!(first.attributes["package_name"], "openssl");
        assert!(!first.attributes.contains_key("fixed_version"));
        assert_eq!(report.findings[1].severity, "UNDEFINED");
        let clean = br#"{"SchemaVersion": 2, "ArtifactName": "x"}"#;
        assert_eq!(read(clean).unwrap().findings, []);
    }

    #[test]
    fn what_is_no_report_never_means_that_nothing_was_found() {
        for printed in
            [&b""[..], b"{}", b"[]", b"null", b"no", br#"{"findings": 1}"#, br#"{"findings":[{}]}"#]
        {
            assert!(matches!(read(printed), Err(NoReport::Form(_))), "{printed:?}");
        }
        let many = vec![r#"{"name":"a"}"#; FINDINGS_MAX + 1].join(",");
        assert_eq!(read(format!(r#"{{"findings":[{many}]}}"#).as_bytes()), Err(NoReport::TooMany));
    }
}
