//! Custom attributes of container instances: PutAttributes, DeleteAttributes, ListAttributes.

use aws_wire::{ApiError, Caller};
use control::paging::{PageRequest, page};
use ecs_api as api;
use ecs_api::TargetType;
use longshore_types::{ClusterName, InstanceArn, InstanceId};
use model::instance::InstanceStatus;
use model::{Instance, View};
use store::Batch;

use crate::Ecs;
use crate::errors::Refusal;

const PER_CALL_MAX: usize = 10;
const PER_RESOURCE_MAX: usize = 10;
const NAME_CHARS_MAX: usize = 128;

/// One attribute of a request, checked, and the instance that it is for.
struct Change {
    instance: InstanceId,
    name: String,
    value: Option<String>,
}

/// Whether an attribute was put by a user, and not by an agent or the region.
fn is_custom(name: &str) -> bool {
    !["ecs.", "com.amazonaws.", "longshore."].iter().any(|prefix| name.starts_with(prefix))
}

pub(crate) async fn handle_put(
    ecs: &Ecs,
    caller: &Caller,
    input: api::PutAttributesRequest,
) -> Result<api::PutAttributesResponse, ApiError> {
    let attributes = input.attributes.unwrap_or_default();
    let targets = attributes.iter().filter_map(|each| each.target_id.as_ref());
    let permission = ecs.on_targets(caller, "ecs:PutAttributes", input.cluster.as_deref(), targets);
    let given = input.cluster.as_deref();
    let shown = ecs
        .control
        .change(caller, &permission, |view, _| {
            let cluster = &ecs.cluster(view, caller, given)?.name;
            let changes = read(ecs, caller, cluster, &attributes)?;
            let mut batch = Batch::on(view);
            let mut shown = Vec::new();
            for change in changes {
                let instance = target(view, caller, cluster, &change, &mut batch)?;
                instance.attributes.insert(change.name.clone(), change.value.clone());
                let custom = instance.attributes.keys().filter(|name| is_custom(name)).count();
                if PER_RESOURCE_MAX < custom {
                    return Err(Refusal::AttributeLimit.into());
                }
                shown.push(render(instance, &change.name, change.value.as_deref()));
            }
            Ok((batch, shown))
        })
        .await?;
    Ok(api::PutAttributesResponse { attributes: Some(shown) })
}

pub(super) async fn handle_delete(
    ecs: &Ecs,
    caller: &Caller,
    input: api::DeleteAttributesRequest,
) -> Result<api::DeleteAttributesResponse, ApiError> {
    let attributes = input.attributes.unwrap_or_default();
    let targets = attributes.iter().filter_map(|each| each.target_id.as_ref());
    let permission =
        ecs.on_targets(caller, "ecs:DeleteAttributes", input.cluster.as_deref(), targets);
    let given = input.cluster.as_deref();
    let shown = ecs
        .control
        .change(caller, &permission, |view, _| {
            let cluster = &ecs.cluster(view, caller, given)?.name;
            let changes = read(ecs, caller, cluster, &attributes)?;
            let mut batch = Batch::on(view);
            let mut shown = Vec::new();
            for change in changes {
                let instance = target(view, caller, cluster, &change, &mut batch)?;
                let is_it =
                    |value: &Option<String>| change.value.is_none() || *value == change.value;
                if instance.attributes.get(&change.name).is_some_and(is_it) {
                    let value = instance.attributes.remove(&change.name).flatten();
                    shown.push(render(instance, &change.name, value.as_deref()));
                }
            }
            Ok((batch, shown))
        })
        .await?;
    Ok(api::DeleteAttributesResponse { attributes: Some(shown) })
}

pub(super) fn handle_list(
    ecs: &Ecs,
    caller: &Caller,
    input: api::ListAttributesRequest,
) -> Result<api::ListAttributesResponse, ApiError> {
    let permission = ecs.on_cluster(caller, "ecs:ListAttributes", input.cluster.as_deref());
    check_target_type(input.target_type.as_ref())?;
    let view = ecs.control.read(caller, &permission)?;
    let cluster = ecs.cluster(&view, caller, input.cluster.as_deref())?;
    let is_asked = |name: &str, value: Option<&str>| {
        input.attribute_name.as_deref().is_none_or(|wanted| wanted == name)
            && input.attribute_value.as_deref().is_none_or(|wanted| value == Some(wanted))
    };
    let instances = view
        .instances_of_cluster(caller.account, &cluster.name)
        .filter(|instance| instance.status != InstanceStatus::Inactive);
    let attributes = instances.flat_map(|instance| {
        instance.attributes.iter().filter(|(name, value)| is_asked(name, value.as_deref())).map(
            |(name, value)| {
                (format!("{}/{name}", instance.id), render(instance, name, value.as_deref()))
            },
        )
    });
    let page = page(PageRequest::new(&input.next_token, input.max_results), attributes)?;
    Ok(api::ListAttributesResponse { attributes: Some(page.items), next_token: page.next_token })
}

fn render(instance: &Instance, name: &str, value: Option<&str>) -> api::Attribute {
    api::Attribute {
        name: Some(name.to_owned()),
        value: value.map(str::to_owned),
        target_type: Some(TargetType::ContainerInstance),
        target_id: Some(instance.arn().to_string()),
    }
}

fn read(
    ecs: &Ecs,
    caller: &Caller,
    cluster: &ClusterName,
    attributes: &[api::Attribute],
) -> Result<Vec<Change>, ApiError> {
    if attributes.is_empty() {
        return Err(Refusal::invalid("Attributes can not be empty.").into());
    }
    if PER_CALL_MAX < attributes.len() {
        let message = format!("At most {PER_CALL_MAX} attributes can be changed in one call.");
        return Err(Refusal::invalid(message).into());
    }
    attributes.iter().map(|attribute| read_one(ecs, caller, cluster, attribute)).collect()
}

fn read_one(
    ecs: &Ecs,
    caller: &Caller,
    cluster: &ClusterName,
    attribute: &api::Attribute,
) -> Result<Change, ApiError> {
    check_target_type(attribute.target_type.as_ref())?;
    let name = attribute.name.clone().unwrap_or_default();
    check_text("name", &name, "-_./\\")?;
    if !is_custom(&name) {
        let message = format!("Attribute name '{name}' is reserved.");
        return Err(Refusal::invalid(message).into());
    }
    let value = attribute.value.clone().filter(|value| !value.is_empty());
    if let Some(value) = &value {
        check_text("value", value, "-_./@:\\ ")?;
    }
    let target = attribute.target_id.as_deref().unwrap_or_default();
    let not_found = || Refusal::TargetNotFound { target: target.to_owned() };
    let instance = if target.starts_with("arn:") {
        let arn: InstanceArn = target.parse().map_err(|_| not_found())?;
        ecs.check_scope(caller, &arn.scope)?;
        if arn.cluster != *cluster {
            return Err(not_found().into());
        }
        arn.id
    } else {
        target.parse().map_err(|_| not_found())?
    };
    Ok(Change { instance, name, value })
}

fn check_target_type(given: Option<&TargetType>) -> Result<(), ApiError> {
    match given {
        None | Some(TargetType::ContainerInstance) => Ok(()),
        Some(other) => {
            let message = format!("{other} should be one of [container-instance]");
            Err(Refusal::invalid(message).into())
        }
    }
}

fn check_text(what: &str, text: &str, punctuation: &str) -> Result<(), ApiError> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || punctuation.contains(c);
    let chars = text.chars().count();
    if (1..=NAME_CHARS_MAX).contains(&chars) && text.chars().all(is_allowed) && text.trim() == text
    {
        return Ok(());
    }
    let message = format!(
        "Attribute {what} '{text}' must have between 1 and {NAME_CHARS_MAX} letters, numbers or \
         characters of {punctuation}"
    );
    Err(Refusal::invalid(message).into())
}

/// The instance as this batch leaves it so far.
fn target<'b>(
    view: &View,
    caller: &Caller,
    cluster: &ClusterName,
    change: &Change,
    batch: &'b mut Batch,
) -> Result<&'b mut Instance, ApiError> {
    let is_it = |row: &store::Row| match row {
        store::Row::ContainerInstance(instance) => instance.id == change.instance,
        _ => false,
    };
    let position = match batch.writes.iter().position(is_it) {
        Some(position) => position,
        None => {
            let found = view
                .instances
                .get(caller.account, &change.instance)
                .filter(|row| row.cluster == *cluster && row.status != InstanceStatus::Inactive)
                .ok_or_else(|| Refusal::TargetNotFound { target: change.instance.to_string() })?;
            batch.put(Instance::clone(found));
            batch.writes.len() - 1
        }
    };
    match &mut batch.writes[position] {
        store::Row::ContainerInstance(instance) => Ok(std::sync::Arc::make_mut(instance)),
        _ => unreachable!("the position is an instance's"),
    }
}

#[cfg(test)]
mod tests {
    use longshore_types::{Clock, Resources};
    use model::instance::AgentState;

    use super::*;
    use crate::create_cluster;
    use crate::testing::TestEcs;

    const ID: &str = "00112233445566778899aabbccddeeff";

    async fn world() -> TestEcs {
        let world = TestEcs::new();
        let input = api::CreateClusterRequest::default();
        create_cluster::handle(&world.ecs, &world.root(), input).await.unwrap();
        let instance = Instance {
            id: ID.parse().unwrap(),
            scope: world.ecs.control.scope(&world.root()),
            cluster: ClusterName::default_cluster(),
            status: InstanceStatus::Active,
            total: Resources::default(),
            reserved_ports: [].into(),
            other_resources: Vec::new(),
            attributes: [("ecs.os-type".to_owned(), Some("linux".to_owned()))].into(),
            tags: [].into(),
            ec2_instance_id: None,
            capacity_provider: None,
            is_external: false,
            access_key: None,
            registered_at: world.env.now(),
            agent: AgentState::default(),
            health: Vec::new(),
            version: 0,
        };
        let mut batch = Batch::on(&world.ecs.control.store.latest());
        batch.put(instance);
        world.ecs.control.store.commit(batch).await.unwrap();
        world
    }

    fn attribute(name: &str, value: Option<&str>) -> api::Attribute {
        api::Attribute {
            name: Some(name.to_owned()),
            value: value.map(str::to_owned),
            target_type: None,
            target_id: Some(ID.to_owned()),
        }
    }

    async fn put(
        world: &TestEcs,
        attributes: Vec<api::Attribute>,
    ) -> Result<Vec<api::Attribute>, ApiError> {
        let input = api::PutAttributesRequest { cluster: None, attributes: Some(attributes) };
        Ok(handle_put(&world.ecs, &world.root(), input).await?.attributes.unwrap())
    }

    fn list(world: &TestEcs, name: Option<&str>, value: Option<&str>) -> Vec<api::Attribute> {
        let input = api::ListAttributesRequest {
            target_type: Some(TargetType::ContainerInstance),
            attribute_name: name.map(str::to_owned),
            attribute_value: value.map(str::to_owned),
            ..Default::default()
        };
        handle_list(&world.ecs, &world.root(), input).unwrap().attributes.unwrap()
    }

    #[tokio::test]
    async fn attributes_are_put_listed_and_deleted() {
        let world = world().await;
        let both = vec![attribute("stack", Some("prod")), attribute("rack", None)];
        let shown = put(&world, both).await.unwrap();
        let arn = format!("arn:aws:ecs:us-east-1:000000000000:container-instance/default/{ID}");
        assert_eq!(shown[0].target_id.as_deref(), Some(arn.as_str()));
        assert_eq!(list(&world, None, None).len(), 3);
        assert_eq!(list(&world, Some("stack"), None).len(), 1);
        assert_eq!(list(&world, Some("stack"), Some("test")), []);

        let delete = async |attribute| {
            let input =
                api::DeleteAttributesRequest { cluster: None, attributes: Some(vec![attribute]) };
            let answer = handle_delete(&world.ecs, &world.root(), input).await.unwrap();
            answer.attributes.unwrap().len()
        };
        assert_eq!(delete(attribute("stack", Some("test"))).await, 0, "another value stays");
        assert_eq!(delete(attribute("stack", Some("prod"))).await, 1);
        assert_eq!(delete(attribute("rack", None)).await, 1);
        assert_eq!(list(&world, None, None).len(), 1);
    }

    #[tokio::test]
    async fn an_instance_has_ten_custom_attributes_at_most() {
        let world = world().await;
        let ten = (0..10).map(|n| attribute(&format!("a{n}"), None)).collect();
        put(&world, ten).await.unwrap();
        put(&world, vec![attribute("a0", Some("changed"))]).await.unwrap();
        let error = put(&world, vec![attribute("b", None)]).await.unwrap_err();
        assert_eq!(error.code, "AttributeLimitExceededException");
        let eleven = (0..11).map(|n| attribute(&format!("a{n}"), None)).collect();
        assert_eq!(put(&world, eleven).await.unwrap_err().code, "InvalidParameterException");
    }

    #[tokio::test]
    async fn reserved_names_bad_texts_and_unknown_targets_are_refused() {
        let world = world().await;
        for (name, value) in
            [("ecs.os-type", None), ("", None), ("a b", None), ("a", Some(" x")), ("a", Some("#"))]
        {
            let error = put(&world, vec![attribute(name, value)]).await.unwrap_err();
            assert_eq!(error.code, "InvalidParameterException", "{name} {value:?}");
        }
        let other = api::Attribute {
            target_id: Some("ff112233445566778899aabbccddeeff".to_owned()),
            ..attribute("a", None)
        };
        assert_eq!(put(&world, vec![other]).await.unwrap_err().code, "TargetNotFoundException");
    }
}
