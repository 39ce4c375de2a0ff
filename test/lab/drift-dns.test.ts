// DNS as the world sees it, changed behind everybody's back: each change is seen as just that.
import {
  ChangeResourceRecordSetsCommand,
  CreateHostedZoneCommand,
  DeleteHostedZoneCommand,
  ListHostedZonesByNameCommand,
  ListResourceRecordSetsCommand,
  type ResourceRecordSet,
  Route53Client,
  type RRType,
} from "@aws-sdk/client-route-53";
import { afterAll, expect, test } from "vitest";
import { readRecord } from "../../scripts/drill/doors.ts";
import { awsClient } from "../../scripts/lab/cloud.ts";
import { GLOBEX } from "../../scripts/lab/tenants.ts";
import { type TestResolver, testResolver } from "../resolver.ts";
import { writeRecord } from "./door.ts";
import { addressOf, lab } from "./lab.ts";
import { expectNone, expectOnly, look, mend, withDns } from "./live-drift.ts";

const route53 = new Route53Client(awsClient(lab.place.awsEndpoint));
const opened: TestResolver[] = [];
afterAll(() => {
  route53.destroy();
  for (const resolver of opened) resolver.close();
});

const globex = (env = {}) => look("dns", GLOBEX, env);
const LAB_DNS = `${new URL(lab.place.awsEndpoint).hostname}:53`;
const resolver = async (...args: Parameters<typeof testResolver>): Promise<TestResolver> => {
  const made = await testResolver(...args);
  opened.push(made);
  return made;
};

async function zoneOf(domain: string): Promise<string> {
  const found = await route53.send(new ListHostedZonesByNameCommand({ DNSName: domain }));
  return found.HostedZones?.find((one) => one.Name === `${domain}.`)?.Id ?? "";
}

async function change(Action: "UPSERT" | "DELETE", set: ResourceRecordSet, zone?: string): Promise<void> {
  const HostedZoneId = zone ?? (await zoneOf(GLOBEX.domain));
  const ChangeBatch = { Changes: [{ Action, ResourceRecordSet: set }] };
  await route53.send(new ChangeResourceRecordSetsCommand({ HostedZoneId, ChangeBatch }));
}

async function recordSet(name: string, type: RRType): Promise<ResourceRecordSet> {
  const HostedZoneId = await zoneOf(GLOBEX.domain);
  const { ResourceRecordSets = [] } = await route53.send(new ListResourceRecordSetsCommand({ HostedZoneId }));
  const found = ResourceRecordSets.find((one) => one.Name === `${name}.` && one.Type === type);
  if (found === undefined) throw new Error(`Route 53 has no ${name} ${type}`);
  return found;
}

const valued = (set: ResourceRecordSet, ...values: string[]): ResourceRecordSet => ({
  ...set,
  ResourceRecords: values.map((Value) => ({ Value })),
});

test("nothing is found where DNS answers what the stacks declare, by a role that decrypts nothing, twice", async () => {
  for (const _ of [1, 2]) expectNone(await look("dns"));
});

test("an address that leads elsewhere is found, and up mends it", async () => {
  const set = await recordSet("mail.globex.example", "A");
  await change("UPSERT", valued(set, "192.0.2.66"));
  const row = expectOnly(await globex(), "dns/record-differs/globex/mail.globex.example A");
  expect([row.declared, row.found]).toEqual([await addressOf(GLOBEX.id), "192.0.2.66"]);
  await mend(row);
  expect(await recordSet("mail.globex.example", "A")).toEqual(set);
});

test.each<[string, RRType, string, (own: string[]) => string[]]>([
  ["globex.example", "MX", "extra-mx", (own) => [...own, "5 mx.strangers.example."]],
  ["dkim._domainkey.globex.example", "TXT", "record-differs", () => ['"v=DKIM1; k=rsa; p=AAAA"']],
  ["globex.example", "TXT", "record-differs", (own) => [...own, '"v=spf1 +all"']],
  ["_imaps._tcp.globex.example", "SRV", "record-differs", () => ["10 1 143 mail.globex.example."]],
])("%s %s that somebody changed is found: %s", async (name, type, kind, values) => {
  const set = await recordSet(name, type);
  const own = (set.ResourceRecords ?? []).map(({ Value = "" }) => Value);
  await change("UPSERT", valued(set, ...values(own)));
  const looked = await globex();
  await change("UPSERT", set);
  expectOnly(looked, `dns/${kind}/globex/${name} ${type}`);
});

test("a record that is gone is found; another's text at the domain's name is none of ours", async () => {
  const [gone, spf] = [
    await recordSet("autoconfig.globex.example", "CNAME"),
    await recordSet("globex.example", "TXT"),
  ];
  const own = (spf.ResourceRecords ?? []).map(({ Value = "" }) => Value);
  await change("UPSERT", valued(spf, ...own, '"site-verification=1234"'));
  await change("DELETE", gone);
  const looked = await globex();
  await change("UPSERT", gone);
  await change("UPSERT", spf);
  expectOnly(looked, "dns/record-missing/globex/autoconfig.globex.example CNAME");
});

test("an address that leads back to another name is found", async () => {
  const reverse = (await addressOf(GLOBEX.id)).split(".").reverse();
  const Name = `${reverse.slice(1).join(".")}.in-addr.arpa`;
  const made = await route53.send(new CreateHostedZoneCommand({ Name, CallerReference: `${Date.now()}` }));
  const set: ResourceRecordSet = {
    Name: `${reverse.join(".")}.in-addr.arpa`,
    Type: "PTR",
    TTL: 60,
    ResourceRecords: [{ Value: "host-7.pool.example." }],
  };
  await change("UPSERT", set, made.HostedZone?.Id);
  const looked = await globex();
  await change("DELETE", set, made.HostedZone?.Id);
  await route53.send(new DeleteHostedZoneCommand({ Id: made.HostedZone?.Id }));
  const row = expectOnly(looked, `dns/ptr-differs/globex/${set.Name} PTR`);
  expect(row.found).toBe("host-7.pool.example.");
});

test("a DKIM key in Vault that isn't the published one is found", async () => {
  const { fields } = await readRecord(lab, GLOBEX, "dkim");
  await writeRecord(GLOBEX, "dkim", { ...fields, dns_txt: "v=DKIM1; k=rsa; p=BBBB" });
  const looked = await globex();
  await writeRecord(GLOBEX, "dkim", fields);
  expectOnly(looked, "dns/dkim-differs/globex/dkim._domainkey.globex.example TXT");
});

test("a resolver that still answers what was before is told from a zone that is wrong", async () => {
  const old = await resolver(
    ({ name, type }) =>
      type === "A" && name === "mail.globex.example"
        ? [{ type, name, ttl: 60, data: "192.0.2.7" }]
        : undefined,
    LAB_DNS,
  );
  const env = await withDns("old", { resolvers: [LAB_DNS, old.address], authoritative: [LAB_DNS] });
  const row = expectOnly(await globex(env), "dns/record-not-everywhere/globex/mail.globex.example A");
  expect(row.what).toContain(old.address);
});

test("without a word in the settings the zone's own servers are found by its NS records, and asked first", async () => {
  const world = await resolver(({ name, type }) => {
    if (type === "NS" && name === "globex.example") return [{ type, name, ttl: 60, data: "ns.lab.example" }];
    if (type === "A" && name === "ns.lab.example")
      return [{ type, name, ttl: 60, data: LAB_DNS.replace(":53", "") }];
    // What it knows of the record itself is as declared: only the zone's server has what was changed.
    return undefined;
  }, LAB_DNS);
  const env = await withDns("found", { resolvers: [world.address] });
  const set = await recordSet("_dmarc.globex.example", "TXT");
  expectNone(await globex(env));
  await change("UPSERT", valued(set, '"v=DMARC1; p=none"'));
  const looked = await globex(env);
  await change("UPSERT", set);
  const row = expectOnly(looked, "dns/record-differs/globex/_dmarc.globex.example TXT");
  expect(row.what).toMatch(new RegExp(`says ${LAB_DNS.replace(":53", "")}$`));
});

test("a silent server is said once, within seconds, and what the others answer is compared", async () => {
  const silent = await resolver(() => "silent");
  const env = await withDns("silent", { resolvers: [silent.address, LAB_DNS], authoritative: [LAB_DNS] });
  const set = await recordSet("globex.example", "MX");
  await change("UPSERT", valued(set, "10 mail.strangers.example."));
  const looked = await look("dns", undefined, env);
  await change("UPSERT", set);
  expect(looked.findings.map(({ id }) => id)).toEqual(["dns/record-differs/globex/globex.example MX"]);
  expect(looked.unchecked.map(({ about }) => about)).toEqual([silent.address]);
  expect(silent.asked()).toBeLessThan(8);
  expect(looked.done.ms).toBeLessThan(30_000);
});

test("without Vault the records are compared all the same, and the key in it is not checked", async () => {
  const set = await recordSet("globex.example", "MX");
  await change("UPSERT", valued(set, "10 mail.strangers.example."));
  const looked = await globex({
    VAULT_TOKEN: "nobody's",
    VAULT_ROLE_ID: undefined,
    VAULT_SECRET_ID: undefined,
  });
  await change("UPSERT", set);
  expect(looked.findings.map(({ id }) => id)).toEqual(["dns/record-differs/globex/globex.example MX"]);
  expect(looked.unchecked.map(({ about }) => about)).toEqual(["vault"]);
  expect(looked.done.code).toBe(7);
});

test("where no server answers at all, DNS is not checked, which is no drift and not well", async () => {
  const silent = await resolver(() => "silent");
  const looked = await globex(
    await withDns("none", { resolvers: [silent.address], authoritative: [silent.address] }),
  );
  expect(looked.findings).toEqual([]);
  expect(looked.unchecked.map(({ about }) => about)).toContain(silent.address);
  expect(looked.done.code).toBe(1);
  expect(looked.done.ms).toBeLessThan(30_000);
  expectNone(await globex());
});
