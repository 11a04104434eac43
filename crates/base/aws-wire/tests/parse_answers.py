"""Reads answers as JSON from stdin, parses each as botocore does for a client, prints what differs."""

import base64
import datetime
import json
import math
import sys

from botocore.awsrequest import HeadersDict
from botocore.model import OperationModel, ServiceModel
from botocore.parsers import create_parser


def plain(value):
    """A parsed value in the form that the cases use."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, datetime.datetime):
        return value.timestamp()
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8")
    if hasattr(value, "read"):
        return value.read().decode("utf-8")
    return value


def same(one, other):
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    numbers = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
    one = numbers.get(one, one) if isinstance(one, str) else one
    other = numbers.get(other, other) if isinstance(other, str) else other
    if isinstance(one, float) or isinstance(other, float):
        try:
            return (math.isnan(one) and math.isnan(other)) or math.isclose(one, other, rel_tol=1e-6)
        except TypeError:
            return False
    return one == other


def without_nothing(value):
    """Nulls inside a case's result stand for what is absent."""
    if isinstance(value, dict):
        return {key: without_nothing(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [without_nothing(item) for item in value if item is not None]
    return value


def main():
    for case in json.load(sys.stdin):
        service = ServiceModel({"metadata": case["metadata"], "shapes": case["shapes"], "operations": {}})
        operation = OperationModel(case["given"], service)
        answer = case["answer"]
        response = {
            "status_code": answer["status"],
            "headers": HeadersDict(answer["headers"]),
            "body": base64.b64decode(answer["body"]),
            "context": {"operation_name": case["given"]["name"]},
        }
        try:
            parser = create_parser(case["protocol"])
            parsed = parser.parse(response, operation.output_shape)
        except Exception as error:  # noqa: BLE001
            print(case["id"], "failed:", repr(error), response["body"])
            continue
        parsed.pop("ResponseMetadata", None)
        wanted = without_nothing(case["wanted"])
        if not same(without_nothing(plain(parsed)), wanted):
            print(case["id"], "\n  wrote ", response, "\n  wanted", wanted, "\n  parsed", plain(parsed))


main()
