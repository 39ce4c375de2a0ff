// Where audit events wait that the log couldn't take: one file each, beside the log, or else in a folder of this
// user's own in the system's temporary folder.
import * as fs from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { canonicalJson, parseUnlinked, type Unlinked } from "./audit-chain.ts";
import { writeNewFile } from "./durable-file.ts";

export interface Waiting {
  file: string;
  /** Undefined when the file isn't an event. */
  event: Unlinked | undefined;
}

export class AuditSpool {
  private readonly folders: string[];

  /** Creates nothing before the first event. */
  constructor(log: string) {
    this.folders = [`${log}.spool`, join(tmpdir(), `penguinmails-audit-spool-${userInfo().uid}`)];
  }

  /**
   * Keeps an event. Returns its file.
   * @param order its place among the waiting events of its run.
   * @throws Error when no folder can be written to.
   */
  keep(event: Unlinked, order: number): string {
    const time = event.timestamp.replaceAll(":", "");
    const name = `${time}-${String(order).padStart(3, "0")}-${event.event_id}.json`;
    const failures: unknown[] = [];
    for (const folder of this.folders) {
      try {
        fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
        assertOwn(folder);
        writeNewFile(join(folder, name), canonicalJson(event));
        return join(folder, name);
      } catch (error) {
        failures.push(error);
      }
    }
    throw new AggregateError(failures, failures.map(String).join("; "));
  }

  /** The oldest first. @throws Error when a folder of that name belongs to somebody else. */
  waiting(): Waiting[] {
    const files = this.folders.flatMap((folder) => {
      if (!fs.existsSync(folder)) return [];
      assertOwn(folder);
      return fs.readdirSync(folder).map((name) => ({ name, file: join(folder, name) }));
    });
    files.sort((a, b) => (a.name < b.name ? -1 : 1));
    return files.map(({ file }) => ({ file, event: parseUnlinked(fs.readFileSync(file, "utf8")) }));
  }

  /** Ends the wait of an event that the log has. */
  remove({ file }: Waiting): void {
    fs.unlinkSync(file);
  }
}

/** In a folder that everybody may write to, somebody else may have made ours first. */
function assertOwn(folder: string): void {
  const found = fs.lstatSync(folder);
  if (!found.isDirectory() || found.uid !== userInfo().uid) {
    throw new Error(`${folder} belongs to another user`);
  }
}
