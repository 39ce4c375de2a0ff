// That tenants added for a test are whole, and gone afterwards.
import { expect, test } from "vitest";
import { z } from "zod";
import { KV_MOUNT } from "../../stacks/names.ts";
import { vaultState } from "./door.ts";
import { addTenants, removeTenants } from "./extra-tenants.ts";
import { addressOf, hosts, vault } from "./lab.ts";
import { expectLogin } from "./rebuilt.ts";

const tenantNames = async () =>
  z
    .object({ data: z.object({ keys: z.array(z.string()) }) })
    .parse(await vault("LIST", `${KV_MOUNT}/metadata`)).data.keys;

test("tenants that are added log in on hosts of their own, and leave nothing when they are removed", async () => {
  const before = await tenantNames();
  const running = (await hosts()).length;
  const added = [...(await addTenants(2)), ...(await addTenants(["extra-named"]))];
  try {
    for (const tenant of added) await expectLogin(tenant);
    const addresses = await Promise.all(added.map(({ id }) => addressOf(id)));
    expect(new Set(addresses).size).toBe(added.length);
    expect(added[2]).toMatchObject({ id: "extra-named", domain: "extra-named.example" });
  } finally {
    await removeTenants(added);
  }
  expect(await tenantNames()).toEqual(before);
  expect(await hosts()).toHaveLength(running);
  for (const [path, found] of Object.entries(await vaultState(...added)))
    if (path.includes("extra-")) expect(found, path).toBe("none");
  await removeTenants(added);
});
