// Everything that tenants share: Vault's mounts, roles and logins, the buckets and the keys. Run by a
// stack-operator; only the very first `up`, when no role exists, takes Vault's initial root token.
import { stackConfig } from "./config.ts";
import { AwsAccount } from "./platform/account.ts";
import { Buckets } from "./platform/buckets.ts";
import { platformSchema } from "./platform/config.ts";
import { IamRoles } from "./platform/iam.ts";
import { Keys } from "./platform/keys.ts";
import { Logins } from "./platform/logins.ts";
import { Policies } from "./platform/policy-resources.ts";
import { AuditDevices, Mounts } from "./platform/vault.ts";

export function platform(): Record<string, unknown> {
  const config = stackConfig(platformSchema);

  const audit = new AuditDevices("audit-devices", config);
  // A request that meets a device in the middle of being enabled is answered with 500: everything else waits.
  const audited = { dependsOn: audit };
  new Mounts("mounts", audited);
  new Policies("policies", config, audited);
  const logins = new Logins("logins", config, audited);

  const account = new AwsAccount("account", config);
  const roles = account.roleArns();
  const keys = new Keys("keys", { accountId: config.awsAccountId, roles }, account.options());
  const buckets = new Buckets(
    "buckets",
    { ...config, bucketKey: keys.bucketKeyArn, roles },
    account.options(),
  );
  new IamRoles("iam", { ...config, roles, keys, buckets }, account.options());

  return {
    backupBucket: buckets.backupName,
    auditBucket: buckets.auditName,
    backupKey: keys.wrappingKeyArn,
    bucketKey: keys.bucketKeyArn,
    roleArns: roles,
    appRoles: logins.appRoles,
  };
}
