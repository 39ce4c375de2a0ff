// vault:identity/group:Group and vault:identity/groupAlias:GroupAlias.
import { needed } from "../protocol/props.ts";
import type { Resource } from "../protocol/resource.ts";
import { get, post, remove } from "./client.ts";
import { type Fields, fromVault, listFields, toVault, updateForVault } from "./fields.ts";

const GROUP_FIELDS: Fields = {
  name: "text",
  memberEntityIds: "list",
  memberGroupIds: "list",
  metadata: "map",
  policies: "list",
};

export const group: Resource = {
  replaceOn: ["namespace", "type"],
  sets: listFields(GROUP_FIELDS),
  defaults: (_inputs, name) => ({ name, type: "internal" }),
  create: async (inputs, context) => {
    const document = { ...toVault(inputs, GROUP_FIELDS), type: needed(inputs, "type") };
    const { id } = await post(context, "identity/group", document);
    if (typeof id !== "string") throw new Error(`Vault made no group: there is one named ${inputs.name}`);
    return { id };
  },
  read: async (id, state, context) => {
    const found = await get(context, `identity/group/id/${id}`);
    return found && { type: found.type, ...fromVault(found, state, GROUP_FIELDS) };
  },
  update: async (change, context) => {
    await post(context, `identity/group/id/${change.id}`, {
      ...updateForVault(change, GROUP_FIELDS),
      type: needed(change.inputs, "type"),
    });
    return undefined;
  },
  delete: (id, _state, context) => remove(context, `identity/group/id/${id}`),
};

const ALIAS_FIELDS: Fields = { canonicalId: "text", mountAccessor: "text", name: "text" };

export const groupAlias: Resource = {
  replaceOn: ["mountAccessor", "namespace"],
  create: async (inputs, context) => {
    const { id } = await post(context, "identity/group-alias", toVault(inputs, ALIAS_FIELDS));
    if (typeof id !== "string") throw new Error(`Vault made no alias ${inputs.name}`);
    return { id };
  },
  read: async (id, state, context) => {
    const found = await get(context, `identity/group-alias/id/${id}`);
    return found && fromVault(found, state, ALIAS_FIELDS);
  },
  update: async (change, context) => {
    await post(context, `identity/group-alias/id/${change.id}`, toVault(change.inputs, ALIAS_FIELDS));
    return undefined;
  },
  delete: (id, _state, context) => remove(context, `identity/group-alias/id/${id}`),
};
