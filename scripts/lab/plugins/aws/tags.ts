// Tags: the provider's own ones and the resource's are one set to AWS and two properties to Pulumi.
import { textMap } from "../protocol/props.ts";
import type { Context } from "../protocol/resource.ts";
import type { Props } from "../protocol/values.ts";
import { defaultTags } from "./client.ts";

export type Tags = Record<string, string>;
export interface Tag {
  Key: string;
  Value: string;
}

/** Every tag that the resource is to carry. */
export const wanted = (inputs: Props, context: Context): Tags => ({
  ...defaultTags(context),
  ...textMap(inputs, "tags"),
});

export const asList = (tags: Tags): Tag[] => Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));

/** `tags` and `tagsAll` of a resource that carries `found`. */
export function tagOutputs(
  found: readonly { Key?: string | undefined; Value?: string | undefined }[] | undefined,
  state: Props,
  context: Context,
): Props {
  const all = Object.fromEntries(
    (found ?? [])
      .filter(({ Key }) => !Key?.startsWith("aws:"))
      .map(({ Key, Value }) => [Key ?? "", Value ?? ""]),
  );
  const own = textMap(state, "tags") ?? {};
  const inherited = defaultTags(context);
  const tags = Object.entries(all).filter(([key, value]) => key in own || inherited[key] !== value);
  return { tags: tags.length > 0 || state.tags ? Object.fromEntries(tags) : undefined, tagsAll: all };
}

/** What to write and what to take away so that `before` becomes `after`. */
export function tagChanges(before: Tags, after: Tags): { put: Tag[]; remove: string[] } {
  return {
    put: asList(after).filter(({ Key, Value }) => before[Key] !== Value),
    remove: Object.keys(before).filter((key) => !(key in after)),
  };
}
