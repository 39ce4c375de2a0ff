// The lab's DNS server answers what Route 53 holds, as a server of the zones does.
import { createSocket } from "node:dgram";
import { Resolver } from "node:dns/promises";
import { once } from "node:events";
import {
  ChangeResourceRecordSetsCommand,
  CreateHostedZoneCommand,
  Route53Client,
} from "@aws-sdk/client-route-53";
import { decode, encode } from "dns-packet";
import { afterAll, beforeAll, expect, test } from "vitest";
import { awsClient } from "../../../scripts/lab/cloud.ts";
import { dnsServer, type LabDns, startDns } from "../../../scripts/lab/dns.ts";
import { claimSubnet, type Subnet } from "../../../scripts/lab/subnet.ts";
import { Moto } from "../../runbooks/lib/fixtures/moto.ts";

/** More than any resolver says that it takes over UDP. */
const LONG = "x".repeat(5000);
let moto: Moto;
let subnet: Subnet;
let dns: LabDns;
const resolver = new Resolver({ timeout: 3_000, tries: 1 });

beforeAll(async () => {
  [moto, subnet] = await Promise.all([Moto.start(), claimSubnet()]);
  const endpoint = moto.env.AWS_ENDPOINT_URL ?? "";
  const route53 = new Route53Client(awsClient(endpoint));
  const made = await route53.send(
    new CreateHostedZoneCommand({ Name: "acme.example", CallerReference: "1" }),
  );
  const records: [string, "A" | "MX" | "TXT" | "SRV" | "CNAME", string[]][] = [
    ["mail.acme.example", "A", ["192.0.2.25"]],
    ["acme.example", "MX", ["10 mail.acme.example.", "20 mx.acme.example."]],
    ["acme.example", "TXT", ['"v=spf1 mx ~all"', '"say \\"a\\\\b\\""']],
    ["long.acme.example", "TXT", [(LONG.match(/.{1,255}/g) ?? []).map((part) => `"${part}"`).join(" ")]],
    ["_imaps._tcp.acme.example", "SRV", ["10 1 993 mail.acme.example."]],
    ["alias.acme.example", "CNAME", ["mail.acme.example."]],
  ];
  const Changes = records.map(([Name, Type, values]) => ({
    Action: "CREATE" as const,
    ResourceRecordSet: { Name, Type, TTL: 60, ResourceRecords: values.map((Value) => ({ Value })) },
  }));
  const HostedZoneId = made.HostedZone?.Id;
  await route53.send(new ChangeResourceRecordSetsCommand({ HostedZoneId, ChangeBatch: { Changes } }));
  route53.destroy();
  dns = await startDns(endpoint, subnet.services);
  resolver.setServers([dnsServer(subnet.services)]);
});
afterAll(async () => {
  await dns?.stop();
  await moto?.down();
  await subnet?.release();
});

test("every type that a tenant needs is answered", async () => {
  expect(await resolver.resolve4("MAIL.acme.example")).toEqual(["192.0.2.25"]);
  expect((await resolver.resolveMx("acme.example")).map(({ exchange }) => exchange).sort()).toEqual([
    "mail.acme.example",
    "mx.acme.example",
  ]);
  expect((await resolver.resolveTxt("acme.example")).map((one) => one.join("")).sort()).toEqual([
    'say "a\\b"',
    "v=spf1 mx ~all",
  ]);
  expect(await resolver.resolveSrv("_imaps._tcp.acme.example")).toMatchObject([
    { name: "mail.acme.example", port: 993, priority: 10, weight: 1 },
  ]);
  expect(await resolver.resolveCname("alias.acme.example")).toEqual(["mail.acme.example"]);
  expect(await resolver.resolve4("alias.acme.example")).toEqual(["192.0.2.25"]);
  expect((await resolver.resolveNs("acme.example")).length).toBeGreaterThan(0);
});

test("what is too long for UDP is cut there, and comes whole by TCP", async () => {
  const udp = createSocket("udp4");
  const question = { type: "TXT", name: "long.acme.example" } as const;
  udp.send(encode({ type: "query", id: 7, questions: [question] }), 53, subnet.services);
  const [message] = (await once(udp, "message")) as [Buffer];
  udp.close();
  expect(message.length).toBeLessThanOrEqual(512);
  expect(decode(message).flag_tc).toBe(true);
  const [strings = []] = await resolver.resolveTxt("long.acme.example");
  expect(strings.length).toBeGreaterThan(1);
  expect(strings.join("")).toBe(LONG);
});

test("a name without such a record, a name that isn't there, and a zone of others' are told apart", async () => {
  await expect(resolver.resolve4("acme.example")).rejects.toMatchObject({ code: "ENODATA" });
  await expect(resolver.resolve4("_tcp.acme.example")).rejects.toMatchObject({ code: "ENODATA" });
  await expect(resolver.resolve4("nothing.acme.example")).rejects.toMatchObject({ code: "ENOTFOUND" });
  await expect(resolver.resolve4("www.globex.example")).rejects.toMatchObject({ code: "EREFUSED" });
});

test("a mail host's address leads back to it, and no other address leads anywhere", async () => {
  expect(await resolver.resolvePtr("25.2.0.192.in-addr.arpa")).toEqual(["mail.acme.example"]);
  await expect(resolver.resolvePtr("26.2.0.192.in-addr.arpa")).rejects.toMatchObject({ code: "ENOTFOUND" });
});
