"""Follows docs/runbooks/add-a-service.md in a copy of the tree: adds a service of one operation and builds it.

Usage: add_a_service.py [TARGET_DIR]. What the runbook names and nothing else is touched, so that it fails where the
runbook leaves a place out. The copy goes at the end.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

SERVICE = '''
[[service]]
module = "codedeploy"
trait = "CodeDeploy"
title = "AWS CodeDeploy"
model = "codedeploy/2014-10-06"
violations = "ValidationException"
operations = ["ListApplications"]
'''

MANIFEST = '''[package]
name = "codedeploy"
version.workspace = true
edition.workspace = true
rust-version.workspace = true
license.workspace = true
publish.workspace = true

[lints]
workspace = true

[dependencies]
aws-wire.workspace = true
control.workspace = true
codedeploy-api.workspace = true
'''

CODE = '''//! A service that a runbook's test adds.

use std::sync::Arc;

use aws_wire::service::{Answer, Call, Service};
use aws_wire::{ApiError, Caller};
use control::Control;
use control::ports::{BoxFuture, RegionService};
use codedeploy_api::{ListApplicationsInput, ListApplicationsOutput};

/// The service.
#[derive(Debug)]
pub struct Applications {
    pub control: Arc<Control>,
}

impl RegionService for Applications {
    fn service(&self) -> &'static Service {
        &codedeploy_api::SERVICE
    }

    fn dispatch<'a>(
        &'a self,
        caller: &'a Caller,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Answer, ApiError>> {
        Box::pin(codedeploy_api::dispatch(self, caller, call))
    }
}

impl codedeploy_api::CodeDeploy for Applications {
    async fn list_applications(
        &self,
        _caller: &Caller,
        _: ListApplicationsInput,
    ) -> Result<ListApplicationsOutput, ApiError> {
        Ok(ListApplicationsOutput { applications: Some(Vec::new()), next_token: None })
    }
}
'''


def edit(path, pattern, replacement):
    text = path.read_text()
    changed = re.sub(pattern, replacement, text, count=1, flags=re.M)
    assert changed != text, f"{path.name} has no place like {pattern}"
    path.write_text(changed)


def follow(tree, codegen):
    """The places of the runbook, in its order."""
    places = tree / "xtask/services.toml"
    places.write_text(places.read_text() + SERVICE)
    codegen()
    edit(tree / "Cargo.toml", r"^(identity = .*)$", r'\1' '\n'
         r'codedeploy = { path = "crates/services/codedeploy" }' '\n'
         r'codedeploy-api = { path = "crates/api/codedeploy" }')
    crate = tree / "crates/services/codedeploy/src"
    crate.mkdir(parents=True)
    (crate.parent / "Cargo.toml").write_text(MANIFEST)
    (crate / "lib.rs").write_text(CODE)
    region = tree / "crates/region/region"
    edit(region / "Cargo.toml", r"^identity\.workspace = true$", "identity.workspace = true\ncodedeploy.workspace = true")
    edit(region / "src/region.rs", r"^( *)Arc::new\(Identity::new\(core\(\)\)\),$",
         r"\g<0>\n\1Arc::new(codedeploy::Applications { control: core() }),")
    edit(tree / "ARCHITECTURE.md", r"^(\| services/`identity`.*)$", r"\1\n| services/`codedeploy` | applications | – |")


def main():
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "target/runbooks").resolve()
    # One place for all runs, so that what was built stays usable; and not where others may make names.
    tree = target / "tree"
    target.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(tree, ignore_errors=True)
    try:
        subprocess.run(["git", "clone", "-q", "--no-hardlinks", ROOT, tree], check=True)
        if (ROOT / ".cache").is_dir():
            shutil.copytree(ROOT / ".cache", tree / ".cache")
        environment = {**os.environ, "CARGO_TARGET_DIR": str(target)}

        def cargo(*words):
            print("cargo", *words, flush=True)
            subprocess.run(["cargo", *words], cwd=tree, env=environment, check=True)

        follow(tree, lambda: cargo("run", "-q", "-p", "xtask", "--", "codegen"))
        cargo("run", "-q", "-p", "xtask", "--", "layers")
        cargo("check", "-q", "-p", "region")
        parity = (tree / "docs/parity.md").read_text()
        assert "## AWS CodeDeploy\n\n* List: Applications\n" in parity, parity
        print("a service was added as the runbook says, and built")
    finally:
        shutil.rmtree(tree, ignore_errors=True)


if __name__ == "__main__":
    main()
