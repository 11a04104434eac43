//! Service-linked roles.

use super::*;

#[tokio::test]
async fn a_role_of_a_service_is_changed_by_nobody_else() {
    let world = World::new().await;
    let make = async || {
        ask!(
            world,
            create_service_linked_role,
            CreateServiceLinkedRoleRequest { aws_service_name: "ecs.amazonaws.com" }
        )
    };
    let role = make().await.unwrap().role.unwrap();
    assert_eq!(
        role.arn.as_deref(),
        Some(
            "arn:aws:iam::000000000000:role/aws-service-role/ecs.amazonaws.com/AWSServiceRoleForECS"
        )
    );
    let again = refusal(make().await);
    assert!(again.1.contains("AWSServiceRoleForECS has been taken"), "{again:?}");
    let name = "AWSServiceRoleForECS";
    let protected = refusal(ask!(world, delete_role, DeleteRoleRequest { role_name: name }));
    assert_eq!(protected.0, "UnmodifiableEntity");
    let deleted =
        ask!(world, delete_service_linked_role, DeleteServiceLinkedRoleRequest { role_name: name });
    let task = deleted.unwrap().deletion_task_id.unwrap();
    let status = ask!(
        world,
        get_service_linked_role_deletion_status,
        GetServiceLinkedRoleDeletionStatusRequest { deletion_task_id: task }
    );
    assert_eq!(status.unwrap().status, Some(api::DeletionTaskStatusType::Succeeded));
}

#[tokio::test]
async fn a_role_that_a_service_needs_stays_and_its_deletion_says_what_needs_it() {
    let world = World::new().await;
    let service = "ecs.application-autoscaling.amazonaws.com";
    let make = async || {
        ask!(
            world,
            create_service_linked_role,
            CreateServiceLinkedRoleRequest { aws_service_name: service }
        )
        .unwrap()
    };
    let name = "AWSServiceRoleForApplicationAutoScaling_ECSService";
    let delete = async || {
        let input = api::DeleteServiceLinkedRoleRequest { role_name: Some(name.to_owned()) };
        let done = world.iam.delete_service_linked_role(&world.world.root(), input).await;
        done.unwrap().deletion_task_id.unwrap()
    };
    let status = async |task: &str| {
        let input = api::GetServiceLinkedRoleDeletionStatusRequest {
            deletion_task_id: Some(task.to_owned()),
        };
        let told =
            world.iam.get_service_linked_role_deletion_status(&world.world.root(), input).await;
        let told = told.unwrap();
        (told.status.unwrap().to_string(), told.reason.and_then(|it| it.role_usage_list))
    };
    make().await;
    let target = model::ScalableTarget {
        scope: world.world.control.scope(&world.world.root()),
        service: model::ServiceId {
            cluster: "default".parse().unwrap(),
            name: "web".parse().unwrap(),
        },
        id: "0ec5".to_owned(),
        min: 1,
        max: 2,
        suspended: model::scaling::Suspended::default(),
        created_at: world.world.root().now,
        policies: [].into(),
        actions: [].into(),
        last: model::scaling::LastMoves::default(),
        tags: [].into(),
    };
    let arn = target.arn();
    let put = world.world.control.decide(|view, _| {
        let mut batch = store::Batch::on(view);
        batch.put(target.clone());
        Ok((batch, ()))
    });
    put.await.unwrap();
    let failed = delete().await;
    let used =
        api::RoleUsageType { region: Some("us-east-1".to_owned()), resources: Some(vec![arn]) };
    assert_eq!(status(&failed).await, ("FAILED".to_owned(), Some(vec![used])));
    assert!(ask!(world, get_role, GetRoleRequest { role_name: name }).is_ok());
    let gone = world.world.control.decide(|view, _| {
        let mut batch = store::Batch::on(view);
        batch.delete(model::Row::from(target.clone()).key());
        Ok((batch, ()))
    });
    gone.await.unwrap();
    let done = delete().await;
    assert_eq!(status(&done).await, ("SUCCEEDED".to_owned(), None));
    // One that is made anew is another role.
    make().await;
    assert_eq!(status(&done).await, ("SUCCEEDED".to_owned(), None));
}
