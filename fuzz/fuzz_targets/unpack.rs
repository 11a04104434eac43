//! Layers made of any bytes: whatever they hold, nothing outside the directory that they are unpacked in changes.

#![no_main]

#[path = "../layer.rs"]
mod layer;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let place = layer::Place::new();
    let Some((&which, rest)) = data.split_first() else { return };
    let archive = if which == 0 { rest.to_vec() } else { layer::archive(rest, &place.outside()) };
    drop(image::unpack_untrusted(&archive, &place.inside()));
    place.check();
});
