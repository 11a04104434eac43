//! A region that is about to end.

use std::sync::Arc;
use std::time::Duration;

use crate::testing::TestRegion;

#[tokio::test]
async fn a_region_that_lets_its_agents_go_does_nothing_by_itself_any_more() {
    let world = TestRegion::new();
    let region = &world.region;
    // Each reconciler holds its service.
    let holders = || Arc::strong_count(&region.ecs);
    let before = holders();
    region.start(None);
    assert!(before < holders());
    region.sessions.close();
    let ended = async {
        while before < holders() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ended).await.expect("its reconcilers end");
}
