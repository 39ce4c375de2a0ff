// The roles on a real Vault: what each may do, and above all what it may not.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ROLES, type Role, tenantId, tenantPolicy } from "../../../stacks/names.ts";
import { rolePolicy, tenantPolicyText } from "../../../stacks/platform/policies.ts";
import { type DevVault, startDevVault } from "../dev-vault.ts";

const ACME = tenantId("acme");
const GLOBEX = tenantId("globex");
const KEY_SETTINGS = "smtp-transit/keys/acme/config";
let vault: DevVault;
const tokens = new Map<string, string>();

beforeAll(async () => {
  vault = await startDevVault();
  const root = (method: string, path: string, body?: unknown) =>
    succeed(vault.call(vault.rootToken, method, path, body));
  await root("POST", "sys/mounts/smtp", { type: "kv", options: { version: "2" } });
  await root("POST", "sys/mounts/smtp-transit", { type: "transit" });
  for (const role of ROLES) await root("PUT", `sys/policies/acl/${role}`, { policy: rolePolicy(role) });
  for (const tenant of [ACME, GLOBEX]) {
    await root("PUT", `sys/policies/acl/${tenantPolicy(tenant)}`, { policy: tenantPolicyText(tenant) });
    await root("POST", `smtp-transit/keys/${tenant}`, { type: "aes256-gcm96" });
    await retry(() => root("POST", `smtp/data/${tenant}/admin`, { data: { password: "vault:v1:x" } }));
    for (const record of ["server", "mailu", "dkim", "tls", "rotation"]) {
      await root("POST", `smtp/data/${tenant}/${record}`, { data: { a: "b" } });
    }
  }
  for (const role of [...ROLES, tenantPolicy(ACME)]) tokens.set(role, await vault.tokenWith(role));
  tokens.set("both", await vault.tokenWith("platform-admin", "key-shredder"));
  tokens.set("operator", await vault.tokenWith("platform-admin", "stack-operator", "tenant-deployer"));
});
afterAll(async () => {
  await vault?.[Symbol.asyncDispose]();
});

describe("every role", () => {
  it("is one that Vault reads once, and not for each request anew, as it does with a template in it", () => {
    for (const policy of [...ROLES.map(rolePolicy), tenantPolicyText(ACME)])
      expect(policy).not.toContain("{{");
  });

  it.each([...ROLES])(
    "%s may look itself up, ask what it may do, and not a word about others",
    async (role) => {
      await allowed(role, "GET", "auth/token/lookup-self");
      await allowed(role, "POST", "sys/capabilities-self", { paths: ["smtp/data/acme/admin"] });
      await refused(role, "POST", "sys/capabilities", { token: vault.rootToken, paths: ["x"] });
      await refused(role, "GET", "sys/raw/core/keyring");
    },
  );

  it.each(ROLES.filter((role) => role !== "stack-operator"))(
    "%s can't write policies or mounts",
    async (role) => {
      await refused(role, "PUT", "sys/policies/acl/mine", { policy: "" });
      await refused(role, "POST", "sys/mounts/mine", { type: "kv" });
      await refused(role, "POST", "auth/token/create", {});
      await refused(role, "PUT", "sys/audit/mine", { type: "file", options: { file_path: "stdout" } });
    },
  );

  it.each(ROLES.filter((role) => role !== "key-shredder"))("%s can't destroy a key", async (role) => {
    await refused(role, "POST", "smtp-transit/keys/acme/trim", { min_available_version: 1 });
    await refused(role, "DELETE", "smtp-transit/keys/acme");
    await refused(role, "POST", KEY_SETTINGS, { deletion_allowed: true });
  });

  it.each([...ROLES])("%s can't take a key out of Vault", async (role) => {
    await refused(role, "POST", KEY_SETTINGS, { exportable: true });
    await refused(role, "POST", KEY_SETTINGS, { allow_plaintext_backup: true });
    await refused(role, "POST", KEY_SETTINGS, { min_decryption_version: 1, exportable: true });
    await refused(role, "GET", "smtp-transit/export/encryption-key/acme");
    await refused(role, "GET", "smtp-transit/backup/acme");
    await refused(role, "POST", "smtp-transit/keys/sneaky", { type: "aes256-gcm96", exportable: true });
  });

  it.each([...ROLES])("%s can't drop the rotation record, which serves as a lock", async (role) => {
    await refused(role, "DELETE", "smtp/data/acme/rotation");
    await refused(role, "DELETE", "smtp/metadata/acme/rotation");
  });
});

describe("platform-admin, incident-responder and tenant-deployer", () => {
  const ROTATING = ["platform-admin", "incident-responder", "tenant-deployer"] as const;

  it.each(ROTATING)("%s rotates: record, key, encrypt, decrypt, write, mark, retire", async (role) => {
    await allowed(role, "LIST", "smtp/metadata");
    await allowed(role, "LIST", "smtp/metadata/");
    await allowed(role, "LIST", "smtp/metadata/acme");
    await allowed(role, "GET", "smtp/data/acme/server");
    await allowed(role, "POST", "smtp/data/acme/rotation", { data: { state: "PREPARED" } });
    await allowed(role, "POST", "smtp-transit/keys/acme/rotate");
    await allowed(role, "GET", "smtp-transit/keys/acme");
    const sealed = await allowed(role, "POST", "smtp-transit/encrypt/acme", { plaintext: "eA==" });
    const ciphertext = sealed.body.data?.ciphertext;
    await allowed(role, "POST", "smtp-transit/decrypt/acme", { ciphertext });
    await allowed(role, "POST", "smtp-transit/rewrap/acme", { ciphertext });
    await allowed(role, "POST", "smtp/data/acme/admin", { data: { password: ciphertext } });
    await allowed(role, "PATCH", "smtp/metadata/acme/admin", { custom_metadata: { compromised: "true" } });
    await allowed(role, "GET", "smtp/metadata/acme/admin");
    await allowed(role, "POST", KEY_SETTINGS, { min_decryption_version: 1, min_encryption_version: 0 });
  });

  it.each(ROTATING)("%s marks, and changes nothing else of a record's settings", async (role) => {
    await refused(role, "PATCH", "smtp/metadata/acme/admin", { cas_required: false });
    await refused(role, "PATCH", "smtp/metadata/acme/admin", { custom_metadata: {}, max_versions: 1 });
    await refused(role, "POST", "smtp/metadata/acme/admin", { custom_metadata: {} });
    await refused(role, "POST", "smtp/config", { cas_required: false });
  });

  it.each(ROTATING)("%s can't make a key by encrypting under a misspelt name", async (role) => {
    await refused(role, "POST", "smtp-transit/encrypt/acmee", { plaintext: "eA==" });
  });

  it("platform-admin makes a tenant's key, of the one type; the others can't", async () => {
    await allowed("platform-admin", "POST", "smtp-transit/keys/initech", { type: "aes256-gcm96" });
    await refused("platform-admin", "POST", "smtp-transit/keys/hooli", { type: "chacha20-poly1305" });
    await refused("incident-responder", "POST", "smtp-transit/keys/hooli", { type: "aes256-gcm96" });
    await refused("tenant-deployer", "POST", "smtp-transit/keys/hooli", { type: "aes256-gcm96" });
  });

  it("platform-admin offboards; an incident-responder or tenant-deployer deletes nothing", async () => {
    for (const role of ["incident-responder", "tenant-deployer"] as const) {
      await refused(role, "DELETE", "smtp/data/globex/admin");
      await refused(role, "DELETE", "smtp/metadata/globex/admin");
    }
    await allowed("platform-admin", "DELETE", "smtp/data/globex/tls");
    await allowed("platform-admin", "DELETE", "smtp/metadata/globex/tls");
  });

  it("an incident-responder doesn't move a tenant to another server", async () => {
    await refused("incident-responder", "POST", "smtp/data/acme/server", { data: {} });
    await allowed("tenant-deployer", "POST", "smtp/data/acme/server", { data: { vps_ip: "192.0.2.1" } });
  });

  it("wraps what is shown once, the prober doesn't", async () => {
    expect(await may("incident-responder", "sys/wrapping/wrap")).toEqual(["update"]);
    expect(await may("credential-prober", "sys/wrapping/wrap")).toEqual(["deny"]);
  });
});

describe("backup-operator", () => {
  it("takes a snapshot, writes and reads the canary, lists names", async () => {
    expect(await may("backup-operator", "sys/storage/raft/snapshot")).toEqual(["read"]);
    await allowed("backup-operator", "POST", "smtp/data/canary/admin", { data: { date: "x" } });
    await allowed("backup-operator", "GET", "smtp/data/canary/admin");
    await allowed("backup-operator", "LIST", "smtp/metadata");
    await allowed("backup-operator", "GET", "sys/audit");
  });

  it("reads no secret and restores nothing", async () => {
    await refused("backup-operator", "GET", "smtp/data/acme/admin");
    await refused("backup-operator", "GET", "smtp/data/acme/server");
    await refused("backup-operator", "LIST", "smtp/metadata/acme");
    await refused("backup-operator", "DELETE", "smtp/metadata/canary/admin");
    await refused("backup-operator", "POST", "smtp-transit/decrypt/acme", { ciphertext: "vault:v1:x" });
    expect(await may("backup-operator", "sys/storage/raft/snapshot-force")).toEqual(["deny"]);
  });
});

describe("the other roles", () => {
  it("only the vault-restorer restores", async () => {
    for (const role of ROLES) {
      const expected = role === "vault-restorer" ? ["create", "update"] : ["deny"];
      expect([role, await may(role, "sys/storage/raft/snapshot-force")]).toEqual([role, expected]);
    }
    await refused("vault-restorer", "GET", "smtp/data/acme/admin");
  });

  it("the key-shredder trims and deletes keys, sees ciphertext and opens none", async () => {
    await allowed("key-shredder", "POST", KEY_SETTINGS, { deletion_allowed: true });
    await allowed("key-shredder", "GET", "smtp/data/acme/admin");
    await refused("key-shredder", "POST", "smtp-transit/decrypt/acme", { ciphertext: "vault:v1:x" });
    await refused("key-shredder", "POST", "smtp/data/acme/admin", { data: {} });
    // That a key was shredded is read from the key: the record that is a lock is for those who rotate.
    await refused("key-shredder", "POST", "smtp/data/acme/rotation", { data: { state: "SHREDDED" } });
    await refused("key-shredder", "PATCH", "smtp/metadata/acme/admin", { custom_metadata: {} });
    expect(await may("key-shredder", "smtp-transit/keys/acme/trim")).toEqual(["update"]);
    await allowed("key-shredder", "POST", "smtp-transit/keys/globex/config", { deletion_allowed: true });
    await allowed("key-shredder", "DELETE", "smtp-transit/keys/globex");
  });

  it("a person who is both platform-admin and key-shredder has the rights of both", async () => {
    await allowed("both", "POST", KEY_SETTINGS, { min_decryption_version: 1, deletion_allowed: false });
    await allowed("both", "POST", "smtp-transit/keys/umbrella", { type: "aes256-gcm96" });
    await allowed("both", "GET", "smtp/metadata/acme/admin");
    await allowed("both", "POST", "smtp/data/acme/admin", { data: { password: "x" } });
    await refused("both", "POST", KEY_SETTINGS, { exportable: true });
  });

  it("an operator of several roles has the sum of their rights and no more", async () => {
    await allowed("operator", "POST", "smtp-transit/keys/vandelay", { type: "aes256-gcm96" });
    await refused("operator", "POST", "smtp-transit/keys/kramerica", { exportable: true });
    await allowed("operator", "PATCH", "smtp/metadata/acme/admin", { custom_metadata: { reset_by: "x" } });
    await refused("operator", "PATCH", "smtp/metadata/acme/admin", { max_versions: 1 });
    await allowed("operator", "POST", "smtp/data/acme/server", { data: {} });
    await allowed("operator", "GET", "sys/mounts/smtp/tune");
    await refused("operator", "POST", "smtp-transit/keys/acme/trim", { min_available_version: 1 });
  });

  it("the drift-reader reads configuration, metadata and names of fields, and uses no key", async () => {
    for (const path of [
      "sys/mounts",
      "sys/auth",
      "sys/audit",
      "smtp/config",
      "sys/policies/acl/platform-admin",
    ]) {
      await allowed("drift-reader", "GET", path);
    }
    await allowed("drift-reader", "GET", "smtp/metadata/acme/admin");
    await allowed("drift-reader", "GET", "smtp/data/acme/server");
    await refused("drift-reader", "GET", "smtp/data/acme/admin");
    await allowed("drift-reader", "GET", "smtp/subkeys/acme/admin");
    // Settings of the keys and nothing more: not one that makes, uses or changes one.
    expect(await may("drift-reader", "smtp-transit/keys/acme")).toEqual(["read"]);
    expect(await may("drift-reader", "smtp-transit/keys")).toEqual(["list"]);
    for (const path of [
      "encrypt/acme",
      "decrypt/acme",
      "rewrap/acme",
      "datakey/plaintext/acme",
      "export/encryption-key/acme",
      "backup/acme",
      "keys/acme/config",
      "keys/acme/trim",
      "keys/acme/rotate",
    ]) {
      expect([path, await may("drift-reader", `smtp-transit/${path}`)]).toEqual([path, ["deny"]]);
    }
  });

  it("the credential-prober decrypts and writes nothing", async () => {
    await allowed("credential-prober", "GET", "smtp/data/acme/admin");
    expect(await may("credential-prober", "smtp-transit/decrypt/acme")).toEqual(["update"]);
    // The API token too, since app tokens and forwards are asked of Mailu.
    await allowed("credential-prober", "GET", "smtp/data/acme/mailu");
    await refused("credential-prober", "GET", "smtp/data/acme/rotation");
    for (const record of ["admin", "server", "mailu", "dkim", "tls"])
      await refused("credential-prober", "POST", `smtp/data/acme/${record}`, { data: {} });
    await refused("credential-prober", "PATCH", "smtp/metadata/acme/admin", { custom_metadata: {} });
    await refused("credential-prober", "POST", "smtp-transit/encrypt/acme", { plaintext: "eA==" });
  });

  it("the stack-operator runs the platform stack and reads no credential", async () => {
    await allowed("stack-operator", "POST", "auth/token/create", { ttl: "1m" });
    await allowed("stack-operator", "PUT", "sys/policies/acl/extra", { policy: 'path "x" {}' });
    await allowed("stack-operator", "DELETE", "sys/policies/acl/extra");
    await allowed("stack-operator", "POST", "sys/mounts/smtp/tune", { description: "x" });
    await allowed("stack-operator", "POST", "smtp/config", { cas_required: true, max_versions: 20 });
    await allowed("stack-operator", "PUT", "sys/audit/extra", {
      type: "file",
      options: { file_path: "stdout" },
    });
    await allowed("stack-operator", "DELETE", "sys/audit/extra");
    await allowed("stack-operator", "POST", "sys/auth/approle", { type: "approle" });
    await allowed("stack-operator", "POST", "auth/approle/role/x", { token_policies: ["drift-reader"] });
    await refused("stack-operator", "GET", "smtp/data/acme/admin");
    await refused("stack-operator", "POST", "smtp-transit/decrypt/acme", { ciphertext: "vault:v1:x" });
  });

  it("a tenant reads its own credential and decrypts with its own key, and that is all", async () => {
    const own = tenantPolicy(ACME);
    await allowed(own, "GET", "smtp/data/acme/admin");
    expect(await may(own, "smtp-transit/decrypt/acme")).toEqual(["update"]);
    await refused(own, "GET", "smtp/data/acme/mailu");
    await refused(own, "GET", "smtp/data/globex/admin");
    await refused(own, "POST", "smtp/data/acme/admin", { data: {} });
    await refused(own, "POST", "smtp-transit/decrypt/globex", { ciphertext: "vault:v1:x" });
    await refused(own, "POST", "smtp-transit/encrypt/acme", { plaintext: "eA==" });
    await refused(own, "LIST", "smtp/metadata");
  });
});

type Holder = Role | ReturnType<typeof tenantPolicy> | "both" | "operator";
const tokenOf = (holder: Holder): string => tokens.get(holder) ?? "";

async function allowed(holder: Holder, method: string, path: string, body?: unknown) {
  const answer = await vault.call(tokenOf(holder), method, path, body);
  expect(answer.status, `${holder} ${method} ${path}: ${JSON.stringify(answer.body)}`).toBeLessThan(300);
  return answer;
}

/** 403, and not some other failure. */
async function refused(holder: Holder, method: string, path: string, body?: unknown) {
  const answer = await vault.call(tokenOf(holder), method, path, body);
  expect(answer.status, `${holder} ${method} ${path}: ${JSON.stringify(answer.body)}`).toBe(403);
}

/** What Vault itself says that a role may do; for paths that a Vault in memory doesn't serve. */
async function may(holder: Holder, path: string): Promise<unknown> {
  const answer = await vault.call(vault.rootToken, "POST", "sys/capabilities", {
    token: tokenOf(holder),
    paths: [path],
  });
  return answer.body.data?.[path];
}

async function succeed(call: Promise<{ status: number; body: unknown }>): Promise<void> {
  const { status, body } = await call;
  if (status >= 300) throw new Error(`${status}: ${JSON.stringify(body)}`);
}

/** A fresh KV v2 mount answers 400 while it upgrades itself. */
async function retry(attempt: () => Promise<void>): Promise<void> {
  for (let left = 20; ; left--) {
    try {
      return await attempt();
    } catch (error) {
      if (left === 0) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}
