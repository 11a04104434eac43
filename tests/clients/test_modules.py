"""What public Terraform modules and samples send by default, and audits ask, is answered as they expect."""

import botocore.exceptions
import pytest

from conftest import unique
from services import refused
from test_load_balancers import Balancers


@pytest.fixture
def balancers(region):
    balancers = Balancers(region)
    yield balancers
    balancers.clean_up()


def attributes(shown):
    return {each["Key"]: each["Value"] for each in shown["Attributes"]}


def test_whether_zones_are_crossed_groups_and_network_balancers_say_and_application_balancers_do_not(balancers):
    elb, key = balancers.elb, "load_balancing.cross_zone.enabled"
    group = balancers.group()
    for value in ("true", "false", "use_load_balancer_configuration"):
        elb.modify_target_group_attributes(TargetGroupArn=group, Attributes=[{"Key": key, "Value": value}])
        assert attributes(elb.describe_target_group_attributes(TargetGroupArn=group))[key] == value
    application = balancers.balancer()["LoadBalancerArn"]
    refused(elb.modify_load_balancer_attributes, "InvalidConfigurationRequest", "it can only be 'true'",
            LoadBalancerArn=application, Attributes=[{"Key": key, "Value": "false"}])
    network = balancers.balancer(Type="network")["LoadBalancerArn"]
    elb.modify_load_balancer_attributes(LoadBalancerArn=network, Attributes=[{"Key": key, "Value": "true"}])
    assert attributes(elb.describe_load_balancer_attributes(LoadBalancerArn=network))[key] == "true"


def test_a_listener_without_an_alpn_policy_shows_none(region, balancers):
    acm = region.client("acm")
    arn = acm.request_certificate(DomainName=f"{unique('a')}.example.com")["CertificateArn"]
    network = balancers.balancer(Type="network")["LoadBalancerArn"]
    group = balancers.group(Protocol="TCP")
    shown = balancers.elb.create_listener(
        LoadBalancerArn=network, Protocol="TLS", Port=8443, Certificates=[{"CertificateArn": arn}],
        DefaultActions=[{"Type": "forward", "TargetGroupArn": group}])["Listeners"][0]
    assert "AlpnPolicy" not in shown
    changed = balancers.elb.modify_listener(ListenerArn=shown["ListenerArn"], AlpnPolicy=["HTTP2Preferred"])
    assert changed["Listeners"][0]["AlpnPolicy"] == ["HTTP2Preferred"]


def test_the_preference_for_a_public_log_is_kept_as_for_a_private_authority(region):
    acm = region.client("acm")

    def preference(arn):
        options = acm.describe_certificate(CertificateArn=arn)["Certificate"]["Options"]
        return options["CertificateTransparencyLoggingPreference"]

    name = f"{unique('a')}.example.com"
    for asked, shown in ((None, "ENABLED"), ("ENABLED", "ENABLED"), ("DISABLED", "DISABLED")):
        options = {"Options": {"CertificateTransparencyLoggingPreference": asked}} if asked else {}
        arn = acm.request_certificate(DomainName=name, ValidationMethod="DNS", **options)["CertificateArn"]
        assert preference(arn) == shown
    acm.update_certificate_options(
        CertificateArn=arn, Options={"CertificateTransparencyLoggingPreference": "ENABLED"})
    assert preference(arn) == "ENABLED"


def test_a_clusters_default_strategy_may_have_no_weight_until_somebody_relies_on_it(region, ecs):
    cluster, family = unique("weights"), unique("web")
    ecs.create_cluster(clusterName=cluster, capacityProviders=["FARGATE", "FARGATE_SPOT"])
    none = [{"capacityProvider": each, "weight": 0} for each in ("FARGATE", "FARGATE_SPOT")]
    put = ecs.put_cluster_capacity_providers(
        cluster=cluster, capacityProviders=["FARGATE", "FARGATE_SPOT"], defaultCapacityProviderStrategy=none)
    assert [each["weight"] for each in put["cluster"]["defaultCapacityProviderStrategy"]] == [0, 0]
    ecs.register_task_definition(
        family=family, networkMode="awsvpc", cpu="256", memory="512", requiresCompatibilities=["FARGATE"],
        containerDefinitions=[{"name": "web", "image": "hello:1"}])
    why = "There are no capacity providers with a weight value greater than zero"
    refused(ecs.run_task, "InvalidParameterException", why, cluster=cluster, taskDefinition=family)
    refused(ecs.create_service, "InvalidParameterException", cluster=cluster, taskDefinition=family,
            serviceName="web", desiredCount=0, capacityProviderStrategy=none)


def test_classic_load_balancers_are_refused_and_not_taken_for_others(region):
    classic = region.client("elb")
    with pytest.raises(botocore.exceptions.ClientError, match="version 2012-06-01 .* is not available"):
        classic.describe_load_balancers()
