//! Which addresses a region's tasks have, and what else on this machine has some.
//!
//! **Invariant:** where an agent follows, ranges are chosen and claimed in one turn that no other region of
//! this machine shares, so that two that start together do not choose the same.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use longshore_types::Chain;
use network::{NetTag, NetworkError};
use plan::ranges::Ranges;
use region::Region;
use tokio::time::Instant;
use tracing::warn;

use crate::error::Error;

/// All regions of this machine take turns here. It is gone after a reboot, as claims are.
const TURN: &str = "/run/longshore";
/// How long the others are waited for; a turn takes milliseconds.
const TURN_MAX: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);
/// Somebody who takes no turns may be quicker now and then.
const ATTEMPTS_MAX: usize = 3;

/// Chooses the region's ranges or looks whether they are free still, and claims them if an agent follows.
pub(crate) async fn settle(
    region: &Region,
    tag: NetTag,
    is_claiming: bool,
) -> Result<Ranges, Error> {
    let _turn = if is_claiming { take_turn().await } else { None };
    let mut ranges = choose(region, tag).await?;
    for attempt in 1..=ATTEMPTS_MAX {
        let outcome = if is_claiming { claim(tag, ranges) } else { Ok(()) };
        match outcome {
            Ok(()) => break,
            Err(NetworkError::RangeTaken { .. }) if attempt < ATTEMPTS_MAX => {
                ranges = choose(region, tag).await?;
            }
            // The agent tries the same and tells what can be done; the API serves without it.
            Err(error) => {
                warn!(error = %Chain(&error), "addresses for tasks not claimed");
                break;
            }
        }
    }
    Ok(ranges)
}

async fn choose(region: &Region, tag: NetTag) -> Result<Ranges, Error> {
    let taken = network::ranges_in_use(tag).map_err(Error::other("read this machine's routes"))?;
    let chosen = region.prepare_network(&taken).await;
    chosen.map_err(Error::other("plan the addresses of tasks"))
}

fn claim(tag: NetTag, ranges: Ranges) -> Result<(), NetworkError> {
    network::claim_ranges(tag, ranges.vpc, ranges.bridge)
}

/// Without a turn, as where the directory can't be made, the claims alone keep regions apart.
async fn take_turn() -> Option<File> {
    std::fs::create_dir_all(Path::new(TURN)).ok()?;
    let turn = File::open(TURN).ok()?;
    let end = Instant::now() + TURN_MAX;
    while Instant::now() < end {
        match turn.try_lock() {
            Ok(()) => return Some(turn),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(POLL).await,
            Err(TryLockError::Error(_)) => return None,
        }
    }
    None
}
