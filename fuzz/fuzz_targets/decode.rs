//! Any bytes as the input of an operation: no panic, and never our fault.

#![no_main]

use ec2_api as ec2;
use ecr_api as ecr;
use ecs_api as ecs;
use logs_api as logs;
use aws_wire::service::{Call, Inbound, Protocol, Service, error_answer};
use http::HeaderMap;
use libfuzzer_sys::fuzz_target;
use longshore_types::Uuid;

fuzz_target!(|data: &[u8]| {
    let Some((&which, body)) = data.split_first() else { return };
    let protocol = if which & 0x80 == 0 { Protocol::AwsJson11 } else { Protocol::RpcV2Cbor };
    let (service, name, protocol): (&'static Service, &str, Protocol) = match which & 3 {
        0 => (&ecs::SERVICE, "RegisterTaskDefinition", protocol),
        1 => (&logs::SERVICE, "PutLogEvents", protocol),
        2 => (&ecr::SERVICE, "UploadLayerPart", protocol),
        _ => (&ec2::SERVICE, "DescribeSubnets", Protocol::Ec2Query),
    };
    let headers = HeaderMap::new();
    let call = Call {
        service,
        operation: service.operation(name).expect("the operation is there"),
        protocol,
        inbound: Inbound { path: "/", query: "", headers: &headers, body },
        form: None,
        request_id: Uuid::from_random([0; 16]),
    };
    let read = match which & 3 {
        0 => call.input::<ecs::RegisterTaskDefinitionRequest>().map(drop),
        1 => call.input::<logs::PutLogEventsRequest>().map(drop),
        2 => call.input::<ecr::UploadLayerPartRequest>().map(drop),
        _ => call.input::<ec2::DescribeSubnetsRequest>().map(drop),
    };
    if let Err(error) = read {
        assert!(error.status < 500);
        error_answer(&error, protocol, Some(service), call.request_id);
    }
});
