//! The names by which services of AWS are principals.

/// Amazon's domains.
const DOMAINS: [&str; 2] = [".amazonaws.com", ".amazonaws.com.cn"];

/// What comes before the domain, of services that roles trust. Sorted. A service that is in this list may also be named in one
/// region: `states.eu-north-1`.
#[rustfmt::skip]
const SERVICES: &[&str] = &[
    "a2i", "access-analyzer", "access-grants.s3", "account", "acm", "acm-pca", "agentless.inspector2", "airflow",
    "airflow-env", "airflow-serverless", "alexa-appkit", "amplify", "amplifybackend", "aoss", "apidestinations.events",
    "apigateway", "app-integrations", "appconfig", "appfabric", "appflow", "application-autoscaling",
    "application-insights", "application-signals.cloudwatch", "application.opensearchservice", "application.qbusiness",
    "applicationinsights", "appmesh", "apprunner", "appstream", "appstream.application-autoscaling", "appsync", "aps",
    "arc-zonal-shift", "artifact", "athena", "auditmanager", "autoscaling", "autoscaling-plans",
    "aws-artifact-account-sync", "backup", "backup-gateway", "backup-search", "batch", "batchoperations.s3",
    "bcm-data-exports", "bedrock", "bedrock-agentcore", "billing", "billingconductor", "braket", "budgets",
    "build.apprunner", "cassandra", "cassandra.application-autoscaling", "ce", "channels.lex", "channels.lexv2",
    "chatbot", "chime", "cks.kms", "cleanrooms", "cleanrooms-ml", "cloud9", "clouddirectory", "cloudformation",
    "cloudfront", "cloudhsm", "cloudhsmv2", "cloudsearch", "cloudtrail", "cloudwatch", "cloudwatch-crossaccount",
    "codeartifact", "codebuild", "codecommit", "codeconnections", "codedeploy", "codeguru-profiler",
    "codeguru-reviewer", "codepipeline", "codestar", "codestar-connections", "codestar-notifications",
    "cognito-identity", "cognito-idp", "cognito-sync", "comprehend", "comprehend.application-autoscaling",
    "compute-optimizer", "config", "config-conforms", "config-multiaccountsetup", "connect", "connect-campaigns",
    "connector", "continuous-export.applicationdiscovery", "contributorinsights.dynamodb", "controltower",
    "cost-optimization-hub.bcm", "costalerts", "credentials.iot", "cur", "custom-resource.application-autoscaling",
    "custom.rds", "custom.rds-preview", "customer-profiles", "databrew", "datapipeline", "datasync", "datazone", "dax",
    "dcv", "deadline", "deepracer", "delivery.apigateway", "delivery.logs", "detective", "devicefarm", "devops-guru",
    "diode", "directconnect", "discovery", "dlm", "dms", "dms-data-migrations", "dms-fleet-advisor", "docdb-elastic",
    "drs", "ds", "dsql", "dynamodb", "dynamodb.application-autoscaling", "ebs", "ec2", "ec2-instance-connect",
    "ec2.application-autoscaling", "ec2fleet", "ec2scheduled", "ecr", "ecr-public", "ecs", "ecs-compute", "ecs-tasks",
    "ecs.application-autoscaling", "edgelambda", "eks", "eks-connector", "eks-fargate", "eks-fargate-pods",
    "eks-local-outpost", "eks-nodegroup", "elasticache", "elasticache.application-autoscaling", "elasticbeanstalk",
    "elasticfilesystem", "elasticloadbalancing", "elasticloadbalancingv2", "elasticmapreduce", "elastictranscoder",
    "email.cognito-idp", "emr-containers", "emr-serverless", "emrwal", "entityresolution", "es", "events", "evidently",
    "evs", "execute-api", "export.rds", "finspace", "finspace-databrew", "firehose", "fis", "fms", "forecast",
    "frauddetector", "freertos", "fsx", "gamelift", "globalaccelerator", "glue", "grafana", "greengrass",
    "groundstation", "guardduty", "health", "healthlake", "hooks.cloudformation", "iam", "identitystore",
    "imagebuilder", "importexport", "inspector", "inspector2", "internetmonitor", "invoicing", "iot", "iotanalytics",
    "iotdeviceadvisor", "iotevents", "iotfleetwise", "iotsitewise", "iotthingsgraph", "iottwinmaker", "iotwireless",
    "ipam", "ivs", "ivschat", "jellyfish", "kafka", "kafka.application-autoscaling", "kafkaconnect", "kendra",
    "kinesis", "kinesisanalytics", "kinesisreplication.dynamodb", "kinesisvideo", "kms", "lakeformation", "lambda",
    "lambda.application-autoscaling", "launchwizard", "lex", "lexv2", "license-management.marketplace",
    "license-manager", "lightsail", "location", "logger.cloudfront", "logs", "lookoutequipment", "lookoutmetrics",
    "lookoutvision", "m2", "machinelearning", "macie", "macie2", "mailmanager", "maintenance.elasticache",
    "maintenance.elasticbeanstalk", "malware-protection-plan.guardduty", "malware-protection.guardduty",
    "managedblockchain", "managedservices", "managedupdates.elasticbeanstalk", "marketplacecommerceanalytics",
    "mediaconnect", "mediaconvert", "medialive", "mediapackage", "mediapackage-vod", "mediapackagev2", "mediastore",
    "mediatailor", "medical-imaging", "member.org.stacksets.cloudformation", "memorydb", "metering-marketplace", "mgn",
    "migrationhub", "ml.opensearchservice", "mobile", "mobileanalytics", "mobilehub", "monitor.iotsitewise",
    "monitoring", "monitoring.rds", "mq", "multi-region.kms", "multiparty-approval", "neptune", "neptune-graph",
    "neptune.application-autoscaling", "network-firewall", "networkflowmonitor", "networking.apprunner",
    "networkmanager", "networkmonitor", "nimble", "notifications", "notificationscontacts", "nova-act", "oam",
    "observability.aoss", "observabilityadmin", "omics", "opensearchservice", "ops.apigateway", "ops.emr-serverless",
    "opsdatasync.ssm", "opsinsights.ssm", "opsworks", "opsworks-cm", "optimizationhub", "organizations", "osis",
    "osis-pipelines", "outposts", "panorama", "partnercentral", "payment-cryptography", "pcs",
    "permission-policy.lakeformation", "personalize", "pinpoint", "pipes", "pods.eks", "polly", "preview-inspector",
    "privatenetworks", "profile", "proton", "pullthroughcache.ecr", "q", "q.apprunner", "qapps", "qbusiness", "qldb",
    "quicksight", "ram", "rds", "rds-preview", "rds.application-autoscaling", "redshift", "redshift-data",
    "redshift-serverless", "refactor-spaces", "rekognition", "replication.dynamodb", "replication.ecr",
    "replicator.lambda", "reporting.trustedadvisor", "repostspace", "resiliencehub", "resource-explorer-2",
    "resource-groups", "resources.cloudformation", "robomaker", "rolesanywhere", "route53",
    "route53-application-recovery-controller", "route53-recovery-control-config", "route53domains", "route53resolver",
    "rum", "s3", "s3-outposts", "sagemaker", "sagemaker.application-autoscaling", "savingsplans", "scheduler",
    "scheduler.redshift", "schemas", "scn", "scraper.aps", "secretsmanager", "security-ir", "securityhub",
    "securitylake", "serverlessrepo", "servicecatalog", "servicecatalog-appregistry", "servicediscovery",
    "servicequotas", "ses", "shield", "signer", "signin", "simspaceweaver", "sms", "sms-voice", "snowball", "sns",
    "social-messaging", "spot", "spotfleet", "sqlworkbench", "sqs", "ssm", "ssm-guiconnect", "ssm-incidents",
    "ssm-quicksetup", "ssm-sap", "sso", "stacksets.cloudformation", "states", "storage-lens.s3", "storagegateway",
    "streams.metrics.cloudwatch", "sts", "support", "supportapp", "swf", "synthetics", "tagging", "tagpolicies.tag",
    "tasks.apprunner", "textract", "timestream", "timestream-influxdb", "transcribe", "transcribe.streaming",
    "transfer", "transitgateway", "translate", "translate.application-autoscaling", "trustedadvisor", "tts",
    "user-subscriptions", "verified-access", "verifiedpermissions", "vmie", "voiceid", "vpc-flow-logs", "vpc-lattice",
    "vpcorigin.cloudfront", "waf", "waf-regional", "wafv2", "wellarchitected", "wisdom", "workdocs", "worklink",
    "workmail", "workspaces", "workspaces-web", "workspaces.application-autoscaling", "xray",
];

/// `eu-north-1`, `us-gov-west-1`.
fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let is_word = |part: &&str| !part.is_empty() && part.bytes().all(|it| it.is_ascii_lowercase());
    match parts.split_last() {
        Some((number, words)) => {
            let is_number = !number.is_empty() && number.bytes().all(|it| it.is_ascii_digit());
            (2..=3).contains(&words.len()) && words.iter().all(is_word) && is_number
        }
        None => false,
    }
}

/// Whether it is the name of a service of AWS, of all regions or of one.
pub(crate) fn is_service(name: &str) -> bool {
    let label = DOMAINS.iter().find_map(|domain| name.strip_suffix(domain));
    let Some(label) = label else { return false };
    let is_known = |label: &str| SERVICES.contains(&label);
    let of_one_region =
        || label.rsplit_once('.').is_some_and(|(it, at)| is_region(at) && is_known(it));
    is_known(label) || of_one_region()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_told_from_what_looks_like_one() {
        for name in [
            "ecs-tasks.amazonaws.com",
            "ec2.amazonaws.com.cn",
            "states.us-east-1.amazonaws.com",
            "logs.us-gov-west-1.amazonaws.com",
            "ecs.application-autoscaling.amazonaws.com",
            "pods.eks.amazonaws.com",
            "vpc-flow-logs.amazonaws.com",
            "monitoring.rds.amazonaws.com",
            "osis-pipelines.amazonaws.com",
        ] {
            assert!(is_service(name), "{name}");
        }
        for name in [
            "ecs-task.amazonaws.com",
            "ecs-tasks.amazonaws.co",
            "tasks.ecs.amazonaws.com",
            "foo.bar",
            "amazonaws.com",
            ".amazonaws.com",
            "states.us-east.amazonaws.com",
            "ecs-tasks.amazonaws.com.",
        ] {
            assert!(!is_service(name), "{name}");
        }
    }
}
