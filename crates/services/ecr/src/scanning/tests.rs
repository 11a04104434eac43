//! Images that are scanned by a command, from the push to what is found.

use ecr_api::*;
use model::ManifestId;

use crate::testing::TestEcr;
use crate::testing::upstream::FakeUpstream;

const NAME: &str = "hub/web";
/// Says what lies where it was told, as a finding.
const SCANNER: &str = r#"cd "$LONGSHORE_IMAGE" && test -f oci-layout && digest=$(sed 's/.*"digest":"sha256:\([0-9a-f]*\)".*/\1/' index.json) &&
    test -f blobs/sha256/$digest && test -z "$LONGSHORE_ROOT_KEY" &&
    echo '{"findings":[{"name":"CVE-1","severity":"LOW"},{"name":"'$digest'","severity":"HIGH","attributes":{"package_name":"x"}}]}'"#;

struct World {
    ecr: TestEcr,
    id: ManifestId,
}

fn rules(
    kind: ScanType,
    rules: &[(ScanFrequency, &str)],
) -> PutRegistryScanningConfigurationRequest {
    let rules = rules.iter().map(|(frequency, filter)| RegistryScanningRule {
        scan_frequency: Some(frequency.clone()),
        repository_filters: Some(vec![ScanningRepositoryFilter {
            filter: Some((*filter).to_owned()),
            filter_type: Some(ScanningRepositoryFilterType::Wildcard),
        }]),
    });
    PutRegistryScanningConfigurationRequest { scan_type: Some(kind), rules: Some(rules.collect()) }
}

impl World {
    /// A region with a scanner, and an image that came to a repository that scans on push.
    async fn new(command: &str) -> Self {
        Self::with(command, true, None).await
    }

    /// The same with what the repository says of pushes, and a filter of a rule of the registry.
    async fn with(command: &str, scan_on_push: bool, filter: Option<&str>) -> Self {
        let world = TestEcr::with_config(|config| {
            config.image_scanner = Some(command.to_owned());
        });
        let upstream = FakeUpstream::new().await;
        let put = upstream.image("web", Some("1"), "layer");
        let root = world.root();
        let rule = CreatePullThroughCacheRuleRequest {
            ecr_repository_prefix: Some("hub".to_owned()),
            upstream_registry_url: Some(upstream.host.clone()),
            ..Default::default()
        };
        world.ecr.create_pull_through_cache_rule(&root, rule).await.unwrap();
        let repository = CreateRepositoryRequest {
            repository_name: Some(NAME.to_owned()),
            image_scanning_configuration: Some(ImageScanningConfiguration {
                scan_on_push: Some(scan_on_push),
            }),
            ..Default::default()
        };
        if let Some(filter) = filter {
            let put = rules(ScanType::Basic, &[(ScanFrequency::ScanOnPush, filter)]);
            world.ecr.put_registry_scanning_configuration(&root, put).await.unwrap();
        }
        world.ecr.create_repository(&root, repository).await.unwrap();
        let path = format!("/v2/{NAME}/manifests/1");
        assert_eq!(world.ask(&root, None, "GET", &path).await.0, 200);
        let id = ManifestId { repository: NAME.parse().unwrap(), digest: put.digest };
        Self { ecr: world, id }
    }

    async fn scan(&self, command: &str) {
        let account = self.ecr.root().account;
        self.ecr.ecr.scan(account, &self.id, command.to_owned()).await.unwrap();
    }

    async fn findings(
        &self,
        max: Option<i32>,
        token: Option<String>,
    ) -> DescribeImageScanFindingsResponse {
        let input = DescribeImageScanFindingsRequest {
            repository_name: Some(NAME.to_owned()),
            image_id: Some(self.image()),
            max_results: max,
            next_token: token,
            ..Default::default()
        };
        self.ecr.ecr.describe_image_scan_findings(&self.ecr.root(), input).await.unwrap()
    }

    fn image(&self) -> ImageIdentifier {
        ImageIdentifier { image_tag: Some("1".to_owned()), image_digest: None }
    }

    async fn start(&self) -> Result<ScanStatus, String> {
        let input = StartImageScanRequest {
            repository_name: Some(NAME.to_owned()),
            image_id: Some(self.image()),
            registry_id: None,
        };
        let caller = aws_wire::Caller {
            now: longshore_types::Clock::now(&*self.ecr.env),
            ..self.ecr.root()
        };
        let started = self.ecr.ecr.start_image_scan(&caller, input).await;
        let status = started.map_err(|error| error.code.into_owned())?.image_scan_status;
        Ok(status.unwrap().status.unwrap())
    }
}

fn status(answer: &DescribeImageScanFindingsResponse) -> (ScanStatus, String) {
    let status = answer.image_scan_status.clone().unwrap();
    (status.status.unwrap(), status.description.unwrap())
}

#[tokio::test]
async fn what_a_scanner_finds_in_a_pushed_image_is_shown_the_worst_first() {
    let world = World::new(SCANNER).await;
    let pending = world.findings(None, None).await;
    assert_eq!(status(&pending).0, ScanStatus::InProgress);
    assert!(pending.image_scan_findings.is_none());
    world.scan(SCANNER).await;
    let first = world.findings(Some(1), None).await;
    assert_eq!(status(&first).0, ScanStatus::Complete, "{:?}", status(&first).1);
    let found = first.image_scan_findings.unwrap();
    let worst = &found.findings.unwrap()[0];
    assert_eq!(worst.name.as_deref(), Some(&*world.id.digest.hex()));
    assert_eq!(worst.severity, Some(FindingSeverity::High));
    assert_eq!(found.finding_severity_counts.unwrap()["LOW"], 1);
    let rest = world.findings(Some(1), first.next_token).await;
    let rest = rest.image_scan_findings.unwrap().findings.unwrap();
    assert_eq!(rest[0].name.as_deref(), Some("CVE-1"));
    let input =
        DescribeImagesRequest { repository_name: Some(NAME.to_owned()), ..Default::default() };
    let images = world.ecr.ecr.describe_images(&world.ecr.root(), input).await.unwrap();
    let shown = images.image_details.unwrap().remove(0);
    let counts = shown.image_scan_findings_summary.unwrap().finding_severity_counts.unwrap();
    assert_eq!(counts["HIGH"], 1);
}

#[tokio::test]
async fn a_scan_that_fails_says_so_and_may_be_asked_for_again_at_once() {
    let world = World::new(SCANNER).await;
    world.scan("echo no json").await;
    let (state, why) = status(&world.findings(None, None).await);
    assert_eq!(state, ScanStatus::Failed);
    assert!(why.starts_with("the scanner printed no JSON of findings"), "{why}");
    assert_eq!(world.start().await, Ok(ScanStatus::InProgress));
    world.scan(SCANNER).await;
    assert_eq!(status(&world.findings(None, None).await).0, ScanStatus::Complete);
    assert_eq!(world.start().await, Err("LimitExceededException".to_owned()));
    world.ecr.env.advance_ms(24 * 3_600_000);
    assert_eq!(world.start().await, Ok(ScanStatus::InProgress));
}

#[tokio::test]
async fn a_scan_without_a_scanner_has_failed_and_its_findings_say_so() {
    let world = TestEcr::new();
    let root = world.root();
    let repository_name = Some("web".to_owned());
    let create =
        CreateRepositoryRequest { repository_name: repository_name.clone(), ..Default::default() };
    world.ecr.create_repository(&root, create).await.unwrap();
    let index = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    let mut put = PutImageRequest {
        repository_name: repository_name.clone(),
        image_manifest: Some(r#"{"schemaVersion":2,"manifests":[]}"#.to_owned()),
        image_tag: Some("1".to_owned()),
        ..Default::default()
    };
    let refused = world.ecr.put_image(&root, put.clone()).await.unwrap_err();
    assert_eq!(refused.code, "InvalidParameterException");
    assert!(refused.message.contains("mediatype not provided"), "{}", refused.message);
    put.image_manifest = Some(index.to_owned());
    world.ecr.put_image(&root, put).await.unwrap();
    let image_id = Some(ImageIdentifier { image_tag: Some("1".to_owned()), image_digest: None });
    let ask = DescribeImageScanFindingsRequest {
        repository_name: repository_name.clone(),
        image_id: image_id.clone(),
        ..Default::default()
    };
    let never = world.ecr.describe_image_scan_findings(&root, ask.clone()).await.unwrap_err();
    assert_eq!(never.code, "ScanNotFoundException");
    let start = StartImageScanRequest { repository_name, image_id, ..Default::default() };
    let started = world.ecr.start_image_scan(&root, start).await.unwrap().image_scan_status;
    let found = world.ecr.describe_image_scan_findings(&root, ask).await.unwrap();
    let status = found.image_scan_status.clone().unwrap();
    assert_eq!(status.status, Some(ScanStatus::Failed));
    assert!(status.description.unwrap().contains("does not scan images"));
    assert_eq!(found.image_scan_status, started);
}

#[tokio::test]
async fn lists_of_images_are_not_scanned_and_what_was_never_scanned_has_no_scan() {
    let world = World::new(SCANNER).await;
    let none = DescribeImageScanFindingsRequest {
        repository_name: Some(NAME.to_owned()),
        image_id: Some(ImageIdentifier {
            image_digest: Some(world.id.digest.to_string()),
            image_tag: None,
        }),
        ..Default::default()
    };
    let answer = world.ecr.ecr.describe_image_scan_findings(&world.ecr.root(), none).await;
    assert!(answer.is_ok());
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": world.id.digest.to_string(), "size": 1,
        }],
    });
    let put = PutImageRequest {
        repository_name: Some(NAME.to_owned()),
        image_manifest: Some(index.to_string()),
        image_tag: Some("list".to_owned()),
        ..Default::default()
    };
    world.ecr.ecr.put_image(&world.ecr.root(), put).await.unwrap();
    let input = StartImageScanRequest {
        repository_name: Some(NAME.to_owned()),
        image_id: Some(ImageIdentifier { image_tag: Some("list".to_owned()), image_digest: None }),
        registry_id: None,
    };
    let error = world.ecr.ecr.start_image_scan(&world.ecr.root(), input).await.unwrap_err();
    assert_eq!(error.code, "UnsupportedImageTypeException");
    let none = DescribeImageScanFindingsRequest {
        repository_name: Some(NAME.to_owned()),
        image_id: Some(ImageIdentifier { image_tag: Some("list".to_owned()), image_digest: None }),
        ..Default::default()
    };
    let answer = world.ecr.ecr.describe_image_scan_findings(&world.ecr.root(), none).await;
    assert_eq!(answer.unwrap_err().code, "ScanNotFoundException");
}

#[tokio::test]
async fn a_rule_of_the_registry_has_images_scanned_that_are_pushed_to_repositories_of_its_filters()
{
    let is_asked = async |filter| {
        let world = World::with(SCANNER, false, filter).await;
        let (view, account) = (world.ecr.core.control.view(), world.ecr.root().account);
        view.ecr_manifests.get(account, &world.id).unwrap().scan.is_some()
    };
    assert!(!is_asked(None).await);
    assert!(!is_asked(Some("shop/*")).await);
    assert!(is_asked(Some("hub/*")).await);
}

#[tokio::test]
async fn what_a_registrys_rules_say_is_shown_of_it_and_of_its_repositories() {
    let world = World::with(SCANNER, false, None).await;
    let (ecr, root) = (&world.ecr.ecr, world.ecr.root());
    let get = async || {
        let input = GetRegistryScanningConfigurationRequest {};
        ecr.get_registry_scanning_configuration(&root, input).await.unwrap()
    };
    let put = async |input| ecr.put_registry_scanning_configuration(&root, input).await;
    let nothing = get().await.scanning_configuration.unwrap();
    assert_eq!((nothing.scan_type, nothing.rules), (Some(ScanType::Basic), Some(vec![])));

    let asked =
        rules(ScanType::Basic, &[(ScanFrequency::ScanOnPush, "web"), (ScanFrequency::Manual, "*")]);
    let said = put(asked.clone()).await.unwrap().registry_scanning_configuration.unwrap();
    assert_eq!(said.rules, asked.rules);
    assert_eq!(get().await.scanning_configuration, Some(said));
    let input = BatchGetRepositoryScanningConfigurationRequest {
        repository_names: Some(vec![NAME.to_owned(), "none".to_owned()]),
    };
    let shown = ecr.batch_get_repository_scanning_configuration(&root, input).await.unwrap();
    let of_it = &shown.scanning_configurations.unwrap()[0];
    assert_eq!(
        (of_it.scan_on_push, &of_it.scan_frequency),
        (Some(true), &Some(ScanFrequency::ScanOnPush))
    );
    let filter = of_it.applied_scan_filters.as_ref().unwrap()[0].filter.as_deref();
    assert_eq!(filter, Some("web"));
    let failure = &shown.failures.unwrap()[0];
    assert_eq!(failure.failure_code, Some(ScanningConfigurationFailureCode::RepositoryNotFound));

    for (refused, word) in [
        (rules(ScanType::Enhanced, &[]), "Inspector"),
        (rules(ScanType::Basic, &[(ScanFrequency::ContinuousScan, "*")]), "scanFrequency"),
        (
            rules(
                ScanType::Basic,
                &[(ScanFrequency::ScanOnPush, "a"), (ScanFrequency::ScanOnPush, "b")],
            ),
            "one rule",
        ),
    ] {
        let why = put(refused).await.unwrap_err();
        assert_eq!(why.code, "InvalidParameterException");
        assert!(why.message.contains(word), "{}", why.message);
    }
    assert_eq!(get().await.scanning_configuration.unwrap().rules, asked.rules);
    put(rules(ScanType::Basic, &[])).await.unwrap();
    assert_eq!(get().await.scanning_configuration.unwrap().rules, Some(vec![]));
}
