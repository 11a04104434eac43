"""`longshore top`: what tasks use, over all hosts, as the hosts said it."""

import json
import os

import pytest

from hosts import PORT, SUBNET, eventually, fleet, join_all

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces need root")


def test_what_tasks_use_is_shown_over_all_hosts(tmp_path):
    with fleet(tmp_path, 2) as (region, hosts):
        join_all(region, hosts)
        ecs = region.client("ecs")
        assert "no figures" in region.longshore("top", "--once").stdout
        arns = {}
        for family, command in (("busy", ["sh", "-c", "while :; do :; done"]), ("idle", ["sleep", "infinity"])):
            ecs.register_task_definition(family=family, networkMode="bridge", requiresCompatibilities=["EC2"],
                                         containerDefinitions=[{"name": "main", "image": f"{SUBNET}.1:{PORT}/box:1",
                                                                "command": command, "memory": 16, "stopTimeout": 2}])

            def ran():
                run = ecs.run_task(cluster="web", taskDefinition=family, launchType="EC2")
                return run["tasks"] and run["tasks"][0]["taskArn"]

            arns[family], _ = eventually("room", ran)

        def shown(*words):
            listed = json.loads(region.longshore("top", "--once", "--json", *words).stdout)
            assert listed["leftOff"] == 0
            return {task["task"]: task for task in listed["tasks"]}

        eventually("figures of both", lambda: set(shown()) == set(arns.values()), 60)
        busy, idle = (shown()[arns[family]]["containers"][0] for family in ("busy", "idle"))
        # However little a busy machine leaves it.
        assert busy["cpuPercent"] > 2 > idle["cpuPercent"]
        assert 0 < idle["memoryMib"] <= 16
        assert idle["receivedBytesPerSecond"] is not None
        assert {task["host"] for task in shown().values()} <= {"host1", "host2"}
        assert shown("--cluster", "other") == {}
        lines = region.longshore("top").stdout.splitlines()
        assert lines[0].split()[:6] == ["CLUSTER", "TASK", "HOST", "DEFINITION", "GROUP", "CPU%"]
        assert "busy:1" in lines[1] and "idle:1" in lines[2], lines
        ecs.stop_task(cluster="web", task=arns["busy"])
        eventually("the stopped task to go", lambda: set(shown()) == {arns["idle"]})
