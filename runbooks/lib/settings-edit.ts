// The one change that a runbook makes to recovery.yaml; comments and order of the rest stay.
import { chmodSync, readFileSync, statSync } from "node:fs";
import { isSeq, parseDocument, Scalar } from "yaml";
import { replaceFile } from "./durable-file.ts";
import { messageOf, RunbookError } from "./errors.ts";

/** Adds a public recovery key: older backups, and the holders of older keys, keep theirs. Adding it twice adds it once. */
export function addRecoveryKey(file: string, pem: string): void {
  try {
    const document = parseDocument(readFileSync(file, "utf8"));
    const path = ["backup", "recovery_public_keys"];
    const keys = document.getIn(path);
    const key = new Scalar(pem);
    key.type = Scalar.BLOCK_LITERAL;
    if (!isSeq(keys)) document.setIn(path, [key]);
    else if (!keys.items.some((item) => item instanceof Scalar && item.value === pem)) keys.add(key);
    const { mode } = statSync(file);
    replaceFile(file, String(document));
    chmodSync(file, mode & 0o777);
  } catch (cause) {
    throw new RunbookError(`${file} can't be changed: ${messageOf(cause)}`, {
      exit: "incomplete",
      next: `add this to ${file} by hand, under backup.recovery_public_keys:\n${pem}`,
      cause,
    });
  }
}
