//! A volume that is filled from any two layers, at any path, while links are swapped: nothing outside is read or changed.

#![no_main]

#[path = "../layer.rs"]
mod layer;

use std::path::Path;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let place = layer::Place::new();
    let Some((&which, rest)) = data.split_first() else { return };
    let (low, high) = rest.split_at(rest.len() / 2);
    let layers = [place.inside().join("low"), place.inside().join("high")];
    for (bytes, dir) in [low, high].into_iter().zip(&layers) {
        std::fs::create_dir(dir).expect("a directory");
        drop(image::unpack_untrusted(&layer::archive(bytes, &place.outside()), dir));
    }
    let volume = place.inside().join("volume");
    std::fs::create_dir(&volume).expect("a directory");
    let path = layer::name(which, &place.outside());
    drop(agent::engine::fill_volume(&layers, Path::new(&path), &volume));
    place.check();
    layer::shows_nothing(&volume);
});
