// A `pulumi up` that is killed hard, at any moment of a rebuild, is completed by the next one, and by replace-vps alone.
import { EC2 } from "@aws-sdk/client-ec2";
import { expect, test } from "vitest";
import { z } from "zod";
import { awsClient } from "../../scripts/lab/cloud.ts";
import { ACME } from "../../scripts/lab/tenants.ts";
import { tenantStack } from "../../stacks/names.ts";
import { cancel, frozenUp, killedUp, signalAll, type Victims } from "./killed-up.ts";
import { killVps, lab, pulumi, runbook } from "./lab.ts";
import { expectLogin, identity, rebuild, up } from "./rebuilt.ts";

// Each next up is itself killed, at a later step: so it has got past the one where its predecessor died, and the last
// one completes what all of them left.
const DEATHS: [Victims, string[]][] = [
  [
    "the engine and all it started",
    [
      "ec2:Instance vps creating",
      "local:Command host-key creating",
      "→ look whether",
      "→ prove it",
      "Command credentials replacing",
    ],
  ],
  [
    "the engine",
    ["ec2:VolumeAttachment data creating", "remote:Command files creating", "→ set the password"],
  ],
];

test.each(DEATHS)("an up of which %s died, at %j, is completed by the next one", async (victims, moments) => {
  const before = await identity(ACME);
  await killVps(ACME.id, "terminated");
  for (const [index, moment] of moments.entries()) {
    await killedUp(ACME, moment, victims);
    if (index === 0) expect((await up(ACME)).stderr, "its lock is respected").toContain("currently locked");
    await cancel(ACME);
  }
  await rebuild(ACME);
  expect(await identity(ACME)).toEqual(before);
  await expectLogin(ACME);
  await rebuild(ACME, "--expect-no-changes");
});

test("an instance that was made but never got into the state keeps neither the address nor the data volume", async () => {
  const ec2 = new EC2(awsClient(lab.place.awsEndpoint));
  const Exported = z.object({
    deployment: z.object({ pending_operations: z.array(z.object({ type: z.string() })) }),
  });
  const { deployment } = Exported.parse(
    JSON.parse((await pulumi(["stack", "export", "--stack", tenantStack(ACME.id)])).stdout),
  );
  expect(deployment.pending_operations.length, "the state remembers what may be left over").toBeGreaterThan(
    0,
  );
  const own = (await pulumi(["stack", "output", "vpsId", "--stack", tenantStack(ACME.id)])).stdout.trim();
  const tagged = [{ Name: "tag:tenant", Values: [ACME.id] }];
  const { Addresses = [] } = await ec2.describeAddresses({ Filters: tagged });
  const { Volumes = [] } = await ec2.describeVolumes({ Filters: tagged });
  expect(Addresses.map((address) => address.InstanceId)).toEqual([own]);
  expect(Volumes.flatMap((one) => one.Attachments ?? []).map((one) => one.InstanceId)).toEqual([own]);
  ec2.destroy();
});

test("replace-vps completes a killed up alone: it takes the lock away once its holder is dead, and not before", async () => {
  const before = await identity(ACME);
  await killVps(ACME.id, "terminated");
  const engine = await frozenUp(ACME, "→ set the password");
  // The host answers already, so only --force makes it go on.
  const replace = () => runbook(["replace-vps", "--tenant", ACME.id, "--force", "--yes", "--json"]);
  const refused = await replace();
  expect(refused.code, refused.stderr).toBe(4);
  expect(refused.stderr).toContain(`locked by another pulumi: process ${engine.pid} on`);
  expect((await up(ACME)).stderr, "the lock is still there").toContain("currently locked");
  signalAll(engine, "SIGKILL");
  const done = await replace();
  expect(done.code, done.stderr).toBe(0);
  expect(done.stderr).toContain(`remove the lock that a killed pulumi (process ${engine.pid})`);
  expect(await identity(ACME)).toEqual(before);
  await expectLogin(ACME);
});
