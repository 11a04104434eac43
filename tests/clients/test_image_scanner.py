"""Images that the operator's scanner looks at: what it finds is shown as ECR shows it."""

import pytest

from conftest import unique, wait_for
from services import refused
from test_registry_rights import Registry

# A scanner that prints what Trivy would, of what it finds in the layout that it is shown.
SCANNER = """
digest=$(sed 's/.*"digest":"\\(sha256:[0-9a-f]*\\)".*/\\1/' "$LONGSHORE_IMAGE/index.json")
cat <<END
{"SchemaVersion": 2, "ArtifactName": "$digest", "Results": [{"Target": "x", "Vulnerabilities": [
  {"VulnerabilityID": "CVE-2024-1", "PkgName": "openssl", "InstalledVersion": "3.0", "FixedVersion": "3.1", "Severity": "HIGH",
   "Title": "$digest", "PrimaryURL": "https://example.com/CVE-2024-1"},
  {"VulnerabilityID": "CVE-2024-2", "PkgName": "zlib", "Severity": "UNKNOWN"}]}]}
END
"""


@pytest.fixture(scope="module")
def scanning(start_region):
    return start_region("--image-scanner", SCANNER, name="scanning")


def test_a_pushed_image_is_scanned_and_its_findings_are_shown(scanning):
    ecr, name = scanning.client("ecr"), unique("web")
    ecr.create_repository(repositoryName=name, imageScanningConfiguration={"scanOnPush": True})
    Registry(scanning, ecr).push(name, "1")
    image = {"repositoryName": name, "imageId": {"imageTag": "1"}}
    ecr.get_waiter("image_scan_complete").wait(**image, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    answer = ecr.describe_image_scan_findings(**image)
    found = answer["imageScanFindings"]
    assert found["findingSeverityCounts"] == {"HIGH": 1, "UNDEFINED": 1}
    first = found["findings"][0]
    assert (first["name"], first["severity"], first["uri"]) == (
        "CVE-2024-1", "HIGH", "https://example.com/CVE-2024-1")
    assert first["description"] == answer["imageId"]["imageDigest"]
    assert {each["key"]: each["value"] for each in first["attributes"]} == {
        "package_name": "openssl", "package_version": "3.0", "fixed_version": "3.1"}
    detail, = ecr.describe_images(repositoryName=name)["imageDetails"]
    assert detail["imageScanStatus"]["status"] == "COMPLETE"
    assert detail["imageScanFindingsSummary"]["findingSeverityCounts"]["HIGH"] == 1
    refused(ecr.start_image_scan, "LimitExceededException", "quota", **image)
    shown = scanning.aws("ecr", "describe-image-scan-findings", "--repository-name", name, "--image-id", "imageTag=1",
                         "--max-items", "1")
    assert len(shown["imageScanFindings"]["findings"]) == 1


def test_an_image_that_was_pushed_without_is_scanned_when_that_is_asked_for(scanning):
    ecr, name = scanning.client("ecr"), unique("web")
    ecr.create_repository(repositoryName=name)
    Registry(scanning, ecr).push(name, "1")
    image = {"repositoryName": name, "imageId": {"imageTag": "1"}}
    refused(ecr.describe_image_scan_findings, "ScanNotFoundException", **image)
    assert ecr.start_image_scan(**image)["imageScanStatus"]["status"] == "IN_PROGRESS"
    wait_for("the scan", lambda: ecr.describe_image_scan_findings(**image)["imageScanStatus"]["status"] == "COMPLETE")


def test_a_scanner_that_fails_never_means_that_nothing_was_found(start_region):
    region = start_region("--image-scanner", "echo broken >&2; exit 2", name="scanner-fails")
    ecr, name = region.client("ecr"), unique("web")
    ecr.create_repository(repositoryName=name, imageScanningConfiguration={"scanOnPush": True})
    Registry(region, ecr).push(name, "1")
    image = {"repositoryName": name, "imageId": {"imageTag": "1"}}

    def failed():
        answer = ecr.describe_image_scan_findings(**image)
        return answer if answer["imageScanStatus"]["status"] == "FAILED" else None
    answer = wait_for("the failure", failed)
    assert answer["imageScanStatus"]["description"] == "the scanner ended with exit status: 2"
    assert "imageScanFindings" not in answer
