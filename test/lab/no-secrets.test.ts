// Known secrets are searched for everywhere that a rebuild leaves traces. Only Vault's storage and the hosts' own
// disks may hold them, and the latter only where nobody but root reads.
import { readdirSync, readFileSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { beforeAll, expect, test } from "vitest";
import { decrypt, readRecord } from "../../scripts/drill/doors.ts";
import { ACME, GLOBEX, TENANTS } from "../../scripts/lab/tenants.ts";
import { SECRETS_DIR, tenantStack } from "../../stacks/names.ts";
import { addressOf, lab, program, pulumi, runbook } from "./lab.ts";

/** Every form of every secret, with what it is of. */
const needles: { what: string; form: string }[] = [];

beforeAll(async () => {
  for (const tenant of TENANTS) {
    for (const [record, field] of [
      ["admin", "password"],
      ["mailu", "api_token"],
      ["dkim", "private_key"],
      ["tls", "private_key"],
    ] as const) {
      const secret = await decrypt(lab, tenant, (await readRecord(lab, tenant, record)).fields[field]);
      needles.push(...forms(secret).map((form) => ({ what: `${tenant.id} ${record} ${field}`, form })));
    }
  }
});

test("the search finds what is there: a planted value in each of its forms", () => {
  for (const { what, form } of needles) expect(found(`x${form}y`)).toContain(what);
  expect(needles.length).toBeGreaterThan(20);
});

test("no secret reaches a process's arguments, or what a run prints, even when everything is to be debugged", async () => {
  const debug = { DEBUG: "*" };
  let running = true;
  const seen = new Set<string>();
  const watching = (async () => {
    while (running) {
      for (const line of commandLines()) seen.add(line);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  })();
  const recovered = await runbook(["recover-credentials", "--tenant", GLOBEX.id, "--yes", "--json"], {
    env: debug,
  });
  const again = await pulumi(
    ["up", "--yes", "--skip-preview", "--stack", tenantStack(ACME.id), "-v=9", "--logtostderr"],
    { env: debug },
  );
  running = false;
  await watching;
  expect(recovered.code, recovered.stderr.slice(-2_000)).toBe(0);
  expect(again.code).toBe(0);
  expect([...seen].some((line) => line.includes("recover-credentials"))).toBe(true);
  expect(found([...seen].join("\n"))).toEqual([]);
  for (const { stdout, stderr } of [recovered, again]) {
    expect(found(stdout + stderr)).toEqual([]);
    expect((stdout + stderr).includes(lab.operatorToken)).toBe(false);
  }
});

test("a run under NODE_DEBUG is refused: Node itself would print requests, secrets and all", async () => {
  const done = await runbook(["recover-credentials", "--tenant", GLOBEX.id, "--yes"], {
    env: { NODE_DEBUG: "http" },
  });
  expect(done.code).toBe(2);
  expect(done.stderr).toMatch(/next: {2}unset NODE_DEBUG/);
  expect(found(done.stdout + done.stderr)).toEqual([]);
});

test("no secret lies in Pulumi's state, in a log, or anywhere else in the lab but in Vault and on the hosts", async () => {
  const files = under(lab.place.dir).filter(
    (file) => !/\/(?:hosts|volumes)\/|\/vault\/(?:data|raft|storage)/.test(file),
  );
  expect(files.some((file) => file.includes("/state/") && file.endsWith(".json"))).toBe(true);
  expect(files.some((file) => file.endsWith("audit.jsonl"))).toBe(true);
  for (const file of files) expect(found(contentOf(file)), file).toEqual([]);
  for (const tenant of TENANTS) {
    const exported = await pulumi(["stack", "export", "--show-secrets", "--stack", tenantStack(tenant.id)]);
    expect(exported.stdout).toContain('"deployment"');
    expect(found(exported.stdout)).toEqual([]);
  }
});

test("no secret lies in temporary files", () => {
  const recent = under(tmpdir()).filter(
    (file) => !file.startsWith(lab.place.dir) && Date.now() - mtime(file) < 600_000,
  );
  for (const file of recent) expect(found(contentOf(file)), file).toEqual([]);
});

test("on a host, secrets are for root alone", async () => {
  for (const tenant of TENANTS) {
    const trust = [
      "-o",
      "StrictHostKeyChecking=no",
      "-o",
      "UserKnownHostsFile=/dev/null",
      "-o",
      "LogLevel=ERROR",
    ];
    const list = `find ${SECRETS_DIR} /mailu/certs/key.pem /mailu/dkim -type f -printf '%m %p\\n'`;
    const modes = await program("ssh", [...trust, `root@${await addressOf(tenant.id)}`, list]);
    const lines = modes.stdout.trim().split("\n");
    expect(lines.length).toBeGreaterThan(3);
    for (const line of lines) expect(line).toMatch(/^600 /);
  }
});

/** The secret as it stands, and as encodings would hide it; of several lines, each long one. */
function forms(secret: string): string[] {
  const parts = secret.split("\n").filter((line) => line.length > 20 && !line.startsWith("-----"));
  return parts.flatMap((part) => [
    part,
    Buffer.from(part).toString("base64").replace(/=+$/, ""),
    encodeURIComponent(part),
    JSON.stringify(part).slice(1, -1),
  ]);
}

const found = (text: string): string[] => [
  ...new Set(needles.filter(({ form }) => text.includes(form)).map(({ what }) => what)),
];

function commandLines(): string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        return [readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ")];
      } catch {
        return [];
      }
    });
}

function under(folder: string): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
      const path = join(folder, entry.name);
      if (entry.isDirectory()) return under(path);
      return entry.isFile() ? [path] : [];
    });
  } catch {
    return [];
  }
}

function contentOf(file: string): string {
  try {
    const bytes = readFileSync(file);
    return (bytes[0] === 0x1f && bytes[1] === 0x8b ? gunzipSync(bytes) : bytes).toString("latin1");
  } catch {
    return "";
  }
}

function mtime(file: string): number {
  try {
    return statSync(file).mtimeMs;
  } catch {
    return 0;
  }
}
