// A Pulumi project of a test's own, run by the real engine with the lab's plugins.
import { type ChildProcess, spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { mkdir, mkdtemp, readdir, readFile, realpath, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { installPlugins } from "../../../../scripts/lab/plugins/install.ts";
import { REPOSITORY, toolchainBin } from "../../../../scripts/toolchain/paths.ts";

export interface Run {
  code: number | null;
  output: string;
}

export class Engine implements AsyncDisposable {
  /** The project's folder. */
  readonly dir: string;
  readonly env: NodeJS.ProcessEnv;

  private constructor(dir: string, env: NodeJS.ProcessEnv) {
    this.dir = dir;
    this.env = env;
  }

  /** A project with the stack `dev` whose program is `program`, told where the servers are by `env`. */
  static async make(program: string, env: NodeJS.ProcessEnv): Promise<Engine> {
    const dir = await realpath(await mkdtemp(join(tmpdir(), "plugins-")));
    await mkdir(join(dir, "stacks"));
    await mkdir(join(dir, "state"));
    await symlink(join(REPOSITORY, "node_modules"), join(dir, "node_modules"));
    await writeFile(join(dir, "package.json"), JSON.stringify({ type: "module" }));
    await writeFile(
      join(dir, "Pulumi.yaml"),
      JSON.stringify({
        name: "plugins",
        runtime: { name: "nodejs", options: { typescript: false } },
        main: "stacks/index.ts",
        stackConfigDir: "stacks",
        options: { refresh: "always" },
      }),
    );
    await writeFile(join(dir, "stacks", "index.ts"), program);
    await installPlugins(join(dir, "home"));
    const inherited = Object.entries(process.env).filter(([name]) => !/^(?:AWS|VAULT|PULUMI)_/.test(name));
    const engine = new Engine(dir, {
      ...Object.fromEntries(inherited),
      PATH: [toolchainBin(), process.env.PATH].join(delimiter),
      PULUMI_HOME: join(dir, "home"),
      PULUMI_BACKEND_URL: `file://${join(dir, "state")}`,
      PULUMI_CONFIG_PASSPHRASE: "passphrase of a test",
      PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION: "true",
      PULUMI_SKIP_UPDATE_CHECK: "true",
      ...env,
    });
    await engine.succeed(["stack", "init", "dev"]);
    return engine;
  }

  /** Runs `pulumi ARGS` to its end. */
  async run(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Run> {
    const child = this.start(args, env);
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding("utf8").on("data", (chunk: string) => {
        output += chunk;
      });
    }
    const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
    return { code, output };
  }

  /** As `run`. Throws with everything it said unless it ends with 0. */
  async succeed(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<string> {
    const { code, output } = await this.run(args, env);
    if (code !== 0) throw new Error(`pulumi ${args.join(" ")} ended with ${code}:\n${output}`);
    return output;
  }

  /** Starts `pulumi ARGS` without a terminal; what it says goes to `log` where one is named. */
  start(args: readonly string[], env: NodeJS.ProcessEnv = {}, log?: string): ChildProcess {
    const child = spawn("pulumi", args, {
      cwd: this.dir,
      env: { ...this.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
    if (log !== undefined) child.stdout.pipe(createWriteStream(log));
    return child;
  }

  up(env: NodeJS.ProcessEnv = {}): Promise<string> {
    return this.succeed(["up", "--yes", "--skip-preview", "--stack", "dev"], env);
  }

  /** `up` that must find nothing to do. */
  upAgain(env: NodeJS.ProcessEnv = {}): Promise<string> {
    return this.succeed(["up", "--yes", "--skip-preview", "--expect-no-changes", "--stack", "dev"], env);
  }

  async outputs(): Promise<Record<string, unknown>> {
    const json = await this.succeed(["stack", "output", "--stack", "dev", "--json", "--show-secrets"]);
    return JSON.parse(json) as Record<string, unknown>;
  }

  /** Everything that the state's files hold, history and backups included. */
  async stored(): Promise<string> {
    const entries = await readdir(join(this.dir, "state"), { recursive: true, withFileTypes: true });
    const files = entries.filter((entry) => entry.isFile());
    return (await Promise.all(files.map((file) => readFile(join(file.parentPath, file.name), "utf8")))).join(
      "",
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.dir, { recursive: true, force: true });
  }
}
