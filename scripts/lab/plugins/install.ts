// Lays the lab's Pulumi plugins where the engine looks for them, so that it neither downloads nor warns.
// Where an official plugin is installed on this machine, that one is used instead: it's the real thing.

import { realpathSync } from "node:fs";
import { access, chmod, constants, mkdir, rename, rm, symlink, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { awsVersion, commandVersion, languageHostVersion, vaultVersion } from "./versions.ts";

interface Plugin {
  kind: "resource" | "language";
  name: string;
  version: string;
}

const PLUGINS: readonly Plugin[] = [
  { kind: "resource", name: "aws", version: awsVersion },
  { kind: "resource", name: "command", version: commandVersion },
  { kind: "resource", name: "vault", version: vaultVersion },
  { kind: "language", name: "nodejs", version: languageHostVersion },
];

/**
 * Fills `pulumiHome`/plugins; may be repeated. The launchers name this Node and this checkout by absolute
 * path, since a plugin is started with whatever PATH the operator has.
 */
export async function installPlugins(pulumiHome: string): Promise<void> {
  await Promise.all(PLUGINS.map((plugin) => install(plugin, pulumiHome)));
}

async function install(plugin: Plugin, pulumiHome: string): Promise<void> {
  // A folder and not a link to one: the engine passes over links.
  const folder = folderOf(plugin, pulumiHome);
  const executable = join(folder, executableOf(plugin));
  const fresh = `${executable}.${process.pid}`;
  await mkdir(folder, { recursive: true });
  const official = await officialPlugin(plugin, folder);
  if (official === undefined) {
    await writeFile(fresh, launcher(plugin));
    await chmod(fresh, 0o755);
  } else {
    await rm(fresh, { force: true });
    await symlink(official, fresh);
  }
  // At once, so that an engine that is just starting one never sees half of it.
  await rename(fresh, executable);
}

/** The official plugin's executable: among the operator's own, or (language hosts) beside their `pulumi`. */
async function officialPlugin(plugin: Plugin, exceptIn: string): Promise<string | undefined> {
  const folders = [folderOf(plugin, join(homedir(), ".pulumi"))];
  if (plugin.kind === "language") folders.push(...cliFolders());
  for (const folder of folders) {
    const candidate = join(folder, executableOf(plugin));
    if (folder !== exceptIn && (await isExecutable(candidate))) return candidate;
  }
  return undefined;
}

/** Folders on PATH with a `pulumi`, links followed as the engine does. */
function cliFolders(): string[] {
  return (process.env.PATH ?? "").split(delimiter).flatMap((folder) => {
    try {
      return [dirname(realpathSync(join(folder, "pulumi")))];
    } catch {
      return [];
    }
  });
}

const isExecutable = (path: string): Promise<boolean> =>
  access(path, constants.X_OK).then(
    () => true,
    () => false,
  );

const folderOf = ({ kind, name, version }: Plugin, pulumiHome: string): string =>
  join(pulumiHome, "plugins", `${kind}-${name}-v${version}`);

const executableOf = ({ kind, name }: Plugin): string => `pulumi-${kind}-${name}`;

/** `exec`, so that the process the engine ends is the plugin itself. */
const launcher = ({ name }: Plugin): string =>
  `#!/bin/sh\nexec ${quoted(process.execPath)} ${quoted(join(import.meta.dirname, "main.ts"))} ${name} "$@"\n`;

const quoted = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`;
