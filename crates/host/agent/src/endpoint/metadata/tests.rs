use std::sync::Arc;

use super::*;
use crate::engine::state::{Binding, HealthSaid, TaskState};

const CLUSTER: &str = "arn:aws:ecs:us-east-1:000000000000:cluster/demo";

fn view(launch: &str, mode: &str) -> TaskView {
    let mut task = json!({
        "arn": "arn:aws:ecs:us-east-1:000000000000:task/demo/00112233445566778899aabbccddeeff",
        "taskClusterArn": CLUSTER, "family": "web", "version": "3", "networkMode": mode,
        "launchType": launch, "cpu": 0.25, "memory": 512, "zone": "us-east-1b", "vpcId": "vpc-1",
        "group": "service:shop", "serviceName": "shop",
        "volumes": [{"name": "data", "type": "host", "host": {}}],
        "containers": [{
            "name": "main", "image": "hello:1", "essential": true, "memory": 128, "cpu": 10,
            "containerArn": "arn:aws:ecs:us-east-1:000000000000:container/demo/x/y",
            "healthCheckType": "docker", "restartPolicy": {"enabled": true},
            "portMappings": [{"containerPort": 80, "hostPort": 0, "protocol": "tcp"}],
            "dockerConfig": {
                "config": "{\"Labels\":{\"team\":\"x\"},\"Healthcheck\":{\"Test\":[\"CMD\",\"true\"]}}",
                "hostConfig": "{\"LogConfig\":{\"Type\":\"awslogs\",\"Config\":{\"awslogs-group\":\"g\"}}}",
            },
        }],
    });
    if mode == "awsvpc" {
        task["elasticNetworkInterfaces"] = json!([{
            "ec2Id": "eni-0123456789abcdef0", "macAddress": "0a:00:00:00:00:01",
            "ipv4Addresses": [{ "privateAddress": "172.31.0.9", "primary": true }],
            "subnetGatewayIpv4Address": "172.31.0.1/20", "domainName": ["us-east-1.compute.internal"],
            "domainNameServers": ["172.31.0.2"], "privateDnsName": "ip-172-31-0-9.ec2.internal",
        }]);
    }
    let spec = crate::spec::parse(&serde_json::from_value(task).unwrap()).unwrap();
    assert_eq!(spec.containers[0].refusal, None);
    let mut state = TaskState::new(&spec, || 7);
    let container = &mut state.containers[0];
    container.phase = Phase::Running;
    container.digest = Some("sha256:ab".to_owned());
    (container.created_at, container.started_at) = (Some(Timestamp(1)), Some(Timestamp(2)));
    (container.health, container.health_since) = (Health::Healthy, Some(Timestamp(3)));
    container.health_said = Some(HealthSaid { exit_code: 0, output: "fine".to_owned() });
    container.restarts = 2;
    if mode == "bridge" {
        container.address = Some([172, 30, 0, 9].into());
        let protocol = crate::spec::Protocol::Tcp;
        container.bindings =
            vec![Binding { container_port: 80, host_port: 32_768, protocol, range: None }];
    }
    TaskView { spec: Arc::new(spec), state: Arc::new(state) }
}

fn around() -> Around {
    let clock = Clock { error_us_max: 500, is_synchronized: true, read_at: Timestamp(9) };
    let source = "/var/lib/v".to_owned();
    let volume = Volume { name: Some("ecs-v".to_owned()), source, destination: "/data".to_owned() };
    Around {
        cluster: "demo".to_owned(),
        tags: None,
        clock: Some(clock),
        storage: Some(Storage { used_mib: 3, limit_mib: 20_480 }),
        volumes: vec![vec![volume]],
    }
}

#[test]
fn a_task_of_fargate_is_shown_as_amazon_documents_it() {
    let shown = task(&view("FARGATE", "awsvpc"), &around(), Version::V4);
    let expected = json!({
        "Cluster": CLUSTER,
        "TaskARN": "arn:aws:ecs:us-east-1:000000000000:task/demo/00112233445566778899aabbccddeeff",
        "Family": "web", "Revision": "3", "DesiredStatus": "RUNNING", "KnownStatus": "RUNNING",
        "Limits": {"CPU": 0.25, "Memory": 512}, "AvailabilityZone": "us-east-1b",
        "LaunchType": "FARGATE", "ServiceName": "shop", "Group": "service:shop",
        "FaultInjectionEnabled": false,
        "ClockDrift": {"ClockErrorBound": 0.5, "ReferenceTimestamp": "1970-01-01T00:00:00.009Z",
            "ClockSynchronizationStatus": "SYNCHRONIZED"},
        "EphemeralStorageMetrics": {"Utilized": 3, "Reserved": 20_480},
        "Containers": [{
            "DockerId": "00112233445566778899aabbccddeeff-0000000007", "Name": "main",
            "DockerName": "main", "Image": "hello:1", "ImageID": "sha256:ab",
            "Ports": [{"ContainerPort": 80, "Protocol": "tcp"}],
            "Labels": {"team": "x"}, "DesiredStatus": "RUNNING", "KnownStatus": "RUNNING",
            "Limits": {"CPU": 10, "Memory": 128}, "Type": "NORMAL",
            "CreatedAt": "1970-01-01T00:00:00.001Z", "StartedAt": "1970-01-01T00:00:00.002Z",
            "Networks": [{
                "NetworkMode": "awsvpc", "IPv4Addresses": ["172.31.0.9"], "AttachmentIndex": 0,
                "MACAddress": "0a:00:00:00:00:01", "IPv4SubnetCIDRBlock": "172.31.0.0/20",
                "DomainNameServers": ["172.31.0.2"],
                "DomainNameSearchList": ["us-east-1.compute.internal"],
                "PrivateDNSName": "ip-172-31-0-9.ec2.internal",
                "SubnetGatewayIpv4Address": "172.31.0.1/20",
            }],
            "Health": {"status": "HEALTHY", "statusSince": "1970-01-01T00:00:00.003Z", "output": "fine"},
            "LogDriver": "awslogs", "LogOptions": {"awslogs-group": "g"},
            "ContainerARN": "arn:aws:ecs:us-east-1:000000000000:container/demo/x/y",
            "Snapshotter": "overlayfs", "RestartCount": 2,
        }],
    });
    assert_eq!(shown, expected);
}

#[test]
fn a_task_of_ones_own_instance_is_shown_with_its_vpc_its_volumes_and_its_ports() {
    let view = view("EC2", "bridge");
    let shown = task(&view, &around(), Version::V4);
    assert_eq!((&shown["Cluster"], &shown["VPCID"]), (&json!("demo"), &json!("vpc-1")));
    for absent in ["ClockDrift", "EphemeralStorageMetrics"] {
        assert_eq!(shown.get(absent), None, "{absent}");
    }
    let main = &shown["Containers"][0];
    let port =
        json!({"ContainerPort": 80, "Protocol": "tcp", "HostPort": 32_768, "HostIp": "0.0.0.0"});
    assert_eq!(main["Ports"], json!([port]));
    let network = json!([{"NetworkMode": "bridge", "IPv4Addresses": ["172.30.0.9"]}]);
    assert_eq!(main["Networks"], network);
    let volume = json!([{"DockerName": "ecs-v", "Source": "/var/lib/v", "Destination": "/data"}]);
    assert_eq!(main["Volumes"], volume);
    assert_eq!(main["DockerName"], "ecs-web-3-main-00112233445500000007");
    assert_eq!(main.get("Snapshotter"), None);
}

#[test]
fn older_versions_do_not_have_what_came_later() {
    let view = view("FARGATE", "awsvpc");
    for version in [Version::V2, Version::V3] {
        let shown = task(&view, &around(), version);
        for absent in ["LaunchType", "ServiceName", "ClockDrift", "FaultInjectionEnabled"] {
            assert_eq!(shown.get(absent), None, "{absent}");
        }
        let main = &shown["Containers"][0];
        assert_eq!(main.get("ContainerARN"), None);
        let network = json!([{"NetworkMode": "awsvpc", "IPv4Addresses": ["172.31.0.9"]}]);
        assert_eq!(main["Networks"], network);
    }
}

#[test]
fn tags_are_shown_where_they_are_asked_for_with_what_kept_them_from_being_read() {
    let tags = Map::from_iter([("team".to_owned(), Value::from("x"))]);
    let errors = vec![json!({ "ErrorField": "ContainerInstanceTags" })];
    let tagged = Tagged { task: Some(tags), instance: None, errors };
    let around = Around { tags: Some(tagged), ..around() };
    let shown = task(&view("EC2", "bridge"), &around, Version::V4);
    assert_eq!(shown["TaskTags"], json!({"team": "x"}));
    assert_eq!(shown.get("ContainerInstanceTags"), None);
    assert_eq!(shown["Errors"][0]["ErrorField"], "ContainerInstanceTags");
}

#[test]
fn a_task_is_as_far_as_the_container_that_is_furthest_behind() {
    let phases = |phases: &[Phase]| {
        let container = |phase| ContainerState { phase, ..ContainerState::default() };
        let containers: Vec<ContainerState> = phases.iter().copied().map(container).collect();
        known_of_task(&containers)
    };
    assert_eq!(phases(&[Phase::Running, Phase::Created]), "CREATED");
    assert_eq!(phases(&[Phase::Running, Phase::Waiting]), "NONE");
    assert_eq!(phases(&[Phase::Stopped, Phase::Exited]), "RUNNING");
    assert_eq!(phases(&[Phase::Stopped]), "STOPPED");
}
