"""Cloud Map, and tasks that find each other by its names."""


import pytest

from conftest import unique, wait_for
from services import only, refused


class Discovery:
    """Namespaces of one test's own."""

    def __init__(self, region):
        self.map, self.made = region.client("servicediscovery"), []
        own = [{"Name": "is-default", "Values": ["true"]}]
        self.vpc = only(region.client("ec2").describe_vpcs(Filters=own)["Vpcs"])["VpcId"]

    def target(self, answer, of):
        operation = self.map.get_operation(OperationId=answer["OperationId"])["Operation"]
        assert operation["Status"] == "SUCCESS", operation
        return operation["Targets"][of]

    def http(self, name):
        self.made.append(self.target(self.map.create_http_namespace(Name=name), "NAMESPACE"))
        return self.made[-1]

    def dns(self, name):
        made = self.map.create_private_dns_namespace(Name=name, Vpc=self.vpc)
        self.made.append(self.target(made, "NAMESPACE"))
        return self.made[-1]

    def service(self, namespace, name, *records, **more):
        if records:
            more["DnsConfig"] = {"DnsRecords": [{"Type": kind, "TTL": 1} for kind in records]}
        return self.map.create_service(Name=name, NamespaceId=namespace, **more)["Service"]

    def found(self, namespace, service, **more):
        found = self.map.discover_instances(NamespaceName=namespace, ServiceName=service, **more)
        return found["Instances"]

    def clean_up(self):
        for namespace in self.made:
            of_it = [{"Name": "NAMESPACE_ID", "Values": [namespace]}]
            for service in self.map.list_services(Filters=of_it)["Services"]:
                wait_for("the instances' end", lambda: not self.map.list_instances(ServiceId=service["Id"])["Instances"], 60)
                self.map.delete_service(Id=service["Id"])
            self.map.delete_namespace(Id=namespace)


# By the resolver that is in the container's resolv.conf; what is static has no other.
GET = r"""
get() {
    address=$(nslookup -type=a "$1" | grep '^Address: ' | tail -1)
    [ -n "$address" ] && printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 5 "${address#Address: }" 80 | tail -1 | grep .
}
"""


@pytest.fixture
def discovery(region):
    made = Discovery(region)
    yield made
    made.clean_up()


def test_instances_are_registered_found_and_taken_away(discovery):
    name = unique("ns")
    namespace = discovery.http(name)
    refused(discovery.map.create_http_namespace, "NamespaceAlreadyExists", Name=name)
    service = discovery.service(namespace, "web", HealthCheckCustomConfig={})
    for instance in ("one", "two"):
        discovery.target(discovery.map.register_instance(
            ServiceId=service["Id"], InstanceId=instance, Attributes={"colour": instance}), "INSTANCE")
    assert {each["InstanceId"] for each in discovery.found(name, "web")} == {"one", "two"}
    discovery.map.update_instance_custom_health_status(ServiceId=service["Id"], InstanceId="one", Status="UNHEALTHY")
    assert [each["InstanceId"] for each in discovery.found(name, "web")] == ["two"]
    assert len(discovery.found(name, "web", HealthStatus="ALL")) == 2
    health = discovery.map.get_instances_health_status(ServiceId=service["Id"])["Status"]
    assert health == {"one": "UNHEALTHY", "two": "HEALTHY"}
    refused(discovery.map.delete_service, "ResourceInUse", Id=service["Id"])
    for instance in ("one", "two"):
        discovery.map.deregister_instance(ServiceId=service["Id"], InstanceId=instance)
    refused(discovery.map.get_instance, "InstanceNotFound", ServiceId=service["Id"], InstanceId="one")


def test_tasks_of_a_service_are_found_by_name_from_other_tasks(services, discovery):
    zone = unique("ns") + ".local"
    service = discovery.service(discovery.dns(zone), "web", "A")
    definition = services.define(services.web("by name", portMappings=[{"containerPort": 80}]))
    registries = [{"registryArn": service["Arn"]}]
    name = services.create(definition, 2, serviceRegistries=registries)
    assert services.steady(name, 2)["serviceRegistries"] == registries
    found = wait_for("the instances", lambda: len(discovery.found(zone, "web")) == 2 and discovery.found(zone, "web"))
    tasks = services.tasks(name)
    assert {each["InstanceId"] for each in found} == {task["taskArn"].rsplit("/", 1)[1] for task in tasks}
    attributes = found[0]["Attributes"]
    assert attributes["ECS_SERVICE_NAME"] == name and attributes["AVAILABILITY_ZONE"], attributes
    lines, _ = services.output("sh", "-c", f"{GET} get web.{zone}; get WEB.{zone}; get other.{zone} || echo none")
    assert lines[:2] == ["by name", "by name"] and lines[-1] == "none", lines
    services.update(name, desiredCount=0)
    wait_for("their end", lambda: discovery.found(zone, "web") == [], 60)
    lines, _ = services.output("sh", "-c", f"{GET} get web.{zone} || echo gone")
    assert lines[-1] == "gone", lines


def test_a_name_leads_to_another_one(services, discovery):
    zone = unique("ns") + ".local"
    namespace = discovery.dns(zone)
    web = discovery.service(namespace, "web", "A")
    one = {"RoutingPolicy": "WEIGHTED", "DnsRecords": [{"Type": "CNAME", "TTL": 1}]}
    old = discovery.map.create_service(Name="old", NamespaceId=namespace, DnsConfig=one)["Service"]
    mixed = {"RoutingPolicy": "WEIGHTED", "DnsRecords": [{"Type": kind, "TTL": 1} for kind in ("SRV", "CNAME")]}
    refused(discovery.map.create_service, "InvalidInput", "stands alone", Name="two", NamespaceId=namespace, DnsConfig=mixed)
    refused(discovery.map.register_instance, "InvalidInput", "AWS_INSTANCE_CNAME", ServiceId=old["Id"], InstanceId="one",
            Attributes={"AWS_INSTANCE_IPV4": "172.31.0.9"})
    discovery.map.register_instance(ServiceId=old["Id"], InstanceId="one", Attributes={"AWS_INSTANCE_CNAME": f"web.{zone}."})
    definition = services.define(services.web("by another name", portMappings=[{"containerPort": 80}]))
    refused(services.create, "InvalidParameterException", "CNAME", definition=definition,
            serviceRegistries=[{"registryArn": old["Arn"]}])
    name = services.create(definition, 1, serviceRegistries=[{"registryArn": web["Arn"]}])
    services.steady(name, 1)
    lines, _ = services.output("sh", "-c", f"{GET} get old.{zone}; nslookup -type=cname old.{zone}")
    assert lines[0] == "by another name" and any(f"web.{zone}" in line for line in lines[1:]), lines
    discovery.map.deregister_instance(ServiceId=old["Id"], InstanceId="one")
    services.update(name, desiredCount=0)
    wait_for("its end", lambda: discovery.found(zone, "web") == [], 60)


def test_a_running_task_learns_of_names_that_come_later(services, discovery, region):
    zone = unique("ns") + ".local"
    script = f"{GET} for i in $(seq 300); do get web.{zone} && exit 0; sleep 0.2; done; exit 1"
    asking, = services.run(services.define(services.container("sh", "-c", script)))
    services.until(asking, "RUNNING")
    service = discovery.service(discovery.dns(zone), "web", "A", "SRV")
    definition = services.define(services.web("later", portMappings=[{"containerPort": 80}]))
    registries = [{"registryArn": service["Arn"], "containerName": "main", "containerPort": 80}]
    name = services.create(definition, 1, serviceRegistries=registries)
    services.until(asking, "STOPPED", 90)
    assert services.lines(asking)[-1] == "later"
    found = only(discovery.found(zone, "web"))
    assert found["Attributes"]["AWS_INSTANCE_PORT"] == "80"
    services.update(name, desiredCount=0)
    wait_for("its end", lambda: discovery.found(zone, "web") == [], 60)


def test_registries_that_cannot_be_are_refused(services, discovery):
    definition = services.define(services.web("one", portMappings=[{"containerPort": 80}]))
    missing = discovery.map.meta.region_name
    arn = f"arn:aws:servicediscovery:{missing}:000000000000:service/srv-aaaaaaaaaaaaaaaa"
    refused(services.create, "InvalidParameterException", "does not exist", definition=definition,
            serviceRegistries=[{"registryArn": arn}])
    service = discovery.service(discovery.dns(unique("ns") + ".local"), "web", "SRV")
    refused(services.create, "InvalidParameterException", "needs a port", definition=definition,
            serviceRegistries=[{"registryArn": service["Arn"]}])
