// vault:appRole/authBackendRole:AuthBackendRole. Secret ids are no resource: they'd be in the state.
import { needed, text } from "../protocol/props.ts";
import type { Resource } from "../protocol/resource.ts";
import { get, post, remove } from "./client.ts";
import { type Fields, fromVault, listFields, TOKEN_FIELDS, toVault, updateForVault } from "./fields.ts";

const FIELDS: Fields = {
  ...TOKEN_FIELDS,
  bindSecretId: "flag",
  localSecretIds: "flag",
  secretIdBoundCidrs: "list",
  secretIdNumUses: "number",
  secretIdTtl: "number",
};

export const appRole: Resource = {
  replaceOn: ["backend", "localSecretIds", "namespace", "roleName"],
  computed: ["roleId"],
  sets: listFields(FIELDS),
  defaults: () => ({ backend: "approle", bindSecretId: true }),
  create: async (inputs, context) => {
    const id = `auth/${needed(inputs, "backend")}/role/${needed(inputs, "roleName")}`;
    await post(context, id, toVault(inputs, FIELDS));
    const roleId = text(inputs, "roleId");
    if (roleId !== undefined) await post(context, `${id}/role-id`, { role_id: roleId });
    return { id };
  },
  read: async (id, state, context) => {
    const found = await get(context, id);
    if (found === undefined) return undefined;
    const [, backend, roleName] = /^auth\/(.+)\/role\/([^/]+)$/.exec(id) ?? [];
    const roleId = (await get(context, `${id}/role-id`))?.role_id;
    return { backend, roleName, roleId, ...fromVault(found, state, FIELDS) };
  },
  update: async (change, context) => {
    await post(context, change.id, updateForVault(change, FIELDS));
    if (change.changed.has("roleId") && change.inputs.roleId !== undefined) {
      await post(context, `${change.id}/role-id`, { role_id: needed(change.inputs, "roleId") });
    }
    return undefined;
  },
  delete: (id, _state, context) => remove(context, id),
};
