// vault:kv/secretBackendV2:SecretBackendV2: the settings of a KV v2 mount.
import { setTimeout as sleep } from "node:timers/promises";
import { needed } from "../protocol/props.ts";
import type { Context, Resource } from "../protocol/resource.ts";
import type { Props } from "../protocol/values.ts";
import { get, post, VaultError } from "./client.ts";

export const kvSettings: Resource = {
  replaceOn: ["mount", "namespace"],
  computed: ["casRequired", "deleteVersionAfter", "maxVersions"],
  create: async (inputs, context) => {
    const id = `${needed(inputs, "mount")}/config`;
    await write(id, inputs, context);
    return { id };
  },
  read: async (id, _state, context) => {
    const found = await get(context, id);
    return (
      found && {
        mount: id.replace(/\/config$/, ""),
        casRequired: found.cas_required,
        deleteVersionAfter: seconds(found.delete_version_after),
        maxVersions: found.max_versions,
      }
    );
  },
  update: async ({ id, inputs }, context) => {
    await write(id, inputs, context);
    return undefined;
  },
  // Settings go with their mount.
  delete: async () => {},
};

/** A mount that was just made refuses while Vault turns it into a versioned one. */
async function write(path: string, inputs: Props, context: Context): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      await post(context, path, {
        cas_required: inputs.casRequired ?? false,
        delete_version_after: `${inputs.deleteVersionAfter ?? 0}s`,
        max_versions: inputs.maxVersions ?? 0,
      });
      return;
    } catch (error) {
      if (!(error instanceof VaultError) || !/upgrad/i.test(error.message) || tries > 100) throw error;
      await sleep(100, undefined, { signal: context.signal });
    }
  }
}

/** Of a duration such as "1h0m5s". */
function seconds(duration: unknown): number | undefined {
  if (typeof duration !== "string") return undefined;
  const units: Record<string, number> = { h: 3600, m: 60, s: 1 };
  return [...duration.matchAll(/([\d.]+)([hms])/g)].reduce(
    (sum, [, amount, unit = "s"]) => sum + Number(amount) * (units[unit] ?? 0),
    0,
  );
}
