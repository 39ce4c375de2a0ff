// Backups of a Vault that opens itself by a KMS: what they say, what is refused before it does harm, and that the recovery
// keys alone bring it back. The lab's Vault is moved to such a seal, and gets its own data back at the end.
import type { ChildProcess } from "node:child_process";
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { z } from "zod";
import type { Manifest } from "../../runbooks/lib/backup-records.ts";
import { canLogIn } from "../../scripts/drill/doors.ts";
import { endService } from "../../scripts/lab/children.ts";
import { TENANTS } from "../../scripts/lab/tenants.ts";
import { CANARY, recordPath } from "../../stacks/names.ts";
import { health, loseTo, moveBack, moveToKms } from "./auto-unseal.ts";
import { backUp, forget, manifestsOf, run, today, versions } from "./backup.ts";
import { begin } from "./killed.ts";
import { addressOf, lab, runbook, vault } from "./lab.ts";
import { passwordOf } from "./rebuilt.ts";
import { ask, isNew, logInAgain, openNewest, restore, restorerToken, turnVault } from "./restores.ts";

vi.setConfig({ testTimeout: 600_000, hookTimeout: 300_000 });

let kms: ChildProcess;
let own: ChildProcess;
let made: Manifest;

/** Of the right form, and of nobody. */
const foreign = [7, 9]
  .map((at) => Buffer.concat([randomBytes(32), Buffer.from([at])]).toString("base64"))
  .join("\n");

/** As `vault operator init` does it; the numbers are none of the backup's. */
async function initialise(): Promise<string> {
  const { body } = await ask("PUT", "sys/init", "", { recovery_shares: 1, recovery_threshold: 1 });
  await health(200);
  return z.string().parse(body.root_token);
}

async function mustBeWhole(result: Record<string, unknown>): Promise<void> {
  expect(result).toMatchObject({ version_id: made.version_id, outstanding: [] });
  for (const { id } of TENANTS)
    expect(result.tenants).toContainEqual(
      expect.objectContaining({ tenant: id, state: "same", problems: [] }),
    );
  await logInAgain();
  expect((await ask("GET", "sys/seal-status")).body).toMatchObject({ type: "transit", t: 2, n: 3 });
  const canary = await vault("GET", `${recordPath(CANARY, "admin")}?version=${made.canary.version}`);
  expect(canary).toMatchObject({ data: { data: { nonce: made.canary.nonce } } });
  for (const tenant of TENANTS)
    expect(await canLogIn(await addressOf(tenant.id), tenant, await passwordOf(tenant))).toBe(true);
}

beforeAll(async () => {
  await backUp();
  await openNewest();
  ({ kms, own } = await moveToKms());
});
afterAll(async () => {
  await moveBack({ kms, own });
  for (const { version_id, seal_type } of await manifestsOf(today()))
    if (seal_type === "transit") await forget(version_id);
});

test("a backup of the time of key shares isn't put into it, nor over it", async () => {
  const live = await restore(["--over-live", "--cluster", "lab"], { env: { VAULT_TOKEN: restorerToken() } });
  expect(live.code, live.stderr).toBe(4);
  expect(live.stderr).toMatch(
    /is sealed by transit, and the one that was backed up by shamir\nnext: .*`seal`/,
  );
  expect((await ask("GET", "auth/token/lookup-self", restorerToken())).status).toBe(200);
});

test("its backup tells its seal and its recovery keys, and its check what it didn't prove", async () => {
  made = await backUp();
  expect(made).toMatchObject({ seal_type: "transit", shares: 3, threshold: 2, cluster_name: "lab" });
  const { code, stderr, result } = await run(["verify-backup"]);
  expect(code, stderr).toBe(0);
  const unproven = expect.stringMatching(/key of its seal \(transit\).*recovery keys/);
  expect(result.opened).toEqual([expect.objectContaining({ version_id: made.version_id, unproven })]);
  const shown = await runbook(["verify-backup"], { env: { VAULT_TOKEN: "" } });
  expect(shown.stdout).toMatch(/ opens: .*; not proven: that the key of its seal \(transit\)/);
  // Before anybody types anything.
  const restored = await run(["verify-backup", "--restore"], {}, "");
  expect(restored.code, restored.stderr).toBe(4);
  expect(restored.stderr).toMatch(
    /KMS \(transit\).*throwaway Vault reaches no KMS\nnext: .*verify-backup --restore --into ADDR .*docs/,
  );
});

test("isn't put into a Vault that key shares open", async () => {
  await endService(own, 0);
  await turnVault("lost");
  const { code, stderr } = await restore();
  expect(code, stderr).toBe(4);
  expect(stderr).toContain("is sealed by shamir, and the one that was backed up by transit");
  expect(await isNew()).toBe(true);
  await turnVault("stopped");
});

test("a Vault with another key of the KMS keeps what it has: it is never forced", async () => {
  own = await loseTo("another", own);
  const env = { VAULT_TOKEN: await initialise() };
  const { code, stderr } = await restore([], { env });
  expect(code, stderr).toBe(4);
  expect(stderr).toMatch(
    /can't open this backup by its own seal, and changed nothing.*\nnext: .*KMS answers/,
  );
  expect((await ask("GET", "auth/token/lookup-self", env.VAULT_TOKEN)).status).toBe(200);
  expect((await ask("GET", "sys/seal-status")).body).toMatchObject({ sealed: false, t: 1, n: 1 });

  // The right key, which isn't reached.
  own = await loseTo("unseal", own);
  const unreached = { VAULT_TOKEN: await initialise() };
  kms.kill("SIGSTOP");
  const frozen = await restore([], { env: unreached }).finally(() => kms.kill("SIGCONT"));
  expect(frozen.code, frozen.stderr).toBe(4);
  expect(frozen.stderr).toContain("can't open this backup by its own seal, and changed nothing");
  expect((await ask("GET", "auth/token/lookup-self", unreached.VAULT_TOKEN)).status).toBe(200);

  // One that the runbook initialises was touched by it.
  own = await loseTo("another", own);
  for (const round of ["a new one", "the same one"]) {
    const again = await restore();
    expect(again.code, round + again.stderr).toBe(round === "a new one" ? 5 : 4);
    expect(again.stderr).toContain("can't open this backup by its own seal, and changed nothing");
    expect((await ask("GET", "sys/health")).status).toBe(200);
  }
});

test("is brought back by its recovery keys, wherever the run was killed and however often they were typed wrongly", async () => {
  own = await loseTo("unseal", own);
  const dry = await restore(["--dry-run"]);
  expect(dry.code, dry.stderr).toBe(0);
  expect(dry.stderr).toContain("would: initialise it with 3 recovery keys, of which 2 let in");
  expect(await isNew()).toBe(true);
  for (const mark of ["→ stream the backup", "→ wait until it has opened itself"]) {
    const command = ["sh", "-c", `exec "$@" < '${join(lab.place.dir, "unseal-keys")}'`, "sh"];
    const running = begin(["restore-vault", "--yes"], { VAULT_TOKEN: "" }, command);
    await running.said(mark);
    running.signal("SIGKILL");
    await running.ended;
  }
  await health(200);
  const wrong = await restore([], { input: foreign });
  expect(wrong.code, wrong.stderr).toBe(4);
  expect(wrong.stderr).toMatch(
    /doesn't take these recovery keys.*\nnext: {2}the same command with the recovery keys/,
  );
  for (const key of foreign.split("\n")) expect(wrong.stderr).not.toContain(key);
  const { code, stderr, result } = await restore();
  expect(code, stderr).toBe(0);
  expect(stderr).not.toContain("stream the backup");
  await mustBeWhole(result);
});

test("goes into one that its operator initialised, and wrong recovery keys are typed again behind it", async () => {
  own = await loseTo("unseal", own);
  const env = { VAULT_TOKEN: await initialise() };
  const wrong = await restore([], { env, input: foreign });
  expect(wrong.code, wrong.stderr).toBe(5);
  expect(wrong.stderr).toMatch(/archive is whole.*recovery keys are tried last/);
  expect(wrong.stderr).toMatch(
    /doesn't take these recovery keys.*\nnext: .*the same command again, with the recovery/,
  );
  const { code, stderr, result } = await restore([], { env });
  expect(code, stderr).toBe(0);
  await mustBeWhole(result);
});

test("goes over a living one", async () => {
  const marker = recordPath(CANARY, "server");
  await vault("POST", marker, { data: { written: "after the backup" }, options: { cas: 0 } });
  const env = { VAULT_TOKEN: restorerToken() };
  const keep = join(lab.place.dir, `kept-${randomBytes(4).toString("hex")}.enc`);
  const day = ["--date", today()];
  const refused = await restore(day, { env });
  expect(refused.code, refused.stderr).toBe(4);
  expect(refused.stderr).toContain("--over-live");
  made = await backUp();
  await openNewest();
  await vault("DELETE", recordPath(CANARY, "server").replace("/data/", "/metadata/"));
  const done = await restore([...day, "--over-live", "--cluster", "lab", "--keep", keep], { env });
  expect(done.code, done.stderr).toBe(0);
  await mustBeWhole(done.result);
  expect((await ask("GET", marker, lab.rootToken)).status).toBe(200);
});

test("without its KMS it is refused and left as it is, open or sealed", async () => {
  await endService(kms, 0);
  const env = { VAULT_TOKEN: restorerToken() };
  const over = [
    "--over-live",
    "--cluster",
    "lab",
    "--keep",
    join(lab.place.dir, `kept-${randomBytes(4).toString("hex")}.enc`),
  ];
  const open = await restore(over, { env });
  expect(open.code, open.stderr).toBe(4);
  expect(open.stderr).toMatch(/so nothing was changed: it ends too early.*KMS.*\nnext: .*KMS answers/);
  expect((await ask("GET", "auth/token/lookup-self", restorerToken())).status).toBe(200);
  // Vault calls such a snapshot a success.
  const before = await versions();
  const unmade = await run(["backup-vault"]);
  expect(unmade.code, unmade.stderr).toBe(1);
  expect(unmade.stderr).toMatch(/isn't whole, and nothing was stored.*\nnext: .*KMS/);
  expect(await versions()).toEqual(before);

  await vault("PUT", "sys/seal");
  const sealed = await restore();
  expect(sealed.code, sealed.stderr).toBe(4);
  expect(sealed.stderr).toMatch(/can't open itself .*\nnext: .*KMS answers.*systemctl restart vault/);
  expect(sealed.stderr).not.toContain("remove what is in");
});
