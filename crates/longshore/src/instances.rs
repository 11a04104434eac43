//! The hosts of a region, found through the API as any client would.

use std::collections::BTreeMap;

use ecs_api as ecs;
use model::instance::HOST_ATTRIBUTE;

use crate::client::{Client, ClientError};
use crate::error::Error;
use crate::tasks;

/// Instances of one DescribeContainerInstances call.
const DESCRIBE_MAX: usize = 100;

/// A host as an instance of a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) cluster: String,
    pub(crate) instance: ecs::ContainerInstance,
}

impl Host {
    pub(crate) fn arn(&self) -> &str {
        self.instance.container_instance_arn.as_deref().unwrap_or_default()
    }

    pub(crate) fn id(&self) -> &str {
        tasks::id_of(self.arn())
    }

    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        let attributes = self.instance.attributes.iter().flatten();
        let mut named = attributes.filter(|each| each.name.as_deref() == Some(name));
        named.next()?.value.as_deref()
    }

    /// The host's own name; the one beside the region has none.
    pub(crate) fn name(&self) -> &str {
        self.attribute(HOST_ATTRIBUTE).unwrap_or("-")
    }

    /// What is left, or all that there is, of `CPU` or `MEMORY`.
    pub(crate) fn amount(resources: Option<&Vec<ecs::Resource>>, name: &str) -> i32 {
        let mut all = resources.into_iter().flatten();
        let found = all.find(|each| each.name.as_deref() == Some(name));
        found.and_then(|each| each.integer_value).unwrap_or_default()
    }
}

/// Every cluster's instances.
pub(crate) async fn all(client: &Client) -> Result<Vec<Host>, ClientError> {
    let mut found = Vec::new();
    for cluster in tasks::clusters(client).await? {
        let arns = list(client, &cluster).await?;
        for some in arns.chunks(DESCRIBE_MAX) {
            let input = ecs::DescribeContainerInstancesRequest {
                cluster: Some(cluster.clone()),
                container_instances: Some(some.to_vec()),
                ..ecs::DescribeContainerInstancesRequest::default()
            };
            let page: ecs::DescribeContainerInstancesResponse =
                client.ecs("DescribeContainerInstances", &input).await?;
            let instances = page.container_instances.unwrap_or_default().into_iter();
            found.extend(instances.map(|instance| Host { cluster: cluster.clone(), instance }));
        }
    }
    Ok(found)
}

async fn list(client: &Client, cluster: &str) -> Result<Vec<String>, ClientError> {
    let mut input = ecs::ListContainerInstancesRequest {
        cluster: Some(cluster.to_owned()),
        ..ecs::ListContainerInstancesRequest::default()
    };
    let mut found = Vec::new();
    loop {
        let page: ecs::ListContainerInstancesResponse =
            client.ecs("ListContainerInstances", &input).await?;
        found.extend(page.container_instance_arns.unwrap_or_default());
        input.next_token = page.next_token;
        if input.next_token.is_none() {
            return Ok(found);
        }
    }
}

/// The names of hosts by their instances' ARNs.
pub(crate) fn names(hosts: &[Host]) -> BTreeMap<&str, &str> {
    hosts.iter().map(|host| (host.arn(), host.name())).collect()
}

/// The one host that is meant: by its ARN, its instance's id or the beginning of one, or its own name.
pub(crate) fn find<'h>(hosts: &'h [Host], wanted: &str) -> Result<&'h Host, Error> {
    // What a host calls itself is its own choice, and must not stand for another.
    if let Some(host) = hosts.iter().find(|host| host.arn() == wanted || host.id() == wanted) {
        return Ok(host);
    }
    let is_meant = |host: &&Host| host.id().starts_with(wanted) || host.name() == wanted;
    let found: Vec<&Host> = hosts.iter().filter(is_meant).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(Error::message(format!(
            "there is no host {wanted}; `longshore node ls` lists them by instance and name"
        ))),
        several => Err(Error::message(format!(
            "{} hosts begin with {wanted}, or are called so: {}",
            several.len(),
            several.iter().map(|host| host.id()).collect::<Vec<_>>().join(", ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(id: &str, name: &str) -> Host {
        let attribute = ecs::Attribute {
            name: Some(HOST_ATTRIBUTE.to_owned()),
            value: Some(name.to_owned()),
            ..ecs::Attribute::default()
        };
        let arn = format!("arn:aws:ecs:eu-north-1:000000000000:container-instance/default/{id}");
        let instance = ecs::ContainerInstance {
            container_instance_arn: Some(arn),
            attributes: Some(vec![attribute]),
            ..ecs::ContainerInstance::default()
        };
        Host { cluster: "default".to_owned(), instance }
    }

    #[test]
    fn a_host_is_meant_by_its_name_or_the_beginning_of_its_id() {
        let hosts = [host("aa11", "one"), host("aa22", "two"), host("bb33", "two")];
        assert_eq!(find(&hosts, "one").unwrap().id(), "aa11");
        assert_eq!(find(&hosts, "aa2").unwrap().id(), "aa22");
        assert_eq!(find(&hosts, hosts[2].arn()).unwrap().id(), "bb33");
        for (wanted, said) in [("aa", "2 hosts"), ("two", "aa22, bb33"), ("cc", "no host cc")] {
            let error = find(&hosts, wanted).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        let with_liar = [host("aa11", "one"), host("bb33", "aa11")];
        assert_eq!(find(&with_liar, "aa11").unwrap().id(), "aa11");
    }
}
