"""Secrets and parameters in task definitions: given to the container, and found nowhere else."""

import base64
import json
import subprocess

import pytest

from conftest import unique, wait_for
from services import IDLE, environments_with, files_with
from test_execution_roles import LEAD, LOG, PULL, failed
from test_task_roles import make_role, why

READ = ["secretsmanager:GetSecretValue", "ssm:GetParameters"]


@pytest.fixture
def kept(region):
    secrets, parameters = region.client("secretsmanager"), region.client("ssm")
    plain, deep, slashed = unique("plain"), "/" + unique("deep") + "/word", "/" + unique("slashed")
    word = "geheim" + unique("w").replace("-", "")
    value = json.dumps({"user": "ann", "word": word, "port": 5432})
    arn = secrets.create_secret(Name=unique("s"), SecretString=value)["ARN"]
    parameters.put_parameter(Name=plain, Value=word + "1", Type="SecureString")
    parameters.put_parameter(Name=deep, Value="open to all", Type="String")
    parameters.put_parameter(Name=slashed, Value="with a slash", Type="String")
    return {"arn": arn, "plain": plain, "deep": deep, "slashed": slashed, "word": word, "value": value}


def secret(name, source):
    return {"name": name, "valueFrom": source}


def test_every_form_of_a_reference_gives_its_value(region, cluster, kept):
    account = region.client("sts").get_caller_identity()["Account"]
    region.client("secretsmanager").put_secret_value(SecretId=kept["arn"], SecretString='{"word": "newer"}')
    forms = {"WHOLE": f"{kept['arn']}::AWSPREVIOUS:", "KEY": f"{kept['arn']}:word:AWSPREVIOUS:",
             "NUMBER": f"{kept['arn']}:port:AWSPREVIOUS:", "NEW": f"{kept['arn']}:word::", "PLAIN": kept["plain"],
             "DEEP": kept["deep"], "ARN": f"arn:aws:ssm:eu-north-1:{account}:parameter{kept['deep']}",
             "PLAIN_ARN": f"arn:aws:ssm:eu-north-1:{account}:parameter/{kept['plain']}", "SLASHED": kept["slashed"],
             "SLASHED_ARN": f"arn:aws:ssm:eu-north-1:{account}:parameter{kept['slashed']}"}
    script = "for name in " + " ".join(forms) + "; do eval echo \\$$name; done"
    container = cluster.container("sh", "-c", script, secrets=[secret(*form) for form in forms.items()])
    arn, = cluster.run(cluster.define(container, executionRoleArn=make_role(region, *PULL, *LOG, *READ)))
    task = cluster.until(arn, "STOPPED")
    word = kept["word"]
    assert cluster.lines(arn) == [kept["value"], word, "5432", "newer", word + "1", "open to all",
                                  "open to all", word + "1", "with a slash", "with a slash"], (
        cluster.lines(arn), why(task))


def test_a_value_is_in_the_containers_environment_and_nowhere_else(region, cluster, kept):
    container = cluster.container("sh", "-c", f"echo there; {IDLE}", stopTimeout=2, secrets=[
        secret("A", f"{kept['arn']}:word::"), secret("B", kept["plain"])])
    definition = cluster.define(container, executionRoleArn=make_role(region, *PULL, *LOG, *READ))
    arn, = cluster.run(definition)
    cluster.until(arn, "RUNNING")
    wait_for("its line", lambda: cluster.lines(arn))
    words = [kept["word"].encode(), base64.b64encode(kept["word"].encode()).rstrip(b"=")]
    shown = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, check=True).stdout
    assert words[0] not in shown
    assert files_with(region, *words) == []
    described = [cluster.describe(arn), cluster.ecs.describe_task_definition(taskDefinition=definition)]
    assert kept["word"] not in str(described)
    assert environments_with(b"A=" + words[0]), "it was looked for in the right way"
    cluster.ecs.stop_task(cluster=cluster.name, task=arn)


def test_what_cannot_be_read_is_named_before_anything_starts(region, cluster, kept):
    role = make_role(region, *PULL, *LOG, *READ)
    asking = lambda source: cluster.container("true", secrets=[secret("S", source)])
    missing = kept["arn"][:-6] + "AbCdEf"
    for source, rest in [
        (missing, f"secret from asm: service call has been retried 1 time(s): failed to fetch secret {missing} from "
                  "secrets manager: ResourceNotFoundException: Secrets Manager can't find the specified secret."),
        (f"{kept['arn']}:none::", "secret from asm: service call has been retried 1 time(s): retrieved secret from "
                                  "Secrets Manager did not contain json key none"),
        ("/no/such", "secrets from ssm: service call has been retried 1 time(s): invalid ssm parameters: /no/such"),
    ]:
        reason, _ = failed(cluster, role, asking(source))
        assert reason == LEAD + rest, reason


@pytest.mark.parametrize("source, action, what", [
    ("arn", "secretsmanager:GetSecretValue", "secret from asm"), ("plain", "ssm:GetParameters", "secrets from ssm")])
def test_a_role_that_may_not_read_says_so(region, cluster, kept, source, action, what):
    role = make_role(region, *PULL, *LOG)
    reason, task = failed(cluster, role, cluster.container("true", secrets=[secret("S", kept[source])]))
    assert reason.startswith(f"{LEAD}{what}: service call has been retried 1 time(s): "), reason
    assert (f"AccessDeniedException: User: arn:aws:sts::000000000000:assumed-role/{role.rsplit('/', 1)[1]}/{task} is not "
            f"authorized to perform: {action} on resource: ") in reason, reason
    assert reason.endswith(f"because no identity-based policy allows the {action} action"), reason
