// Known secrets are searched for everywhere that a rebuild leaves traces. Only Vault's storage and the hosts' own
// disks may hold them, and the latter only where nobody but root reads.
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { beforeAll, expect, test } from "vitest";
import { decrypt, readRecord } from "../../scripts/drill/doors.ts";
import { ACME, GLOBEX, TENANTS } from "../../scripts/lab/tenants.ts";
import { REPOSITORY } from "../../scripts/toolchain/paths.ts";
import { PLATFORM_STACK, tenantStack } from "../../stacks/names.ts";
import { killVps, lab, program, pulumi, runbook } from "./lab.ts";
import {
  filesUnder,
  findings,
  forms,
  type Search,
  type Secret,
  searchFor,
  watchProcesses,
  writtenAt,
} from "./needles.ts";

/** What an operator keeps elsewhere, and a lab in its own folder. */
const KEPT = [
  "root-token",
  "operator-token",
  "shredder-token",
  "system-secret-id",
  "webhook-secret",
  "slack-url",
  "unseal-keys",
  "passphrase",
  "offline-recovery.pem",
];
const STACKS = [PLATFORM_STACK, ...TENANTS.map(({ id }) => tenantStack(id))];
const begin = Date.now();

let secrets: Secret[];
/** What tenants' servers are run with; no process but the runbook and Vault may ever see it. */
let tenantsSecrets: Search;
/** The same with tokens, key shares and the like. */
let all: Search;

beforeAll(async () => {
  const kept = KEPT.flatMap((what) => {
    const text = readFileSync(join(lab.place.dir, what), "utf8").trim();
    return (what === "unseal-keys" ? text.split("\n") : [text]).map((value) => ({ what, value }));
  });
  secrets = [];
  for (const tenant of TENANTS) {
    for (const [record, field] of [
      ["admin", "password"],
      ["mailu", "api_token"],
      ["dkim", "private_key"],
      ["tls", "private_key"],
    ] as const) {
      const value = await decrypt(lab, tenant, (await readRecord(lab, tenant, record)).fields[field]);
      secrets.push({ what: `${tenant.id} ${record} ${field}`, value });
    }
  }
  for (const { what, value } of [...secrets, ...kept]) expect(forms(value).length, what).toBeGreaterThan(0);
  expect(kept.filter(({ what }) => what === "unseal-keys")).toHaveLength(3);
  tenantsSecrets = searchFor(secrets);
  all = searchFor([...secrets, ...kept]);
});

test("the search finds what is there: in a file, an archive, an argument, an environment, in every form", async () => {
  const value = randomBytes(24).toString("base64url").replace(/^./, '"/&');
  const search = searchFor([{ what: "planted", value }]);
  const dir = join(lab.place.dir, "planted");
  mkdirSync(join(dir, "deeper"), { recursive: true });
  const texts = [
    value,
    encodeURIComponent(value),
    JSON.stringify({ value }),
    ...["", "a", "ab"].map((before) => Buffer.from(`${before}${value}cd`).toString("base64")),
    Buffer.from(value).toString("base64url"),
  ];
  for (const [index, text] of texts.entries()) {
    writeFileSync(join(dir, `${index}`), `before${text}after`);
    writeFileSync(join(dir, "deeper", `${index}.gz`), gzipSync(text));
  }
  expect(findings(search, filesUnder(dir))).toHaveLength(2 * texts.length);
  rmSync(dir, { recursive: true });

  const sleeper = spawn("sleep", ["1"], { argv0: `sleep ${value}`, env: { PLANTED: value } });
  const { args, environment } = await watchProcesses(() => new Promise((end) => sleeper.once("exit", end)));
  expect(search(args)).toEqual(["planted"]);
  expect(search(environment)).toEqual(["planted"]);
});

test("no secret is seen in a process or in what a rebuild prints, even when everything is to be debugged", async () => {
  const env = { DEBUG: "*" };
  await killVps(ACME.id, "terminated");
  const at = ["--yes", "--skip-preview", "--stack", tenantStack(ACME.id)];
  const { result, args, environment } = await watchProcesses(() =>
    Promise.all([
      pulumi(["up", ...at, "-v=9", "--logtostderr"], { env }),
      runbook(["replace-vps", "--tenant", GLOBEX.id, "--force", "--yes", "--json"], { env }),
    ]),
  );
  const recovered = await runbook(["recover-credentials", "--tenant", GLOBEX.id, "--yes"], {
    env: { DEBUG: "1" },
  });
  for (const { code, stdout, stderr } of [...result, recovered]) {
    expect(code, stderr.slice(-2_000)).toBe(0);
    expect(all(stdout + stderr)).toEqual([]);
  }
  expect(result[0].stderr, "-v=9 has told of the recovery's inputs").toContain("recover-credentials");
  expect(args).toContain("recover-credentials --tenant acme");
  expect(all(args)).toEqual([]);
  expect(environment).toContain("VAULT_TOKEN=");
  expect(tenantsSecrets(environment)).toEqual([]);
});

test("a run under NODE_DEBUG is refused: Node itself would print requests, secrets and all", async () => {
  const done = await runbook(["recover-credentials", "--tenant", GLOBEX.id, "--yes"], {
    env: { NODE_DEBUG: "http" },
  });
  expect(done.code).toBe(2);
  expect(done.stderr).toMatch(/next: {2}unset NODE_DEBUG/);
  expect(all(done.stdout + done.stderr)).toEqual([]);
});

test("no secret lies in Pulumi's state and its backups, in a log, or elsewhere in the lab but in Vault and on hosts", async () => {
  const kept = new Set(KEPT.map((name) => join(lab.place.dir, name)));
  const files = filesUnder(lab.place.dir).filter(
    (file) => !kept.has(file) && !/^\/(?:hosts|volumes|vault\/data)\//.test(file.slice(lab.place.dir.length)),
  );
  for (const part of ["/stacks/", "/backups/", "/history/"])
    expect(files.some((file) => file.includes(`/state/.pulumi${part}`) && /\.json(\.gz)?$/.test(file))).toBe(
      true,
    );
  for (const name of ["audit.jsonl", "vault/audit.log", "logs/vault.log", "logs/moto.log"])
    expect(files).toContain(join(lab.place.dir, name));
  expect(findings(all, files)).toEqual([]);
  for (const stack of STACKS) {
    const exported = await pulumi(["stack", "export", "--show-secrets", "--stack", stack]);
    expect(exported.stdout).toContain('"deployment"');
    expect(all(exported.stdout)).toEqual([]);
  }
});

test("no secret lies in temporary files or in the working tree", async () => {
  const recent = filesUnder(tmpdir()).filter(
    (file) => !file.startsWith(lab.place.dir) && writtenAt(file) >= begin - 300_000,
  );
  expect(findings(all, recent)).toEqual([]);
  const tree = await program("git", ["ls-files", "-co", "--exclude-standard", "-z"], { cwd: REPOSITORY });
  const files = tree.stdout.split("\0").filter((file) => file !== "");
  expect(files).toContain("stacks/names.ts");
  expect(
    findings(
      all,
      files.map((file) => join(REPOSITORY, file)),
    ),
  ).toEqual([]);
});

test("on a host, secrets are for root alone, and Vault's tokens and key shares are on none", () => {
  const files = ["hosts", "volumes"].flatMap((name) => filesUnder(join(lab.place.dir, name)));
  const holding = findings(all, files);
  const held = new Set(holding.flatMap(({ holds }) => holds));
  // Mailu keeps a hash of the password.
  const needed = secrets.map(({ what }) => what).filter((what) => !what.endsWith("admin password"));
  expect([...held].sort()).toEqual(needed.sort());
  for (const { file } of holding) expect((statSync(file).mode & 0o777).toString(8), file).toBe("600");
});
