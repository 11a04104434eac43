//! Any text as a frame of the work socket: read or refused, as a payload's tasks too, and never a panic.

#![no_main]

use acs::message::{Header, Heartbeat};
use acs::{Envelope, Task};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(text)
        && let Some(message) = envelope.message
    {
        drop(serde_json::from_str::<Heartbeat>(message.get()));
        if let Ok(header) = serde_json::from_str::<Header>(message.get()) {
            drop(header.ack(None));
        }
    }
    if let Ok(task) = serde_json::from_str::<Task>(text) {
        drop(agent::spec::parse(&task));
    }
});
