// A response to a compromise dies, on one tenant at each of its steps and on many at once at several moments, or has
// another machine beside it: each tenant is rotated once for the incident, and everybody hears of it once.
import { randomBytes } from "node:crypto";
import { afterAll, describe, expect, test } from "vitest";
import { z } from "zod";
import { readRecord } from "../../scripts/drill/doors.ts";
import { receivedNotices } from "../../scripts/lab/notices.ts";
import type { LabTenant } from "../../scripts/lab/tenants.ts";
import { changesOf, killedBeforeWrite, markFor, writesOf } from "./deaths.ts";
import { addTenants, removeTenants } from "./extra-tenants.ts";
import { begin, killedAt } from "./killed.ts";
import { lab, runbook } from "./lab.ts";
import { type Machine, newMachine } from "./second-machine.ts";
import { lendFrom } from "./tenant-pool.ts";
import {
  type Before,
  expectOneEventEach,
  expectOneRotation,
  expectToldOnce,
  type Incident,
  stateOf,
} from "./traces.ts";

/** Automation's own identity, as a machine of its own would have it. */
const SYSTEM = {
  VAULT_TOKEN: undefined,
  VAULT_ROLE_ID: lab.systemRoleId,
  VAULT_SECRET_ID: lab.systemSecretId,
};
const RESPOND = (tenants: readonly LabTenant[], incident: string, ...more: string[]): string[] => [
  ...["respond-to-compromise", "--incident", incident, "--details", "seen in a paste", "--json", "--yes"],
  ...["--tenants", tenants.map(({ id }) => id).join(",")],
  ...more,
];
const respond = (args: string[]) => runbook(args, { env: SYSTEM });

const RUN = randomBytes(3).toString("hex");
let count = 0;
const newIncident = (): string => `INC-${RUN}-${String(++count).padStart(3, "0")}`;

const all = await addTenants(6);
afterAll(() => removeTenants(all), 300_000);
for (const { id } of all) await runbook(["save-host-state", "--tenant", id, "--yes"]);
const lend = lendFrom(all);
const [model] = all as [LabTenant];

const CHANGES = await changesOf(RESPOND([model], "INC-DRY"), model, SYSTEM);
/** Before each step, and after the last. */
const MOMENTS = [...CHANGES.map((title) => `→ ${title}`), `✓ ${CHANGES.at(-1)}`];
const WRITES = (await writesOf(RESPOND(all, newIncident()), model, SYSTEM)).length;

const incidents: Incident[] = [];
const Outcome = z.object({
  done: z.array(z.string()),
  unchanged: z.array(z.string()),
  failed: z.array(z.unknown()),
});

describe.concurrent("a response to one tenant's compromise", { timeout: 300_000 }, () => {
  const dies = (
    died: string,
    die: (args: string[], tenant: LabTenant) => Promise<void>,
    finish: (args: string[]) => ReturnType<typeof runbook>,
  ) =>
    lend(async (tenant) => {
      const incident = newIncident();
      const was = await stateOf(tenant);
      await die(RESPOND([tenant], incident), tenant);
      const done = await finish(RESPOND([tenant], incident));
      expect(done.code, done.stderr).toBe(0);
      await expectOneRotation(tenant, incident, was);
      incidents.push({ tenant, incident, died });
    });

  // Both ways at each moment: that is what resets are put through, and a response is one.
  test.each(MOMENTS.filter((_, index) => index % 2 === 0))(
    "that dies at '%s' is completed by the same command",
    (mark) => dies(mark, (args, tenant) => killedAt(args, markFor(mark, tenant), { env: SYSTEM }), respond),
  );

  test.each(MOMENTS.filter((_, index) => index % 2 === 1))(
    "that dies with its machine at '%s' is completed on another one that is told to take over",
    async (mark) => {
      const [first, second] = await Promise.all([newMachine(), newMachine()]);
      try {
        const die = async (args: string[], tenant: LabTenant) => {
          await killedAt(args, markFor(mark, tenant), on(first));
          first.lose();
        };
        await dies(`${mark}, elsewhere`, die, (args) => second.runbook([...args, "--take-over"], SYSTEM));
      } finally {
        first.lose();
        second.lose();
      }
    },
  );
});

describe("a response to many tenants' compromise", { timeout: 300_000 }, () => {
  const many = async (
    died: string,
    work: (incident: string) => Promise<z.infer<typeof Outcome>>,
  ): Promise<void> => {
    const incident = newIncident();
    const was = await statesOf(all);
    const { done, unchanged, failed } = await work(incident);
    expect(failed).toEqual([]);
    expect([...done, ...unchanged].sort()).toEqual(all.map(({ id }) => id).sort());
    for (const [tenant, before] of was) {
      await expectOneRotation(tenant, incident, before);
      incidents.push({ tenant, incident, died });
    }
  };
  const outcomeOf = (done: Awaited<ReturnType<typeof runbook>>) => {
    expect(done.code, done.stderr).toBe(0);
    return Outcome.parse(JSON.parse(done.stdout));
  };

  test.each([0.1, 0.35, 0.6, 0.85])(
    "that dies after %d of its writes is completed by the same command",
    (part) =>
      many(`at ${part} of many`, async (incident) => {
        await killedBeforeWrite(RESPOND(all, incident), Math.ceil(WRITES * part), SYSTEM);
        return outcomeOf(await respond(RESPOND(all, incident)));
      }),
  );

  test("that died half-way is finished by resume as far as it had come, and by the same command to its end", () =>
    many("half-way, then resumed", async (incident) => {
      // What others left on this lab isn't this test's to count.
      await runbook(["resume", "--all", "--yes"], { env: SYSTEM });
      await killedBeforeWrite(RESPOND(all, incident), Math.ceil(WRITES / 2), SYSTEM);
      const begun = (await tenantsOf(incident)).map(({ id }) => id);
      expect(begun.length).toBeGreaterThan(0);
      const resumed = await runbook(["resume", "--all", "--json", "--yes"], { env: SYSTEM });
      expect(resumed.code, resumed.stderr).toBe(0);
      const { finished } = z.object({ finished: z.array(z.string()) }).parse(JSON.parse(resumed.stdout));
      expect(begun).toEqual(expect.arrayContaining(finished));
      expect(await tenantsOf(incident, ({ state }) => state !== "RETIRED")).toEqual([]);
      return outcomeOf(await respond(RESPOND(all, incident)));
    }));

  test("is shared by two machines that run the same command at once", () =>
    many("never, on two machines", async (incident) => {
      const machines = await Promise.all([newMachine(), newMachine()]);
      const args = RESPOND(all, incident, "--at-once", "1");
      const [one, other] = (await Promise.all(machines.map((machine) => machine.runbook(args, SYSTEM)))).map(
        outcomeOf,
      );
      for (const machine of machines) machine.lose();
      expect(one?.done.length).toBeGreaterThan(0);
      expect(other?.done.length).toBeGreaterThan(0);
      return { done: [...(one?.done ?? []), ...(other?.done ?? [])], unchanged: [], failed: [] };
    }));

  test("is finished by one of two machines when the other one dies in the midst of it", () =>
    many("one of two machines", async (incident) => {
      const [dying, surviving] = await Promise.all([newMachine(), newMachine()]);
      const run = begin(RESPOND(all, incident), { ...dying.env, ...SYSTEM }, dying.through);
      const finished = surviving.runbook(RESPOND(all, incident, "--at-once", "1"), SYSTEM);
      while ((await heldBy(dying, incident)).length === 0) await new Promise((wait) => setTimeout(wait, 100));
      run.signal("SIGKILL");
      await run.ended;
      dying.lose();
      expect((await heldBy(dying, incident)).length, "it died with tenants in its hands").toBeGreaterThan(0);
      const outcome = outcomeOf(await finished);
      surviving.lose();
      return outcome;
    }));
});

describe("of all these responses", () => {
  const EVENTS = ["smtp_credentials_emergency_reset", "credential_compromise_response"];
  test("each has one audit event of each name, and told everybody under one Message-ID", async () => {
    expect(incidents.length).toBeGreaterThanOrEqual(MOMENTS.length + 7 * all.length);
    await expectOneEventEach(incidents, EVENTS);
    expectToldOnce(incidents, { mails: 3, posts: 2 });
  });

  test("each told its tenant, who has nothing to do", () => {
    const { mails } = receivedNotices(lab.place.dir);
    for (const { tenant, incident, died } of incidents) {
      const own = mails.filter(({ to, raw }) => to.includes(tenant.contactEmail) && raw.includes(incident));
      expect(own.length, died).toBeGreaterThan(0);
      for (const { raw } of own) {
        expect(raw).toMatch(/^Subject: SMTP Credentials Rotated - Security Incident\r?$/m);
        expect(raw).toContain("No action is required from you");
      }
    }
  });

  test("every link of the audit log holds", async () => {
    const done = await runbook(["audit", "verify", "--json"]);
    expect(done.code, done.stderr).toBe(0);
  });
});

const on = (machine: Machine) => ({ env: { ...machine.env, ...SYSTEM }, through: machine.through });

async function statesOf(tenants: readonly LabTenant[]): Promise<[LabTenant, Before][]> {
  return Promise.all(tenants.map(async (tenant) => [tenant, await stateOf(tenant)] as [LabTenant, Before]));
}

const Rotation = z.object({
  state: z.string(),
  incident_id: z.string().nullable(),
  holder: z.object({ machine: z.string() }).nullable(),
});

/** The tenants whose rotation record is about the incident, as far as `also` holds of it. */
async function tenantsOf(
  incident: string,
  also: (rotation: z.infer<typeof Rotation>) => boolean = () => true,
): Promise<LabTenant[]> {
  const found = await Promise.all(
    all.map(async (tenant) => {
      const rotation = Rotation.parse((await readRecord(lab, tenant, "rotation")).fields);
      return rotation.incident_id === incident && also(rotation) ? [tenant] : [];
    }),
  );
  return found.flat();
}

/** The tenants that a machine has in hand. */
const heldBy = ({ name }: Machine, incident: string) =>
  tenantsOf(incident, ({ holder }) => holder?.machine.startsWith(`${name} `) === true);
