// The AWS account of buckets and keys. It may be another than the one that runs tenants' hosts: who takes over
// that one then still can't delete the backups.
import { Provider } from "@pulumi/aws/provider.js";
import * as pulumi from "@pulumi/pulumi";
import type { PlatformConfig } from "./config.ts";

/** The IAM roles, each with one job towards the backups; `drift` only looks. */
export const BACKUP_ROLES = ["backup", "verifier", "pruner", "restorer", "drift"] as const;
export type BackupRole = (typeof BACKUP_ROLES)[number];
export type RoleArns = Readonly<Record<BackupRole, string>>;
export const roleName = (role: BackupRole): string => `penguinmails-${role}`;

export class AwsAccount extends pulumi.ComponentResource {
  readonly #accountId: string;
  readonly #provider: Provider | undefined;

  constructor(
    name: string,
    args: Pick<PlatformConfig, "awsAccountId" | "awsRole" | "awsRegion">,
    options?: pulumi.ComponentResourceOptions,
  ) {
    super("penguinmails:platform:AwsAccount", name, {}, options);
    this.#accountId = args.awsAccountId;
    this.#provider = this.#createProvider(args);
    this.registerOutputs();
  }

  /** Options that put a component into this account. */
  options(): pulumi.ComponentResourceOptions {
    return this.#provider === undefined ? {} : { providers: { aws: this.#provider } };
  }

  /** The roles' ARNs follow from their names, so that key and bucket policies can name roles not yet made. */
  roleArns(): RoleArns {
    const arn = (role: BackupRole) => `arn:aws:iam::${this.#accountId}:role/${roleName(role)}`;
    return {
      backup: arn("backup"),
      verifier: arn("verifier"),
      pruner: arn("pruner"),
      restorer: arn("restorer"),
      drift: arn("drift"),
    };
  }

  /** Only where something differs: an explicit provider in place of the default one would replace everything. */
  #createProvider({
    awsRole,
    awsRegion,
  }: Pick<PlatformConfig, "awsRole" | "awsRegion">): Provider | undefined {
    if (awsRole === undefined && awsRegion === undefined) return undefined;
    return new Provider(
      "backup-account",
      {
        ...(awsRegion === undefined ? {} : { region: awsRegion }),
        ...(awsRole === undefined
          ? {}
          : { assumeRoles: [{ roleArn: awsRole, sessionName: "penguinmails-platform-stack" }] }),
      },
      { parent: this },
    );
  }
}
