//! The network of an agent's containers in Docker: a bridge of its own, whose range the agent was told, so that each
//! container has the address that the agent chose before it was made.

use std::net::Ipv4Addr;

use bollard::models::{Ipam, IpamConfig, NetworkCreateRequest, NetworkInspect};
use bollard::query_parameters::InspectNetworkOptions;
use longshore_types::Cidr;

use crate::create::network_of;
use crate::error::{DockerError, is_missing};
use crate::{AGENT_LABEL, Docker};

/// The first of a range is the network's own address.
const GATEWAY: u32 = 1;

/// The agent's network as it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    pub range: Cidr,
    /// The host's address in it, which containers have as their way out.
    pub gateway: Ipv4Addr,
    /// The bridge's name among the interfaces of the engine's network.
    pub link: String,
}

impl Docker {
    /// The agent's network, which is made with this range if it is not there.
    pub async fn bridge(&self, range: Cidr) -> Result<Bridge, DockerError> {
        let wanted = self.wanted(range);
        if let Some(bridge) = self.find_bridge(&wanted).await? {
            return Ok(bridge);
        }
        let option = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let request = NetworkCreateRequest {
            name: network_of(self.tag()),
            driver: Some("bridge".to_owned()),
            ipam: Some(Ipam {
                config: Some(vec![IpamConfig {
                    subnet: Some(range.to_string()),
                    gateway: Some(wanted.gateway.to_string()),
                    ..IpamConfig::default()
                }]),
                ..Ipam::default()
            }),
            options: Some(
                [option(("com.docker.network.bridge.name", &wanted.link))].into_iter().collect(),
            ),
            labels: Some([option((AGENT_LABEL, self.tag()))].into_iter().collect()),
            ..NetworkCreateRequest::default()
        };
        match self.api.create_network(request).await {
            Ok(_) => Ok(wanted),
            // Another start of this agent's may have made it meanwhile.
            Err(error) => match self.find_bridge(&wanted).await? {
                Some(bridge) => Ok(bridge),
                None => Err(DockerError::of(format!("make a network of {range}"), error)),
            },
        }
    }

    /// Whether the engine says by this that the agent's network is gone: `network longshore-0badcafe not found`, or
    /// its id in the place of its name.
    pub fn is_network_gone(&self, why: &str) -> bool {
        is_network_gone(why, &network_of(self.tag()))
    }

    fn wanted(&self, range: Cidr) -> Bridge {
        // A network of one address has no other.
        let gateway = range.nth(GATEWAY).unwrap_or(range.first());
        Bridge { range, gateway, link: self.link_name() }
    }

    /// Within the fifteen bytes that the kernel has for it.
    pub fn link_name(&self) -> String {
        format!("lsd{}", self.tag())
    }

    async fn find_bridge(&self, wanted: &Bridge) -> Result<Option<Bridge>, DockerError> {
        let name = network_of(self.tag());
        let found = self.api.inspect_network(&name, None::<InspectNetworkOptions>).await;
        let found = match found {
            Ok(found) => found,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(DockerError::of("look at the agent's network", error)),
        };
        let is_ours = |labels: &std::collections::HashMap<String, String>| {
            labels.get(AGENT_LABEL).is_some_and(|tag| tag == self.tag())
        };
        if !found.labels.as_ref().is_some_and(is_ours) {
            return Err(DockerError::OtherNetwork { name, why: "it has another owner" });
        }
        let Some(range) = range_of(&found) else {
            return Err(DockerError::OtherNetwork { name, why: "it has no range of addresses" });
        };
        if range == wanted.range {
            return Ok(Some(wanted.clone()));
        }
        // The region's ranges are others now. Where containers are in it, it stays as it is.
        if found.containers.unwrap_or_default().is_empty() {
            self.remove_network().await?;
            return Ok(None);
        }
        Ok(Some(self.wanted(range)))
    }

    pub(crate) async fn remove_network(&self) -> Result<(), DockerError> {
        match self.api.remove_network(&network_of(self.tag())).await {
            Ok(()) => Ok(()),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(DockerError::of("remove the agent's network", error)),
        }
    }
}

fn is_network_gone(why: &str, name: &str) -> bool {
    let is_id = |word: &str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let words: Vec<&str> = why.split_whitespace().collect();
    words.windows(4).any(|four| {
        let [what, which, not, found] = four else { return false };
        let which = which.trim_matches(['"', '\'']);
        *what == "network"
            && (which == name || is_id(which))
            && *not == "not"
            && found.starts_with("found")
    })
}

fn range_of(found: &NetworkInspect) -> Option<Cidr> {
    let configs = found.ipam.as_ref()?.config.as_ref()?;
    configs.iter().find_map(|config| config.subnet.as_ref()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::fake::{Fake, TAG};

    const RANGE: &str = "172.30.0.0/16";

    #[test]
    fn only_the_agents_network_can_be_gone() {
        let name = network_of(TAG);
        let of = |why: &str| is_network_gone(why, &name);
        assert!(of("network longshore-0badcafe not found"));
        assert!(of(&format!(
            "failed to set up container networking: network {} not found",
            "0a".repeat(32)
        )));
        assert!(!of("exec: \"/network/tool\": stat /network/tool: not found"));
        assert!(!of("network other not found"));
        assert!(!of("network longshore-0badcafe is in use"));
    }

    #[tokio::test]
    async fn a_network_that_another_start_made_meanwhile_is_taken() {
        let looked = AtomicUsize::new(0);
        let there = format!(
            r#"{{"Labels":{{"{AGENT_LABEL}":"{TAG}"}},"IPAM":{{"Config":[{{"Subnet":"{RANGE}"}}]}}}}"#
        );
        let engine = Fake::start(move |asked| match asked {
            "POST /networks/create" => (
                409,
                r#"{"message":"network with name longshore-0badcafe already exists"}"#.to_owned(),
            ),
            _ if looked.fetch_add(1, Ordering::SeqCst) == 0 => {
                (404, r#"{"message":"network longshore-0badcafe not found"}"#.to_owned())
            }
            _ => (200, there.clone()),
        });
        let bridge = engine.await.docker.bridge(RANGE.parse().unwrap()).await.unwrap();
        assert_eq!(bridge.link, "lsd0badcafe");
    }

    #[tokio::test]
    async fn why_a_network_cannot_be_made_is_told() {
        let engine = Fake::start(|asked| match asked {
            "POST /networks/create" => {
                (403, r#"{"message":"Pool overlaps with other one"}"#.to_owned())
            }
            _ => (404, r#"{"message":"network longshore-0badcafe not found"}"#.to_owned()),
        });
        let error = engine.await.docker.bridge(RANGE.parse().unwrap()).await.unwrap_err();
        assert!(error.to_string().contains("Pool overlaps"), "{error}");
    }
}
