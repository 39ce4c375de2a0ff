"""The lab's AWS endpoint: moto's server, made to behave like EC2 where the lab depends on it.

Arguments: address, port, prefix of the lab's /24, first and last host number of its Elastic IPs, and the socket on
which the lab takes orders.
"""

import datetime
import http.client
import json
import os
import socket
import sys
import threading

import xmltodict

address, port, prefix, first, last, control = sys.argv[1:7]
os.environ["MOTO_PORT"] = port

from moto.ec2.models import elastic_block_store, elastic_ip_addresses, instances  # noqa: E402
from moto.ec2.models import ec2_backends  # noqa: E402
from moto.iam import access_control  # noqa: E402
from moto.route53.models import Route53Backend  # noqa: E402
from moto.s3.models import FakeKey  # noqa: E402
from moto.s3.exceptions import S3AccessDeniedError  # noqa: E402
from moto.s3.responses import ACTION_MAP, S3Response  # noqa: E402


def taken() -> set:
    return {
        eip.public_ip
        for account in list(ec2_backends.values())
        for backend in list(account.values())
        for eip in backend.addresses
    }


def lab_address() -> str:
    """Elastic IPs are addresses on which the lab can really boot a host. One is used again only when all were used."""
    global cursor
    used = taken()
    size = int(last) - int(first) + 1
    for _ in range(size):
        candidate = f"{prefix}.{int(first) + cursor % size}"
        cursor += 1
        if candidate not in used:
            return candidate
    raise RuntimeError("The lab has no Elastic IP left")


cursor = 0
elastic_ip_addresses.random_ip = lab_address

class Control(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(control)


def followed(change):
    """When EC2 has answered, the change has happened: waits until the lab's hosts have followed `change`.

    Else a program that looks at an address right after moving it could still meet the machine of before.
    """

    def changed(*args, **kwargs):
        result = change(*args, **kwargs)
        try:
            connection = Control("lab")
            connection.request("POST", "/", json.dumps({"order": "follow"}))
            connection.getresponse().read()
            connection.close()
        except OSError:
            pass  # The lab isn't far enough yet, or is ending.
        return result

    return changed


terminate = instances.Instance.terminate


def terminate_like_ec2(self):
    """EC2 takes the Elastic IP off a terminated instance; moto leaves it there."""
    previous = terminate(self)
    for eip in self.ec2_backend.addresses:
        if eip.instance is not None and eip.instance.id == self.id:
            if eip.eni is not None:
                eip.eni.public_ip = None
            eip.instance = eip.eni = eip.association_id = None
    return previous


instances.Instance.terminate = followed(terminate_like_ec2)
for owner, name in [
    (elastic_ip_addresses.ElasticAddressBackend, "associate_address"),
    (elastic_ip_addresses.ElasticAddressBackend, "disassociate_address"),
    (elastic_block_store.EBSBackend, "attach_volume"),
    (elastic_block_store.EBSBackend, "detach_volume"),
]:
    setattr(owner, name, followed(getattr(owner, name)))

permitted = access_control.IAMPolicyStatement.is_action_permitted


def permitted_like_aws(self, *args, **kwargs):
    """Moto takes a statement's condition for fulfilled, so that 'deny what isn't TLS' would deny everything.

    What conditions ask for (TLS, the caller's role) doesn't exist in a lab: such statements are left out.
    """
    if "Condition" in self._statement:
        return access_control.PermissionResult.NEUTRAL
    return permitted(self, *args, **kwargs)


access_control.IAMPolicyStatement.is_action_permitted = permitted_like_aws

# The rights that S3 asks for; moto takes them for those to read and to write the object. The last one found counts.
ACTION_MAP["KEY"]["GET"] |= {"retention": "GetObjectRetention", "legal-hold": "GetObjectLegalHold"}
ACTION_MAP["KEY"]["PUT"] |= {"retention": "PutObjectRetention", "legal-hold": "PutObjectLegalHold"}

get_key = S3Response._key_response_get


def get_key_like_s3(self, query, key_name):
    """S3 says how long an object is locked to whoever asks for that alone; moto answers with the object itself."""
    if "retention" not in query:
        return get_key(self, query, key_name)
    self._set_action("KEY", "GET", query)
    self._authenticate_and_authorize_s3_action(bucket_name=self.bucket_name, key_name=key_name)
    key, _ = self._get_key()
    if key.lock_mode is None:
        code = "NoSuchObjectLockConfiguration"
        return 404, {"content-type": "application/xml"}, f"<Error><Code>{code}</Code></Error>"
    lock = f"<Mode>{key.lock_mode}</Mode><RetainUntilDate>{key.lock_until}</RetainUntilDate>"
    return 200, {"content-type": "application/xml"}, f"<Retention>{lock}</Retention>"


S3Response._key_response_get = get_key_like_s3

authorize = S3Response._authenticate_and_authorize_s3_action
delete_keys = S3Response._bucket_response_delete_keys


def authorize_like_s3(self, bucket_name=None, key_name=None):
    """S3 lets anybody ask it to delete many objects, and then asks for the right to delete each of them."""
    if key_name is not None or self.data.get("Action") != "DeleteObject":
        authorize(self, bucket_name=bucket_name, key_name=key_name)


def delete_keys_like_s3(self, bucket_name, authenticated=True):
    """Where S3 refuses some of them, this refuses all."""
    objects = xmltodict.parse(self.body, force_list=["Object"])["Delete"]["Object"]
    for one in objects:
        self.data["Action"] = "DeleteObjectVersion" if one.get("VersionId") else "DeleteObject"
        try:
            authorize(self, bucket_name=bucket_name, key_name=one["Key"])
        except S3AccessDeniedError:
            authenticated = False
    return delete_keys(self, bucket_name, authenticated)


S3Response._authenticate_and_authorize_s3_action = authorize_like_s3
S3Response._bucket_response_delete_keys = delete_keys_like_s3

set_metadata = FakeKey.set_metadata


def set_metadata_and_age(self, metadata, replace=False):
    """A test can't wait for a day: an object may say itself when it was uploaded (ISO 8601, UTC, without a zone)."""
    set_metadata(self, metadata, replace)
    uploaded = self._metadata.get("x-amz-meta-lab-uploaded")
    if uploaded is not None:
        self.last_modified = datetime.datetime.fromisoformat(uploaded)


FakeKey.set_metadata = set_metadata_and_age

change_records = Route53Backend.change_resource_record_sets
one_change = threading.Lock()


def change_records_like_route53(self, zoneid, change_list):
    """Route 53 takes one change after another; moto's threads lose one of two that come together.

    And what was deleted may be created again: moto looks into its journal and refuses the same change a second time.
    """
    with one_change:
        zone = self.get_hosted_zone(zoneid)
        there = {(one.name.strip("."), one.type) for one in zone.rrsets}
        for change in change_list:
            record = change["ResourceRecordSet"]
            if change["Action"] == "CREATE" and (record["Name"].strip("."), record["Type"]) not in there:
                while change in zone.rr_changes:
                    zone.rr_changes.remove(change)
        return change_records(self, zoneid, change_list)


Route53Backend.change_resource_record_sets = change_records_like_route53

from moto.server import main  # noqa: E402

main(["-H", address, "-p", port])
