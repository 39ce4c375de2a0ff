// One IAM role for each job towards the backups, so that no credential both makes and destroys them, and the one
// that runs every night can't read what it stored.
import { Role } from "@pulumi/aws/iam/role.js";
import { RolePolicy } from "@pulumi/aws/iam/rolePolicy.js";
import * as pulumi from "@pulumi/pulumi";
import { BACKUP_ROLES, type BackupRole, type RoleArns, roleName } from "./account.ts";
import type { PlatformConfig } from "./config.ts";

export interface IamRolesArgs extends Pick<PlatformConfig, "awsAccountId" | "principals"> {
  roles: RoleArns;
  keys: { wrappingKeyArn: pulumi.Output<string>; bucketKeyArn: pulumi.Output<string> };
  buckets: { backupName: string; auditName: string };
}

export class IamRoles extends pulumi.ComponentResource {
  constructor(name: string, args: IamRolesArgs, options?: pulumi.ComponentResourceOptions) {
    super("penguinmails:platform:IamRoles", name, {}, options);
    for (const role of BACKUP_ROLES) this.#createRole(role, args);
    this.registerOutputs();
  }

  #createRole(name: BackupRole, args: IamRolesArgs): void {
    const trusted = args.principals[name] ?? [`arn:aws:iam::${args.awsAccountId}:root`];
    const role = new Role(
      name,
      { name: roleName(name), assumeRolePolicy: JSON.stringify(trust(trusted)), maxSessionDuration: 3600 },
      { parent: this },
    );
    const policy = pulumi
      .all([args.keys.wrappingKeyArn, args.keys.bucketKeyArn])
      .apply(([wrappingKey, bucketKey]) =>
        JSON.stringify(permissions(name, { ...args.buckets, wrappingKey, bucketKey })),
      );
    new RolePolicy(name, { name: roleName(name), role: role.name, policy }, { parent: role });
  }
}

export interface Places {
  backupName: string;
  auditName: string;
  /** ARN of the key that wraps backups. */
  wrappingKey: string;
  /** ARN of the key that S3 encrypts the buckets with. */
  bucketKey: string;
}

/** The permissions of `role` as an IAM policy document. */
export function permissions(role: BackupRole, at: Places) {
  return { Version: "2012-10-17", Statement: [...STATEMENTS[role](at), ...look(at), ...audit(at)] };
}

const STATEMENTS: Readonly<Record<BackupRole, (at: Places) => object[]>> = {
  backup: (at) => [
    allow(
      "Store",
      ["s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"],
      inBackups(at, "*"),
    ),
    // GenerateDataKey: the Encryption SDK has KMS make the data key that seals the snapshot.
    allow("Seal", ["kms:GenerateDataKey", "kms:Encrypt", "kms:DescribeKey"], at.wrappingKey),
    deny("NeverOpen", ["kms:Decrypt", "kms:ReEncryptFrom"], at.wrappingKey),
    deny(
      "NeverDelete",
      ["s3:DeleteObject", "s3:DeleteObjectVersion", "s3:BypassGovernanceRetention"],
      inBackups(at, "*"),
    ),
  ],
  verifier: (at) => [
    allow("Open", ["kms:Decrypt", "kms:DescribeKey"], at.wrappingKey),
    allow(
      "Report",
      ["s3:PutObject"],
      [...inBackups(at, "opened-*.json"), ...inBackups(at, "restored-*.json")],
    ),
    // The month's first opened backup is kept for a year.
    allow("KeepLonger", ["s3:PutObjectRetention", "s3:GetObjectRetention"], inBackups(at, "*")),
  ],
  pruner: (at) => [
    allow(
      "Prune",
      ["s3:DeleteObject", "s3:DeleteObjectVersion", "s3:GetObjectRetention"],
      inBackups(at, "*"),
    ),
    deny("NeverPastALock", ["s3:BypassGovernanceRetention", "s3:PutObjectRetention"], "*"),
  ],
  restorer: (at) => [
    allow("Open", ["kms:Decrypt", "kms:DescribeKey"], at.wrappingKey),
    allow("Report", ["s3:PutObject"], inBackups(at, "restored-*.json")),
    // A backup brings tenants back that were offboarded since: the tombstones say which.
    allow("Tombstones", ["s3:GetObject", "s3:GetObjectVersion"], `arn:aws:s3:::${at.auditName}/tombstones/*`),
    // What everybody did since the backup stands in the audit log, by version since a later overwrite takes nothing back.
    allow("History", ["s3:GetObjectVersion"], `arn:aws:s3:::${at.auditName}/audit/*`),
  ],
};

/** Everybody lists and reads the sealed objects; the bucket's key opens the bucket's own layer only. */
const look = (at: Places): object[] => [
  allow(
    "List",
    [
      "s3:ListBucket",
      "s3:ListBucketVersions",
      "s3:ListBucketMultipartUploads",
      "s3:GetBucketObjectLockConfiguration",
    ],
    [`arn:aws:s3:::${at.backupName}`, `arn:aws:s3:::${at.auditName}`],
  ),
  allow("Read", ["s3:GetObject", "s3:GetObjectVersion"], inBackups(at, "*")),
  allow("BucketLayer", ["kms:GenerateDataKey", "kms:Decrypt"], at.bucketKey),
];

/** Everybody's actions are audited. A delivered notice leaves the outbox; an audit event is never deleted. */
const audit = (at: Places): object[] => [
  allow(
    "Audit",
    ["s3:PutObject", "s3:GetObject"],
    [`arn:aws:s3:::${at.auditName}/audit/*`, `arn:aws:s3:::${at.auditName}/outbox/*`],
  ),
  allow("Deliver", ["s3:DeleteObject"], `arn:aws:s3:::${at.auditName}/outbox/*`),
];

const inBackups = (at: Places, name: string): string[] => [
  `arn:aws:s3:::${at.backupName}/backups/*${name === "*" ? "" : `/${name}`}`,
];
const allow = (Sid: string, Action: string[], Resource: string | string[]) => ({
  Sid,
  Effect: "Allow",
  Action,
  Resource,
});
const deny = (Sid: string, Action: string[], Resource: string | string[]) => ({
  Sid,
  Effect: "Deny",
  Action,
  Resource,
});

const trust = (principals: string[]) => ({
  Version: "2012-10-17",
  Statement: [{ Effect: "Allow", Principal: { AWS: principals }, Action: "sts:AssumeRole" }],
});
