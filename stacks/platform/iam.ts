// One IAM role for each job towards the backups, so that no credential both makes and destroys them, and the one
// that runs every night can't read what it stored. One more only looks, at what all of them work with.
import { Role } from "@pulumi/aws/iam/role.js";
import { RolePolicy } from "@pulumi/aws/iam/rolePolicy.js";
import * as pulumi from "@pulumi/pulumi";
import { MANIFEST, MARKS, SNAPSHOT } from "../names.ts";
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
  const own = [...STATEMENTS[role](at), ...(role === "pruner" ? [] : [neverDelete(at)])];
  // Who only looks has nothing to tell the audit log.
  return { Version: "2012-10-17", Statement: [...own, ...look(at), ...(role === "drift" ? [] : audit(at))] };
}

const STATEMENTS: Readonly<Record<BackupRole, (at: Places) => object[]>> = {
  backup: (at) => [
    // Not the marks: whoever could store a backup and say that it was opened could have the good ones pruned.
    allow(
      "Store",
      ["s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"],
      [...inBackups(at, SNAPSHOT), ...inBackups(at, MANIFEST)],
    ),
    allow("ReadBack", READ, inBackups(at, "*")),
    // GenerateDataKey: the Encryption SDK has KMS make the data key that seals the snapshot.
    allow("Seal", ["kms:GenerateDataKey", "kms:Encrypt", "kms:DescribeKey"], at.wrappingKey),
    deny("NeverOpen", ["kms:Decrypt", "kms:ReEncryptFrom"], at.wrappingKey),
  ],
  verifier: (at) => [
    allow("Open", ["kms:Decrypt", "kms:DescribeKey"], at.wrappingKey),
    allow("Read", READ, inBackups(at, "*")),
    allow(
      "Report",
      ["s3:PutObject"],
      [...inBackups(at, "opened-*.json"), ...inBackups(at, "restored-*.json")],
    ),
    // The month's first opened backup is kept for a year.
    allow("KeepLonger", ["s3:PutObjectRetention", "s3:GetObjectRetention"], inBackups(at, "*")),
  ],
  pruner: (at) => [
    // What a backup is, when it was opened and how long it's locked: no snapshot, sealed as it is.
    allow("ReadMarks", READ, [
      ...inBackups(at, MANIFEST),
      ...MARKS.flatMap((mark) => inBackups(at, `${mark}-*.json`)),
    ]),
    allow(
      "Prune",
      ["s3:DeleteObject", "s3:DeleteObjectVersion", "s3:GetObjectRetention", "s3:GetObjectLegalHold"],
      inBackups(at, "*"),
    ),
    deny("NeverPastALock", ["s3:BypassGovernanceRetention", "s3:PutObjectRetention"], "*"),
  ],
  restorer: (at) => [
    allow("Open", ["kms:Decrypt", "kms:DescribeKey"], at.wrappingKey),
    allow("Read", READ, inBackups(at, "*")),
    allow("Report", ["s3:PutObject"], inBackups(at, "restored-*.json")),
    // A backup brings back whoever was offboarded since, and knows nobody who was onboarded. By version too, since a
    // later overwrite takes nothing back.
    allow(
      "KnowTheTenants",
      READ,
      ["audit", "tombstones"].map((folder) => `arn:aws:s3:::${at.auditName}/${folder}/*`),
    ),
  ],
  drift: (at) => [
    // Snapshots too, sealed as they are: whether the newest one is what was stored is told by its bytes alone.
    allow("Read", [...READ, "s3:GetObjectRetention", "s3:GetObjectLegalHold"], inBackups(at, "*")),
    // Which notices somebody still has to get.
    allow("Notices", ["s3:GetObject"], `arn:aws:s3:::${at.auditName}/outbox/*`),
    allow("Settings", BUCKET_SETTINGS, [`arn:aws:s3:::${at.backupName}`, `arn:aws:s3:::${at.auditName}`]),
    allow("Keys", KEY_SETTINGS, [at.wrappingKey, at.bucketKey]),
    allow("Roles", ROLE_SETTINGS, "arn:aws:iam::*:role/penguinmails-*"),
    // These know no narrower resource.
    allow("Rest", ["kms:ListAliases", "ec2:Describe*", "route53:Get*", "route53:List*"], "*"),
    deny("NeverOpen", ["kms:Decrypt", "kms:ReEncryptFrom"], at.wrappingKey),
  ],
};

/** What the engine compares, as its provider asks for it. */
const BUCKET_SETTINGS = [
  "s3:GetBucket*",
  "s3:GetAccelerateConfiguration",
  "s3:GetEncryptionConfiguration",
  "s3:GetLifecycleConfiguration",
  "s3:GetReplicationConfiguration",
];
const KEY_SETTINGS = [
  "kms:DescribeKey",
  "kms:GetKeyPolicy",
  "kms:GetKeyRotationStatus",
  "kms:ListResourceTags",
];
const ROLE_SETTINGS = [
  "iam:GetRole",
  "iam:GetRolePolicy",
  "iam:ListAttachedRolePolicies",
  "iam:ListRolePolicies",
];

/** Also if somebody adds a policy that allows everything. */
const neverDelete = (at: Places): object =>
  deny(
    "NeverDelete",
    ["s3:DeleteObject", "s3:DeleteObjectVersion", "s3:BypassGovernanceRetention"],
    inBackups(at, "*"),
  );

/** By version too: what is hidden or overwritten counts as well. */
const READ = ["s3:GetObject", "s3:GetObjectVersion"];

/** Everybody lists; the bucket's key opens the bucket's own layer only. */
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
