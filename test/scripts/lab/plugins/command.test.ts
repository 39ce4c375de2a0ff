import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { freePort } from "../../../../scripts/free-port.ts";
import { Running } from "../../../runbooks/lib/fixtures/process.ts";
import { Engine } from "./engine.ts";

const LOCAL = `
import { Command } from "@pulumi/command/local/command.js";
import * as pulumi from "@pulumi/pulumi";
const first = new Command("first", { create: process.env.FIRST ?? "pwd; cat", stdin: "from stdin", triggers: [process.env.TRIGGER ?? ""] });
const hidden = new Command("hidden", { create: 'echo "$WORD"', environment: { WORD: pulumi.secret("planted-word") }, logging: "none" }, { dependsOn: first });
export const stdout = first.stdout;
export const hiddenOut = hidden.stdout;
`;

let engine: Engine | undefined;

afterEach(async () => {
  await engine?.[Symbol.asyncDispose]();
});

describe("the lab's command plugin on this machine", { timeout: 120_000 }, () => {
  it("runs a command once, in the program's folder, and again only when its triggers change", async () => {
    engine = await Engine.make(LOCAL, {});
    const said = await engine.up();
    expect(await engine.outputs()).toEqual({
      stdout: `${engine.dir}/stacks\nfrom stdin`,
      hiddenOut: "planted-word",
    });
    // A secret input makes the output secret; `logging: none` keeps it from the screen.
    expect((said + (await engine.stored())).includes("planted-word")).toBe(false);
    const log = join(engine.dir, "log");
    const env = { FIRST: `echo ran >> ${log}` };
    await engine.up({ ...env, TRIGGER: "other" });
    await engine.upAgain({ ...env, TRIGGER: "other" });
    expect(await readFile(log, "utf8")).toBe("ran\n");
  });

  it("says what a failed command said, and doesn't count it as made", async () => {
    engine = await Engine.make(LOCAL, { FIRST: "echo out; echo the reason >&2; exit 3" });
    const { code, output } = await engine.run(["up", "--yes", "--skip-preview", "--stack", "dev"]);
    expect(code).not.toBe(0);
    expect(output).toContain('exit status 3: running "echo out; echo the reason >&2; exit 3"');
    expect(output).toContain("the reason");
    expect(await engine.succeed(["stack", "export", "--stack", "dev"])).not.toContain("Command::first");
  });

  it("ends with an engine that is killed hard, whose next run completes the work", async () => {
    engine = await Engine.make(LOCAL, {});
    const pidFile = join(engine.dir, "pid");
    const child = engine.start(["up", "--yes", "--skip-preview", "--stack", "dev"], {
      FIRST: `echo $$ > ${pidFile}; exec sleep 600`,
    });
    const pid = Number(await eventually(() => readFile(pidFile, "utf8")));
    child.kill("SIGKILL");
    await eventually(async () => expect(() => process.kill(pid, 0)).toThrow());
    expect((await engine.run(["up", "--yes", "--skip-preview", "--stack", "dev"])).output).toContain(
      "locked",
    );
    await engine.succeed(["cancel", "--yes", "--stack", "dev"]);
    await engine.up();
    expect(await engine.outputs()).toHaveProperty("hiddenOut", "planted-word");
  });

  it("ends a command when the operator interrupts", async () => {
    engine = await Engine.make(LOCAL, {});
    const pidFile = join(engine.dir, "pid");
    const child = engine.start(["up", "--yes", "--skip-preview", "--stack", "dev"], {
      FIRST: `echo $$ > ${pidFile}; exec sleep 600`,
    });
    const ended = once(child, "exit");
    const pid = Number(await eventually(() => readFile(pidFile, "utf8")));
    child.kill("SIGINT");
    const [code] = await ended;
    expect(code).not.toBe(0);
    expect(() => process.kill(pid, 0)).toThrow();
    // Interrupted in good order: no lock is left.
    await engine.up();
  });
});

const REMOTE = `
import { Command } from "@pulumi/command/remote/command.js";
const connection = { host: "127.0.0.1", port: Number(process.env.PORT), hostKey: process.env.HOST_KEY, dialErrorLimit: 1 };
const command = new Command("there", { connection, create: process.env.THERE ?? "cat; echo more >&2", stdin: "from stdin", triggers: [process.env.TRIGGER ?? ""] });
export const stdout = command.stdout;
export const stderr = command.stderr;
`;

describe("the lab's command plugin on another host", { timeout: 120_000 }, () => {
  let sshd: Running;
  let agent: Running;
  let env: NodeJS.ProcessEnv;
  let otherKey: string;
  let scratch: Engine;

  beforeAll(async () => {
    scratch = await Engine.make("", {});
    const at = (name: string) => join(scratch.dir, name);
    for (const key of ["host", "other", "user"])
      await finished("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", at(key)]);
    const port = await freePort();
    await mkdir("/run/sshd", { recursive: true });
    await writeFile(
      at("sshd_config"),
      [
        `Port ${port}`,
        "ListenAddress 127.0.0.1",
        `HostKey ${at("host")}`,
        `AuthorizedKeysFile ${at("user.pub")}`,
        "PidFile none",
        "StrictModes no",
        "UsePAM no",
        "PermitRootLogin yes",
      ].join("\n"),
    );
    sshd = new Running("/usr/sbin/sshd", ["-D", "-e", "-f", at("sshd_config")]);
    await sshd.says("Server listening");
    agent = new Running("ssh-agent", ["-D", "-a", at("agent")]);
    await agent.says("SSH_AUTH_SOCK");
    await finished("ssh-add", ["-q", at("user")], { SSH_AUTH_SOCK: at("agent") });
    otherKey = (await readFile(at("other.pub"), "utf8")).trim();
    const HOST_KEY = (await readFile(at("host.pub"), "utf8")).trim();
    env = { PORT: String(port), SSH_AUTH_SOCK: at("agent"), HOST_KEY };
  });

  afterAll(async () => {
    sshd?.child.kill();
    agent?.child.kill();
    await scratch?.[Symbol.asyncDispose]();
  });

  it("runs a script with the agent's key and the host's expected key", async () => {
    engine = await Engine.make(REMOTE, env);
    await engine.up();
    expect(await engine.outputs()).toEqual({ stdout: "from stdin", stderr: "more" });
    await engine.upAgain();
  });

  it("refuses a host that shows another key, without running anything", async () => {
    engine = await Engine.make(REMOTE, { ...env, HOST_KEY: otherKey });
    const ran = join(engine.dir, "ran");
    const { code, output } = await engine.run(["up", "--yes", "--skip-preview", "--stack", "dev"], {
      THERE: `touch ${ran}`,
    });
    expect(code).not.toBe(0);
    expect(output).toContain("the host shows another key than connection.hostKey");
    await expect(readFile(ran)).rejects.toThrow("ENOENT");
  });

  it("tells a script that ends like a lost connection from a lost connection", async () => {
    engine = await Engine.make(REMOTE, env);
    const log = join(engine.dir, "log");
    const failed = await engine.run(["up", "--yes", "--skip-preview", "--stack", "dev"], {
      THERE: `echo once >> ${log}; echo the reason >&2; exit 255`,
    });
    expect(failed.output).toContain("Process exited with status 255");
    expect(failed.output).toContain("the reason");
    expect(await readFile(log, "utf8")).toBe("once\n");
    const lost = await engine.run(["up", "--yes", "--skip-preview", "--stack", "dev"], {
      PORT: String(await freePort()),
    });
    expect(lost.output).toMatch(
      /could not connect to 127\.0\.0\.1 over ssh \(2 attempts\): .*Connection refused/,
    );
  });
});

async function eventually<T>(look: () => Promise<T>): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      const found = await look();
      if (found !== "") return found;
    } catch (error) {
      if (attempt > 600) throw error;
    }
    await sleep(50);
  }
}

async function finished(program: string, args: string[], env: NodeJS.ProcessEnv = {}): Promise<void> {
  const child = spawn(program, args, { stdio: "ignore", env: { ...process.env, ...env } });
  const [code] = await once(child, "exit");
  if (code !== 0) throw new Error(`${program} ended with ${code}`);
}
