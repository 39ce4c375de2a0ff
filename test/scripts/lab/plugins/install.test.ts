import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, readdir, readlink, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { installPlugins } from "../../../../scripts/lab/plugins/install.ts";
import { awsVersion, vaultVersion } from "../../../../scripts/lab/plugins/versions.ts";

let dir: string;
const launcher = (name: string, version: string) =>
  join(dir, "home", "plugins", `resource-${name}-v${version}`, `pulumi-resource-${name}`);

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), "install-"));
  vi.stubEnv("HOME", join(dir, "user"));
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(dir, { recursive: true, force: true });
});

describe("installing the lab's plugins", () => {
  it("may be repeated, and leaves one executable in each folder", async () => {
    await installPlugins(join(dir, "home"));
    await installPlugins(join(dir, "home"));
    const folders = await readdir(join(dir, "home", "plugins"), { withFileTypes: true });
    expect(folders.map(({ name }) => name.replace(/-v\d.*/, "")).sort()).toEqual([
      "language-nodejs",
      "resource-aws",
      "resource-command",
      "resource-vault",
    ]);
    for (const folder of folders) {
      expect(folder.isDirectory()).toBe(true);
      const files = await readdir(join(folder.parentPath, folder.name));
      expect(files).toHaveLength(1);
      expect((await stat(join(folder.parentPath, folder.name, files[0] ?? ""))).mode & 0o111).not.toBe(0);
    }
  });

  it("uses an official plugin of the very version where the operator has it", async () => {
    const official = join(dir, "user", ".pulumi", "plugins", `resource-aws-v${awsVersion}`);
    await mkdir(official, { recursive: true });
    await writeFile(join(official, "pulumi-resource-aws"), "#!/bin/sh\n");
    await chmod(join(official, "pulumi-resource-aws"), 0o755);
    await installPlugins(join(dir, "home"));
    expect(await readlink(launcher("aws", awsVersion))).toBe(join(official, "pulumi-resource-aws"));
    await expect(readlink(launcher("vault", vaultVersion))).rejects.toThrow("EINVAL");
  });

  it("starts plugins under the project's own Node, and ends them with their standard input", async () => {
    await installPlugins(join(dir, "home"));
    const child = spawn(launcher("vault", vaultVersion), ["127.0.0.1:1"], {
      cwd: "/",
      env: { PATH: "/nonexistent" },
      stdio: ["pipe", "pipe", "inherit"],
    });
    const [port] = await once(child.stdout.setEncoding("utf8"), "data");
    expect(port).toMatch(/^\d+\n$/);
    const exit = once(child, "exit");
    child.stdin.end();
    expect(await exit).toEqual([0, null]);
  });
});
