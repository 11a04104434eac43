//! What is asked of the service itself: its quotas, and its TLS policies.

use aws_wire::{ApiError, Caller};
use elb_api as api;

use crate::Elb;
use crate::errors::Refusal;
use crate::limits::QUOTAS;
use crate::pages::page;

const TLS13_CIPHERS: &[&str] =
    &["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"];
/// Those of TLS 1.2 that balancers have: with forward secrecy and authenticated encryption.
const TLS12_CIPHERS: &[&str] = &[
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
];

/// Names of policies, and whether TLS 1.2 and TLS 1.3 are among what they allow. Protocols and ciphers weaker than
/// these are in no policy here, whatever its name allows at Amazon. In the order of their names, which pages need.
const POLICIES: &[(&str, bool, bool)] = &[
    ("ELBSecurityPolicy-2015-05", true, false),
    ("ELBSecurityPolicy-2016-08", true, false),
    ("ELBSecurityPolicy-FS-1-1-2019-08", true, false),
    ("ELBSecurityPolicy-FS-1-2-2019-08", true, false),
    ("ELBSecurityPolicy-FS-1-2-Res-2019-08", true, false),
    ("ELBSecurityPolicy-FS-1-2-Res-2020-10", true, false),
    ("ELBSecurityPolicy-FS-2018-06", true, false),
    ("ELBSecurityPolicy-TLS-1-0-2015-04", true, false),
    ("ELBSecurityPolicy-TLS-1-1-2017-01", true, false),
    ("ELBSecurityPolicy-TLS-1-2-2017-01", true, false),
    ("ELBSecurityPolicy-TLS-1-2-Ext-2018-06", true, false),
    ("ELBSecurityPolicy-TLS13-1-0-2021-06", true, true),
    ("ELBSecurityPolicy-TLS13-1-1-2021-06", true, true),
    ("ELBSecurityPolicy-TLS13-1-2-2021-06", true, true),
    ("ELBSecurityPolicy-TLS13-1-2-Ext1-2021-06", true, true),
    ("ELBSecurityPolicy-TLS13-1-2-Ext2-2021-06", true, true),
    ("ELBSecurityPolicy-TLS13-1-2-Res-2021-06", true, true),
    ("ELBSecurityPolicy-TLS13-1-3-2021-06", false, true),
];

/// The policy of a listener that is made without one.
pub(crate) const POLICY_DEFAULT: &str = "ELBSecurityPolicy-2016-08";

/// That there is such a policy.
pub(crate) fn check_policy(name: &str) -> Result<(), ApiError> {
    match POLICIES.iter().any(|(known, _, _)| *known == name) {
        true => Ok(()),
        false => Err(Refusal::NoSslPolicy(name.to_owned()).into()),
    }
}

pub(crate) async fn describe_ssl_policies(
    it: &Elb,
    caller: &Caller,
    input: api::DescribeSSLPoliciesInput,
) -> Result<api::DescribeSSLPoliciesOutput, ApiError> {
    it.read(caller, "elasticloadbalancing:DescribeSSLPolicies")?;
    let names = input.names.unwrap_or_default();
    let is_known = |name: &String| POLICIES.iter().any(|(known, _, _)| known == name);
    if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
        return Err(Refusal::NoSslPolicy(unknown.clone()).into());
    }
    let asked = POLICIES
        .iter()
        .filter(|(name, _, _)| names.is_empty() || names.iter().any(|each| each == name));
    let shown = asked.map(|(name, has_12, has_13)| {
        let protocols = [(*has_12, "TLSv1.2"), (*has_13, "TLSv1.3")];
        let protocols = protocols.iter().filter(|(has, _)| *has).map(|(_, it)| (*it).to_owned());
        let ciphers = [(*has_13, TLS13_CIPHERS), (*has_12, TLS12_CIPHERS)];
        let ciphers = ciphers.iter().filter(|(has, _)| *has).flat_map(|(_, all)| all.iter());
        let ciphers = ciphers.zip(1..).map(|(name, priority)| api::Cipher {
            name: Some((*name).to_owned()),
            priority: Some(priority),
        });
        let policy = api::SslPolicy {
            ssl_protocols: Some(protocols.collect()),
            ciphers: Some(ciphers.collect()),
            name: Some((*name).to_owned()),
            supported_load_balancer_types: Some(vec![
                "application".to_owned(),
                "network".to_owned(),
            ]),
        };
        (*name, policy)
    });
    let page = page(input.marker, input.page_size, shown)?;
    Ok(api::DescribeSSLPoliciesOutput { ssl_policies: Some(page.items), next_marker: page.marker })
}

pub(crate) async fn describe_account_limits(
    it: &Elb,
    caller: &Caller,
    input: api::DescribeAccountLimitsInput,
) -> Result<api::DescribeAccountLimitsOutput, ApiError> {
    it.read(caller, "elasticloadbalancing:DescribeAccountLimits")?;
    let limits = QUOTAS.iter().map(|(name, max)| {
        let limit = api::Limit { name: Some((*name).to_owned()), max: Some(max.to_string()) };
        (*name, limit)
    });
    let page = page(input.marker, input.page_size, limits)?;
    Ok(api::DescribeAccountLimitsOutput { limits: Some(page.items), next_marker: page.marker })
}
