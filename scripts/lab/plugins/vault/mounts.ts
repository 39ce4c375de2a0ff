// Secrets engines, auth methods and audit devices: what Vault calls mounts, each listed in one table.
import { flag, needed, number, pick, text, textMap } from "../protocol/props.ts";
import type { Context, Resource } from "../protocol/resource.ts";
import { isObject, type Props } from "../protocol/values.ts";
import { get, post, remove } from "./client.ts";

/** vault:index/mount:Mount. Moving one isn't offered: a new path is a new, empty mount, so it must be seen. */
export const mount: Resource = {
  replaceOn: ["path", "type", "local", "sealWrap", "externalEntropyAccess", "namespace"],
  computed: ["accessor", "defaultLeaseTtlSeconds", "maxLeaseTtlSeconds", "sealWrap"],
  problems: ({ path }) =>
    typeof path === "string" && /^\/|\/$/.test(path) ? { path: "must have no slash at its ends" } : {},
  create: async (inputs, context) => {
    const path = needed(inputs, "path");
    await post(context, `sys/mounts/${path}`, {
      type: needed(inputs, "type"),
      description: text(inputs, "description") ?? "",
      local: flag(inputs, "local") ?? false,
      seal_wrap: flag(inputs, "sealWrap") ?? false,
      options: textMap(inputs, "options") ?? {},
      config: leases(inputs),
    });
    return { id: path };
  },
  read: async (id, state, context) => {
    const found = await inTable(context, "sys/mounts", id);
    if (found === undefined) return undefined;
    const options = isObject(found.options) ? found.options : {};
    // Vault adds options of its own (a KV's version); only those that were asked for are compared.
    const asked = isObject(state.options) ? pick(options, Object.keys(state.options)) : undefined;
    return {
      path: id,
      type: found.type,
      description: found.description || undefined,
      options: asked,
      accessor: found.accessor,
      sealWrap: found.seal_wrap,
      ...leaseOutputs(found),
    };
  },
  update: async ({ id, inputs }, context) => {
    await post(context, `sys/mounts/${id}/tune`, {
      description: text(inputs, "description") ?? "",
      ...leases(inputs),
      ...(inputs.options === undefined ? {} : { options: textMap(inputs, "options") ?? {} }),
    });
    return undefined;
  },
  delete: (id, _state, context) => remove(context, `sys/mounts/${id}`),
};

/** vault:index/authBackend:AuthBackend. */
export const authBackend: Resource = {
  replaceOn: ["path", "type", "local", "namespace"],
  computed: ["accessor"],
  defaults: (inputs) => ({ path: inputs.type }),
  create: async (inputs, context) => {
    const path = needed(inputs, "path");
    await post(context, `sys/auth/${path}`, {
      type: needed(inputs, "type"),
      description: text(inputs, "description") ?? "",
      local: flag(inputs, "local") ?? false,
    });
    return { id: path };
  },
  read: async (id, _state, context) => {
    const found = await inTable(context, "sys/auth", id);
    return (
      found && {
        path: id,
        type: found.type,
        description: found.description || undefined,
        accessor: found.accessor,
      }
    );
  },
  update: async ({ id, inputs }, context) => {
    await post(context, `sys/auth/${id}/tune`, { description: text(inputs, "description") ?? "" });
    return undefined;
  },
  delete: (id, _state, context) => remove(context, `sys/auth/${id}`),
};

/** vault:index/audit:Audit. Vault can't change one in place. */
export const audit: Resource = {
  replaceOn: ["*"],
  deleteBeforeReplace: true,
  defaults: (inputs) => ({ path: inputs.type }),
  create: async (inputs, context) => {
    const path = needed(inputs, "path");
    await post(context, `sys/audit/${path}`, {
      type: needed(inputs, "type"),
      description: text(inputs, "description") ?? "",
      local: flag(inputs, "local") ?? false,
      options: textMap(inputs, "options") ?? {},
    });
    return { id: path };
  },
  read: async (id, _state, context) => {
    const found = await inTable(context, "sys/audit", id);
    return (
      found && {
        path: id,
        type: found.type,
        description: found.description || undefined,
        options: found.options,
      }
    );
  },
  delete: (id, _state, context) => remove(context, `sys/audit/${id}`),
};

/** One entry of a table of mounts, whose keys end in a slash. */
export async function inTable(context: Context, table: string, path: string): Promise<Props | undefined> {
  const found = (await get(context, table))?.[`${path}/`];
  return isObject(found) ? found : undefined;
}

function leases(inputs: Props): Props {
  return {
    ...(inputs.defaultLeaseTtlSeconds === undefined
      ? {}
      : { default_lease_ttl: `${number(inputs, "defaultLeaseTtlSeconds")}s` }),
    ...(inputs.maxLeaseTtlSeconds === undefined
      ? {}
      : { max_lease_ttl: `${number(inputs, "maxLeaseTtlSeconds")}s` }),
  };
}

function leaseOutputs(found: Props): Props {
  const config = isObject(found.config) ? found.config : {};
  return {
    defaultLeaseTtlSeconds: config.default_lease_ttl,
    maxLeaseTtlSeconds: config.max_lease_ttl,
  };
}
