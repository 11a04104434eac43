//! How far a host's agent may be from the region's release.
//!
//! Agents of the release before and of the one after work with a region, so that either may be replaced first.

/// The release that this is.
pub const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// Why an agent of this release is not let in by a region of that one; `None` if it is. What says nothing that can be read is
/// let in: Amazon's agent is of no release of ours.
pub fn too_far(agent: &str, region: &str) -> Option<String> {
    let ((agent_major, agent_minor), (region_major, region_minor)) =
        (parts(agent)?, parts(region)?);
    let is_near = agent_major == region_major && agent_minor.abs_diff(region_minor) <= 1;
    if is_near {
        return None;
    }
    let is_old = (agent_major, agent_minor) < (region_major, region_minor);
    Some(if is_old {
        format!(
            "An agent of release {agent} is too old for this region of {region}, which takes those of one release apart: \
             upgrade it, with longshore node upgrade where the host has joined, or by its program."
        )
    } else {
        format!(
            "An agent of release {agent} is too new for this region of {region}, which takes those of one release apart: \
             upgrade the region first."
        )
    })
}

fn parts(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim_start_matches('v').split('.');
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next()?.parse().ok()?;
    numbers.next().map(|_| (major, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_release_apart_is_as_far_as_an_agent_may_be() {
        for (agent, region, said) in [
            ("0.1.0", "0.1.0", None),
            ("0.1.7", "0.2.0", None),
            ("0.3.0", "0.2.9", None),
            ("0.1.0", "0.3.0", Some("too old")),
            ("0.4.0", "0.2.0", Some("too new")),
            ("0.9.0", "1.0.0", Some("too old")),
            ("2.0.0", "1.9.0", Some("too new")),
            ("1.105.1x", "nonsense", None),
            ("", "0.2.0", None),
        ] {
            let found = too_far(agent, region);
            assert_eq!(found.is_some(), said.is_some(), "{agent} {region}: {found:?}");
            assert!(found.unwrap_or_default().contains(said.unwrap_or_default()), "{agent}");
        }
    }
}
