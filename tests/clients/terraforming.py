"""Terraform with Amazon's own provider against a region, where both can be had."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PROVIDERS = [os.environ.get("LONGSHORE_TERRAFORM_PLUGINS", ""), "/opt/tf-plugins", "~/.terraform.d/plugins",
             "/usr/local/share/terraform/plugins", "/usr/share/terraform/plugins"]


def head(*services, tagged=False, asks_account=False):
    """What a configuration begins with: the provider, which finds these services of the region by a variable. `tagged`:
    everything has a tag; `asks_account`: the provider asks who it is."""
    endpoints = "\n".join(f"    {service} = var.endpoint" for service in services)
    account = "" if asks_account else "  skip_requesting_account_id  = true\n"
    tags = '  default_tags {\n    tags = { managed-by = "terraform" }\n  }\n' if tagged else ""
    return f"""
terraform {{
  required_providers {{
    aws = {{
      source = "hashicorp/aws"
    }}
  }}
}}

variable "endpoint" {{ type = string }}

provider "aws" {{
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_region_validation      = true
{account}  endpoints {{
{endpoints}
  }}
{tags}}}

"""


class Terraform:
    """A working directory, and the environment that every command has.

    With a `text` that is its configuration, which takes the endpoint from a variable; without one, the configuration lies
    in the folder already and the provider finds the region by the environment. `inside` makes of a command one that runs
    in another network. The test is skipped, with the reason, where Terraform or the provider can not be had.
    """

    def __init__(self, folder, region, variables, text=None, inside=lambda *words: list(words)):
        if not shutil.which("terraform"):
            pytest.skip("terraform is not installed")
        self.folder, self.region, self.inside = folder, region, inside
        (folder / "cli.tfrc").write_text("disable_checkpoint = true\n")
        # A command spends its time on the provider's schema: a quarter less where garbage is collected less often.
        self.environment = {**region.shell(), "GOGC": "400", "TF_IN_AUTOMATION": "1", "TF_INPUT": "0", "CHECKPOINT_DISABLE": "1",
                            "TF_CLI_CONFIG_FILE": str(folder / "cli.tfrc"), "AWS_EC2_METADATA_DISABLED": "true",
                            **{f"TF_VAR_{name}": str(value) for name, value in variables.items()}}
        if text is not None:
            (folder / "main.tf").write_text(text)
            self.environment["TF_VAR_endpoint"] = region.endpoint
            del self.environment["AWS_ENDPOINT_URL"]
        plugins = plugin_folder()
        done = self.ask("init", *([f"-plugin-dir={plugins}"] if plugins else []))
        if done.returncode:
            pytest.skip(f"the provider can not be had: {done.stderr.strip()[-300:]}")

    def ask(self, *words, **variables):
        environment = {**self.environment, **{f"TF_VAR_{name}": str(value) for name, value in variables.items()}}
        command = self.inside("terraform", f"-chdir={self.folder}", *words, "-no-color")
        return subprocess.run(command, env=environment, text=True, capture_output=True, timeout=300, stdin=subprocess.DEVNULL)

    def run(self, *words, expect=0, **variables):
        done = self.ask(*words, **variables)
        assert done.returncode == expect, f"terraform {' '.join(words)}: {done.returncode}\n{done.stdout[-6000:]}\n" \
            f"{done.stderr[-4000:]}\n{self.region.tail()}"
        return done.stdout


def plugin_folder():
    """Where this machine keeps providers: none means that Terraform must fetch it."""
    for name in filter(None, PROVIDERS):
        folder = Path(name).expanduser()
        if any(folder.glob("*/hashicorp/aws")):
            return folder
    return None
