// Whatever is wrong with a command line or with who types it is named before anything changes, for every runbook of an
// emergency.
import { describe, expect, test } from "vitest";
import { z } from "zod";
import type { Finished } from "../../scripts/lab/children.ts";
import { ACME, GLOBEX } from "../../scripts/lab/tenants.ts";
import { vaultCall } from "../../scripts/lab/vault.ts";
import { metadataPath, TRANSIT_MOUNT } from "../../stacks/names.ts";
import { auditLog, vaultState } from "./door.ts";
import { lab, runbook, vault } from "./lab.ts";

type Flags = Record<string, string | undefined>;

/** What is typed instead of, or beside, a command line that would do; `yes: undefined` leaves that flag out. */
interface Slip {
  readonly flags?: Flags;
  readonly words?: string[];
  readonly says: RegExp;
}
interface Command {
  readonly name: string;
  readonly flags: Flags;
  readonly slips: readonly Slip[];
}

const each = (flag: string, values: readonly string[], says: RegExp): Slip[] =>
  values.map((value) => ({ flags: { [flag]: value }, says }));

const badTenants = each("tenant", ["../x", "Acme", "a b", "", "a--b", "x".repeat(32)], /not a tenant id/);
const canary: Slip = { flags: { tenant: "canary" }, says: /reserved/ };
const incidents = ["", "INC 1", "-INC", "INC/1", "INC-1\n", "INC-é", "INC;ls", "I".repeat(65)];
const badIncidents = each("incident", incidents, /--incident: takes up to 64 letters/);
const badSentences = (flag: string): Slip[] => [
  ...each(flag, ["", "  "], /takes a text that isn't empty/),
  ...each(flag, ["x".repeat(501)], /takes at most 500 characters/),
  ...each(flag, ["a\nb", "a\u001b[2Jb", "a\u009bb", "a\u202eb"], /without control characters/),
];
const some = (slips: readonly Slip[]): Slip[] => [slips.at(0), slips.at(-1)].flatMap((slip) => slip ?? []);
const unknownFlag: Slip = { words: ["--fast"], says: /--fast is not a flag/ };
const nobodyThere: Slip = { flags: { yes: undefined }, says: /Nobody is here to say yes/ };
const missing = (flag: string): Slip => ({
  flags: { [flag]: undefined },
  says: new RegExp(`--${flag} is missing`),
});

const commands: Command[] = [
  {
    name: "emergency-reset",
    flags: { tenant: "globex", incident: "INC-1", reason: "a test" },
    slips: [
      ...badTenants,
      canary,
      { flags: { tenant: "nobody" }, says: /no admin, no server, no mailu record for tenant nobody/ },
      ...badIncidents,
      ...badSentences("reason"),
      ...["tenant", "incident", "reason"].map(missing),
      unknownFlag,
      nobodyThere,
      { words: ["--again=yes"], says: /--again takes no value/ },
      { words: ["--reason", "another"], says: /--reason is given twice/ },
      { words: ["globex"], says: /'globex' is not expected here/ },
    ],
  },
  {
    name: "respond-to-compromise",
    flags: { tenants: "acme,globex", incident: "INC-1", details: "a test" },
    slips: [
      ...each("tenants", ["acme,../x", "acme;globex"], /not a tenant id/),
      ...each("tenants", [" , "], /no tenant is named/),
      ...each("tenants", ["acme,nobody"], /Vault doesn't know nobody/),
      ...each("tenant", ["acme"], /one of --tenant, --tenants, --file and --all/),
      { flags: { tenants: undefined }, says: /one of --tenant, --tenants, --file and --all/ },
      { flags: { tenants: undefined, file: "/nowhere" }, says: /--file can't be read/ },
      ...each("at-once", ["0", "257", "many"], /--at-once: /),
      ...some(badIncidents),
      ...some(badSentences("details")),
      missing("details"),
      unknownFlag,
      nobodyThere,
    ],
  },
  {
    name: "mark-compromised",
    flags: { tenant: "globex", incident: "INC-1", reason: "a test" },
    slips: [
      ...some(badTenants),
      ...some(badIncidents),
      ...some(badSentences("reason")),
      ...each("version", ["0", "1.5", "two"], /--version: /),
      unknownFlag,
      nobodyThere,
    ],
  },
  {
    name: "contain",
    flags: { tenant: "globex", incident: "INC-1", reason: "a test" },
    slips: [
      ...some(badTenants),
      ...some(badIncidents),
      ...some(badSentences("reason")),
      { flags: { tenant: undefined }, says: /one of --tenant and --host/ },
      ...each("host", ["192.0.2.1"], /one of --tenant and --host/),
      { flags: { tenant: undefined, host: "mail.globex.example" }, says: /--host: / },
      ...each("host-key", ["ssh-ed25519"], /--host-key: takes one line/),
      unknownFlag,
      nobodyThere,
    ],
  },
  {
    name: "resume",
    flags: { all: "" },
    slips: [
      { flags: { tenant: "globex" }, says: /one of --tenant and --all/ },
      { flags: { all: undefined }, says: /one of --tenant and --all/ },
      { flags: { all: undefined, tenant: "../x" }, says: /not a tenant id/ },
      unknownFlag,
    ],
  },
  {
    name: "offboard-tenant",
    flags: { tenant: "globex", reason: "a test", name: "globex" },
    slips: [
      ...some(badTenants),
      ...some(badSentences("reason")),
      ...each("name", ["acme"], /--name is acme, and not globex/),
      { flags: { name: undefined }, says: /--yes alone doesn't say yes/ },
      { flags: { tenant: "nobody", name: "nobody" }, says: /Nothing is known of a tenant nobody/ },
      unknownFlag,
    ],
  },
  {
    name: "shred-keys",
    flags: { tenant: "globex" },
    slips: [
      ...some(badTenants),
      { flags: { tenant: undefined }, says: /Either --tenant ID or --all/ },
      unknownFlag,
    ],
  },
  {
    name: "notify",
    flags: {},
    slips: [
      { says: /<action> is missing/ },
      { words: ["send"], says: /<action>: / },
      { words: ["flush", "now"], says: /'now' is not expected here/ },
      { words: ["flush", "--fast"], says: /--fast is not a flag/ },
    ],
  },
  {
    name: "audit",
    flags: {},
    slips: [
      { words: ["lst"], says: /<action>: / },
      { words: ["list", "--since=yesterday"], says: /--since: takes a day such as/ },
      { words: ["export"], says: /export needs --out FILE/ },
      { words: ["list", "--fast"], says: /--fast is not a flag/ },
    ],
  },
];

const Problem = z.object({ error: z.object({ exit_code: z.number(), next: z.string().min(5) }) });
const state = async () => [await vaultState(GLOBEX, ACME), await auditLog()];

/** Runs it as it was typed; what isn't as it should be, in words. */
async function problemOf({ name, flags }: Command, slip: Slip): Promise<string[]> {
  const typed: Flags = { ...flags, yes: "", json: "", ...slip.flags };
  const isSwitch = (flag: string) => ["yes", "json", "all"].includes(flag);
  const args = Object.entries(typed).flatMap(([flag, value]) =>
    value === undefined ? [] : [isSwitch(flag) ? `--${flag}` : `--${flag}=${value}`],
  );
  const done = await runbook([name, ...args, ...(slip.words ?? [])]);
  const json = Problem.safeParse(parsed(done.stdout));
  const right =
    done.code === 2 && slip.says.test(done.stderr) && /^next: {2}\S/m.test(done.stderr) && json.success;
  return right ? [] : [`${args.join(" ")} ended with ${done.code}, without ${slip.says}: ${done.stderr}`];
}

test.each(commands)(
  "$name names what is wrong with its command line, and changes nothing",
  async (command) => {
    const before = await state();
    expect(await several(command.slips, (slip) => problemOf(command, slip))).toEqual([]);
    expect(await state()).toEqual(before);
  },
);

describe("a token", () => {
  const tokenOf = async (policy: string): Promise<string> =>
    z
      .object({ auth: z.object({ client_token: z.string() }) })
      .parse(await vault("POST", "auth/token/create", { policies: [policy], ttl: "10m" })).auth.client_token;
  const reset = ["emergency-reset", "--tenant", "globex", "--incident", "INC-1", "--reason", "a test"];
  const respond = [
    "respond-to-compromise",
    "--tenants",
    "acme,globex",
    "--incident",
    "INC-1",
    "--details",
    "a test",
  ];
  const runs = {
    reset,
    respond,
    mark: ["mark-compromised", ...reset.slice(1)],
    resume: ["resume", "--all"],
    shred: ["shred-keys", "--tenant", "globex"],
    offboard: ["offboard-tenant", "--tenant", "globex", "--reason", "a test", "--name", "globex"],
  };

  /** Each of them is refused with this exit code and these words, and nothing changes. */
  async function expectRefused(
    code: number,
    says: RegExp,
    env: Record<string, string | undefined>,
    which: readonly string[][],
  ): Promise<void> {
    const before = await state();
    const wrong = async (args: string[]): Promise<string[]> => {
      const done: Finished = await runbook([...args, "--yes", "--json"], { env });
      return done.code === code && says.test(done.stderr) && /^next: {2}\S/m.test(done.stderr)
        ? []
        : [`${args[0]} ended with ${done.code}: ${done.stderr}`];
    };
    expect(await several(which, wrong)).toEqual([]);
    expect(await state()).toEqual(before);
  }

  test("without the role is told every right that is missing", async () => {
    const env = { VAULT_TOKEN: await tokenOf("default") };
    await expectRefused(3, /Insufficient permissions: .* lacks .* on smtp/, env, Object.values(runs));
    const says =
      /lacks .*update on smtp\/data\/globex\/admin.*patch on smtp\/metadata\/globex\/admin.*smtp-transit\/keys\/globex\/rotate/;
    await expectRefused(3, says, env, [reset]);
  });

  test("of another role isn't enough", async () => {
    const reader = { VAULT_TOKEN: await tokenOf("drift-reader") };
    await expectRefused(3, /lacks .* on smtp\/data\/globex/, reader, [reset, respond]);
    const shredder = { VAULT_TOKEN: lab.shredderToken };
    await expectRefused(3, /Insufficient permissions/, shredder, [reset, respond, runs.mark]);
    // The person of the lab is platform-admin.
    await expectRefused(3, /lacks .*keys\/globex\/trim/, {}, [runs.shred]);
  });

  test("of root is refused without --break-glass", async () => {
    const env = { VAULT_TOKEN: lab.rootToken };
    await expectRefused(4, /root token[\s\S]*--break-glass/, env, Object.values(runs));
  });

  test("of a Vault that isn't the settings' own is refused", async () => {
    const env = { VAULT_ADDR: "http://127.0.0.9:1" };
    await expectRefused(4, /belongs to/, env, [reset, respond, runs.resume]);
  });

  test("of the automated role may destroy nothing, whoever asks in its name", async () => {
    const system = { VAULT_ROLE_ID: lab.systemRoleId, VAULT_SECRET_ID: lab.systemSecretId };
    await expectRefused(3, /system lacks .*keys\/globex\/trim/, { ...system, VAULT_TOKEN: undefined }, [
      runs.shred,
    ]);
    const { client_token: token } = z.object({ auth: z.object({ client_token: z.string() }) }).parse(
      await vaultCall(lab.place.vaultAddr, undefined, "POST", "auth/approle/login", {
        role_id: lab.systemRoleId,
        secret_id: lab.systemSecretId,
      }),
    ).auth;
    const before = await state();
    const key = `${TRANSIT_MOUNT}/keys/globex`;
    for (const [method, path, body] of [
      ["POST", `${key}/trim`, { min_available_version: 1 }],
      ["DELETE", key],
      ["POST", `${key}/config`, { deletion_allowed: true }],
      ["POST", `${key}/config`, { exportable: true }],
      ["POST", `${key}/config`, { allow_plaintext_backup: true }],
      ["GET", `${TRANSIT_MOUNT}/export/encryption-key/globex`],
      ["GET", `${TRANSIT_MOUNT}/backup/globex`],
      ["DELETE", metadataPath(GLOBEX.id, "rotation")],
      ["DELETE", metadataPath(GLOBEX.id, "admin")],
      ["PUT", "smtp/destroy/globex/admin", { versions: [1] }],
    ] as const) {
      const call = vaultCall(lab.place.vaultAddr, token, method, path, body);
      await expect(call, `${method} ${path} ${JSON.stringify(body)}`).rejects.toThrow(/answers 403/);
    }
    expect(await state()).toEqual(before);
  });
});

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** A few at a time: each is a process that starts and ends. */
async function several<T>(items: readonly T[], work: (item: T) => Promise<string[]>): Promise<string[]> {
  const waiting = items.values();
  const found: string[] = [];
  const one = async (): Promise<void> => {
    for (const item of waiting) found.push(...(await work(item)));
  };
  await Promise.all([one(), one(), one()]);
  return found;
}
