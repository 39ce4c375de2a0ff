import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { createConnection, createServer } from "node:net";
import { hostname } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { bootHost, type Host } from "../../../scripts/lab/host/host.ts";
import { members, namespaceOf } from "../../../scripts/lab/host/namespace.ts";
import { freeAddress, run, scratch, ssh } from "./mailu-host.ts";

const lab = scratch();
const booted: Host[] = [];
const boot = async (name: string, extra: { address?: string; dataVolume?: string } = {}) => {
  const { authorizedKey } = lab;
  const host = await bootHost({
    name,
    dir: join(lab.dir, name),
    address: lab.address,
    authorizedKey,
    ...extra,
  });
  booted.push(host);
  return host;
};
const on = (host: Host, command: string, input?: string) => ssh(host.address, lab.key, command, input);
const connects = (address: string, port: number) =>
  new Promise<boolean>((done) => {
    const socket = createConnection(port, address);
    socket.once("connect", () => done(true)).once("error", () => done(false));
    socket.once("connect", () => socket.destroy());
  });

afterEach(async () => {
  for (const host of booted.splice(0)) await host.kill();
});
afterAll(() => lab.remove());

describe("a lab host", () => {
  test("is a machine of its own: root, name, tools, docker, an empty /mailu, and nothing of the machine's files", async () => {
    const host = await boot("one");
    const { stdout } = await on(
      host,
      `whoami; hostname; command -v docker; ls -A /mailu /home | wc -w; mountpoint /mailu; ls ${import.meta.dirname} ${lab.dir} | wc -l`,
    );
    expect(stdout).toBe("root\none\n/lab/bin/docker\n2\n/mailu is not a mountpoint\n0\n");
    expect(hostname()).not.toBe("one");
  });

  test("leaves no mount and no directory on the machine that runs it", async () => {
    const before = readFileSync("/proc/self/mountinfo", "utf8");
    const mailu = existsSync("/mailu");
    const host = await boot("one");
    expect(readFileSync("/proc/self/mountinfo", "utf8")).toBe(before);
    await host.kill();
    expect(existsSync("/mailu")).toBe(mailu);
  });

  test("can't reach the machine's block devices nor write to its programs", async () => {
    const host = await boot("one");
    const { stdout } = await on(host, "find /dev -type b | wc -l; touch /usr/bin/x 2>&1");
    expect(stdout).toContain("0\n");
    expect(stdout).toContain("Read-only file system");
  });

  test("lets in its key only, and takes no environment from the key's line", async () => {
    const host = await boot("one");
    const other = join(lab.dir, "other");
    execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", other]);
    expect(await ssh(host.address, other, "true")).toMatchObject({ code: 255 });
    expect(await on(host, "true")).toMatchObject({ code: 0 });
  });

  test("shows the host key that it names, keeps it over a reboot and has another after a rebuild", async () => {
    const host = await boot("one");
    const scanned = async () => (await run("ssh-keyscan", ["-t", "ed25519", host.address])).stdout;
    expect(await scanned()).toContain(host.hostKey);
    await on(host, "echo kept >/root/file");
    await host.powerOff();
    const again = await boot("one");
    expect(again.hostKey).toBe(host.hostKey);
    expect((await on(again, "cat /root/file")).stdout).toBe("kept\n");
    await again.kill();
    const rebuilt = await boot("one");
    expect(rebuilt.hostKey).not.toBe(host.hostKey);
    expect(await scanned()).toContain(rebuilt.hostKey);
  });

  test("loses all its processes and its disk when killed", async () => {
    const host = await boot("one");
    await on(host, "setsid sleep 1000 >/dev/null 2>&1 </dev/null & echo x >/opt/mailu/file");
    const namespace = namespaceOf(host.pid);
    expect(members(namespace).length).toBeGreaterThan(1);
    await host.kill();
    expect(members(namespace)).toEqual([]);
    expect(existsSync(join(lab.dir, "one"))).toBe(false);
    expect(await connects(host.address, 22)).toBe(false);
    expect(host.alive()).toBe(false);
    await host.kill();
  });

  test("dies with the process that booted it, even if that is killed hard", async () => {
    const script = `
      import { bootHost } from ${JSON.stringify(join(import.meta.dirname, "../../../scripts/lab/host/host.ts"))};
      const host = await bootHost(JSON.parse(process.argv[1]));
      console.log(host.pid);
      setInterval(() => {}, 1000);`;
    const { authorizedKey, address } = lab;
    const options = { name: "two", dir: join(lab.dir, "two"), address, authorizedKey };
    const parent = spawn(process.execPath, ["--input-type=module", "-e", script, JSON.stringify(options)]);
    const [line] = (await once(parent.stdout, "data")) as [Buffer];
    const namespace = namespaceOf(Number(line.toString()));
    expect(members(namespace).length).toBeGreaterThan(0);
    parent.kill("SIGKILL");
    await expect.poll(() => members(namespace), { timeout: 10_000 }).toEqual([]);
    expect(await connects(address, 22)).toBe(false);
  });

  test("accepts TCP and never answers while it hangs, and goes on when woken", async () => {
    const host = await boot("one");
    host.hang();
    const socket = createConnection(22, host.address);
    const said: Buffer[] = [];
    socket.on("data", (data) => said.push(data));
    await once(socket, "connect");
    await sleep(300);
    expect(said).toEqual([]);
    host.wake();
    await expect.poll(() => Buffer.concat(said).toString(), { timeout: 15_000 }).toContain("SSH-2.0");
    socket.destroy();
    expect((await on(host, "echo up")).stdout).toBe("up\n");
  });

  test("can be killed while it hangs", async () => {
    const host = await boot("one");
    host.hang();
    await host.kill();
    expect(await connects(host.address, 22)).toBe(false);
  });

  test("keeps what is written to an attached volume, from the start or later, when it is killed", async () => {
    const volume = join(lab.dir, "volume");
    mkdirSync(volume);
    const host = await boot("one");
    await host.attach(volume);
    expect((await on(host, "mountpoint -q /mailu && echo mail >/mailu/file")).code).toBe(0);
    await host.detach();
    expect((await on(host, "mountpoint -q /mailu || ls -A /mailu")).stdout).toBe("");
    await host.kill();
    expect(readFileSync(join(volume, "file"), "utf8")).toBe("mail\n");
    const next = await boot("two", { dataVolume: volume });
    expect((await on(next, "cat /mailu/file")).stdout).toBe("mail\n");
    await next.kill();
    expect(readdirSync(volume)).toEqual(["file"]);
  });

  test("runs beside another one of the same name, each on its own address", async () => {
    const first = await boot("one");
    const { authorizedKey } = lab;
    const second = await bootHost({
      name: "one",
      dir: join(lab.dir, "b"),
      address: freeAddress(),
      authorizedKey,
    });
    booted.push(second);
    await on(first, "echo first >/root/who");
    expect((await on(second, "cat /root/who")).code).not.toBe(0);
    await second.kill();
    expect((await on(first, "cat /root/who")).stdout).toBe("first\n");
  });
});

describe("a host that can't boot", () => {
  const taken = createServer();
  beforeAll(async () => {
    taken.listen(22, lab.address);
    await once(taken, "listening");
  });
  afterAll(() => void taken.close());

  test("says why and what to type, and leaves no process", async () => {
    writeFileSync(join(lab.dir, "marker"), "");
    await expect(boot("three")).rejects.toThrow(/three .*Address already in use.*ss -ltnp/s);
  });
});
