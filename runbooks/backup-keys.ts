// The offline recovery key of the backups. Every backup is sealed to its public half; the private half lies with people,
// apart from the key shares, and opens a backup when KMS is lost with everything else.
import { generateKeyPair } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { dirname, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { z } from "zod";
import { chosen, readCatalog } from "./lib/backup-catalog.ts";
import { backupBucket } from "./lib/backup-settings.ts";
import { BackupStore } from "./lib/backup-store.ts";
import { writeNewFile } from "./lib/durable-file.ts";
import { messageOf, RunbookError } from "./lib/errors.ts";
import { checkBackup, opener } from "./lib/open-backup.ts";
import { registerSecret } from "./lib/redact.ts";
import type { Result } from "./lib/report.ts";
import { defineRunbook, type Run } from "./lib/runbook.ts";
import { RSA_BITS, recoveryPrivateKey, recoveryPublicKey, type SealKey } from "./lib/seal-keys.ts";
import { addRecoveryKey } from "./lib/settings-edit.ts";

const flags = z.object({
  action: z
    .enum(["new", "check"])
    .describe("new: make a key pair; check: see that a private key opens the newest backup"),
  out: z
    .string()
    .optional()
    .describe("new: the new file for the private half, outside this project; without it, it is shown once"),
  keyFile: z
    .string()
    .optional()
    .describe(
      "check: the file with the private half; without it, it is asked for, or read from standard input",
    ),
});
type KeysRun = Run<z.infer<typeof flags>>;

export default defineRunbook({
  name: "backup-keys",
  summary: "make the offline recovery key of the backups, or try one on the newest backup",
  example: "npx runbook backup-keys new --out /media/usb/recovery-key.pem",
  positional: "action",
  flags,
  run: (run) => ({ new: make, check })[run.flags.action](run),
});

async function make(run: KeysRun): Promise<Result> {
  const settings = await run.settings();
  const out = run.flags.out === undefined ? undefined : privatePlace(run.flags.out, settings.file);
  if (out === undefined && (!run.interactive || run.json) && !run.dryRun) {
    throw new RunbookError("The private half would be shown to nobody: nobody is at a terminal", {
      exit: "usage",
      next: "run it on a terminal, or add --out FILE (on a medium that you take away)",
    });
  }
  const title =
    out === undefined ? "show the private half, once" : `write the private half to ${out}, mode 0600`;
  const pair = await run.change(`make a key pair (RSA, ${RSA_BITS} bits)`, keyPair);
  await run.change(title, async () => {
    if (pair === undefined) return;
    if (out !== undefined) return writeNewFile(out, pair.privateKey);
    const text = `\n  Copy all of it to a medium that no server has, then press a key. It is kept nowhere.\n\n`;
    await run.reveal({ text: `${text}${pair.privateKey}` }, SHOWN_SECONDS, async () => {});
  });
  const publicKey = pair?.publicKey ?? "";
  await run.change(`add the public half to ${settings.file}`, () => addRecoveryKey(settings.file, publicKey));
  if (pair === undefined) return { settings: settings.file };
  const { id } = recoveryPublicKey(publicKey);
  await run.audit.append({ event: "backup_recovery_key_made", details: { key: id } });
  const kept = settings.backup.recovery.length;
  return {
    key: id,
    public_key: publicKey,
    private_key_file: out ?? null,
    settings: settings.file,
    older_keys: kept,
    next: `npx runbook backup-vault && npx runbook backup-keys check${out === undefined ? "" : ` --key-file ${out}`}`,
  };
}

/** Seconds for copying it. */
const SHOWN_SECONDS = 900;

async function check(run: KeysRun): Promise<Result> {
  const store = new BackupStore(backupBucket(await run.settings()), "verifier", run.env);
  const key = await privateKey(run);
  const catalog = await run.check(`read which backups lie in s3://${store.bucket}`, () => readCatalog(store));
  const [backup] = chosen(catalog, "latest", store.bucket);
  if (backup === undefined) throw new Error("there is no backup");
  await run.check(`open the backup of ${backup.day} with ${key.name}`, () =>
    checkBackup(backup, opener(store, key, backup)),
  );
  await run.audit.append({
    event: "backup_recovery_key_checked",
    details: { key: key.id, backup_date: backup.day, version_id: backup.object.versionId },
  });
  return { opens: true, key: key.id, date: backup.day, version_id: backup.object.versionId };
}

async function privateKey(run: KeysRun): Promise<SealKey> {
  const { keyFile } = run.flags;
  const pem =
    keyFile === undefined
      ? await run.hidden({
          question: "The private key",
          isComplete: (text) => /-----END [A-Z ]+-----/.test(text),
        })
      : readKey(keyFile);
  if (!pem.includes("ENCRYPTED")) return recoveryPrivateKey(pem);
  if (!run.interactive)
    throw new RunbookError("The private key has a passphrase, and nobody is here to type it", {
      exit: "usage",
      next: "run it on a terminal, or: openssl pkey -in KEY | npx runbook backup-keys check",
    });
  return recoveryPrivateKey(pem, await run.hidden({ question: "Its passphrase" }));
}

async function keyPair(): Promise<{ publicKey: string; privateKey: string }> {
  const pair = await promisify(generateKeyPair)("rsa", {
    modulusLength: RSA_BITS,
    publicKeyEncoding: { type: "spki", format: "pem" },
    privateKeyEncoding: { type: "pkcs8", format: "pem" },
  });
  registerSecret(pair.privateKey);
  return pair;
}

const PROJECT = fileURLToPath(new URL("..", import.meta.url));

/** Where a backup of the servers, or a commit, would take it along is no place for it. */
function privatePlace(file: string, settingsFile: string): string {
  const path = resolve(file);
  const within = [PROJECT, dirname(settingsFile)].find((folder) => !relative(folder, path).startsWith(".."));
  if (within !== undefined) {
    throw new RunbookError(`${path} lies in ${within}, beside what the key is there to replace`, {
      exit: "usage",
      next: "choose a file on a medium that you take away, e.g. --out /media/usb/recovery-key.pem",
    });
  }
  if (!existsSync(dirname(path))) throw new RunbookError(`${dirname(path)} doesn't exist`, { exit: "usage" });
  if (existsSync(path))
    throw new RunbookError(`${path} exists already`, { exit: "usage", next: "choose a new file" });
  return path;
}

function readKey(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    throw new RunbookError(`the private key can't be read: ${messageOf(cause)}`, { exit: "usage", cause });
  }
}
