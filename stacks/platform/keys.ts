// Two KMS keys, kept apart: one is the bucket's own (who reads the bucket needs it), the other wraps the backups
// (who may store one must not be able to open one).
import { Alias } from "@pulumi/aws/kms/alias.js";
import { Key } from "@pulumi/aws/kms/key.js";
import * as pulumi from "@pulumi/pulumi";
import { BACKUP_KEY_ALIAS, BUCKET_KEY_ALIAS } from "../names.ts";
import type { RoleArns } from "./account.ts";

export interface KeysArgs {
  accountId: string;
  roles: RoleArns;
}

export class Keys extends pulumi.ComponentResource {
  readonly wrappingKeyArn: pulumi.Output<string>;
  readonly bucketKeyArn: pulumi.Output<string>;

  constructor(name: string, args: KeysArgs, options?: pulumi.ComponentResourceOptions) {
    super("penguinmails:platform:Keys", name, {}, options);
    this.wrappingKeyArn = this.#createKey("backup-wrapping", BACKUP_KEY_ALIAS, wrappingKeyPolicy(args));
    this.bucketKeyArn = this.#createKey("bucket", BUCKET_KEY_ALIAS, bucketKeyPolicy(args.accountId));
    this.registerOutputs();
  }

  #createKey(name: string, alias: string, policy: object): pulumi.Output<string> {
    const key = new Key(
      name,
      {
        description: `PenguinMails: ${alias}`,
        enableKeyRotation: true,
        deletionWindowInDays: 30,
        policy: JSON.stringify(policy),
      },
      { parent: this, protect: true },
    );
    new Alias(name, { name: alias, targetKeyId: key.keyId }, { parent: this });
    return key.arn;
  }
}

/** The account's own IAM policies decide; without this statement a key can end up with nobody in charge. */
export function bucketKeyPolicy(accountId: string) {
  return { Version: "2012-10-17", Statement: [accountDecides(accountId)] };
}

/** As above, but only two roles open backups, whatever IAM policies say. */
export function wrappingKeyPolicy({ accountId, roles }: KeysArgs) {
  return {
    Version: "2012-10-17",
    Statement: [
      accountDecides(accountId),
      {
        Sid: "OnlyVerifierAndRestorerOpenBackups",
        Effect: "Deny",
        Principal: { AWS: "*" },
        Action: ["kms:Decrypt", "kms:ReEncryptFrom"],
        Resource: "*",
        Condition: { ArnNotEquals: { "aws:PrincipalArn": [roles.verifier, roles.restorer] } },
      },
    ],
  };
}

const accountDecides = (accountId: string) => ({
  Sid: "AccountDecides",
  Effect: "Allow",
  Principal: { AWS: `arn:aws:iam::${accountId}:root` },
  Action: "kms:*",
  Resource: "*",
});
