// The bucket of the backups and the one of the audit log. What lies in them can't be overwritten or deleted for
// as long as Object Lock says, not even by whoever takes this stack over.
import { Bucket } from "@pulumi/aws/s3/bucket.js";
import { BucketLifecycleConfiguration } from "@pulumi/aws/s3/bucketLifecycleConfiguration.js";
import { BucketObjectLockConfiguration } from "@pulumi/aws/s3/bucketObjectLockConfiguration.js";
import { BucketOwnershipControls } from "@pulumi/aws/s3/bucketOwnershipControls.js";
import { BucketPolicy } from "@pulumi/aws/s3/bucketPolicy.js";
import { BucketPublicAccessBlock } from "@pulumi/aws/s3/bucketPublicAccessBlock.js";
import { BucketServerSideEncryptionConfiguration } from "@pulumi/aws/s3/bucketServerSideEncryptionConfiguration.js";
import { BucketVersioning } from "@pulumi/aws/s3/bucketVersioning.js";
import * as pulumi from "@pulumi/pulumi";
import type { RoleArns } from "./account.ts";
import type { PlatformConfig } from "./config.ts";

type Settings = Pick<
  PlatformConfig,
  "backupBucket" | "auditBucket" | "backupLockDays" | "auditLockDays" | "lockMode" | "noncurrentDays"
>;
export interface BucketsArgs extends Settings {
  /** ARN of the key that S3 encrypts with. */
  bucketKey: pulumi.Input<string>;
  roles: RoleArns;
}

export class Buckets extends pulumi.ComponentResource {
  readonly backupName: string;
  readonly auditName: string;
  readonly #args: BucketsArgs;

  constructor(name: string, args: BucketsArgs, options?: pulumi.ComponentResourceOptions) {
    super("penguinmails:platform:Buckets", name, {}, options);
    this.#args = args;
    this.backupName = args.backupBucket;
    this.auditName = args.auditBucket;
    // Notices wait beside the audit copies and are deleted once delivered, so there anyone of us may delete;
    // what Object Lock holds stays as a version.
    this.#createBucket("backups", args.backupBucket, args.backupLockDays, args.roles.pruner);
    this.#createBucket("audit", args.auditBucket, args.auditLockDays, undefined);
    this.registerOutputs();
  }

  #createBucket(name: string, bucketName: string, lockDays: number, deleter: string | undefined): void {
    const bucket = new Bucket(
      name,
      { bucket: bucketName, objectLockEnabled: true, forceDestroy: false },
      { parent: this, protect: true },
    );
    const child = { parent: bucket };
    const versioning = new BucketVersioning(
      name,
      { bucket: bucket.id, versioningConfiguration: { status: "Enabled" } },
      child,
    );
    new BucketObjectLockConfiguration(
      name,
      { bucket: bucket.id, rule: { defaultRetention: { mode: this.#args.lockMode, days: lockDays } } },
      { ...child, dependsOn: versioning },
    );
    new BucketServerSideEncryptionConfiguration(
      name,
      {
        bucket: bucket.id,
        rules: [
          {
            applyServerSideEncryptionByDefault: {
              sseAlgorithm: "aws:kms",
              kmsMasterKeyId: this.#args.bucketKey,
            },
            bucketKeyEnabled: true,
          },
        ],
      },
      child,
    );
    const closed = new BucketPublicAccessBlock(
      name,
      {
        bucket: bucket.id,
        blockPublicAcls: true,
        blockPublicPolicy: true,
        ignorePublicAcls: true,
        restrictPublicBuckets: true,
      },
      child,
    );
    new BucketOwnershipControls(
      name,
      { bucket: bucket.id, rule: { objectOwnership: "BucketOwnerEnforced" } },
      child,
    );
    // S3 answers 409 when a policy and the access block are set at the same moment.
    new BucketPolicy(
      name,
      { bucket: bucket.id, policy: JSON.stringify(bucketPolicy(bucketName, deleter)) },
      { ...child, dependsOn: closed },
    );
    new BucketLifecycleConfiguration(
      name,
      { bucket: bucket.id, rules: lifecycle(deleter === undefined ? this.#args.noncurrentDays : undefined) },
      { ...child, dependsOn: versioning },
    );
  }
}

/** TLS only and, where a `deleter` is given, deletion by that role alone. */
export function bucketPolicy(bucketName: string, deleter: string | undefined) {
  const resources = [`arn:aws:s3:::${bucketName}`, `arn:aws:s3:::${bucketName}/*`];
  const tlsOnly = {
    Sid: "TlsOnly",
    Effect: "Deny",
    Principal: "*",
    Action: "s3:*",
    Resource: resources,
    Condition: { Bool: { "aws:SecureTransport": "false" } },
  };
  if (deleter === undefined) return { Version: "2012-10-17", Statement: [tlsOnly] };
  const onlyThePruner = {
    Sid: "OnlyThePrunerDeletes",
    Effect: "Deny",
    Principal: "*",
    Action: ["s3:DeleteObject", "s3:DeleteObjectVersion"],
    Resource: resources,
    Condition: { ArnNotEquals: { "aws:PrincipalArn": deleter } },
  };
  return { Version: "2012-10-17", Statement: [tlsOnly, onlyThePruner] };
}

/**
 * Old versions go by themselves only where nobody has the task of deleting: a backup that a later one of its day hides
 * is an old version too, and may be the only one of that day that opens.
 */
const lifecycle = (noncurrentDays: number | undefined) => [
  {
    id: "expire-noncurrent",
    status: "Enabled",
    filter: { prefix: "" },
    ...(noncurrentDays === undefined ? {} : { noncurrentVersionExpiration: { noncurrentDays } }),
    expiration: { expiredObjectDeleteMarker: true },
  },
  {
    id: "abort-unfinished-uploads",
    status: "Enabled",
    filter: { prefix: "" },
    abortIncompleteMultipartUpload: { daysAfterInitiation: 2 },
  },
];
