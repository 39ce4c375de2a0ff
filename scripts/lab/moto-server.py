"""The lab's AWS endpoint: moto's server, made to behave like EC2 where the lab depends on it.

Arguments: address, port, prefix of the lab's /24, first and last host number of its Elastic IPs.
"""

import os
import sys

address, port, prefix, first, last = sys.argv[1:6]
os.environ["MOTO_PORT"] = port

from moto.ec2.models import elastic_ip_addresses, instances  # noqa: E402
from moto.ec2.models import ec2_backends  # noqa: E402


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


instances.Instance.terminate = terminate_like_ec2

from moto.server import main  # noqa: E402

main(["-H", address, "-p", port])
