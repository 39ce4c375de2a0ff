// A dry run of the runbooks of an emergency writes nothing at all: not to Vault, Mailu and the bucket, which are looked
// at through doors that note every request, and not to hosts, disks and stacks, which are as they were.
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { ListBucketsCommand, paginateListObjectsV2, S3Client } from "@aws-sdk/client-s3";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { awsClient } from "../../scripts/lab/cloud.ts";
import { receivedNotices, setNoticeFaults } from "../../scripts/lab/notices.ts";
import { ACME, GLOBEX, type LabTenant } from "../../scripts/lab/tenants.ts";
import { DoorToS3 } from "../runbooks/lib/fixtures/door-to-s3.ts";
import { awkwardPassword, encrypt, onHost, vaultState, writeRecord } from "./door.ts";
import { lab, runbook } from "./lab.ts";
import { withMailuDoor } from "./mailu-door.ts";
import { expectIncomplete, newIncident, pendingRotation, reset } from "./resets.ts";
import { withWindow } from "./vault-window.ts";

const [done, pending] = [newIncident("DONE"), newIncident("PENDING")];
const fresh = ["--incident", "INC-NEW", "--reason", "a test"];

/** Something to do for each of them: a finished reset with a notice that waits, and one that died. */
beforeAll(async () => {
  // What others left on this lab is finished first.
  await runbook(["resume", "--all", "--yes"]);
  setNoticeFaults(lab.place.dir, { smtp: { status: 451 } });
  expectIncomplete(await reset(GLOBEX, done), /notice smtp_credentials_reset waits/);
  setNoticeFaults(lab.place.dir, undefined);
  const password = await encrypt(ACME, awkwardPassword());
  await writeRecord(ACME, "rotation", await pendingRotation(ACME, { incident_id: pending, password }));
});

/** What was left to be done is done now, by a run that isn't dry. */
afterAll(async () => {
  const resumed = await runbook(["resume", "--all", "--yes", "--json"]);
  expect(resumed.code, resumed.stderr).toBe(0);
  const { finished, notices_delivered } = JSON.parse(resumed.stdout);
  expect([finished, notices_delivered > 0]).toEqual([["acme"], true]);
});

describe("a dry run of", () => {
  type Server = "vault" | "mailu" | "s3";
  const runs: {
    name: string;
    args: string[];
    env?: Record<string, string>;
    /** Whom it asks nevertheless. */
    asks: Server[];
    would: RegExp;
  }[] = [
    {
      name: "emergency-reset",
      asks: ["vault", "mailu"],
      args: ["emergency-reset", "--tenant", "globex", ...fresh],
      would: /would: rotate the tenant's key/,
    },
    {
      name: "emergency-reset of a finished incident, with --wrap",
      asks: ["vault", "mailu"],
      args: ["emergency-reset", "--tenant", "globex", "--incident", done, "--reason", "a test", "--wrap"],
      would: /would: hand out the new credential once/,
    },
    {
      name: "emergency-reset over another's rotation",
      asks: ["vault", "mailu"],
      args: ["emergency-reset", "--tenant", "acme", ...fresh],
      would: /would: take over the rotation of incident INC-PENDING/,
    },
    {
      name: "respond-to-compromise",
      asks: ["vault", "mailu"],
      args: ["respond-to-compromise", "--all", "--incident", "INC-NEW", "--details", "a test"],
      would: /globex: would: set the password of admin@globex\.example/,
    },
    {
      name: "resume",
      asks: ["vault", "mailu"],
      args: ["resume", "--all"],
      would: /would: set the password of admin@acme\.example/,
    },
    {
      name: "mark-compromised",
      asks: ["vault"],
      args: ["mark-compromised", "--tenant", "globex", ...fresh],
      would: /would: mark version/,
    },
    {
      name: "shred-keys",
      asks: ["vault"],
      args: ["shred-keys", "--tenant", "globex"],
      env: { VAULT_TOKEN: lab.shredderToken },
      would: /would: destroy the versions of the key of globex/,
    },
    {
      name: "contain",
      asks: [],
      args: ["contain", "--tenant", "globex", ...fresh],
      would: /would: disable admin@globex\.example/,
    },
    {
      name: "notify flush",
      asks: ["s3"],
      args: ["notify", "flush"],
      would: /would: deliver [1-9]\d* waiting notices/,
    },
    {
      name: "offboard-tenant",
      asks: ["vault", "s3"],
      args: ["offboard-tenant", "--tenant", "globex", "--reason", "a test"],
      would: /would: take down the stack tenant-globex/,
    },
  ];

  test.each(runs)("$name writes nothing", async ({ args, env, asks, would }) => {
    const [mailu, s3, vault]: [string[], string[], string[]] = [[], [], []];
    const bucket = await DoorToS3.start(lab.place.awsEndpoint);
    bucket.before = ({ method }) => s3.push(method) > 0;
    try {
      await withMailuDoor(ACME, mailu, () =>
        withMailuDoor(GLOBEX, mailu, () =>
          withWindow(async (window) => {
            const before = await world();
            const ran = await runbook([...args, "--dry-run", "--json"], {
              env: { ...window.env, ...env, AWS_ENDPOINT_URL: bucket.url },
            });
            expect(ran.code, ran.stderr).toBe(0);
            expect(ran.stderr).toMatch(would);
            expect(JSON.parse(ran.stdout)).toMatchObject({ dry_run: true });
            vault.push(...window.calls);
            expect(await world()).toEqual(before);
          }),
        ),
      );
    } finally {
      await bucket.stop();
    }
    const asked = Object.entries({ vault, mailu, s3 }).filter(([, calls]) => calls.length > 0);
    expect(asked.map(([server]) => server)).toEqual(expect.arrayContaining(asks));
    expect(vault.filter((call) => !READS_OF_VAULT.test(call))).toEqual([]);
    expect(mailu.filter((call) => !call.startsWith("GET "))).toEqual([]);
    expect(s3.filter((method) => method !== "GET" && method !== "HEAD")).toEqual([]);
  });
});

/** Decrypting is no writing, and to be asked for rights neither. */
const READS_OF_VAULT = /^(?:GET |(?:POST|PUT) (?:sys\/capabilities-self|smtp-transit\/decrypt\/[a-z]+)$)/;

/** Everything that a run could have changed. */
async function world(): Promise<Record<string, unknown>> {
  const { mails, posts } = receivedNotices(lab.place.dir);
  const [records, objects, acme, globex, disk, stacks] = await Promise.all([
    vaultState(ACME, GLOBEX),
    objectsInBuckets(),
    filesOn(ACME),
    filesOn(GLOBEX),
    // Audit log, spool, outbox of the machine, settings.
    filesIn(lab.place.dir, /^(?:audit|recovery|outbox|webhook)/),
    filesIn(join(lab.place.dir, "state"), /./),
  ]);
  return { records, objects, acme, globex, disk, stacks, told: [mails.length, posts.length] };
}

async function objectsInBuckets(): Promise<string[]> {
  const client = new S3Client({ ...awsClient(lab.place.awsEndpoint), forcePathStyle: true });
  try {
    const { Buckets = [] } = await client.send(new ListBucketsCommand({}));
    const found: string[] = [];
    for (const { Name: Bucket } of Buckets) {
      for await (const { Contents = [] } of paginateListObjectsV2({ client }, { Bucket }))
        found.push(...Contents.map(({ Key, ETag }) => `${Bucket} ${Key} ${ETag}`));
    }
    return found;
  } finally {
    client.destroy();
  }
}

/** Digests of all that a mail host keeps; its logs tell of the look itself. */
const filesOn = (tenant: LabTenant): Promise<string> =>
  onHost(tenant, "find /mailu /opt/mailu -type f -exec sha256sum {} + | sort -k2");

async function filesIn(folder: string, names: RegExp): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((file) => names.test(file.slice(folder.length + 1)));
  return Promise.all(
    files.sort().map(async (file) => {
      const digest = createHash("sha256").update(await readFile(file));
      return `${file} ${digest.digest("hex")}`;
    }),
  );
}
