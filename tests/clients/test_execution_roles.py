"""A task's execution is done in its role: images, logs and secrets, and what a role may not do fails the task."""

import json

import pytest

from conftest import unique
from test_task_roles import make_role, why

PULL = ["ecr:GetAuthorizationToken", "ecr:BatchCheckLayerAvailability", "ecr:GetDownloadUrlForLayer",
        "ecr:BatchGetImage"]
LOG = ["logs:CreateLogStream", "logs:PutLogEvents"]
LEAD = ("ResourceInitializationError: unable to pull secrets or registry auth: execution resource retrieval failed: "
        "unable to retrieve ")


def failed(cluster, role, *containers, **more):
    containers = containers or [cluster.container("true")]
    arn, = cluster.run(cluster.define(*containers, executionRoleArn=role, **more))
    task = cluster.until(arn, "STOPPED")
    assert task["stopCode"] == "TaskFailedToStart", task
    return why(task), arn.rsplit("/", 1)[1]


def denied(role, action):
    return f":assumed-role/{role.rsplit('/', 1)[1]}/", f"is not authorized to perform: {action} on resource: "


@pytest.mark.parametrize("allowed, action, lead", [
    (LOG, "ecr:GetAuthorizationToken",
     LEAD + "ecr registry auth: service call has been retried 1 time(s): AccessDeniedException: User: arn:aws:sts::"),
    (LOG + PULL[:3], "ecr:BatchGetImage", "CannotPullContainerError: "),
    (PULL, "logs:CreateLogStream", "ResourceInitializationError: failed to validate logger args: "),
])
def test_what_an_execution_role_may_not_do_fails_the_task(region, cluster, allowed, action, lead):
    role = make_role(region, *allowed)
    reason, _ = failed(cluster, role)
    assert reason.startswith(lead), reason
    assert all(part in reason for part in denied(role, action)), reason
    assert f"because no identity-based policy allows the {action} action" in reason, reason


def test_a_role_with_what_it_takes_is_enough(region, cluster):
    arn, = cluster.run(cluster.define(cluster.container("echo", "hello"), executionRoleArn=make_role(region, *PULL, *LOG)))
    task = cluster.until(arn, "STOPPED")
    assert task["stopCode"] == "EssentialContainerExited", task
    assert cluster.lines(arn) == ["hello"]


def test_a_role_that_is_not_there_executes_nothing(region, cluster):
    role = f"arn:aws:iam::000000000000:role/{unique('none')}"
    reason, _ = failed(cluster, role)
    assert reason.startswith(f"ECS was unable to assume the role '{role}' that was provided for this task."), reason


def test_a_deny_that_comes_later_is_in_force_with_the_next_pull(region, cluster):
    role = make_role(region, *PULL, *LOG)
    definition = cluster.define(cluster.container("true"), executionRoleArn=role)
    arn, = cluster.run(definition)
    assert cluster.until(arn, "STOPPED")["stopCode"] == "EssentialContainerExited"
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "ecr:BatchGetImage", "Resource": "*"}]}
    region.client("iam").put_role_policy(RoleName=role.rsplit("/", 1)[1], PolicyName="no", PolicyDocument=json.dumps(policy))
    arn, = cluster.run(definition)
    task = cluster.until(arn, "STOPPED")
    assert task["stopCode"] == "TaskFailedToStart", task
    assert "with an explicit deny in an identity-based policy" in why(task), why(task)
