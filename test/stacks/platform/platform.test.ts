// The platform stack as declared: what is protected, who may do what in AWS, and which logins there are.
import { beforeAll, describe, expect, it } from "vitest";
import { ROLES } from "../../../stacks/names.ts";
import { permissions } from "../../../stacks/platform/iam.ts";
import { declare, type Program } from "../declare.ts";

const CONFIG = {
  tenants: ["acme", "globex"],
  awsAccountId: "123456789012",
  operationsNetworks: ["198.51.100.7/32"],
};
let platform: Program;
beforeAll(async () => {
  platform = await declare("platform", CONFIG);
});

describe("Vault", () => {
  it("gets the two mounts, protected, with versions kept and compare-and-set required", () => {
    const mounts = platform.all("vault:index/mount:Mount");
    expect(mounts.map(({ inputs, protect }) => [inputs.path, inputs.type, protect]).sort()).toEqual([
      ["smtp", "kv", true],
      ["smtp-transit", "transit", true],
    ]);
    expect(platform.the("vault:kv/secretBackendV2:SecretBackendV2", "kv-config").inputs).toEqual({
      mount: "smtp",
      maxVersions: 20,
      casRequired: true,
    });
  });

  it("gets two audit devices, one of them stdout, one after the other, before anything else", () => {
    const devices = platform.all("vault:index/audit:Audit");
    expect(devices.map(({ inputs }) => [inputs.type, inputs.options])).toEqual([
      ["file", { file_path: "stdout" }],
      ["file", { file_path: "/var/log/vault/audit.log", mode: "0600" }],
    ]);
    expect(devices.map(({ protect, after }) => [protect, after])).toEqual([
      [true, []],
      [true, ["audit-stdout"]],
    ]);
    for (const part of ["Mounts", "Policies", "Logins"]) {
      const [component] = platform.all(`penguinmails:platform:${part}`);
      expect([part, component?.after.sort()]).toEqual([part, ["audit-file", "audit-stdout"]]);
    }
  });

  it("gets every role and each tenant's own as a policy, and owns no secret", () => {
    const names = platform.all("vault:index/policy:Policy").map(({ inputs }) => inputs.name);
    expect(names.sort()).toEqual([...ROLES, "tenant-acme", "tenant-globex"].sort());
    for (const { type } of platform.resources) {
      expect(type).not.toMatch(/secretV2:SecretV2|generic\/secret|transit\/secretBackendKey|SecretId/);
    }
  });

  it("lets automation log in by AppRoles, the prober from the operations host alone", () => {
    const roles = platform.all("vault:appRole/authBackendRole:AuthBackendRole").map(({ inputs }) => inputs);
    expect(Object.fromEntries(roles.map((role) => [role.roleName, role.tokenPolicies]))).toEqual({
      system: ["incident-responder"],
      "backup-operator": ["backup-operator"],
      "drift-reader": ["drift-reader"],
      "credential-prober": ["credential-prober"],
      "tenant-deployer": ["tenant-deployer"],
    });
    // Vault reads that policy anew for each request.
    expect(roles.filter((role) => role.tokenNoDefaultPolicy !== true)).toEqual([]);
    const bound = roles.filter((role) => role.tokenBoundCidrs !== undefined);
    expect(bound).toMatchObject([
      {
        roleName: "credential-prober",
        tokenBoundCidrs: ["198.51.100.7/32"],
        secretIdBoundCidrs: ["198.51.100.7/32"],
      },
    ]);
  });

  it("lets people and CI log in only where configured, never with a client's secret", async () => {
    expect(platform.all("vault:jwt/authBackend:AuthBackend")).toEqual([]);
    const program = await declare("platform", {
      ...CONFIG,
      people: {
        discoveryUrl: "https://id.example",
        audience: "vault",
        roles: { "platform-admin": ["mail-admins", "leads"] },
      },
      ci: { discoveryUrl: "https://ci.example", audience: "vault", claims: { repository: "acme/mail" } },
    });
    expect(program.the("vault:jwt/authBackend:AuthBackend", "people").inputs).toEqual({
      path: "people",
      type: "jwt",
      oidcDiscoveryUrl: "https://id.example",
    });
    const roles = program.all("vault:jwt/authBackendRole:AuthBackendRole");
    expect(roles.map(({ name, inputs }) => [name, inputs.boundClaims, inputs.tokenPolicies]).sort()).toEqual([
      ["ci-backup-operator", { repository: "acme/mail" }, ["backup-operator"]],
      ["ci-drift-reader", { repository: "acme/mail" }, ["drift-reader"]],
      ["ci-tenant-deployer", { repository: "acme/mail" }, ["tenant-deployer"]],
      ["people-platform-admin", { groups: "mail-admins,leads" }, ["platform-admin"]],
    ]);
  });

  it("gives roles that can destroy everything for an hour at most", async () => {
    const program = await declare("platform", {
      ...CONFIG,
      people: {
        publicKeys: ["-----BEGIN PUBLIC KEY-----\nx"],
        audience: "vault",
        redirectUris: [],
        roles: { "stack-operator": ["ops"], "vault-restorer": ["ops"], "key-shredder": ["ops"] },
      },
    });
    for (const role of program.all("vault:jwt/authBackendRole:AuthBackendRole"))
      expect(role.inputs.tokenMaxTtl).toBe(3600);
  });

  it("leaves a browser login's client secret to an operator", async () => {
    const program = await declare("platform", {
      ...CONFIG,
      people: {
        discoveryUrl: "https://id.example",
        audience: "vault",
        redirectUris: ["http://localhost:8250/oidc/callback", "http://127.0.0.1:8423/oidc/callback"],
        scopes: ["email", "groups"],
        roles: { "platform-admin": ["mail-admins"] },
      },
    });
    expect(program.the("vault:index/authBackend:AuthBackend", "people").inputs).toEqual({
      path: "people",
      type: "oidc",
    });
    expect(
      program.the("vault:jwt/authBackendRole:AuthBackendRole", "people-platform-admin").inputs,
    ).toMatchObject({
      roleType: "oidc",
      allowedRedirectUris: ["http://localhost:8250/oidc/callback", "http://127.0.0.1:8423/oidc/callback"],
      oidcScopes: ["email", "groups"],
    });
    expect(JSON.stringify(program.resources)).not.toMatch(/clientSecret/i);
  });
});

describe("buckets and keys", () => {
  it("are protected and can't be emptied by accident", () => {
    const buckets = platform.all("aws:s3/bucket:Bucket");
    expect(
      buckets.map(({ inputs, protect }) => [
        inputs.bucket,
        inputs.objectLockEnabled,
        inputs.forceDestroy,
        protect,
      ]),
    ).toEqual([
      ["penguinmails-vault-backups", true, false, true],
      ["penguinmails-audit", true, false, true],
    ]);
    const keys = platform.all("aws:kms/key:Key");
    expect(keys.map(({ name, protect, inputs }) => [name, protect, inputs.enableKeyRotation])).toEqual([
      ["backup-wrapping", true, true],
      ["bucket", true, true],
    ]);
  });

  it.each(["backups", "audit"])(
    "%s: versions, lock, encryption, no public access, TLS only, lifecycle",
    (name) => {
      const part = (type: string) =>
        platform.the(`aws:s3/${type[0]?.toLowerCase()}${type.slice(1)}:${type}`, name).inputs;
      expect(part("BucketVersioning").versioningConfiguration).toEqual({ status: "Enabled" });
      expect(part("BucketObjectLockConfiguration").rule).toEqual({
        defaultRetention: { mode: "COMPLIANCE", days: name === "backups" ? 30 : 366 },
      });
      expect(part("BucketServerSideEncryptionConfiguration").rules).toMatchObject([
        {
          applyServerSideEncryptionByDefault: {
            sseAlgorithm: "aws:kms",
            kmsMasterKeyId: expect.stringContaining("arn:aws:kms"),
          },
        },
      ]);
      expect(part("BucketPublicAccessBlock")).toMatchObject({
        blockPublicAcls: true,
        blockPublicPolicy: true,
        ignorePublicAcls: true,
        restrictPublicBuckets: true,
      });
      const policy = JSON.parse(String(part("BucketPolicy").policy));
      expect(policy.Statement[0]).toMatchObject({
        Effect: "Deny",
        Action: "s3:*",
        Condition: { Bool: { "aws:SecureTransport": "false" } },
      });
      const rules = part("BucketLifecycleConfiguration").rules as Record<string, unknown>[];
      // A backup that a later one of its day hides is the pruner's to delete, and nobody else's.
      const expires = rules.some((rule) => rule.noncurrentVersionExpiration !== undefined);
      expect(expires).toBe(name === "audit");
      expect(rules.some((rule) => rule.abortIncompleteMultipartUpload !== undefined)).toBe(true);
    },
  );

  it("the pruner alone deletes backups, whatever other policies say", () => {
    const policy = JSON.parse(
      String(platform.the("aws:s3/bucketPolicy:BucketPolicy", "backups").inputs.policy),
    );
    expect(policy.Statement[1]).toMatchObject({
      Effect: "Deny",
      Action: ["s3:DeleteObject", "s3:DeleteObjectVersion"],
      Condition: {
        ArnNotEquals: { "aws:PrincipalArn": "arn:aws:iam::123456789012:role/penguinmails-pruner" },
      },
    });
  });

  it("the key that wraps backups is not the bucket's own, and two roles alone decrypt with it", () => {
    const policy = JSON.parse(String(platform.the("aws:kms/key:Key", "backup-wrapping").inputs.policy));
    expect(policy.Statement[1]).toMatchObject({
      Effect: "Deny",
      Action: expect.arrayContaining(["kms:Decrypt"]),
      Condition: {
        ArnNotEquals: {
          "aws:PrincipalArn": [
            "arn:aws:iam::123456789012:role/penguinmails-verifier",
            "arn:aws:iam::123456789012:role/penguinmails-restorer",
          ],
        },
      },
    });
  });

  it("may live in another account, reached by assuming a role there", async () => {
    const program = await declare("platform", {
      ...CONFIG,
      awsRole: "arn:aws:iam::123456789012:role/platform-stack",
    });
    expect(platform.all("pulumi:providers:aws")).toEqual([]);
    const [provider] = program.all("pulumi:providers:aws");
    expect(JSON.parse(String(provider?.inputs.assumeRoles))).toMatchObject([
      { roleArn: "arn:aws:iam::123456789012:role/platform-stack" },
    ]);
  });
});

describe("IAM roles", () => {
  const at = { backupName: "b", auditName: "a", wrappingKey: "arn:wrapping", bucketKey: "arn:bucket" };
  type Statement = { Effect: string; Action: string[]; Resource: string | string[] };
  const statements = (role: Parameters<typeof permissions>[0]) =>
    permissions(role, at).Statement as Statement[];
  /** Whether a statement lets `role` do `action` on exactly `resource`, and none forbids it. */
  const may = (role: Parameters<typeof permissions>[0], action: string, resource: string) => {
    const about = statements(role).filter(
      (s) => s.Action.includes(action) && [s.Resource].flat().some((r) => r === "*" || r === resource),
    );
    return about.some((s) => s.Effect === "Allow") && !about.some((s) => s.Effect === "Deny");
  };
  const OBJECTS = "arn:aws:s3:::b/backups/*";

  it("backup seals and stores, and neither opens nor deletes", () => {
    expect(may("backup", "kms:GenerateDataKey", at.wrappingKey)).toBe(true);
    for (const name of ["vault-snapshot.enc", "manifest.json"])
      expect(may("backup", "s3:PutObject", `arn:aws:s3:::b/backups/*/${name}`)).toBe(true);
    expect(may("backup", "s3:PutObject", OBJECTS)).toBe(false);
    expect(may("backup", "kms:Decrypt", at.wrappingKey)).toBe(false);
    expect(may("backup", "s3:DeleteObject", OBJECTS)).toBe(false);
    expect(may("backup", "s3:DeleteObjectVersion", OBJECTS)).toBe(false);
  });

  it("verifier and restorer open, and neither deletes nor stores a backup", () => {
    for (const role of ["verifier", "restorer"] as const) {
      expect(may(role, "kms:Decrypt", at.wrappingKey)).toBe(true);
      expect(may(role, "s3:GetObjectVersion", OBJECTS)).toBe(true);
      expect(may(role, "s3:PutObject", OBJECTS)).toBe(false);
      expect(may(role, "s3:DeleteObjectVersion", OBJECTS)).toBe(false);
      expect(may(role, "s3:PutObject", "arn:aws:s3:::b/backups/*/restored-*.json")).toBe(true);
    }
  });

  it.each(["backup", "verifier", "restorer"] as const)(
    "%s is forbidden to delete, whatever is added to it",
    (role) => {
      const forbidden = statements(role).filter(
        ({ Effect, Resource }) => Effect === "Deny" && [Resource].flat().includes(OBJECTS),
      );
      const actions = forbidden.flatMap(({ Action }) => Action);
      expect(actions).toEqual(expect.arrayContaining(["s3:DeleteObject", "s3:DeleteObjectVersion"]));
    },
  );

  it("pruner deletes and opens nothing", () => {
    expect(may("pruner", "s3:DeleteObjectVersion", OBJECTS)).toBe(true);
    expect(may("pruner", "s3:BypassGovernanceRetention", OBJECTS)).toBe(false);
    expect(may("pruner", "kms:Decrypt", at.wrappingKey)).toBe(false);
  });

  it("are assumed by the configured principals, else by the account itself", async () => {
    const operations = "arn:aws:iam::210987654321:role/operations";
    const program = await declare("platform", { ...CONFIG, principals: { backup: [operations] } });
    const trusted = (name: string) =>
      JSON.parse(String(program.the("aws:iam/role:Role", name).inputs.assumeRolePolicy)).Statement[0]
        .Principal.AWS;
    expect(trusted("backup")).toEqual([operations]);
    expect(trusted("pruner")).toEqual(["arn:aws:iam::123456789012:root"]);
  });
});
