// Writing files so that a crash leaves either the old content or the new, and what was acknowledged stays.
import * as fs from "node:fs";
import { dirname } from "node:path";

/** The file's content; undefined when there is no such file. */
export function readIfThere(file: string): Buffer | undefined {
  try {
    return fs.readFileSync(file);
  } catch (error) {
    if (hasCode(error, "ENOENT")) return undefined;
    throw error;
  }
}

/** Replaces the content in one step; on the disk, and readable by its owner alone, when this returns. */
export function replaceFile(file: string, content: string | Buffer): void {
  const fresh = `${file}.${process.pid}.new`;
  try {
    fs.writeFileSync(fresh, content, { mode: 0o600, flush: true });
    fs.renameSync(fresh, file);
  } catch (error) {
    fs.rmSync(fresh, { force: true });
    throw error;
  }
}

/** Makes a file that must not be there yet; half a file never stays. */
export function writeNewFile(file: string, content: string): void {
  try {
    fs.writeFileSync(file, content, { mode: 0o600, flag: "wx", flush: true });
  } catch (error) {
    if (!hasCode(error, "EEXIST")) fs.rmSync(file, { force: true });
    throw error;
  }
  syncFolder(dirname(file));
}

/** Makes a file in one step, so that no crash leaves a part of it; false when there is one already. */
export function createWhole(file: string, content: string): boolean {
  const fresh = `${file}.${process.pid}.new`;
  try {
    fs.writeFileSync(fresh, content, { mode: 0o600, flush: true });
    fs.linkSync(fresh, file);
  } catch (error) {
    if (hasCode(error, "EEXIST")) return false;
    throw error;
  } finally {
    fs.rmSync(fresh, { force: true });
  }
  syncFolder(dirname(file));
  return true;
}

/** Adds to a file, on the disk when this returns. A short write (a full disk) is taken back and thrown. */
export function appendToFile(file: string, data: Buffer): void {
  const isNew = !fs.existsSync(file);
  const fd = fs.openSync(file, "a", 0o600);
  const before = fs.fstatSync(fd).size;
  try {
    if (fs.writeSync(fd, data) !== data.length) throw new Error(`${file}: the disk is full`);
    fs.fsyncSync(fd);
  } catch (error) {
    fs.ftruncateSync(fd, before);
    throw error;
  } finally {
    fs.closeSync(fd);
  }
  if (isNew) syncFolder(dirname(file));
}

/** A new file's name is in its folder, which is written to the disk on its own. */
function syncFolder(folder: string): void {
  const fd = fs.openSync(folder, "r");
  fs.fsyncSync(fd);
  fs.closeSync(fd);
}

const hasCode = (error: unknown, code: string): boolean =>
  error instanceof Error && "code" in error && error.code === code;
