import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bootHost } from "../../../scripts/lab/host/host.ts";
import { ADMIN, COMPOSE, COMPOSE_FILE, type MailHost, mailHost } from "./mailu-host.ts";

let mail: MailHost;
beforeAll(async () => {
  mail = await mailHost();
});
afterAll(() => mail.close());

const serverPid = async () => (await mail.run("cat /run/mailu.pid")).stdout;
/** Tries another compose file; `pids` are the server's before and after. */
const withCompose = async (text: string) => {
  const command =
    "cat >/opt/mailu/broken.yml; cat /run/mailu.pid; echo; docker compose -f /opt/mailu/broken.yml up -d; code=$?; cat /run/mailu.pid; exit $code";
  const { stdout, ...rest } = await mail.run(command, text);
  return { pids: stdout.split("\n"), ...rest };
};

describe("docker on a lab host", () => {
  test("says which version it is", async () => {
    expect((await mail.run("docker version")).stdout).toMatch(/^Docker version 27/);
    expect((await mail.run("docker compose version")).stdout).toMatch(/^Docker Compose version v2/);
  });

  test("changes nothing when `up -d` finds the same files, and starts anew when they changed", async () => {
    const before = await serverPid();
    const same = await mail.run(`${COMPOSE} up -d`);
    expect(same.stderr).toContain("Container mailu-admin-1  Running");
    expect(await serverPid()).toBe(before);
    expect((await mail.configure({ MESSAGE_RATELIMIT: "100/day" })).stderr).toContain(
      "mailu-admin-1  Started",
    );
    expect(await serverPid()).not.toBe(before);
    expect(await mail.smtp(ADMIN, "first-password")).toBe(235);
  });

  test("starts anew on --force-recreate and on restart", async () => {
    for (const command of ["up -d --wait --force-recreate admin", "restart front"]) {
      const before = await serverPid();
      expect((await mail.run(`${COMPOSE} ${command}`)).code).toBe(0);
      expect(await serverPid()).not.toBe(before);
    }
  });

  test("keeps the environment of the creation over a restart, as containers do", async () => {
    await mail.run("sed -i 's/^HOSTNAMES=.*/HOSTNAMES=changed.example/' /opt/mailu/mailu.env");
    await mail.run(`${COMPOSE} restart && ${COMPOSE} up -d --wait`);
    const before = (await mail.run(`${COMPOSE} ps --format json`)).stdout;
    expect(
      before
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line)),
    ).toEqual(
      expect.arrayContaining([
        expect.objectContaining({
          Service: "admin",
          State: "running",
          Health: "healthy",
          Name: "mailu-admin-1",
        }),
      ]),
    );
    const { body } = await mail.call("GET", "/domain/acme.example");
    expect(body).toMatchObject({ dns_mx: "acme.example. 600 IN MX 10 changed.example." });
    await mail.configure({});
  });

  test("lets files in a container be looked at", async () => {
    await mail.call("POST", "/domain/acme.example/dkim");
    const { stdout } = await mail.run(`${COMPOSE} exec -T admin ls /dkim`);
    expect(stdout).toBe("acme.example.dkim.key\n");
    expect(await mail.run(`${COMPOSE} exec -T admin python3 -V`)).toMatchObject({ code: 127 });
  });

  test("loses what a container wrote outside of its volumes when it is created anew, and only then", async () => {
    await mail.run("sed 's#\"/mailu/data:/data\", ##' /opt/mailu/docker-compose.yml >/opt/mailu/loose.yml");
    const loose = "docker compose -f /opt/mailu/loose.yml up -d --wait";
    await mail.run(loose);
    await mail.call("POST", "/domain", { name: "loose.example" });
    await mail.run(`${COMPOSE.replace("docker-compose", "loose")} restart; ${loose}`);
    expect((await mail.call("GET", "/domain/loose.example")).status).toBe(200);
    await mail.run(`${loose} --force-recreate`);
    expect((await mail.call("GET", "/domain/loose.example")).status).toBe(404);
    await mail.run(`${COMPOSE} up -d --wait`);
    expect(await mail.smtp(ADMIN, "first-password")).toBe(235);
  });

  test("stops and takes down, after which nothing listens", async () => {
    await mail.run(`${COMPOSE} stop`);
    expect((await mail.run(`${COMPOSE} ps --format json`)).stdout).toBe("");
    await expect(mail.call("GET", "/domain")).rejects.toThrow(/ECONNREFUSED/);
    await mail.run(`${COMPOSE} start; ${COMPOSE} up -d --wait`);
    expect((await mail.call("GET", "/domain")).status).toBe(200);
    await mail.run(`${COMPOSE} down`);
    await expect(mail.call("GET", "/domain")).rejects.toThrow(/ECONNREFUSED/);
    expect((await mail.run(`${COMPOSE} up -d --wait`)).code).toBe(0);
  });

  const refused: [what: string, file: string, says: RegExp][] = [
    [
      "a missing env file",
      COMPOSE_FILE.replaceAll("mailu.env", "absent.env"),
      /env file \/opt\/mailu\/absent.env not found/,
    ],
    [
      "a missing secret's file",
      COMPOSE_FILE.replace("secrets/api_token", "secrets/absent"),
      /bind source path does not exist.*absent/,
    ],
    [
      "an undefined secret",
      COMPOSE_FILE.replace("[api_token,", "[other,"),
      /refers to undefined secret other/,
    ],
    [
      "an undefined dependency",
      COMPOSE_FILE.replace("[redis]", "[absent]"),
      /depends on undefined service "absent"/,
    ],
    [
      "an unknown property",
      COMPOSE_FILE.replace("image: redis", "image: redis, imagine: 1"),
      /additional properties 'imagine' not allowed/,
    ],
    [
      "a service without an image",
      COMPOSE_FILE.replace("image: redis,", ""),
      /neither an image nor a build context/,
    ],
    [
      "a required variable that isn't set",
      COMPOSE_FILE.replace("image: redis", `"image": "\${ABSENT:?is needed}"`),
      /required variable ABSENT is missing a value: is needed/,
    ],
    [
      "a port on another address",
      COMPOSE_FILE.replace('"25:25"', '"10.0.0.9:25:25"'),
      /cannot assign requested address/,
    ],
    ["what is no YAML", "services: [", /yaml:/],
  ];
  for (const [what, file, says] of refused) {
    test(`refuses ${what}, and leaves what runs alone`, async () => {
      const { code, stderr, pids } = await withCompose(file);
      expect(code).not.toBe(0);
      expect(stderr).toMatch(says);
      expect(pids[0]).toMatch(/^\d+$/);
      expect(pids[1]).toBe(pids[0]);
    });
  }

  test("warns of a variable that isn't set, also in the env file, where `$` in a value is one", async () => {
    const { stderr } = await mail.configure({ POSTMASTER: "pa$word" });
    expect(stderr).toContain('The \\"word\\" variable is not set');
    await mail.configure({});
  });

  test("says in `up --wait` why a container ended: a secret that it was told to read isn't there", async () => {
    const { code, stderr } = await mail.configure({ API_TOKEN_FILE: "/run/secrets/absent" });
    expect(code).not.toBe(0);
    expect(stderr).toMatch(/admin-1 exited.*ENOENT/s);
    expect((await mail.configure({})).code).toBe(0);
  });

  test("opens no TLS port without a certificate, and opens them as soon as there is one", async () => {
    await mail.run(
      `mv /mailu/certs /mailu/away; mkdir /mailu/certs; ${COMPOSE} restart; ${COMPOSE} up -d --wait`,
    );
    expect(await mail.smtp(ADMIN, "first-password")).toBe(0);
    await mail.run("cp -p /mailu/away/* /mailu/certs/");
    await expect.poll(() => mail.smtp(ADMIN, "first-password"), { timeout: 15_000 }).toBe(235);
  });

  test("starts once when two call `up -d` at the same time", async () => {
    await mail.run(`${COMPOSE} down`);
    const ups = await Promise.all([1, 2, 3].map(() => mail.run(`${COMPOSE} up -d --wait`)));
    expect(ups.map(({ code }) => code)).toEqual([0, 0, 0]);
    expect((await mail.run("pgrep -c -f mailu/server.ts")).stdout).toBe("1\n");
  });
});

describe("after a power failure", () => {
  test("containers that ran come back with the disk, those that were stopped don't", async () => {
    const one = await mailHost();
    const { name, address } = one.host;
    const authorizedKey = readFileSync(join(one.dir, "id.pub"), "utf8");
    const again = () => bootHost({ name, dir: join(one.dir, "host"), address, authorizedKey });
    await one.host.powerOff();
    const second = await again();
    await expect.poll(() => one.smtp(ADMIN, "first-password"), { timeout: 20_000 }).toBe(235);
    await one.run(`${COMPOSE} stop`);
    await second.powerOff();
    const third = await again();
    expect((await one.run(`${COMPOSE} ps --format json`)).stdout).toBe("");
    await third.kill();
    await one.close();
  });
});
