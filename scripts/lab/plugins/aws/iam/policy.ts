// aws:iam: policies inside a role, policies that stand alone, and those that are attached.
import type { IAM } from "@aws-sdk/client-iam";
import { needed, text } from "../../protocol/props.ts";
import type { Resource } from "../../protocol/resource.ts";
import { iam, unlessGone } from "../client.ts";
import { asList, tagChanges, tagOutputs, wanted } from "../tags.ts";

export const rolePolicy: Resource = {
  replaceOn: ["name", "namePrefix", "role"],
  json: ["policy"],
  generated: "name",
  create: async (inputs, context) => {
    const [RoleName, PolicyName] = [needed(inputs, "role"), needed(inputs, "name")];
    const PolicyDocument = needed(inputs, "policy");
    await (await iam(context, inputs)).putRolePolicy({ RoleName, PolicyName, PolicyDocument });
    return { id: `${RoleName}:${PolicyName}` };
  },
  read: async (id, state, context) => {
    const [RoleName, PolicyName] = id.split(":");
    const client = await iam(context, state);
    const found = await unlessGone(client.getRolePolicy({ RoleName, PolicyName }));
    return (
      found && { name: PolicyName, role: RoleName, policy: decodeURIComponent(found.PolicyDocument ?? "") }
    );
  },
  update: async ({ id, inputs }, context) => {
    const [RoleName, PolicyName] = id.split(":");
    const PolicyDocument = needed(inputs, "policy");
    await (await iam(context, inputs)).putRolePolicy({ RoleName, PolicyName, PolicyDocument });
    return undefined;
  },
  delete: async (id, state, context) => {
    const [RoleName, PolicyName] = id.split(":");
    await unlessGone((await iam(context, state)).deleteRolePolicy({ RoleName, PolicyName }));
  },
};

export const policy: Resource = {
  replaceOn: ["description", "name", "namePrefix", "path"],
  computed: ["arn", "attachmentCount", "policyId", "tagsAll"],
  json: ["policy"],
  generated: "name",
  defaults: () => ({ path: "/" }),
  create: async (inputs, context) => {
    const { Policy } = await (await iam(context, inputs)).createPolicy({
      PolicyName: needed(inputs, "name"),
      PolicyDocument: needed(inputs, "policy"),
      Description: text(inputs, "description"),
      Path: text(inputs, "path"),
      Tags: asList(wanted(inputs, context)),
    });
    if (Policy?.Arn === undefined) throw new Error("IAM created no policy");
    return { id: Policy.Arn };
  },
  read: async (id, state, context) => {
    const client = await iam(context, state);
    const found = (await unlessGone(client.getPolicy({ PolicyArn: id })))?.Policy;
    if (found === undefined) return undefined;
    const version = await client.getPolicyVersion({ PolicyArn: id, VersionId: found.DefaultVersionId });
    return {
      arn: id,
      description: found.Description || undefined,
      name: found.PolicyName,
      path: found.Path,
      policy: decodeURIComponent(version.PolicyVersion?.Document ?? ""),
      policyId: found.PolicyId,
      ...tagOutputs(found.Tags, state, context),
    };
  },
  update: async (change, context) => {
    const client = await iam(context, change.inputs);
    if (change.changed.has("policy")) {
      await dropOldest(client, change.id);
      const PolicyDocument = needed(change.inputs, "policy");
      await client.createPolicyVersion({ PolicyArn: change.id, PolicyDocument, SetAsDefault: true });
    }
    if (change.changed.has("tags")) {
      const { put, remove } = tagChanges(wanted(change.oldInputs, context), wanted(change.inputs, context));
      if (remove.length > 0) await client.untagPolicy({ PolicyArn: change.id, TagKeys: remove });
      if (put.length > 0) await client.tagPolicy({ PolicyArn: change.id, Tags: put });
    }
    return undefined;
  },
  delete: async (id, state, context) => {
    const client = await iam(context, state);
    const listed = await unlessGone(client.listPolicyVersions({ PolicyArn: id }));
    for (const { VersionId, IsDefaultVersion } of listed?.Versions ?? []) {
      if (!IsDefaultVersion) await client.deletePolicyVersion({ PolicyArn: id, VersionId });
    }
    await unlessGone(client.deletePolicy({ PolicyArn: id }));
  },
};

/** IAM keeps five versions and takes no sixth. */
async function dropOldest(client: IAM, PolicyArn: string): Promise<void> {
  const { Versions = [] } = await client.listPolicyVersions({ PolicyArn });
  const oldest = Versions.filter(({ IsDefaultVersion }) => !IsDefaultVersion).at(-1);
  if (Versions.length >= 5 && oldest)
    await client.deletePolicyVersion({ PolicyArn, VersionId: oldest.VersionId });
}

export const rolePolicyAttachment: Resource = {
  replaceOn: ["*"],
  create: async (inputs, context) => {
    const [RoleName, PolicyArn] = [needed(inputs, "role"), needed(inputs, "policyArn")];
    await (await iam(context, inputs)).attachRolePolicy({ RoleName, PolicyArn });
    return { id: `${RoleName}/${PolicyArn}` };
  },
  read: async (_id, state, context) => {
    const [RoleName, PolicyArn] = [needed(state, "role"), needed(state, "policyArn")];
    const client = await iam(context, state);
    const attached = await unlessGone(client.listAttachedRolePolicies({ RoleName }));
    const found = attached?.AttachedPolicies?.some((each) => each.PolicyArn === PolicyArn);
    return found ? { role: RoleName, policyArn: PolicyArn } : undefined;
  },
  delete: async (_id, state, context) => {
    const [RoleName, PolicyArn] = [needed(state, "role"), needed(state, "policyArn")];
    await unlessGone((await iam(context, state)).detachRolePolicy({ RoleName, PolicyArn }));
  },
};
