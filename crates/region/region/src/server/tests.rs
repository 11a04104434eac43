//! The listener over a small site: real sockets, real signatures.

mod flood;
mod region_api;
mod tls;
mod wire;

use std::time::Duration;

use http::StatusCode;
use region_api::{NOW, Running, signed};
use serde_json::json;
use wire::{Sent, send_raw};

const LIST: &str = "AmazonEC2ContainerServiceV20141113.ListClusters";

#[tokio::test]
async fn a_signed_request_is_answered_and_has_an_id() {
    let region = Running::start().await;
    let got = region.send(&signed("ecs").target(LIST).body("{}")).await;
    assert_eq!(got.status, 200);
    assert_eq!(got.header("content-type"), "application/x-amz-json-1.1");
    assert_eq!(got.header("x-amzn-requestid").len(), 36);
    assert_eq!(got.json(), json!({"clusterArns": ["arn:one"]}));
}

#[tokio::test]
async fn health_needs_no_signature_and_everything_else_does() {
    let region = Running::start().await;
    assert_eq!(region.send(&Sent::get("/health")).await.status, 200);
    let got = region.send(&Sent::post("/").target(LIST).body("{}")).await;
    assert_eq!((got.status, got.code()), (400, "MissingAuthenticationTokenException".into()));
    let form = "Action=GetCallerIdentity&Version=2011-06-15";
    let got = region.send(&Sent::post("/").form(form)).await;
    assert_eq!((got.status, got.xml_code()), (403, "MissingAuthenticationToken".into()));
    let form = "Action=DescribeVpcs&Version=2016-11-15";
    let got = region.send(&Sent::post("/").form(form)).await;
    assert_eq!((got.status, got.xml_code()), (400, "MissingParameter".into()));
    for path in ["/acs/ws", "/tcs/ws"] {
        assert_eq!(region.send(&Sent::get(path)).await.status, 400, "{path}");
    }
}

/// What it had decided by then is committed, so that the log must have it.
#[tokio::test]
async fn a_request_whose_caller_hangs_up_is_noted_all_the_same() {
    let mut region = Running::start().await;
    let address = region.address;
    let target = "AmazonEC2ContainerServiceV20141113.StopTask";
    let stop = signed("ecs").target(target).body(r#"{"task":"x"}"#);
    let waiting = tokio::spawn(async move { wire::send(address, &stop).await });
    region.wait_for_slow().await;
    waiting.abort();
    assert_eq!(region.next_noted().await, ("StopTask".to_owned(), 499));
}

#[tokio::test]
async fn each_request_is_noted_once_and_a_sockets_too() {
    let mut region = Running::start().await;
    assert_eq!(region.send(&signed("ecs").target(LIST).body("{}")).await.status, 200);
    assert_eq!(region.next_noted().await, ("ListClusters".to_owned(), 200));
    assert_eq!(region.send(&Sent::get("/acs/ws").signed_for("ecs")).await.status, 200);
    assert_eq!(region.next_noted().await, ("Poll".to_owned(), 200));
    assert_eq!(region.send(&Sent::get("/tcs/ws").signed_for("ecs")).await.status, 200);
    assert_eq!(region.next_noted().await, ("StartTelemetrySession".to_owned(), 200));
}

#[tokio::test]
async fn a_temporary_key_is_good_until_the_moment_it_ends() {
    let region = Running::start().await;
    let with = |key| signed("ecs").access_key(key).target(LIST).body("{}");
    assert_eq!(region.send(&with("ASIALIVE")).await.status, 200);
    let got = region.send(&with("ASIAOVER")).await;
    assert_eq!((got.status, got.code()), (400, "ExpiredTokenException".into()));
}

/// What is done to a good request, and the code that each kind of service answers.
#[tokio::test]
async fn whoever_tampers_is_told_so_in_the_services_own_words() {
    let region = Running::start().await;
    let good = || signed("ecs").target(LIST).body("{}");
    let cases: [(&str, Sent, &str); 8] = [
        (
            "replaced body",
            good().body_after_signing("{\"maxResults\":1}"),
            "InvalidSignatureException",
        ),
        ("wrong secret", good().secret("wrong"), "InvalidSignatureException"),
        ("unknown key", good().access_key("AKIDNOBODY"), "UnrecognizedClientException"),
        ("too old", good().at(NOW.0 - 16 * 60_000), "InvalidSignatureException"),
        ("too early", good().at(NOW.0 + 16 * 60_000), "InvalidSignatureException"),
        ("other region", good().region("eu-west-1"), "InvalidSignatureException"),
        ("other service", good().service("ecr"), "InvalidSignatureException"),
        (
            "header added",
            good().header_after_signing("x-amz-more", "1"),
            "InvalidSignatureException",
        ),
    ];
    for (what, request, code) in cases {
        let got = region.send(&request).await;
        assert_eq!((got.status, got.code()), (400, code.to_owned()), "{what}: {}", got.text());
    }
    let form = "Action=GetCallerIdentity&Version=2011-06-15";
    let sts = || signed("sts").form(form);
    assert_eq!(region.send(&sts()).await.status, 200);
    let cases: [(&str, Sent, &str); 3] = [
        ("replaced body", sts().body_after_signing("Action=Other"), "SignatureDoesNotMatch"),
        ("wrong secret", sts().secret("wrong"), "SignatureDoesNotMatch"),
        ("unknown key", sts().access_key("AKIDNOBODY"), "InvalidClientTokenId"),
    ];
    for (what, request, code) in cases {
        let got = region.send(&request).await;
        assert_eq!((got.status, got.xml_code()), (403, code.to_owned()), "{what}: {}", got.text());
    }
}

#[tokio::test]
async fn a_presigned_query_is_as_good_as_a_header() {
    let region = Running::start().await;
    let path = region.presigned("sts", "Action=GetCallerIdentity&Version=2011-06-15");
    let got = region.send(&Sent::get(&path)).await;
    assert_eq!(got.status, 200, "{}", got.text());
    assert!(got.text().contains("<Account>000000000000</Account>"), "{}", got.text());
    let altered = path.replace("GetCallerIdentity", "GetSessionToken");
    let got = region.send(&Sent::get(&altered)).await;
    assert_eq!(got.xml_code(), "SignatureDoesNotMatch");
}

#[tokio::test]
async fn an_operation_that_is_not_there_says_whether_it_will_be() {
    let region = Running::start().await;
    let ecs = |operation: &str| {
        let target = format!("AmazonEC2ContainerServiceV20141113.{operation}");
        signed("ecs").target(&target).body("{}")
    };
    let got = region.send(&ecs("CreateExpressGatewayService")).await;
    assert_eq!((got.status, got.code()), (400, "UnknownOperationException".into()));
    let words = "The operation CreateExpressGatewayService of Amazon ECS is not available in Longshore yet.";
    assert_eq!(got.json()["message"], words);
    let got = region.send(&ecs("MakeCoffee")).await;
    assert_eq!((got.status, got.code()), (400, "UnknownOperationException".into()));
    assert_eq!(got.json().get("message"), None);
    let got = region.send(&signed("ec2").form("Action=RunInstances&Version=2016-11-15")).await;
    assert_eq!((got.status, got.xml_code()), (400, "UnsupportedOperation".into()));
    assert!(got.text().contains("not available in Longshore yet"), "{}", got.text());
    let got =
        region.send(&signed("dynamodb").target("DynamoDB_20120810.ListTables").body("{}")).await;
    assert_eq!((got.status, got.code()), (400, "UnknownOperationException".into()));
}

#[tokio::test]
async fn a_node_may_not_do_what_only_people_do() {
    let region = Running::start().await;
    let got = region.send(&signed("ecs").target(LIST).access_key("AKIDNODE").body("{}")).await;
    assert_eq!((got.status, got.code()), (400, "AccessDeniedException".into()));
}

#[tokio::test]
async fn a_handler_that_panics_answers_500_and_the_next_request_is_served() {
    let region = Running::start().await;
    let target = "AmazonEC2ContainerServiceV20141113.DescribeClusters";
    let got = region.send(&signed("ecs").target(target).body("{}")).await;
    assert_eq!((got.status, got.code()), (500, "ServerException".into()));
    assert!(!got.text().contains("secret of the panic"), "{}", got.text());
    let got = region.send(&signed("ecs").target(LIST).body("{}")).await;
    assert_eq!(got.status, 200);
}

#[tokio::test]
async fn what_is_too_large_is_refused_unread() {
    let region = Running::start().await;
    let head = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\nx-amz-target: \
                AmazonEC2ContainerServiceV20141113.ListClusters\r\n\r\n";
    let got = send_raw(region.address, head.as_bytes()).await;
    assert!(got.starts_with("HTTP/1.1 413"), "{got}");
    assert!(got.contains("RequestEntityTooLargeException"), "{got}");
    let many = format!("GET /health HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(150));
    let got = send_raw(region.address, many.as_bytes()).await;
    assert!(got.starts_with("HTTP/1.1 431"), "{got}");
    let got = send_raw(region.address, b"\xff\xfe\0garbage\r\n\r\n").await;
    assert!(got.starts_with("HTTP/1.1 400"), "{got}");
}

#[tokio::test]
async fn broken_json_is_the_callers_mistake() {
    let region = Running::start().await;
    let deep = format!("{{\"x\":{}1{}}}", "[".repeat(5000), "]".repeat(5000));
    for body in ["{", "[]", "{\"maxResults\":\"x\"}", "{\"maxResults\":1e999}", "{} x", &deep] {
        let got = region.send(&signed("ecs").target(LIST).body(body)).await;
        assert_eq!((got.status, got.code()), (400, "SerializationException".into()), "{body}");
    }
    let bytes = signed("ecs").target(LIST).bytes(b"{\"nextToken\":\"\xff\"}");
    let got = region.send(&bytes).await;
    assert_eq!((got.status, got.code()), (400, "SerializationException".into()));
    let unknown = signed("ecs").target(LIST).body("{\"unknown\":{\"a\":[1,null]}}");
    assert_eq!(region.send(&unknown).await.status, 200, "unknown members are passed over");
}

#[tokio::test]
async fn the_registry_has_its_own_path_and_its_own_tokens() {
    let region = Running::start().await;
    for path in ["/v2", "/v2/", "/v2/hello/blobs/uploads/"] {
        let got = region.send(&Sent::get(path)).await;
        assert_eq!((got.status, got.text()), (401, "registry".into()), "{path}");
    }
    assert_ne!(region.send(&Sent::get("/v2x")).await.status, 401);
}

#[tokio::test]
async fn the_end_waits_for_a_request_that_is_being_answered() {
    let region = Running::start().await;
    let target = "AmazonEC2ContainerServiceV20141113.ListTasks";
    let slow = signed("ecs").target(target).body("{}");
    let address = region.address;
    let answering = tokio::spawn(async move { wire::send(address, &slow).await });
    region.wait_for_slow().await;
    let ending = tokio::spawn(region.stop());
    let got = answering.await.unwrap();
    assert_eq!(got.status, StatusCode::OK.as_u16());
    tokio::time::timeout(Duration::from_secs(5), ending).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn a_service_that_is_not_here_says_so_in_its_own_form() {
    let region = Running::start().await;
    let got = region.send(&signed("s3").body("")).await;
    assert_eq!(got.status, 501, "{}", got.text());
    assert!(got.text().contains("<Error><Code>NotImplemented</Code><Message>"), "{}", got.text());
    let got = region.send(&signed("route53").body("")).await;
    assert!(got.text().contains("<ErrorResponse><Error><Type>Sender</Type>"), "{}", got.text());
    let sqs = |operation: &str| {
        signed("sqs").target(&format!("AmazonSQS.{operation}")).body("{\"QueueName\":\"x\"}")
    };
    let got = region.send(&sqs("GetQueueUrl")).await;
    assert_eq!(got.status, 400);
    assert_eq!(got.json()["__type"], "com.amazonaws.sqs#QueueDoesNotExist");
    assert_eq!(got.json()["message"], "The specified queue does not exist.");
    let got = region.send(&sqs("CreateQueue")).await;
    assert!(got.text().contains("not available in Longshore yet"), "{}", got.text());
    let form = "Action=GetQueueUrl&QueueName=x&Version=2012-11-05";
    let got = region.send(&signed("sqs").form(form)).await;
    assert_eq!(got.xml_code(), "AWS.SimpleQueueService.NonExistentQueue");
    let unsigned = signed("s3").secret("wrong").body("");
    let got = region.send(&unsigned).await;
    assert!(got.text().starts_with("<?xml"), "{}", got.text());
}
