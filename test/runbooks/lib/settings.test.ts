import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { RunbookError } from "../../../runbooks/lib/errors.ts";
import { redact } from "../../../runbooks/lib/redact.ts";
import { assertOwnVault, loadSettings, vaultEnvironment } from "../../../runbooks/lib/settings.ts";

const folder = mkdtempSync(join(tmpdir(), "settings-"));
afterAll(() => rmSync(folder, { recursive: true }));

function load(yaml: string, env: NodeJS.ProcessEnv = {}) {
  const file = join(folder, "recovery.yaml");
  writeFileSync(file, yaml);
  return loadSettings({ RECOVERY_CONFIG: file, ...env });
}

function errorOf(act: () => unknown): RunbookError {
  try {
    act();
  } catch (error) {
    if (error instanceof RunbookError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

describe("recovery.yaml", () => {
  it("needs only the Vault's address; the rest has defaults", () => {
    const settings = load("vault: {addr: 'https://vault.example:8200/'}", { XDG_STATE_HOME: "/state" });
    expect(settings.vault.addr).toBe("https://vault.example:8200");
    expect(settings.audit).toEqual({ log: "/state/penguinmails-recovery/audit.jsonl", bucket: undefined });
    expect(settings.ssh).toEqual({ user: "root", identity_file: undefined });
    expect(settings.pulumi.project_dir).toBe(join(import.meta.dirname, "../../.."));
  });

  it("takes relative paths from its own folder, and ~ from the home", () => {
    const settings = load(
      "vault: {addr: 'http://127.0.0.1:8200'}\naudit: {log: logs/a.jsonl, bucket: b}\n" +
        "ssh: {user: ops, identity_file: ~/.ssh/id}\npulumi: {project_dir: ..}",
    );
    expect(settings.audit).toEqual({ log: join(folder, "logs/a.jsonl"), bucket: "b" });
    expect(settings.ssh).toEqual({ user: "ops", identity_file: join(homedir(), ".ssh/id") });
    expect(settings.pulumi.project_dir).toBe(join(folder, ".."));
  });

  it.each<[string, string, string]>([
    ["a missing key", "{}", "vault is missing: it takes addr"],
    ["an empty file", "", "vault is missing: it takes addr"],
    ["a missing address", "vault: {}", "vault.addr is missing"],
    ["a value of the wrong kind", "vault: {addr: 5}", "vault.addr is 5 but takes a text"],
    [
      "a text that is no URL",
      "vault: {addr: vault.example}",
      'vault.addr is "vault.example" but takes a URL',
    ],
    [
      "an unknown key",
      "vault: {addr: 'http://v'}\nssh: {usr: x}",
      "ssh.usr is not a setting (did you mean user?)",
    ],
    ["an unknown section", "vault: {addr: 'http://v'}\nmail: {}", "mail is not a setting"],
    [
      "a section that is a text",
      "vault: {addr: 'http://v'}\nssh: root",
      'ssh is "root" but takes keys below it',
    ],
    ["an empty value", "vault: {addr: 'http://v'}\nssh: {user: ''}", 'ssh.user is "" but takes a text'],
    ["what is no YAML", "vault: {addr: 'http://v'", "line 1 is not YAML"],
    ["a key given twice", "vault: {addr: 'http://v'}\nvault: {addr: 'http://w'}", "line 2 is not YAML"],
  ])("names %s", (_, yaml, message) => {
    const error = errorOf(() => load(yaml));
    expect(error.message).toContain(message);
    expect(error.message).toContain("recovery.yaml");
    expect(error.exitCode).toBe(2);
    expect(error.next).toBeDefined();
  });

  it("never repeats a password, whether in a URL or under a key that doesn't exist", () => {
    const inUrl = errorOf(() => load("vault: {addr: 'https://me:pa55word@vault.example'}"));
    const underKey = errorOf(() => load("vault: {addr: 'http://v', token: hvs.pa55word}"));
    expect(`${inUrl.message} ${underKey.message}`).not.toContain("pa55word");
    expect(underKey.message).toContain("vault.token is not a setting");
  });

  it("says where it was looked for when it isn't there", () => {
    const error = errorOf(() => loadSettings({ RECOVERY_CONFIG: join(folder, "none.yaml") }));
    expect(error.message).toContain(`${join(folder, "none.yaml")} doesn't exist`);
    expect(error.next).toContain("RECOVERY_CONFIG");
    expect(error.exitCode).toBe(2);
  });
});

describe("Vault's variables", () => {
  it("prefer a token to an AppRole, and count an empty variable as unset", () => {
    const both = { VAULT_TOKEN: "hvs.token-1", VAULT_ROLE_ID: "role", VAULT_SECRET_ID: "secret-id-1" };
    expect(vaultEnvironment(both).login).toEqual({ token: "hvs.token-1" });
    expect(vaultEnvironment({ ...both, VAULT_TOKEN: "" }).login).toEqual({
      roleId: "role",
      secretId: "secret-id-1",
    });
    expect(
      vaultEnvironment({ ...both, VAULT_ADDR: "http://v/", VAULT_NAMESPACE: "n", VAULT_CACERT: "/c" }),
    ).toMatchObject({
      addr: "http://v",
      namespace: "n",
      caCert: "/c",
    });
  });

  it("are secret from then on", () => {
    vaultEnvironment({ VAULT_TOKEN: "hvs.very-secret" });
    expect(redact("X-Vault-Token: hvs.very-secret")).toBe("X-Vault-Token: [redacted]");
  });

  it.each<[string, NodeJS.ProcessEnv, string]>([
    ["no login", {}, "neither VAULT_TOKEN nor"],
    ["half an AppRole", { VAULT_ROLE_ID: "role" }, "neither VAULT_TOKEN nor"],
    [
      "a malformed address",
      { VAULT_TOKEN: "hvs.token-2", VAULT_ADDR: "vault:8200" },
      "VAULT_ADDR takes a URL",
    ],
  ])("are refused with %s", (_, env, message) => {
    const error = errorOf(() => vaultEnvironment(env));
    expect(error.message).toContain(message);
    expect(error.exitCode).toBe(2);
  });
});

describe("the one Vault that the settings belong to", () => {
  const settings = () => load("vault: {addr: 'https://vault.example:8200'}");

  it.each(["https://vault.example:8200", "https://vault.example:8200/", "https://VAULT.example:8200"])(
    "is %s",
    (addr) => {
      expect(() => assertOwnVault(settings(), addr)).not.toThrow();
    },
  );

  it.each([
    "https://vault.example",
    "http://vault.example:8200",
    "https://other.example:8200",
    "https://vault.example:8200/x",
  ])("is not %s", (addr) => {
    const error = errorOf(() => assertOwnVault(settings(), addr));
    expect(error.exitCode).toBe(4);
    expect(error.message).toContain("https://vault.example:8200");
    expect(error.next).toContain("VAULT_ADDR");
  });
});
