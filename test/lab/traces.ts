// What an emergency leaves behind, as others see it: one new version and one of everything that is told, whatever
// died on the way and whoever finished it.
import { GetObjectCommand, paginateListObjectsV2, S3Client } from "@aws-sdk/client-s3";
import { expect } from "vitest";
import { z } from "zod";
import { canLogIn, decrypt, readRecord } from "../../scripts/drill/doors.ts";
import { awsClient } from "../../scripts/lab/cloud.ts";
import { receivedNotices } from "../../scripts/lab/notices.ts";
import type { LabTenant } from "../../scripts/lab/tenants.ts";
import { AUDIT_BUCKET, metadataPath, TRANSIT_MOUNT, transitKey } from "../../stacks/names.ts";
import { addressOf, lab, runbook, vault } from "./lab.ts";

/** A tenant before an incident. */
export interface Before {
  readonly version: number;
  readonly keyVersion: number;
  readonly ciphertext: unknown;
  readonly password: string;
}

export async function stateOf(tenant: LabTenant): Promise<Before> {
  const [{ version, fields }, { latest_version }] = await Promise.all([
    readRecord(lab, tenant, "admin"),
    keyOf(tenant),
  ]);
  const { password: ciphertext } = fields;
  return {
    version,
    keyVersion: latest_version,
    ciphertext,
    password: await decrypt(lab, tenant, ciphertext),
  };
}

/**
 * The rotation is over, and it was one: one new version of the credential and of the key, everything current decrypts
 * under that key version, the new password logs in, the old one is refused and its ciphertext is of no use.
 */
export async function expectOneRotation(tenant: LabTenant, incident: string, was: Before): Promise<void> {
  const address = await addressOf(tenant.id);
  const admin = await readRecord(lab, tenant, "admin");
  expect(admin.version, "the credential's version").toBe(was.version + 1);
  const key = await keyOf(tenant);
  expect(key.latest_version, "the key's version").toBe(was.keyVersion + 1);
  expect(key).toMatchObject({
    min_decryption_version: key.latest_version,
    min_encryption_version: key.latest_version,
  });
  const [password] = await currentSecrets(tenant, key.latest_version);
  expect(await canLogIn(address, tenant, password ?? ""), "the new password logs in").toBe(true);
  expect(await canLogIn(address, tenant, was.password), "the old password logs in").toBe(false);
  await expectUseless(tenant, was.ciphertext);
  const { fields: rotation } = await readRecord(lab, tenant, "rotation");
  expect(rotation).toMatchObject({ state: "RETIRED", incident_id: incident, holder: null, events_due: [] });
  expect(rotation).toMatchObject({ old_proof: "refused", old_versions: [was.version] });
  const { history } = z.object({ history: z.array(z.object({ incident: z.string() })) }).parse(rotation);
  expect(history.filter((one) => one.incident === incident)).toHaveLength(1);
  expect(await marksOf(tenant)).toMatchObject({ compromised: "true", incident_id: incident });
  expect((await marksOf(tenant)).compromised_versions?.split(",")).toContain(String(was.version));
}

/** Everything that is encrypted for the tenant decrypts, and lies under this version of the key; the password first. */
export async function currentSecrets(tenant: LabTenant, keyVersion: number): Promise<string[]> {
  return Promise.all(
    SEALED.map(async ([record, field]) => {
      const ciphertext = (await readRecord(lab, tenant, record)).fields[field];
      expect(ciphertext, `${record} ${field}`).toMatch(new RegExp(`^vault:v${keyVersion}:`));
      return decrypt(lab, tenant, ciphertext);
    }),
  );
}

const SEALED = [
  ["admin", "password"],
  ["mailu", "api_token"],
  ["dkim", "private_key"],
  ["tls", "private_key"],
] as const;

/** Not even root gets anything out of it. */
export async function expectUseless(tenant: LabTenant, ciphertext: unknown): Promise<void> {
  await expect(decrypt(lab, tenant, ciphertext), "the old ciphertext").rejects.toThrow(/too old/);
}

/**
 * Shreds the tenant's old key versions. Before, whoever may lower the key's minimum could still read the old
 * ciphertexts; afterwards nobody can, and what is current decrypts as it did.
 */
export async function expectGoneForGood(tenant: LabTenant, old: readonly unknown[]): Promise<void> {
  const { latest_version: newest } = await keyOf(tenant);
  const lower = (version: number) =>
    vault("POST", `${TRANSIT_MOUNT}/keys/${transitKey(tenant.id)}/config`, {
      min_decryption_version: version,
    });
  await lower(1);
  for (const ciphertext of old) await decrypt(lab, tenant, ciphertext);
  await lower(newest);

  const typed = ["--tenant", tenant.id, "--yes"];
  const done = await runbook(["shred-keys", ...typed], { env: { VAULT_TOKEN: lab.shredderToken } });
  expect(done.code, done.stderr).toBe(0);
  await expect(lower(1)).rejects.toThrow(/less then min available version/);
  for (const ciphertext of old) await expectUseless(tenant, ciphertext);
  await currentSecrets(tenant, newest);
}

const Key = z.object({
  data: z.object({
    latest_version: z.number(),
    min_decryption_version: z.number(),
    min_encryption_version: z.number(),
    min_available_version: z.number(),
  }),
});

export const keyOf = async (tenant: LabTenant): Promise<z.infer<typeof Key>["data"]> =>
  Key.parse(await vault("GET", `${TRANSIT_MOUNT}/keys/${transitKey(tenant.id)}`)).data;

const Metadata = z.object({
  data: z.object({ custom_metadata: z.record(z.string(), z.string()).nullable() }),
});

const marksOf = async (tenant: LabTenant): Promise<Record<string, string>> =>
  Metadata.parse(await vault("GET", metadataPath(tenant.id, "admin"))).data.custom_metadata ?? {};

/** An incident of a tenant, and the moment at which a run for it died. */
export interface Incident {
  readonly tenant: LabTenant;
  readonly incident: string;
  readonly died: string;
}

/** In the bucket, over the chains of all machines, each incident has one event of each name. */
export async function expectOneEventEach(
  incidents: readonly Incident[],
  names: readonly string[],
): Promise<void> {
  const events = await eventsInBucket();
  const told = ({ tenant, incident, died }: Incident) => ({
    died,
    events: names.map((name) => ({
      name,
      ids: new Set(
        events
          .filter((one) => one.event === name && one.tenant_id === tenant.id)
          .filter((one) => one.details.incident_id === incident)
          .map((one) => one.event_id),
      ).size,
    })),
  });
  expect(incidents.map(told)).toEqual(
    incidents.map(({ died }) => ({ died, events: names.map((name) => ({ name, ids: 1 })) })),
  );
}

const Event = z.object({
  event: z.string(),
  event_id: z.string(),
  tenant_id: z.string().optional(),
  details: z.looseObject({ incident_id: z.string().nullish() }),
});

async function eventsInBucket(): Promise<z.infer<typeof Event>[]> {
  const s3 = new S3Client({ ...awsClient(lab.place.awsEndpoint), forcePathStyle: true });
  try {
    const found: z.infer<typeof Event>[] = [];
    const pages = paginateListObjectsV2({ client: s3 }, { Bucket: AUDIT_BUCKET, Prefix: "audit/" });
    for await (const { Contents = [] } of pages) {
      for (const { Key } of Contents) {
        const object = await s3.send(new GetObjectCommand({ Bucket: AUDIT_BUCKET, Key }));
        found.push(Event.parse(JSON.parse((await object.Body?.transformToString()) ?? "")));
      }
    }
    return found;
  } finally {
    s3.destroy();
  }
}

/** Notices of an incident: so many mails and posts to the webhook, apart from those that came twice. */
export interface Told {
  readonly mails: number;
  readonly posts: number;
}

/** Every notice of each incident came, and however often it came, under one Message-ID and one key. */
export function expectToldOnce(incidents: readonly Incident[], told: Told): void {
  const { mails, posts } = receivedNotices(lab.place.dir);
  const whole = mails.map(({ raw }) => raw.replaceAll(/=\r?\n/g, ""));
  const signed = posts.filter(({ path }) => path === "/generic");
  const came = ({ tenant, incident, died }: Incident) => {
    const isAbout = (text: string) => text.includes(incident) && text.includes(tenant.id);
    const ids = whole.filter(isAbout).map((mail) => /^Message-ID: (.+)$/im.exec(mail)?.[1]?.trim());
    const keys = signed.filter(({ body }) => isAbout(body)).map(({ headers }) => headers["idempotency-key"]);
    return { died, mails: new Set(ids).size, posts: new Set(keys).size };
  };
  expect(incidents.map(came)).toEqual(incidents.map(({ died }) => ({ died, ...told })));
}
