// The one Pulumi program. A stack's name says what it declares; only that part is imported, which halves the
// start of a tenant's stack.
import * as pulumi from "@pulumi/pulumi";
import { PLATFORM_STACK, tenantOfStack } from "./names.ts";

/** Declares the stack's resources; what it resolves to becomes the stack's outputs. Throws for an unknown name. */
export default async function program(): Promise<Record<string, unknown>> {
  const stack = pulumi.getStack();
  if (stack === PLATFORM_STACK) return (await import("./platform.ts")).platform();
  const tenant = tenantOfStack(stack);
  if (tenant !== undefined) return (await import("./tenant.ts")).tenantStack(tenant);
  throw new pulumi.RunError(
    `No program for the stack '${stack}': it is called 'platform' (Vault, buckets, keys), or 'tenant-<id>' for a ` +
      "tenant, where <id> is 2 to 31 lower-case letters, digits and single hyphens, a letter first. " +
      "Next: pulumi stack init platform, or pulumi stack init tenant-acme",
  );
}
