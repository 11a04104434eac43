use std::net::Ipv4Addr;

use control::reconcile::Reconciler as _;
use control::testing::TestControl;
use longshore_types::Timestamp;
use model::ElbBalancer;
use model::elb::{BalancerKind, BalancerZone, ShiftState, Stand, ZONAL_SHIFT};
use store::Batch;
use zonalshift_api::ArcZonalShift as _;

use super::*;
use crate::limits::{MINUTE_MS, SHIFTS_OF_BALANCER_MAX};

struct World {
    test: TestControl,
    it: ZonalShifts,
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// Code and reason of a refusal.
fn refusal<T>(answer: Result<T, ApiError>) -> (String, String) {
    let error = answer.err().expect("a refusal");
    let extra = error.extra.as_ref();
    let reason = extra.and_then(|it| it.get("reason")?.as_str().map(str::to_owned));
    (error.code.into_owned(), reason.unwrap_or_default())
}

impl World {
    fn new() -> Self {
        let test = TestControl::new();
        let it = ZonalShifts::new(Arc::clone(&test.control));
        Self { test, it }
    }

    /// A balancer with an interface in each of these zones.
    async fn balancer(&self, name: &str, zones: &[&str], is_managed: bool) -> String {
        let row = ElbBalancer {
            scope: self.test.control.scope(&self.test.root()),
            kind: BalancerKind::Application,
            name: name.to_owned(),
            digits: "0123456789abcdef".to_owned(),
            dns_number: 1,
            is_internal: false,
            vpc: "vpc-0123456789abcdef0".parse().unwrap(),
            zones: zones
                .iter()
                .zip(1..)
                .map(|(zone, last)| BalancerZone {
                    zone: (*zone).to_owned(),
                    subnet: format!("subnet-0000000{last}").parse().unwrap(),
                    eni: format!("eni-0000000{last}").parse().unwrap(),
                    address: Ipv4Addr::new(172, 31, last, 5),
                    stand: Stand::default(),
                    passed_over: Vec::new(),
                    is_unwell: false,
                })
                .collect(),
            leaving: Vec::new(),
            security_groups: Vec::new(),
            exempts_private_links: false,
            attributes: [(ZONAL_SHIFT.to_owned(), is_managed.to_string())].into(),
            tags: Default::default(),
            created_at: Timestamp(0),
            shifts: Vec::new(),
        };
        let arn = row.arn();
        let put = |view: &model::View, _| {
            let mut batch = Batch::on(view);
            batch.put(row.clone());
            Ok((batch, ()))
        };
        self.test.control.decide(put).await.unwrap();
        arn
    }

    async fn start(
        &self,
        arn: &str,
        zone: &str,
        length: &str,
    ) -> Result<api::ZonalShift, ApiError> {
        let input = api::StartZonalShiftRequest {
            resource_identifier: text(arn),
            away_from: text(zone),
            expires_in: text(length),
            comment: text("a bad deployment"),
        };
        self.it.start_zonal_shift(&self.test.root(), input).await
    }

    async fn cancel(&self, id: &str) -> Result<api::ZonalShift, ApiError> {
        let input = api::CancelZonalShiftRequest { zonal_shift_id: text(id) };
        self.it.cancel_zonal_shift(&self.test.root(), input).await
    }

    fn row(&self) -> Arc<ElbBalancer> {
        Arc::clone(self.test.control.view().elb_balancers.iter().next().unwrap())
    }

    /// The zones that its name leads to.
    fn named(&self) -> Vec<String> {
        self.row().named_zones().map(|zone| zone.zone.clone()).collect()
    }

    async fn listed(&self, status: Option<&str>) -> Vec<String> {
        let status = status.map(Into::into);
        let input = api::ListZonalShiftsRequest { status, ..Default::default() };
        let all = self.it.list_zonal_shifts(&self.test.root(), input).await.unwrap();
        all.items.unwrap().into_iter().map(|it| it.status.unwrap().to_string()).collect()
    }
}

#[tokio::test]
async fn a_shift_takes_a_zone_from_a_balancers_name_until_its_time_is_over() {
    let world = World::new();
    let arn = world.balancer("web", &["us-east-1a", "us-east-1b"], true).await;
    let shift = world.start(&arn, "use1-az2", "2h").await.unwrap();
    assert_eq!(
        (shift.away_from.as_deref(), shift.status),
        (Some("use1-az2"), Some(api::ZonalShiftStatus::Active))
    );
    assert_eq!(world.named(), ["us-east-1a"]);
    let input = api::GetManagedResourceRequest { resource_identifier: text(&arn) };
    let shown = world.it.get_managed_resource(&world.test.root(), input).await.unwrap();
    let weights: Vec<(String, f32)> = shown.applied_weights.unwrap().into_iter().collect();
    assert_eq!(weights, [("use1-az1".to_owned(), 1.0), ("use1-az2".to_owned(), 0.0)]);
    assert_eq!(shown.zonal_shifts.unwrap().len(), 1);
    let again = refusal(world.start(&arn, "use1-az1", "2h").await);
    assert_eq!(again, ("ConflictException".to_owned(), "ZonalShiftAlreadyExists".to_owned()));

    let expiry = expiry::Expiry(Arc::clone(&world.test.control));
    let key = (world.test.root().account, world.row().path());
    world.test.env.advance_ms(119 * MINUTE_MS);
    let early = expiry.pass(&key).await.unwrap();
    assert_eq!(early.again_at, shift.expiry_time);
    // It is made longer, from now on.
    let input = api::UpdateZonalShiftRequest {
        zonal_shift_id: shift.zonal_shift_id,
        expires_in: text("30m"),
        comment: None,
    };
    world.it.update_zonal_shift(&world.test.root(), input).await.unwrap();
    world.test.env.advance_ms(29 * MINUTE_MS);
    assert!(!expiry.pass(&key).await.unwrap().is_over && world.named().len() == 1);
    world.test.env.advance_ms(MINUTE_MS);
    assert!(expiry.pass(&key).await.unwrap().is_over);
    assert_eq!(world.named(), ["us-east-1a", "us-east-1b"]);
    assert_eq!(world.row().shifts[0].state, ShiftState::Expired);
    assert_eq!(world.listed(Some("EXPIRED")).await, ["EXPIRED"]);
    assert!(world.listed(Some("ACTIVE")).await.is_empty());
}

#[tokio::test]
async fn a_shift_is_cancelled_once_and_the_last_ones_are_listed() {
    let world = World::new();
    let arn = world.balancer("web", &["us-east-1a", "us-east-1b", "us-east-1c"], true).await;
    let mut last = String::new();
    for _ in 0..SHIFTS_OF_BALANCER_MAX + 2 {
        let shift = world.start(&arn, "use1-az3", "30m").await.unwrap();
        last = shift.zonal_shift_id.unwrap();
        let ended = world.cancel(&last).await.unwrap();
        assert_eq!(ended.status, Some(api::ZonalShiftStatus::Canceled));
        assert_eq!(world.named().len(), 3);
    }
    assert_eq!(world.listed(None).await.len(), SHIFTS_OF_BALANCER_MAX);
    let twice = refusal(world.cancel(&last).await);
    assert_eq!(twice, ("ConflictException".to_owned(), "ZonalShiftStatusNotActive".to_owned()));
    let missing = refusal(world.cancel("0b6fd0a7-2c6e-4f6b-9d5e-0123456789ab").await);
    assert_eq!(missing.0, "ResourceNotFoundException");
}

#[tokio::test]
async fn what_cannot_be_shifted_is_refused_with_the_reason() {
    let world = World::new();
    let arn = world.balancer("web", &["us-east-1a", "us-east-1b"], true).await;
    let alone = world.balancer("alone", &["us-east-1a"], true).await;
    let other = world.balancer("other", &["us-east-1a", "us-east-1b"], false).await;
    for (arn, zone, length, code, reason) in [
        (&*arn, "use1-az3", "2h", "ValidationException", "InvalidAz"),
        (&*arn, "us-east-1a", "2h", "ValidationException", "InvalidAz"),
        (&*arn, "use1-az1", "73h", "ValidationException", "InvalidExpiresIn"),
        (&*arn, "use1-az1", "0m", "ValidationException", "InvalidExpiresIn"),
        (&*alone, "use1-az1", "2h", "ValidationException", "UnsupportedAz"),
        (&*other, "use1-az1", "2h", "ResourceNotFoundException", ""),
        ("arn:aws:s3:::bucket", "use1-az1", "2h", "ResourceNotFoundException", ""),
    ] {
        let refused = refusal(world.start(arn, zone, length).await);
        assert_eq!(refused, (code.to_owned(), reason.to_owned()), "{arn} {zone} {length}");
    }
    let input = api::ListManagedResourcesRequest { max_results: Some(1), next_token: None };
    let page = world.it.list_managed_resources(&world.test.root(), input).await.unwrap();
    assert_eq!(page.items.unwrap().len(), 1);
    let input = api::ListManagedResourcesRequest { max_results: None, next_token: page.next_token };
    let page = world.it.list_managed_resources(&world.test.root(), input).await.unwrap();
    assert_eq!((page.items.unwrap().len(), page.next_token), (1, None));
}
