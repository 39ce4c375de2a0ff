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

  it("asks the machine's own resolvers and two public ones, unless told whom", () => {
    const vault = "vault: {addr: 'http://127.0.0.1:8200'}\n";
    expect(load(vault).dns.resolvers.slice(-2)).toEqual(["1.1.1.1", "9.9.9.9"]);
    expect(load(vault).dns.authoritative).toBeUndefined();
    const told = { resolvers: ["192.0.2.53", "[2001:db8::53]:5353"], authoritative: ["192.0.2.54:5353"] };
    expect(load(`${vault}dns: ${JSON.stringify(told)}`).dns).toEqual(told);
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
    [
      "a name where an address belongs",
      "vault: {addr: 'http://v'}\ndns: {resolvers: [ns.example]}",
      'dns.resolvers.0 is "ns.example" but takes an IP address',
    ],
    [
      "a port that is none",
      "vault: {addr: 'http://v'}\ndns: {authoritative: ['192.0.2.53:99999']}",
      'dns.authoritative.0 is "192.0.2.53:99999" but takes an IP address',
    ],
    [
      "a list with nothing in it",
      "vault: {addr: 'http://v'}\ndns: {resolvers: []}",
      "dns.resolvers is a list of 0 but takes at least one server",
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

describe("the notify section", () => {
  const VAULT = "vault: {addr: 'https://v.example'}\n";
  const section = (more: string, relay = "{host: smtp.relay.example}") =>
    `${VAULT}notify: {from: sec@p.example, relay: ${relay}${more}}`;
  const TEAM = ", security: [oncall@people.example]";
  const hook = (text: string) => section(`, webhooks: [{${text}}]`);

  it("is nobody to tell where it is missing, and no command after a response", () => {
    const settings = load(VAULT);
    expect(settings.notify).toBeUndefined();
    expect(settings.backup.after_response).toBeUndefined();
  });

  it("names relay, addresses and webhooks; files are relative to the settings, and not read yet", () => {
    const { notify, backup } = load(
      `${VAULT}notify:
  from: security@penguinmails.example
  security: [oncall@people.example, oncall@people.example]
  relay: {host: smtp.relay.example, port: 4650, tls: implicit, username: u, password_file: relay-password}
  webhooks:
    - {url: "https://hooks.example/x", format: generic, secret_file: webhook-secret}
    - {url: "https://hooks.example/y", format: generic, secret_env: HOOK_SECRET}
    - {url_file: secrets/slack-url, format: slack}
backup:
  after_response: ["systemctl", "start", "vault-backup.service"]
`,
    );
    expect(notify).toEqual({
      from: "security@penguinmails.example",
      security: ["oncall@people.example"],
      relay: {
        host: "smtp.relay.example",
        port: 4650,
        tls: "implicit",
        login: { username: "u", password: { file: join(folder, "relay-password") } },
      },
      webhooks: [
        {
          channel: expect.stringMatching(/^webhook:hooks\.example-[0-9a-f]{8}$/),
          url: "https://hooks.example/x",
          format: "generic",
          secret: { file: join(folder, "webhook-secret") },
        },
        {
          channel: expect.stringMatching(/^webhook:hooks\.example-[0-9a-f]{8}$/),
          url: "https://hooks.example/y",
          format: "generic",
          secret: { variable: "HOOK_SECRET" },
        },
        {
          channel: "webhook:slack-url",
          url: { file: join(folder, "secrets/slack-url") },
          format: "slack",
          secret: undefined,
        },
      ],
    });
    expect(notify?.webhooks[0]?.channel).not.toBe(notify?.webhooks[1]?.channel);
    expect(backup.after_response).toEqual(["systemctl", "start", "vault-backup.service"]);
  });

  it.each<[string, number, string]>([
    ["{host: r.example}", 465, "implicit"],
    ["{host: r.example, tls: starttls}", 587, "starttls"],
    ["{host: 127.0.0.1, tls: none}", 25, "none"],
    ["{host: '::1', tls: none, port: 2525}", 2525, "none"],
  ])("takes %s for port %i with %s TLS", (relay, port, tls) => {
    expect(load(section(TEAM, relay)).notify?.relay).toMatchObject({ port, tls, login: undefined });
  });

  it.each<[string, string, string]>([
    [
      "nobody to tell",
      section(""),
      "notify is {from, relay} but takes an address under security or a webhook",
    ],
    ["no relay", `${VAULT}notify: {from: a@b.example}`, "notify.relay is missing: it takes host, port, tls"],
    ["no sender", `${VAULT}notify: {relay: {host: h}}`, "notify.from is missing"],
    [
      "a sender that is a header",
      section(TEAM).replace("sec@p.example", "'Sec <s@p.example>'"),
      "takes an e-mail address",
    ],
    [
      "an address that is none",
      section(", security: [oncall]"),
      'notify.security.0 is "oncall" but takes an e-mail',
    ],
    [
      "one address for a list",
      section(", security: a@b.example"),
      'notify.security is "a@b.example" but takes a list',
    ],
    [
      "a port that is none",
      section(TEAM, "{host: h, port: 70000}"),
      "notify.relay.port is 70000 but takes a port",
    ],
    [
      "a port in quotes",
      section(TEAM, "{host: h, port: '465'}"),
      'notify.relay.port is "465" but takes a number',
    ],
    ["a host that is a URL", section(TEAM, "{host: 'smtp://h/x'}"), "but takes a host's name or address"],
    [
      "another TLS",
      section(TEAM, "{host: h, tls: always}"),
      'notify.relay.tls is "always" but takes implicit, starttls or none',
    ],
    [
      "no TLS to another machine",
      section(TEAM, "{host: h.example, tls: none}"),
      'notify.relay.tls is "none" but takes implicit or starttls',
    ],
    [
      "a name that only begins like a loopback address",
      section(TEAM, "{host: 127.0.0.1.evil.example, tls: none}"),
      "but takes implicit or starttls",
    ],
    [
      "a user without a password",
      section(TEAM, "{host: h, username: u}"),
      "takes username together with one of password_file and password_env",
    ],
    [
      "a password from two places",
      section(TEAM, "{host: h, username: u, password_file: f, password_env: E}"),
      "takes username together with one of",
    ],
    [
      "a password without a user",
      section(TEAM, "{host: h, password_file: f}"),
      "takes username together with one of",
    ],
    [
      "a variable with a blank",
      section(TEAM, "{host: h, username: u, password_env: 'A B'}"),
      "takes the name of a variable",
    ],
    [
      "a webhook without TLS",
      hook("url: 'http://hooks.example/x', format: generic, secret_env: E"),
      "takes an https URL",
    ],
    [
      "a webhook without a URL",
      hook("format: generic, secret_env: E"),
      "notify.webhooks.0 is {format, secret_env} but takes one of url and url_file",
    ],
    [
      "a webhook with two URLs",
      hook("url: 'https://h/x', url_file: f, format: generic, secret_env: E"),
      "takes one of url and url_file",
    ],
    [
      "a generic webhook without a key",
      hook("url: 'https://h/x', format: generic"),
      "takes one of secret_file and secret_env",
    ],
    ["Slack with a key", hook("url_file: f, format: slack, secret_env: E"), "none for slack"],
    [
      "another format",
      hook("url_file: f, format: teams"),
      'notify.webhooks.0.format is "teams" but takes generic or slack',
    ],
    [
      "an unknown key of a webhook",
      hook("url_file: f, format: slack, scret_file: f"),
      "notify.webhooks.0.scret_file is not a setting (did you mean secret_file?)",
    ],
    [
      "a webhook given twice",
      section(", webhooks: [{url_file: a/f, format: slack}, {url_file: b/f, format: slack}]"),
      "notify.webhooks is a list of 2 but takes each webhook once",
    ],
    [
      "an empty command",
      `${VAULT}backup: {after_response: []}`,
      "backup.after_response is a list of 0 but takes a command and its arguments",
    ],
    ["a command in one text", `${VAULT}backup: {after_response: 'systemctl start x'}`, "but takes a list"],
  ])("names %s", (_, yaml, message) => {
    const error = errorOf(() => load(yaml));
    expect(error.message).toContain(message);
    expect(error.exitCode).toBe(2);
    expect(error.next).toBeDefined();
  });

  it.each<[string, string]>([
    ["a password", section(TEAM, "{host: h, username: u, password: pa55word-in-the-file}")],
    ["a key", hook("url: 'https://h/x', format: generic, secret: pa55word-in-the-file")],
    ["Slack's URL", hook("url: 'https://hooks.slack.com/services/pa55word-in-the-file', format: slack")],
    [
      "a URL without TLS",
      hook("url: 'http://h.example/pa55word-in-the-file', format: generic, secret_env: E"),
    ],
    [
      "a URL with a password",
      hook("url: 'https://u:pa55word-in-the-file@h.example/', format: generic, secret_env: E"),
    ],
    ["a query", hook("url: 'http://h.example?t=pa55word-in-the-file', format: generic, secret_env: E")],
  ])("refuses %s where it doesn't belong, and doesn't repeat it", (_, yaml) => {
    const error = errorOf(() => load(yaml));
    expect(error.exitCode).toBe(2);
    expect(`${error.message} ${error.next}`).not.toContain("pa55word");
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
