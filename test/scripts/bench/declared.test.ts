// What the benchmark's stacks are said to declare is as much as a real one declares: else it would measure less.
import { expect, test } from "vitest";
import { outputsOf, zoneEntries } from "../../../scripts/bench/declared.ts";
import type { BenchTenant } from "../../../scripts/bench/many-tenants.ts";
import { tenantId } from "../../../stacks/names.ts";
import { declare } from "../../stacks/declare.ts";

const tenant: BenchTenant = {
  ...{ id: tenantId("acme"), domain: "acme.example", address: "192.0.2.25" },
  ...{ email: "admin@acme.example", token: "", password: "" },
};
const host = { hostKey: "ssh-ed25519 AAAA", dkim: "AAAA" };

interface Outputs {
  declared: {
    files: Record<string, string>;
    images: Record<string, string>;
    ports: number[];
    records: { name: string; type: string }[];
  };
}
const shapeOf = ({ declared: { files, images, ports, records } }: Outputs) => ({
  files: Object.keys(files).sort(),
  images: Object.keys(images).sort(),
  ports,
  records: records.map(({ name, type }) => `${name} ${type}`).sort(),
});

test("a benchmark's stack declares the same files, containers, ports and records as the program", async () => {
  const { outputs } = await declare("tenant-acme", {
    ...{ domain: "acme.example", contactEmail: "it@contact.example", provider: "existing" },
    ...{ existing: { address: "192.0.2.25" }, exemptNetworks: ["198.51.100.0/24"] },
    dns: { provider: "route53", zoneId: "Z1" },
  });
  const bench = outputsOf(tenant, host);
  expect(shapeOf(bench)).toEqual(shapeOf(outputs as unknown as Outputs));
  expect(Object.keys(outputs)).toEqual(expect.arrayContaining(Object.keys(bench)));
});

test("its DNS servers know every declared record", () => {
  const known = zoneEntries([tenant], host.dkim, { "ns1.dns.example": "192.0.2.1" });
  expect(known).toEqual(expect.arrayContaining(outputsOf(tenant, host).declared.records));
});
