//! Every limit of the service, with Amazon's numbers: what DescribeAccountLimits answers, and what is refused.

pub(crate) const APPLICATION_BALANCERS_MAX: usize = 50;
pub(crate) const NETWORK_BALANCERS_MAX: usize = 50;
pub(crate) const GROUPS_MAX: usize = 3_000;
pub(crate) const LISTENERS_MAX: usize = 50;
/// Of a balancer, its listeners' default rules not counted.
pub(crate) const RULES_MAX: usize = 100;
pub(crate) const TARGETS_OF_GROUP_MAX: usize = 400;
/// Targets that go in one decision, which writes no more than 500 rows: each may write its task's besides.
pub(crate) const TARGETS_AT_ONCE_MAX: usize = 200;
pub(crate) const GROUPS_OF_ACTION_MAX: usize = 5;
pub(crate) const SECURITY_GROUPS_MAX: usize = 5;
/// That a listener shows besides its default one.
pub(crate) const CERTIFICATES_MAX: usize = 25;
pub(crate) const TAGS_MAX: usize = 50;
/// ARNs that one description names.
pub(crate) const NAMED_MAX: usize = 20;
pub(crate) const ATTRIBUTES_AT_ONCE_MAX: usize = 20;
pub(crate) const NAME_CHARS_MAX: usize = 32;
pub(crate) const PAGE_MAX: usize = 400;
pub(crate) const PRIORITY_MAX: i32 = 50_000;
pub(crate) const WEIGHT_MAX: i32 = 999;
/// Values of one rule, over all its conditions.
pub(crate) const RULE_VALUES_MAX: usize = 5;
/// `*` and `?` of one rule.
pub(crate) const RULE_WILDCARDS_MAX: usize = 6;
/// Balancers' processes whose reports are kept, besides that of the region's own machine.
pub(crate) const NODES_MAX: usize = 256;
/// Balancers that change places in one batch.
pub(crate) const PLACED_ROWS_MAX: usize = 200;
/// Rows of one batch that reports make.
pub(crate) const HEALTH_ROWS_MAX: usize = 400;

/// What is counted apart of one host: as many names as a process has.
pub(crate) const COUNTED_MAX: usize = 1_000;

/// Name and number of each quota.
pub(crate) const QUOTAS: &[(&str, usize)] = &[
    ("application-load-balancers", APPLICATION_BALANCERS_MAX),
    ("certificates-per-application-load-balancer", CERTIFICATES_MAX),
    ("certificates-per-network-load-balancer", CERTIFICATES_MAX),
    ("condition-values-per-alb-rule", RULE_VALUES_MAX),
    ("condition-wildcards-per-alb-rule", RULE_WILDCARDS_MAX),
    ("listeners-per-application-load-balancer", LISTENERS_MAX),
    ("listeners-per-network-load-balancer", LISTENERS_MAX),
    ("network-load-balancers", NETWORK_BALANCERS_MAX),
    ("rules-per-application-load-balancer", RULES_MAX),
    ("target-groups", GROUPS_MAX),
    ("target-groups-per-action-on-application-load-balancer", GROUPS_OF_ACTION_MAX),
    ("target-groups-per-action-on-network-load-balancer", GROUPS_OF_ACTION_MAX),
    ("targets-per-target-group", TARGETS_OF_GROUP_MAX),
];
