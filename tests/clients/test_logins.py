"""Users' passwords: login profiles with boto3, and `longshore login`, which they are good for."""

import base64
import configparser
import hashlib
import hmac
import json
import os
import struct
import subprocess
import time

import boto3
import botocore.config
import pytest

from conftest import binary, unique, wait_for
from services import refused

OLD = "Old passw0rd"
NEW = "New passw0rd"


@pytest.fixture(scope="module")
def home(start_region):
    return start_region(name="logins")


@pytest.fixture
def files(tmp_path):
    """Where the AWS CLI's files are for whom signs in here."""
    return {"AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials")}


def user_with_password(iam, password=OLD, must_change=False):
    name = unique("u")
    iam.create_user(UserName=name)
    iam.create_login_profile(UserName=name, Password=password, PasswordResetRequired=must_change)
    return name


def login(home, files, user, *lines, options=()):
    """Signs in at the region's address, as somebody who has nothing of it but a name and a password."""
    command = [binary(), "login", "--endpoint", home.endpoint, "--user", user, "--password-stdin", *options]
    env = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    return subprocess.run(command, input="\n".join(lines) + "\n", text=True, capture_output=True, timeout=60,
                          env={**env, **files})


def client(files, profile, service, home):
    """A client of an SDK by what the profile says alone."""
    credentials = configparser.ConfigParser()
    credentials.read(files["AWS_SHARED_CREDENTIALS_FILE"])
    config = configparser.ConfigParser()
    config.read(files["AWS_CONFIG_FILE"])
    keys, place = credentials[profile], config[f"profile {profile}"]
    assert place["endpoint_url"] == home.endpoint
    return boto3.client(service, endpoint_url=place["endpoint_url"], region_name=place["region"],
                        aws_access_key_id=keys["aws_access_key_id"],
                        aws_secret_access_key=keys["aws_secret_access_key"],
                        aws_session_token=keys["aws_session_token"],
                        config=botocore.config.Config(retries={"max_attempts": 0}))


def shown_by(seed, off=0):
    """What a device with this seed shows so many half minutes from now (RFC 6238)."""
    moment = struct.pack(">Q", int(time.time()) // 30 + off)
    digest = hmac.new(base64.b32decode(seed), moment, hashlib.sha1).digest()
    place = digest[-1] & 15
    return f"{(struct.unpack('>I', digest[place:place + 4])[0] & 0x7FFFFFFF) % 1000000:06}"


def test_a_login_profile_is_made_shown_changed_and_deleted(home):
    iam = home.client("iam")
    name = unique("u")
    iam.create_user(UserName=name)
    refused(iam.get_login_profile, "NoSuchEntity", f"Login Profile for User {name} cannot be found.", UserName=name)
    refused(iam.create_login_profile, "PasswordPolicyViolation", "Password should have a minimum length of 8",
            UserName=name, Password="short")
    made = iam.create_login_profile(UserName=name, Password=OLD, PasswordResetRequired=True)["LoginProfile"]
    assert iam.get_login_profile(UserName=name)["LoginProfile"] == made
    assert made["PasswordResetRequired"] is True
    refused(iam.create_login_profile, "EntityAlreadyExists", "already exists", UserName=name, Password=OLD)
    iam.update_login_profile(UserName=name, PasswordResetRequired=False)
    assert iam.get_login_profile(UserName=name)["LoginProfile"]["PasswordResetRequired"] is False
    refused(iam.delete_user, "DeleteConflict", "must delete login profile first", UserName=name)
    iam.delete_login_profile(UserName=name)
    iam.delete_user(UserName=name)


def test_a_user_signs_in_and_does_what_its_policies_let_it(home, files):
    iam = home.client("iam")
    name = user_with_password(iam)
    iam.attach_user_policy(UserName=name, PolicyArn="arn:aws:iam::aws:policy/ReadOnlyAccess")
    assert "PasswordLastUsed" not in iam.get_user(UserName=name)["User"]
    wrong = login(home, files, name, NEW)
    assert wrong.returncode == 1 and "Your authentication information is incorrect" in wrong.stderr, wrong
    done = login(home, files, name, OLD)
    assert done.returncode == 0, done
    me = f"arn:aws:iam::000000000000:user/{name}"
    assert f"signed in as {me} until" in done.stdout
    assert OLD not in done.stdout + done.stderr
    assert client(files, name, "sts", home).get_caller_identity()["Arn"] == me
    assert client(files, name, "iam", home).get_user()["User"]["UserName"] == name
    refused(client(files, name, "ecs", home).create_cluster, "AccessDeniedException", me, clusterName="c")
    refused(client(files, name, "sts", home).get_session_token, "AccessDenied", "session credentials")
    assert "PasswordLastUsed" in iam.get_user(UserName=name)["User"]
    # Another password ends what the old one let in.
    iam.update_login_profile(UserName=name, Password=NEW)
    refused(client(files, name, "sts", home).get_caller_identity, "InvalidClientTokenId", "")


def test_a_first_password_is_replaced_at_the_first_sign_in(home, files):
    iam = home.client("iam")
    name = user_with_password(iam, must_change=True)
    alone = login(home, files, name, OLD)
    assert alone.returncode == 1 and "You must set a new password" in alone.stderr, alone
    denied = login(home, files, name, OLD, NEW)
    assert denied.returncode == 1 and "iam:ChangePassword" in denied.stderr, denied
    iam.update_account_password_policy(AllowUsersToChangePassword=True, MinimumPasswordLength=12)
    short = login(home, files, name, OLD, "Sh0rt word")
    assert short.returncode == 1 and "minimum length of 12" in short.stderr, short
    done = login(home, files, name, OLD, NEW, options=["--profile", "own"])
    assert done.returncode == 0, done
    mine = client(files, "own", "iam", home)
    refused(mine.change_password, "AccessDenied", "The old password was incorrect.", OldPassword=OLD, NewPassword=NEW)
    mine.change_password(OldPassword=NEW, NewPassword="Another passw0rd")
    refused(client(files, "own", "sts", home).get_caller_identity, "InvalidClientTokenId", "")
    iam.delete_account_password_policy()


def test_no_password_is_on_disk_and_who_signed_in_is_in_the_audit_log(home, files):
    iam = home.client("iam")
    secret = "Xq9 unheard-of"
    name = user_with_password(iam, password=secret)
    assert login(home, files, name, secret).returncode == 0
    assert login(home, files, name, "Wr0ng password").returncode == 1
    audit = home.run("audit", "--json", "--action", "longshore:SignIn")
    lines = [line for line in audit.stdout.splitlines() if f"user/{name}" in line]
    assert len(lines) == 2, audit
    assert secret not in audit.stdout and "Wr0ng" not in audit.stdout
    found = subprocess.run(["grep", "-rlaF", secret, str(home.data_dir)], capture_output=True, text=True, timeout=60)
    assert found.stdout == "", found.stdout


def test_a_second_factor_is_asked_for_and_opens_roles_that_want_one(home, files):
    iam, sts = home.client("iam"), home.client("sts")
    name = user_with_password(iam)
    me = f"arn:aws:iam::000000000000:user/{name}"
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": me}, "Action": "sts:AssumeRole",
         "Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}}]}))
    role = {"RoleArn": f"arn:aws:iam::000000000000:role/{name}", "RoleSessionName": "ci"}
    made = iam.create_virtual_mfa_device(VirtualMFADeviceName=name)["VirtualMFADevice"]
    serial, seed = made["SerialNumber"], made["Base32StringSeed"]
    refused(iam.enable_mfa_device, "InvalidAuthenticationCode", UserName=name, SerialNumber=serial,
            AuthenticationCode1="000000", AuthenticationCode2="000000")
    # What was shown a while ago, so that what is shown now is still to be used; no other code comes meanwhile.
    wait_for("time until the next code", lambda: time.time() % 30 < 25)
    iam.enable_mfa_device(UserName=name, SerialNumber=serial, AuthenticationCode1=shown_by(seed, -2),
                          AuthenticationCode2=shown_by(seed, -1))
    assert iam.list_mfa_devices(UserName=name)["MFADevices"][0]["SerialNumber"] == serial
    without = login(home, files, name, OLD)
    assert without.returncode == 1 and "a code of the MFA device is needed" in without.stderr, without
    code = shown_by(seed)
    done = login(home, files, name, OLD, options=["--code", code])
    assert done.returncode == 0, done
    mine = client(files, name, "sts", home)
    assert mine.assume_role(**role)["AssumedRoleUser"]["Arn"].endswith(f"assumed-role/{name}/ci")
    again = login(home, files, name, OLD, options=["--code", code])
    assert again.returncode == 1 and "is not valid, or was used" in again.stderr, again

    key = iam.create_access_key(UserName=name)["AccessKey"]
    plain = boto3.client("sts", endpoint_url=home.endpoint, region_name="eu-north-1",
                         aws_access_key_id=key["AccessKeyId"], aws_secret_access_key=key["SecretAccessKey"])
    refused(plain.assume_role, "AccessDenied", **role)
    refused(plain.get_session_token, "AccessDenied", "invalid MFA one time pass code", SerialNumber=serial, TokenCode=code)
    wait_for("the next code", lambda: shown_by(seed) != code, 40)
    plain.assume_role(**role, SerialNumber=serial, TokenCode=shown_by(seed))
    assert sts.get_caller_identity()["Account"] == "000000000000"
    iam.deactivate_mfa_device(UserName=name, SerialNumber=serial)
    iam.delete_virtual_mfa_device(SerialNumber=serial)
    assert login(home, files, name, OLD).returncode == 0
