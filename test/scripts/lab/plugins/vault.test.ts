import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type DevVault, startDevVault } from "../../../stacks/dev-vault.ts";
import { Engine } from "./engine.ts";

const PROGRAM = `
import * as vault from "@pulumi/vault";
import { readFileSync } from "node:fs";
const kv = new vault.Mount("kv", { path: process.env.KV_PATH ?? "mail", type: "kv", options: { version: "2" }, description: "first" }, { protect: true });
new vault.kv.SecretBackendV2("kv", { mount: kv.path, maxVersions: 20, casRequired: true });
new vault.Policy("reader", { name: "reader", policy: 'path "mail/*" { capabilities = ["read"] }' });
const approle = new vault.AuthBackend("approle", { type: "approle", path: "machines" });
const role = new vault.approle.AuthBackendRole("job", {
  backend: approle.path.apply((path) => path ?? ""), roleName: "job", tokenPolicies: ["reader", "default"],
  ...(process.env.NO_TTL ? {} : { tokenTtl: 600 }), tokenBoundCidrs: ["10.0.0.0/8"],
});
const jwt = new vault.jwt.AuthBackend("ci", { path: "ci", type: "jwt", jwtValidationPubkeys: [process.env.PUBLIC_KEY ?? ""] });
new vault.jwt.AuthBackendRole("ci", { backend: jwt.path.apply((path) => path ?? ""), roleName: "ci", roleType: "jwt", userClaim: "sub", boundAudiences: ["us"], boundClaims: { groups: "a,b" }, tokenPolicies: ["reader"] });
const group = new vault.identity.Group("people", { name: "people", type: "external", policies: ["reader"] });
new vault.identity.GroupAlias("people", { name: "staff", mountAccessor: jwt.accessor, canonicalId: group.id });
new vault.Audit("file", { type: "file", path: "second", options: { file_path: process.env.AUDIT_FILE ?? "" } });
export const roleId = role.roleId;
`;

let vault: DevVault;
let engine: Engine;
const read = async (path: string) => vault.call(vault.rootToken, "GET", path);

beforeAll(async () => {
  vault = await startDevVault();
  const { publicKey } = await import("node:crypto").then(({ generateKeyPairSync }) =>
    generateKeyPairSync("ec", { namedCurve: "P-256" }),
  );
  engine = await Engine.make(PROGRAM, {
    VAULT_ADDR: vault.address,
    VAULT_TOKEN: vault.rootToken,
    PUBLIC_KEY: String(publicKey.export({ type: "spki", format: "pem" })).trim(),
  });
  engine.env.AUDIT_FILE = `${engine.dir}/audit.log`;
  await engine.up();
}, 120_000);

afterAll(async () => {
  await engine?.[Symbol.asyncDispose]();
  await vault?.[Symbol.asyncDispose]();
});

describe("the lab's vault plugin", { timeout: 120_000 }, () => {
  it("makes what the program declares, as Vault itself shows it", async () => {
    expect((await read("mail/config")).body.data).toMatchObject({ max_versions: 20, cas_required: true });
    expect((await read("sys/policies/acl/reader")).body.data).toMatchObject({
      policy: 'path "mail/*" { capabilities = ["read"] }',
    });
    expect((await read("auth/machines/role/job")).body.data).toMatchObject({
      token_policies: ["reader", "default"],
      token_ttl: 600,
      token_bound_cidrs: ["10.0.0.0/8"],
    });
    expect((await read("auth/ci/role/ci")).body.data).toMatchObject({ bound_claims: { groups: ["a", "b"] } });
    expect((await read("identity/group/name/people")).body.data).toMatchObject({
      alias: { name: "staff" },
      policies: ["reader"],
    });
    expect((await read("sys/audit")).body.data).toHaveProperty("second/");
    const roleId = (await read("auth/machines/role/job/role-id")).body.data?.role_id;
    expect(await engine.outputs()).toEqual({ roleId });
  });

  it("finds nothing to do the second time, nor does a refresh", async () => {
    await engine.upAgain();
    await engine.succeed(["refresh", "--preview-only", "--expect-no-changes", "--stack", "dev"]);
  });

  it("sees what was changed, and what was deleted, behind the engine's back, and puts it right", async () => {
    await vault.call(vault.rootToken, "POST", "sys/policies/acl/reader", {
      policy: 'path "*" { capabilities = ["sudo"] }',
    });
    await vault.call(vault.rootToken, "DELETE", "auth/machines/role/job");
    await vault.call(vault.rootToken, "POST", "mail/config", { cas_required: false });
    const preview = await engine.run(["preview", "--expect-no-changes", "--stack", "dev"]);
    expect(preview.code).toBe(7);
    await engine.up();
    expect((await read("sys/policies/acl/reader")).body.data?.policy).toContain("mail/*");
    expect((await read("auth/machines/role/job")).body.data).toMatchObject({ token_ttl: 600 });
    expect((await read("mail/config")).body.data).toMatchObject({ cas_required: true });
  });

  it("takes a setting away that the program no longer has", async () => {
    await engine.up({ NO_TTL: "1" });
    expect((await read("auth/machines/role/job")).body.data).toMatchObject({ token_ttl: 0 });
  });

  it("fails at preview where a protected mount would be replaced, and leaves it alone", async () => {
    const { code, output } = await engine.run(["preview", "--stack", "dev"], { KV_PATH: "elsewhere" });
    expect(code).not.toBe(0);
    expect(output).toContain("protect");
    expect((await read("sys/mounts/mail")).status).toBe(200);
    expect((await read("sys/mounts/elsewhere")).status).toBe(400);
  });

  it("says what Vault said when it refuses", async () => {
    const token = await vault.tokenWith("reader");
    const { code, output } = await engine.run(["up", "--yes", "--skip-preview", "--stack", "dev"], {
      VAULT_TOKEN: token,
    });
    expect(code).not.toBe(0);
    expect(output).toMatch(/Vault refused GET sys\/.* \(403\): .*permission denied/);
    expect(output).not.toContain(token);
  });

  it("leaves nothing after destroy", async () => {
    await engine.succeed(["state", "unprotect", "--all", "--yes", "--stack", "dev"]);
    await engine.succeed(["destroy", "--yes", "--skip-preview", "--stack", "dev"]);
    expect((await read("sys/mounts")).body.data).not.toHaveProperty("mail/");
    expect((await read("sys/auth")).body.data).not.toHaveProperty("machines/");
    expect((await read("sys/audit")).body.data ?? {}).not.toHaveProperty("second/");
    expect((await read("sys/policies/acl/reader")).status).toBe(404);
  });

  it("keeps in the state what was made but couldn't be read back, so that the next run finishes it", async () => {
    const program = `
      import { Mount } from "@pulumi/vault/mount.js";
      new Mount("half", { path: "half", type: "kv" });
    `;
    const policy = 'path "sys/mounts/half" { capabilities = ["create", "update", "sudo"] }';
    await vault.call(vault.rootToken, "POST", "sys/policies/acl/half", { policy });
    const blind = await vault.tokenWith("half");
    await using half = await Engine.make(program, {
      VAULT_ADDR: vault.address,
      VAULT_TOKEN: vault.rootToken,
    });
    const { code } = await half.run(["up", "--yes", "--skip-preview", "--stack", "dev"], {
      VAULT_TOKEN: blind,
    });
    expect(code).not.toBe(0);
    expect((await read("sys/mounts/half")).status).toBe(200);
    await half.up();
    await half.upAgain();
  });
});
