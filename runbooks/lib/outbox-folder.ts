// Where notices wait: the operations that the outbox needs of a place, and the place on this machine's own disk.
import * as fs from "node:fs";
import { join } from "node:path";
import { createWhole, readIfThere, replaceFile } from "./durable-file.ts";

/** One text for each event id. Every operation throws when the place can't be reached. */
export interface OutboxPlace {
  /** For people. */
  readonly name: string;
  /** Stored durably when it resolves; false when there is one of that id, which stays as it is. */
  create(id: string, body: string): Promise<boolean>;
  read(id: string): Promise<StoredBody | undefined>;
  ids(): Promise<string[]>;
  /** False when it isn't any more what was read: somebody else delivered it in the meantime. */
  replace(id: string, body: string, tag: string): Promise<boolean>;
  remove(id: string): Promise<void>;
}

export interface StoredBody {
  body: string;
  /** What `replace` compares. */
  tag: string;
}

/** A folder beside the audit log, readable by its owner alone. Made with the first notice. */
export class OutboxFolder implements OutboxPlace {
  readonly name: string;

  constructor(folder: string) {
    this.name = folder;
  }

  async create(id: string, body: string): Promise<boolean> {
    fs.mkdirSync(this.name, { recursive: true, mode: 0o700 });
    return createWhole(this.file(id), body);
  }

  async read(id: string): Promise<StoredBody | undefined> {
    const body = readIfThere(this.file(id))?.toString();
    return body === undefined ? undefined : { body, tag: body };
  }

  async ids(): Promise<string[]> {
    if (!fs.existsSync(this.name)) return [];
    return fs.readdirSync(this.name).flatMap((name) => (name.endsWith(".json") ? [name.slice(0, -5)] : []));
  }

  async replace(id: string, body: string, tag: string): Promise<boolean> {
    if (readIfThere(this.file(id))?.toString() !== tag) return false;
    replaceFile(this.file(id), body);
    return true;
  }

  async remove(id: string): Promise<void> {
    fs.rmSync(this.file(id), { force: true });
  }

  private file(id: string): string {
    return join(this.name, `${id}.json`);
  }
}
