"""What Amazon's agent asks of the messages that it is sent. One that it would drop, or misread, is unfit."""

import json
import re

# Of the Docker API, as far as the agent knows it.
VERSIONS = range(17, 45)
TASK = re.compile(r"arn:aws:ecs:[a-z0-9-]+:\d{12}:task/([A-Za-z0-9_-]+/)?[0-9a-f]{32}")
# What it lays over what it computes itself, which must not be said again.
COMPUTED = {"config": {"Image", "Cmd", "Entrypoint", "Env", "ExposedPorts"},
            "hostConfig": {"Links", "Binds", "PortBindings", "VolumesFrom", "CpuShares"}}


class Unfit(Exception):
    """What the agent would drop, pass over or get wrong."""


def need(is_so, why):
    if not is_so:
        raise Unfit(why)


def check_header(message):
    for name in ("messageId", "clusterArn", "containerInstanceArn"):
        need(isinstance(message.get(name), str) and message[name], f"{name} is required")


def check_credentials(given):
    for name in ("credentialsId", "roleArn", "accessKeyId", "secretAccessKey", "sessionToken", "expiration"):
        need(isinstance(given.get(name), str) and given[name], f"credentials without {name}")
    need(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", given["expiration"]), "an expiration is written to the second")


def check_task(task):
    need(TASK.fullmatch(task["arn"]), "its ARN can't be read")
    need(task["desiredStatus"] in ("RUNNING", "STOPPED"), "there is no such status")
    for name in ("family", "version", "networkMode"):
        need(isinstance(task.get(name), str) and task[name], f"{name} is no text")
    need(isinstance(task.get("cpu", 0.0), (int, float)) and task.get("cpu", 0) <= 256, "cpu is in vCPU")
    need(isinstance(task.get("memory", 0), int), "memory is in MiB")
    for name in ("roleCredentials", "executionRoleCredentials"):
        if name in task:
            check_credentials(task[name])
    for volume in task.get("volumes", []):
        check_volume(volume)
    for interface in task.get("elasticNetworkInterfaces", []):
        check_interface(interface)
    names = [container["name"] for container in task["containers"]]
    for association in task.get("associations", []):
        need(association["type"] == "gpu" and set(association["containers"]) <= set(names), "it is of no container, or no GPU")
        need(association["content"]["encoding"] in ("identity", "base64"), "there is no such encoding")
    need(len(set(names)) == len(names) > 0, "containers are told apart by their names")
    for container in task["containers"]:
        check_container(container, names, task["networkMode"])


def check_volume(volume):
    kind = volume.get("type", "host")
    body = {"host": "host", "docker": "dockerVolumeConfiguration", "efs": "efsVolumeConfiguration"}.get(kind)
    need(body, f"no volume is of the type {kind}")
    need(isinstance(volume.get(body), dict), f"a volume of the type {kind} has {body}")


def check_interface(interface):
    for name in ("ec2Id", "macAddress", "attachmentArn"):
        need(isinstance(interface.get(name), str) and interface[name], f"an interface without {name}")
    need(interface.get("interfaceAssociationProtocol", "default") == "default", "such interfaces are not taken")
    addresses = interface.get("ipv4Addresses", [])
    need(sum(address["primary"] for address in addresses) == 1, "one address is the primary one")
    need(re.fullmatch(r"[\d.]+/\d+", interface.get("subnetGatewayIpv4Address", "")), "a gateway is written with its prefix")


def check_attach(message):
    check_header(message)
    need(TASK.fullmatch(message.get("taskArn", "")), "its task can't be read")
    need(message.get("waitTimeoutMs", 0) > 0, "how long it may wait is required")
    need(message.get("elasticNetworkInterfaces"), "an interface is required")
    for interface in message["elasticNetworkInterfaces"]:
        check_interface(interface)


def check_container(container, names, network_mode):
    need(isinstance(container.get("essential"), bool), "a container that is not said to be essential is not")
    environment = container.get("environment", {})
    need(isinstance(environment, dict) and all(isinstance(value, str) for value in environment.values()), "environment is a map")
    overrides = json.loads(container.get("overrides", "{}"))
    need(set(overrides) <= {"command"}, "the agent overrides commands alone")
    for mapping in container.get("portMappings", []):
        need(mapping.get("protocol") in ("tcp", "udp"), "a protocol is written small")
        need(("containerPort" in mapping) != ("containerPortRange" in mapping), "one port, or a range of them")
    for dependency in container.get("dependsOn", []):
        need(dependency["containerName"] in names, "it depends on nobody")
        need(dependency["condition"] in ("START", "COMPLETE", "SUCCESS", "HEALTHY"), "there is no such condition")
    login = container.get("registryAuthentication")
    need(login is None or login.get(f"{login['type']}AuthData"), "how to log in is not said")
    for secret in container.get("secrets", []):
        need(secret["provider"] in ("ssm", "asm") and secret["type"] == "ENVIRONMENT_VARIABLE", "no such secrets")
        need(secret.get("target", "CONTAINER") in ("CONTAINER", "LOG_DRIVER"), "no such target of a secret")
    check_docker(container, network_mode)


def check_docker(container, network_mode):
    docker = container["dockerConfig"]
    major, minor = docker["version"].split(".")
    need(major == "1" and int(minor) in VERSIONS, f"version {docker['version']} of Docker's API is not known")
    read = {}
    for name, computed in COMPUTED.items():
        need(isinstance(docker.get(name, "{}"), str), f"{name} is a text")
        read[name] = json.loads(docker.get(name, "{}"))
        need(isinstance(read[name], dict), f"{name} is a text of an object")
        need(not computed & set(read[name]), f"{computed & set(read[name])} is computed by the agent")
        need(None not in read[name].values(), f"a key of {name} that is there wins, even as null")
    mode = read["hostConfig"].get("NetworkMode")
    need(mode == network_mode or network_mode == "awsvpc", f"Docker is told {mode}, and the agent {network_mode}")
    has_check = "Healthcheck" in read["config"]
    need(has_check == (container.get("healthCheckType") == "docker"), "a health check is said twice or not at all")
