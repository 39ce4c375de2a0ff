// Who a lab lets in besides the operator: automation by its AppRole, and a person who may destroy keys.
import { statSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { z } from "zod";
import { vaultCall } from "../../scripts/lab/vault.ts";
import { lab, vault } from "./lab.ts";

const Policies = z.object({ data: z.object({ policies: z.array(z.string()) }) });
const Login = z.object({ auth: z.object({ client_token: z.string(), token_policies: z.array(z.string()) }) });

test("automation logs in as `system`, again and again, and is an incident-responder only", async () => {
  for (let time = 0; time < 2; time++) {
    const { auth } = Login.parse(
      await vaultCall(lab.place.vaultAddr, undefined, "POST", "auth/approle/login", {
        role_id: lab.variables.LAB_SYSTEM_ROLE_ID,
        secret_id: lab.variables.LAB_SYSTEM_SECRET_ID,
      }),
    );
    expect(auth.token_policies).toEqual(["incident-responder"]);
  }
  expect(lab.systemRoleId).toBe(lab.variables.LAB_SYSTEM_ROLE_ID);
  expect(lab.systemSecretId).toBe(lab.variables.LAB_SYSTEM_SECRET_ID);
});

test.each([
  ["operator", "operatorToken", ["platform-admin", "stack-operator", "tenant-deployer"]],
  ["shredder", "shredderToken", ["key-shredder"]],
] as const)("the %s has just the roles of that person", async (_name, token, roles) => {
  const found = Policies.parse(await vault("POST", "auth/token/lookup", { token: lab[token] }));
  expect(found.data.policies.filter((policy) => policy !== "default").sort()).toEqual([...roles]);
});

test("tokens and secrets are for their owner alone", () => {
  const names = ["operator-token", "shredder-token", "system-role-id", "system-secret-id", "slack-url"];
  for (const name of [...names, "webhook-secret", "root-token", "unseal-keys"])
    expect(statSync(join(lab.place.dir, name)).mode & 0o777, name).toBe(0o600);
});
