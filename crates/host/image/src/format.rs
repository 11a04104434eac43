//! The version of a store's directory, and the steps that raise an older one to it.

use std::path::Path;

use files::format::Step;

use crate::blobs::BlobError;

/// In order. A member that a record has since later is an `Option` or has a default, and needs none.
const STEPS: &[Step] = &[];

/// Makes the directory if it is missing, and brings what is in it to the version of this release.
pub(crate) fn raise(dir: &Path) -> Result<(), BlobError> {
    files::private::make_dirs(dir).map_err(BlobError::io("create", dir))?;
    files::format::raise(dir, STEPS).map_err(|error| BlobError::io("open", dir)(error.into()))
}

#[cfg(test)]
mod tests {
    use longshore_types::Chain;

    use super::*;

    #[test]
    fn a_newer_directory_is_refused_by_the_release_that_wrote_it() {
        let dir = tempfile::tempdir().unwrap();
        raise(dir.path()).unwrap();
        raise(dir.path()).unwrap();
        let newer = r#"{"version":1000,"release":"9.9.9"}"#;
        std::fs::write(dir.path().join(files::format::FILE), newer).unwrap();
        let text = Chain(&raise(dir.path()).unwrap_err()).to_string();
        assert!(text.contains("release 9.9.9"), "{text}");
    }
}
