// Puts something into the cache whole or not at all: it's made under another name beside its place and renamed
// once it's complete and on the disk. Only used under the set-up's lock.
import { mkdirSync, renameSync, rmSync } from "node:fs";
import { runQuietly } from "./run.ts";

/**
 * Has `fill` make the directory's content in a directory of another name, then renames that to `dir`. What an
 * earlier, killed attempt has left is removed first. Throws what `fill` throws, leaving nothing behind.
 */
export async function place(dir: string, fill: (partial: string) => Promise<void>): Promise<void> {
  const partial = `${dir}.partial`;
  rmSync(partial, { recursive: true, force: true });
  mkdirSync(partial, { recursive: true });
  try {
    await fill(partial);
    // Otherwise a power cut could leave the new name with empty files under it.
    await runQuietly("sync", ["--file-system", partial]);
    rmSync(dir, { recursive: true, force: true });
    renameSync(partial, dir);
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
}
