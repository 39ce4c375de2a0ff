// aws:iam/role:Role.
import type { IAM } from "@aws-sdk/client-iam";
import { flag, needed, number, text } from "../../protocol/props.ts";
import type { Change, Context, Resource } from "../../protocol/resource.ts";
import { iam, unlessGone } from "../client.ts";
import { asList, tagChanges, tagOutputs, wanted } from "../tags.ts";

export const role: Resource = {
  replaceOn: ["name", "namePrefix", "path"],
  computed: ["arn", "createDate", "tagsAll", "uniqueId"],
  json: ["assumeRolePolicy"],
  generated: "name",
  defaults: () => ({ forceDetachPolicies: false, maxSessionDuration: 3600, path: "/" }),
  problems: (inputs) =>
    Object.fromEntries(
      ["inlinePolicies", "managedPolicyArns"]
        .filter((key) => inputs[key] !== undefined)
        .map((key) => [key, "the lab's aws provider has RolePolicy and RolePolicyAttachment for this"]),
    ),
  create: async (inputs, context) => {
    const name = needed(inputs, "name");
    await (await iam(context, inputs)).createRole({
      RoleName: name,
      AssumeRolePolicyDocument: needed(inputs, "assumeRolePolicy"),
      Description: text(inputs, "description"),
      MaxSessionDuration: number(inputs, "maxSessionDuration"),
      Path: text(inputs, "path"),
      PermissionsBoundary: text(inputs, "permissionsBoundary"),
      Tags: asList(wanted(inputs, context)),
    });
    return { id: name };
  },
  read: async (id, state, context) => {
    const found = (await unlessGone((await iam(context, state)).getRole({ RoleName: id })))?.Role;
    return (
      found && {
        arn: found.Arn,
        assumeRolePolicy: decodeURIComponent(found.AssumeRolePolicyDocument ?? ""),
        createDate: found.CreateDate?.toISOString(),
        description: found.Description || undefined,
        maxSessionDuration: found.MaxSessionDuration ?? 3600,
        name: found.RoleName,
        path: found.Path,
        permissionsBoundary: found.PermissionsBoundary?.PermissionsBoundaryArn,
        uniqueId: found.RoleId,
        ...tagOutputs(found.Tags, state, context),
      }
    );
  },
  update: async (change, context) => {
    const client = await iam(context, change.inputs);
    await updateRole(client, change);
    await updateRoleTags(client, change, context);
    return undefined;
  },
  delete: async (id, state, context) => {
    const client = await iam(context, state);
    if (flag(state, "forceDetachPolicies")) await detachAll(client, id);
    await unlessGone(client.deleteRole({ RoleName: id }));
  },
};

async function updateRole(client: IAM, { id: RoleName, inputs, changed }: Change): Promise<void> {
  if (changed.has("assumeRolePolicy")) {
    await client.updateAssumeRolePolicy({ RoleName, PolicyDocument: needed(inputs, "assumeRolePolicy") });
  }
  if (changed.has("description") || changed.has("maxSessionDuration")) {
    const MaxSessionDuration = number(inputs, "maxSessionDuration");
    await client.updateRole({ RoleName, Description: text(inputs, "description") ?? "", MaxSessionDuration });
  }
  if (changed.has("permissionsBoundary")) {
    const PermissionsBoundary = text(inputs, "permissionsBoundary");
    if (PermissionsBoundary === undefined) await client.deleteRolePermissionsBoundary({ RoleName });
    else await client.putRolePermissionsBoundary({ RoleName, PermissionsBoundary });
  }
}

async function updateRoleTags(
  client: IAM,
  { id, inputs, oldInputs, changed }: Change,
  context: Context,
): Promise<void> {
  if (!changed.has("tags")) return;
  const { put, remove } = tagChanges(wanted(oldInputs, context), wanted(inputs, context));
  if (remove.length > 0) await client.untagRole({ RoleName: id, TagKeys: remove });
  if (put.length > 0) await client.tagRole({ RoleName: id, Tags: put });
}

async function detachAll(client: IAM, RoleName: string): Promise<void> {
  const attached = await unlessGone(client.listAttachedRolePolicies({ RoleName }));
  for (const { PolicyArn } of attached?.AttachedPolicies ?? [])
    await client.detachRolePolicy({ RoleName, PolicyArn });
  const inline = await unlessGone(client.listRolePolicies({ RoleName }));
  for (const PolicyName of inline?.PolicyNames ?? []) await client.deleteRolePolicy({ RoleName, PolicyName });
}
