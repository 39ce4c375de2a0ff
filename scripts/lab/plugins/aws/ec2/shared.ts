// What all EC2 resources do in the same way.
import { setTimeout as sleep } from "node:timers/promises";
import type { ResourceType, TagSpecification } from "@aws-sdk/client-ec2";
import type { Change, Context } from "../../protocol/resource.ts";
import type { Props } from "../../protocol/values.ts";
import { callerIdentity, regionOf } from "../account.ts";
import { ec2 } from "../client.ts";
import { asList, tagChanges, wanted } from "../tags.ts";

/** Tags for something that is about to be created. */
export function tagSpecifications(type: ResourceType, inputs: Props, context: Context): TagSpecification[] {
  const tags = asList(wanted(inputs, context));
  return tags.length > 0 ? [{ ResourceType: type, Tags: tags }] : [];
}

/** Brings the tags of an existing resource to what the inputs ask for. */
export async function updateTags(change: Change, context: Context): Promise<void> {
  if (!change.changed.has("tags")) return;
  const client = await ec2(context, change.inputs);
  const { put, remove } = tagChanges(wanted(change.oldInputs, context), wanted(change.inputs, context));
  if (remove.length > 0) {
    await client.deleteTags({ Resources: [change.id], Tags: remove.map((Key) => ({ Key })) });
  }
  if (put.length > 0) await client.createTags({ Resources: [change.id], Tags: put });
}

/** Waits until `check` holds. Throws after five minutes. */
export async function until(what: string, check: () => Promise<boolean>, context: Context): Promise<void> {
  const end = performance.now() + 300_000;
  for (let pause = 50; !(await check()); pause = Math.min(pause * 1.5, 2_000)) {
    if (performance.now() > end) throw new Error(`waited 5 minutes for ${what}`);
    await sleep(pause, undefined, { signal: context.signal });
  }
}

/** arn:aws:ec2:REGION:ACCOUNT:KIND/ID */
export async function arnOf(kind: string, id: string, state: Props, context: Context): Promise<string> {
  const { account } = await callerIdentity(context);
  return `arn:aws:ec2:${regionOf(context, state)}:${account}:${kind}/${id}`;
}
