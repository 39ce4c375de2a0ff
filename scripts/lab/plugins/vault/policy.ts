// vault:index/policy:Policy.
import { needed } from "../protocol/props.ts";
import type { Resource } from "../protocol/resource.ts";
import { get, post, remove } from "./client.ts";

export const policy: Resource = {
  replaceOn: ["name", "namespace"],
  create: async (inputs, context) => {
    const name = needed(inputs, "name");
    await post(context, `sys/policies/acl/${name}`, { policy: needed(inputs, "policy") });
    return { id: name };
  },
  read: async (id, _state, context) => {
    const found = await get(context, `sys/policies/acl/${id}`);
    return found && { name: id, policy: found.policy };
  },
  update: async ({ id, inputs }, context) => {
    await post(context, `sys/policies/acl/${id}`, { policy: needed(inputs, "policy") });
    return undefined;
  },
  delete: (id, _state, context) => remove(context, `sys/policies/acl/${id}`),
};
