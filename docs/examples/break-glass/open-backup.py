#!/usr/bin/env python3
"""Opens a backup of Vault with the offline recovery key and nothing of this project.

    open-backup.py RECOVERY-KEY.pem < vault-snapshot.enc | ...

The snapshot goes to standard output; it is everything, so let it reach no disk: pipe it into Vault, as
docs/scenario-2-vault-loss.md shows. Exit code 0 only if all of it was authentic; with another one, what came out
before is worthless.
"""

import argparse
import getpass
import hashlib
import logging
import sys

import aws_encryption_sdk
from aws_encryption_sdk.exceptions import AWSEncryptionSDKClientError
from aws_encryption_sdk.identifiers import CommitmentPolicy, EncryptionKeyType, WrappingAlgorithm
from aws_encryption_sdk.internal.crypto.wrapping_keys import WrappingKey
from aws_encryption_sdk.key_providers.raw import RawMasterKeyProvider
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization


class RecoveryKey(RawMasterKeyProvider):
    """The key is named by the SHA-256 of its public half."""

    provider_id = "penguinmails-recovery-key"

    def _get_raw_key(self, key_id):
        return WrappingKey(
            wrapping_algorithm=WrappingAlgorithm.RSA_OAEP_SHA256_MGF1,
            wrapping_key=self.pem,
            wrapping_key_type=EncryptionKeyType.PRIVATE,
        )


def recovery_key(path):
    with open(path, "rb") as file:
        pem = file.read()
    passphrase = getpass.getpass("passphrase: ").encode() if b"ENCRYPTED" in pem else None
    key = serialization.load_pem_private_key(pem, passphrase)
    public = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    provider = RecoveryKey()
    provider.pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    provider.add_master_key(hashlib.sha256(public).hexdigest())
    return provider


def main():
    parser = argparse.ArgumentParser(description="Opens a sealed backup of Vault: from standard input to standard output.")
    parser.add_argument("key", help="the offline recovery key's private half, PEM")
    # What the SDK logs says less than the error that follows it.
    logging.disable(logging.CRITICAL)
    provider = recovery_key(parser.parse_args().key)
    client = aws_encryption_sdk.EncryptionSDKClient(commitment_policy=CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT)
    source = sys.stdin.buffer
    size = 0
    try:
        # Unsigned, so that every frame is authentic before it is passed on.
        with client.stream(mode="decrypt-unsigned", source=source, key_provider=provider) as opened:
            print(f"sealed as {dict(opened.header.encryption_context)}", file=sys.stderr)
            for chunk in opened:
                size += len(chunk)
                sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
    except (AWSEncryptionSDKClientError, InvalidTag, ValueError) as error:
        sys.exit(f"error: this backup doesn't open with this key: {type(error).__name__}: {error}")
    if source.read(1):
        sys.exit("error: something follows the end of the backup: it was tampered with")
    print(f"{size} bytes, all authentic", file=sys.stderr)


if __name__ == "__main__":
    main()
