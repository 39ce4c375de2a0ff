// A web server on the loopback with the layout of the official ones, and archives with tiny programs in them.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

export type Answer = Buffer | string | ((response: ServerResponse) => void);

export interface ReleaseServer extends AsyncDisposable {
  url: string;
  /** Paths asked for, in order. */
  requests: string[];
  /** What is answered at a path; 404 elsewhere. May be changed at any time. */
  files: Map<string, Answer>;
}

export async function releaseServer(files: Record<string, Answer> = {}): Promise<ReleaseServer> {
  const answers = new Map(Object.entries(files));
  const requests: string[] = [];
  const server = createServer((request, response) => {
    const path = request.url ?? "";
    requests.push(path);
    const answer = answers.get(path);
    if (answer === undefined) response.writeHead(404).end("no such file");
    else if (typeof answer === "function") answer(response);
    else response.end(answer);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    files: answers,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** A shell script that prints `line`: what stands for a program in these tests. */
export const program = (line: string): string => `#!/bin/sh\necho '${line}'\n`;

/** Programs (name → content) as pulumi's archive has them: in a directory `pulumi`, executable. */
export function tarGz(programs: Record<string, string>): Buffer {
  const dir = mkdtempSync(join(tmpdir(), "recovery-archive-"));
  writePrograms(join(dir, "pulumi"), programs);
  execFileSync("tar", ["-czf", "archive.tar.gz", "pulumi"], { cwd: dir });
  return takeAway(dir, "archive.tar.gz");
}

/** Programs (name → content) as Vault's archive has them: at the top, beside a licence. */
export function zip(programs: Record<string, string>): Buffer {
  const dir = mkdtempSync(join(tmpdir(), "recovery-archive-"));
  writePrograms(dir, programs);
  writeFileSync(join(dir, "LICENSE.txt"), "a licence");
  const names = [...Object.keys(programs), "LICENSE.txt"];
  execFileSync("python3", ["-m", "zipfile", "-c", "archive.zip", ...names], { cwd: dir });
  return takeAway(dir, "archive.zip");
}

export function writePrograms(dir: string, programs: Record<string, string>): void {
  mkdirSync(dir, { recursive: true });
  for (const [name, content] of Object.entries(programs)) {
    writeFileSync(join(dir, name), content);
    chmodSync(join(dir, name), 0o755);
  }
}

function takeAway(dir: string, name: string): Buffer {
  const content = readFileSync(join(dir, name));
  rmSync(dir, { recursive: true });
  return content;
}

/** The line of a checksum file for this content. */
export const sumLine = (content: Buffer, name: string): string =>
  `${createHash("sha256").update(content).digest("hex")}  ${name}\n`;
