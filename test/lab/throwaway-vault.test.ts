// A throwaway Vault, looked at from outside while it runs and once it's gone; and what it says of archives and shares.
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, statfsSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Readable } from "node:stream";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { Manifest } from "../../runbooks/lib/backup-records.ts";
import { RunbookError } from "../../runbooks/lib/errors.ts";
import { requireThrowawayVault, withThrowawayVault } from "../../runbooks/lib/throwaway-vault.ts";
import { verifyTenants } from "../../runbooks/lib/verify-tenants.ts";
import { raftArchive } from "../../scripts/bench/raft-archive.ts";
import { ACME, GLOBEX } from "../../scripts/lab/tenants.ts";
import { backUp } from "./backup.ts";
import { lab } from "./lab.ts";
import { until } from "./resets.ts";
import { AUDIT_FILE, alive, beginRestore, descendants, type Seen, serverAmong, shares } from "./throwaway.ts";

const own = mkdtempSync(join(tmpdir(), "throwaway-"));
afterAll(() => rmSync(own, { recursive: true }));

let manifest: Manifest;
beforeAll(async () => {
  manifest = await backUp();
}, 300_000);

/** Runs as far as `mark`, and is held there. */
async function heldAt(mark: string): Promise<{ family: Seen[]; kill: () => Promise<void> }> {
  const run = beginRestore({ TMPDIR: own });
  await run.said(mark);
  run.signal("SIGSTOP");
  const kill = async () => {
    run.signal("SIGKILL");
    expect((await run.ended).code).toBeNull();
  };
  return { family: descendants(run.pid), kill };
}

describe("while it holds a restored backup", { timeout: 300_000 }, () => {
  let family: Seen[];
  let server: Seen;
  let kill: () => Promise<void>;
  beforeAll(async () => {
    ({ family, kill } = await heldAt("✓ open it with the key shares"));
    server = serverAmong(family);
  }, 120_000);
  afterAll(() => kill());

  const reach = (url: string, through: string[] = []) => {
    const [command = "", ...args] = [
      ...through,
      ...[process.execPath, "-e", `fetch(${JSON.stringify(url)}).then(() => {}, (e) => { throw e.cause; })`],
    ];
    execFileSync(command, args, { stdio: "pipe", env: {} });
  };

  test("it reaches nothing, not even this machine", () => {
    const source = `${lab.place.vaultAddr}/v1/sys/health`;
    reach(source);
    const user = process.geteuid?.() === 0 ? [] : ["--user", "--preserve-credentials"];
    const inThere = ["nsenter", "--target", String(server.pid), "--net", ...user];
    expect(() => reach(source, inThere)).toThrow("ENETUNREACH");
    const interfaces = readFileSync(`/proc/${server.pid}/net/dev`, "utf8").trim().split("\n").slice(2);
    expect(interfaces.map((line) => line.trim().split(":")[0])).toEqual(["lo"]);
    expect(readFileSync(`/proc/${server.pid}/net/fib_trie`, "utf8")).toBe("");
  });

  test("its root is in memory, and the audit device that it was backed up with writes in there", () => {
    const root = `/proc/${server.pid}/root`;
    expect(readlinkSync(`/proc/${server.pid}/ns/mnt`)).not.toBe(readlinkSync("/proc/self/ns/mnt"));
    const TMPFS_MAGIC = 0x01021994;
    expect(statfsSync(root).type).toBe(TMPFS_MAGIC);
    expect(manifest.audit_paths).toContain(AUDIT_FILE);
    expect(readFileSync(join(root, AUDIT_FILE), "utf8")).toContain('"path":"sys/generate-root/update"');
    expect(readdirSync(root).sort()).toEqual(
      [
        "data",
        AUDIT_FILE.split("/")[1],
        "vault",
        "vault.hcl",
        "vault.sock",
        ...(AUDIT_FILE.startsWith("/tmp/") ? [] : ["tmp"]),
      ].sort(),
    );
    expect(readdirSync(join(root, "data")).length).toBeGreaterThan(0);
  });

  test("none of its processes has written a byte to a disk", () => {
    for (const { pid, command } of family) {
      const [, written] = /^write_bytes: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, "utf8")) ?? [];
      expect(Number(written), command).toBe(0);
    }
  });

  test("no other user of this machine gets to its socket", () => {
    expect(statSync(`/proc/${server.pid}/root`).mode & 0o777).toBe(0o700);
  });

  test("it dumps no core, and is the first to go where memory runs out", () => {
    expect(readFileSync(`/proc/${server.pid}/limits`, "utf8")).toMatch(/^Max core file size +0 +0 /m);
    expect(readFileSync(`/proc/${server.pid}/oom_score_adj`, "utf8").trim()).toBe("1000");
  });
});

describe("killed hard, the run leaves nothing", { timeout: 300_000 }, () => {
  const mounts = () => readFileSync("/proc/self/mountinfo", "utf8");

  test.each([
    "→ start a throwaway Vault",
    "✓ start a throwaway Vault",
    "→ restore the backup of",
    "→ open it with the key shares",
    "→ read and decrypt",
  ])("at '%s'", async (mark) => {
    const before = mounts();
    const { family, kill } = await heldAt(mark);
    if (mark !== "→ start a throwaway Vault") serverAmong(family);
    await kill();
    await until(() => alive(family).length === 0);
    expect(mounts()).toBe(before);
    expect(readdirSync(own)).toEqual([]);
  });
});

describe("ended by Ctrl-C, the run leaves nothing", { timeout: 120_000 }, () => {
  test.each([
    ["once, behind its step", 1],
    ["twice, at once", 2],
  ])("%s", async (_how, times) => {
    const run = beginRestore({ TMPDIR: own });
    await run.said("→ restore the backup of");
    const family = descendants(run.pid);
    serverAmong(family);
    run.signal("SIGINT");
    await run.said("once more ends at once");
    if (times === 2) run.signal("SIGINT");
    const { code, stderr } = await run.ended;
    expect(code, stderr).toBe(5);
    expect(stderr.includes("✓ restore the backup of")).toBe(times === 1);
    await until(() => alive(family).length === 0);
    expect(readdirSync(own)).toEqual([]);
  });
});

describe("what it says of", { timeout: 120_000 }, () => {
  const run = {
    check: <T>(_title: string, act: () => T | Promise<T>) => Promise.resolve(act()),
    env: lab.env,
    onExit() {},
    progress() {},
  };
  /** As Vault gives it to whoever asks. */
  const snapshot = async (): Promise<Buffer> => {
    const headers = { "X-Vault-Token": lab.rootToken };
    const answer = await fetch(`${lab.place.vaultAddr}/v1/sys/storage/raft/snapshot`, { headers });
    return Buffer.from(await answer.arrayBuffer());
  };
  const restore = async (archive: Readable, given = shares(), of: Manifest = manifest) => {
    const work = vi.fn(async () => {});
    const ended = await withThrowawayVault(
      run,
      { manifest: of, shares: given, archive: async () => archive },
      work,
    )
      .then(() => undefined)
      .catch((error) => error);
    if (ended !== undefined) expect(work).not.toHaveBeenCalled();
    expect(alive(descendants(process.pid).filter(({ command }) => command.includes("vault server")))).toEqual(
      [],
    );
    return ended;
  };

  test("a whole archive: nothing, and its tenants are those of the source", async () => {
    const archive = Readable.from([await snapshot()]);
    const backup = { manifest, shares: shares().slice(1), archive: async () => archive };
    const found = await withThrowawayVault(run, backup, (vault) =>
      verifyTenants(vault, [ACME.id, GLOBEX.id]),
    );
    expect(found).toEqual([
      { tenant: ACME.id, problems: [] },
      { tenant: GLOBEX.id, problems: [] },
    ]);
  });

  test.each<[string, (whole: Buffer) => Buffer]>([
    ["a cut archive", (whole) => whole.subarray(0, whole.length >> 1)],
    ["an empty archive", () => Buffer.alloc(0)],
    ["an archive with a changed byte", (whole) => Buffer.from(whole).fill(whole[999] ? 0 : 1, 999, 1000)],
  ])("%s: that Vault doesn't take it", async (_what, damage) => {
    const error = await restore(Readable.from([damage(await snapshot())], { objectMode: false }));
    expect(error).toBeInstanceOf(RunbookError);
    expect((error as RunbookError).message).toContain("sys/storage/raft/snapshot-force");
  });

  test("an archive that its reader finds wrong at its end, once Vault has all of it: what the reader said", async () => {
    const whole = await snapshot();
    const archive = Readable.from(
      (async function* () {
        yield whole;
        await new Promise((resolve) => setTimeout(resolve, 1500));
        throw new RunbookError("it isn't what its manifest says", { exit: "failed" });
      })(),
    );
    expect(await restore(archive)).toMatchObject({ message: "it isn't what its manifest says" });
  });

  test("key shares of another Vault, and too few: that they don't open it (exit 4)", async () => {
    const foreign = shares().map(() => randomBytes(33).toString("base64"));
    const error = await restore(Readable.from([await snapshot()]), foreign);
    expect(error).toMatchObject({
      exitCode: 4,
      message: expect.stringContaining("isn't opened by these key shares"),
    });
    for (const share of foreign) expect(String(error)).not.toContain(share);
    const few = await restore(Readable.from([await snapshot()]), shares().slice(0, 1));
    expect(few).toMatchObject({ exitCode: 4, message: expect.stringContaining("1 of 2 shares") });
  });

  test("more than there is memory for: that it doesn't fit", async () => {
    const memory = vi.spyOn(process, "availableMemory").mockReturnValue(50 * 1_048_576);
    try {
      const error = await restore(raftArchive({ stateBytes: 64 * 1_048_576 }));
      expect(error).toMatchObject({ exitCode: 1, message: expect.stringContaining("doesn't fit") });
    } finally {
      memory.mockRestore();
    }
  });

  test.each([
    ["an older Vault", { vault_version: "1.20.7" }, 1, "install Vault 1.20.7"],
    ["a newer Vault", { vault_version: "1.22.0" }, 1, "install Vault 1.22.0"],
    ["the other edition", { vault_version: "1.21.0+ent" }, 1, "install Vault 1.21.0+ent"],
    ["a size that memory doesn't hold", { plain_bytes: 1e15 }, 1, "with more free memory"],
    ["a Vault that a KMS opens", { seal_type: "awskms" }, 4, "reaches no KMS"],
  ])("a backup of %s: which it takes", async (_what, change, exitCode, words) => {
    const other = { ...manifest, ...change };
    const error = await requireThrowawayVault(run, other).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ exitCode });
    expect(`${(error as RunbookError).message} ${(error as RunbookError).next}`).toContain(words);
    expect(await restore(Readable.from([]), shares(), other)).toMatchObject({ exitCode });
  });

  test("another patch of the same version: nothing", async () => {
    const patch = manifest.vault_version.replace(/\d+$/, "99");
    await requireThrowawayVault(run, { ...manifest, vault_version: patch });
  });
});
