// What must not be lost can't be replaced: a change that would do so fails at preview and names the resource.
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ACME } from "../../scripts/lab/tenants.ts";
import { REPOSITORY } from "../../scripts/toolchain/paths.ts";
import { PLATFORM_STACK, tenantStack } from "../../stacks/names.ts";
import { lab, pulumi } from "./lab.ts";

const TENANT = tenantStack(ACME.id);
/** An edit of one of the stacks' files: in the configuration where there is a key for it, else in the program. */
const CHANGES = [
  {
    what: "data volume",
    stack: TENANT,
    file: `Pulumi.${TENANT}.yaml`,
    from: "us-east-1a",
    to: "us-east-1b",
    names: "Volume::data",
  },
  {
    what: "address",
    stack: TENANT,
    file: "tenant/vps.ts",
    from: 'domain: "vpc"',
    to: 'domain: "standard"',
    names: "Eip::address",
  },
  {
    what: "mount",
    stack: PLATFORM_STACK,
    file: "names.ts",
    from: 'KV_MOUNT = "smtp"',
    to: 'KV_MOUNT = "post"',
    names: "Mount::kv",
  },
  {
    what: "key",
    stack: PLATFORM_STACK,
    file: "platform/keys.ts",
    from: "enableKeyRotation: true",
    to: 'customerMasterKeySpec: "RSA_4096"',
    names: "kms/key:Key::",
  },
  {
    what: "bucket",
    stack: PLATFORM_STACK,
    file: `Pulumi.${PLATFORM_STACK}.yaml`,
    from: "config:",
    to: "config:\n  penguinmails-credential-recovery:auditBucket: another-audit",
    names: "bucket:Bucket::audit",
  },
];

test("a change that would replace a data volume, an address, a mount, a key or a bucket fails at preview", async () => {
  const state = async (stack: string) => (await pulumi(["stack", "export", "--stack", stack])).stdout;
  const before = { tenant: await state(TENANT), platform: await state(PLATFORM_STACK) };
  await Promise.all(
    CHANGES.map(async ({ what, stack, file, from, to, names }) => {
      const project = await changedProject(file, from, to);
      const seen = await pulumi(["preview", "--refresh=false", "--stack", stack], {
        env: { PULUMI_OPTION_CWD: project },
      });
      await rm(project, { recursive: true });
      expect(seen.code, what).not.toBe(0);
      expect(seen.stdout + seen.stderr, what).toMatch(
        new RegExp(`unable to replace resource "[^"]*${names}[^"]*"[\\s\\S]*protect`),
      );
    }),
  );
  expect({ tenant: await state(TENANT), platform: await state(PLATFORM_STACK) }).toEqual(before);
});

/** The lab's project with one file changed. */
async function changedProject(file: string, from: string, to: string): Promise<string> {
  const project = await mkdtemp(join(lab.place.dir, "changed-"));
  const own = join(lab.place.dir, "project", "stacks");
  await cp(own, join(project, "stacks"), { recursive: true, dereference: true });
  for (const name of ["Pulumi.yaml", "package.json", "node_modules", "runbooks"])
    await symlink(join(REPOSITORY, name), join(project, name));
  const changed = join(project, "stacks", file);
  const text = await readFile(changed, "utf8");
  expect(text).toContain(from);
  await writeFile(changed, text.replace(from, to));
  return project;
}
