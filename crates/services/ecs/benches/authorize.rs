//! What authorization adds to RunTask, DescribeTasks and RegisterTaskDefinition: the questions that their handlers ask, of
//! users with ten policies and of the account's root. The policies of one user ask for the tags of what each request is on,
//! which have to be looked up for every task; those of the other do not.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::hint::black_box;

use aws_wire::Caller;
use control::Permission;
use control::testing::{TestControl, people};
use criterion::{Criterion, criterion_group, criterion_main};
use model::{Grants, IamUser};
use store::Batch;

const OWN: &str = r#"{"Version":"2012-10-17","Statement":[
    {"Effect":"Deny","Action":"ecs:*","Resource":"*","Condition":{"StringEquals":{"aws:PrincipalTag/stage":"prod"}}},
    {"Effect":"Allow","Action":["ecs:RunTask","ecs:RegisterTaskDefinition"],"Resource":"*",
     "Condition":{"ArnLike":{"ecs:cluster":"arn:aws:ecs:*:*:cluster/demo"}}},
    {"Effect":"Allow","Action":["ecs:Describe*","ecs:RegisterTaskDefinition","ecs:TagResource"],"Resource":"*"},
    {"Effect":"Allow","Action":"iam:PassRole","Resource":"arn:aws:iam::000000000000:role/*",
     "Condition":{"StringEquals":{"iam:PassedToService":"ecs-tasks.amazonaws.com"}}}]}"#;
/// What an engineer's group often has besides.
const MANAGED: [&str; 9] = [
    "AmazonEC2ContainerRegistryPowerUser",
    "AmazonSSMReadOnlyAccess",
    "CloudWatchLogsReadOnlyAccess",
    "IAMReadOnlyAccess",
    "SecretsManagerReadWrite",
    "AWSKeyManagementServicePowerUser",
    "AmazonEC2ContainerRegistryReadOnly",
    "AmazonSSMManagedInstanceCore",
    "CloudWatchLogsFullAccess",
];
const ROLES: [&str; 2] =
    ["arn:aws:iam::000000000000:role/app", "arn:aws:iam::000000000000:role/ecsTaskExecutionRole"];

/// A user with such policies and one of its own.
fn user(world: &TestControl, name: &str, own: &str) -> Caller {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let caller = people::user(world, "000000000000", name, own).await;
        let attach = world.control.decide(|view, _| {
            let row = view.iam_users.of(caller.account).find(|row| *row.name == *name).unwrap();
            let attached =
                MANAGED.map(|name| format!("arn:aws:iam::aws:policy/{name}").as_str().into());
            let grants = Grants { attached: attached.to_vec(), ..row.grants.clone() };
            let mut batch = Batch::on(view);
            batch.put(IamUser { grants, ..row.as_ref().clone() });
            Ok((batch, ()))
        });
        attach.await.unwrap();
        caller
    })
}

fn run_task() -> Permission {
    Permission::to("ecs:RunTask")
        .on("arn:aws:ecs:us-east-1:000000000000:task-definition/web:1")
        .with("ecs:cluster", "arn:aws:ecs:us-east-1:000000000000:cluster/demo".to_owned())
        .passing(ROLES, "ecs-tasks.amazonaws.com")
}

fn describe_tasks(count: u32) -> Permission {
    let arn = |number| format!("arn:aws:ecs:us-east-1:000000000000:task/demo/{number:032x}");
    Permission::to("ecs:DescribeTasks")
        .on_each((0..count).map(arn))
        .with("ecs:cluster", "arn:aws:ecs:us-east-1:000000000000:cluster/demo".to_owned())
}

fn register() -> Permission {
    let tags = BTreeMap::from([("stage".to_owned(), "test".to_owned())]);
    Permission::to("ecs:RegisterTaskDefinition")
        .on("arn:aws:ecs:us-east-1:000000000000:task-definition/web:*")
        .tagging(&tags)
        .passing(ROLES, "ecs-tasks.amazonaws.com")
}

fn benches(c: &mut Criterion) {
    let world = TestControl::new();
    let by_tags = OWN.replace("aws:PrincipalTag", "aws:ResourceTag");
    let (user, other) = (user(&world, "ann", OWN), user(&world, "bob", &by_tags));
    let view = world.control.view();
    let asks = [
        ("RunTask", run_task()),
        ("DescribeTasks of 1", describe_tasks(1)),
        ("DescribeTasks of 100", describe_tasks(100)),
        ("RegisterTaskDefinition", register()),
    ];
    for (operation, permission) in &asks {
        let mut group = c.benchmark_group(format!("authorize {operation}"));
        let who = [
            ("a user with 10 policies", &user),
            ("a user with 10 policies, by tags", &other),
            ("root", &world.root()),
        ];
        for (who, caller) in who {
            world.control.authorize(&view, caller, permission).unwrap();
            group.bench_function(who, |b| {
                b.iter(|| black_box(world.control.authorize(&view, caller, black_box(permission))));
            });
        }
        group.finish();
    }
}

criterion_group!(all, benches);
criterion_main!(all);
