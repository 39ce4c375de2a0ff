// aws:s3/bucket:Bucket. Everything that can be set on a bucket has a resource of its own (settings.ts).
import type { BucketLocationConstraint, S3 } from "@aws-sdk/client-s3";
import { flag, needed } from "../../protocol/props.ts";
import type { Resource } from "../../protocol/resource.ts";
import { regionOf } from "../account.ts";
import { s3, unlessGone } from "../client.ts";
import { asList, tagOutputs, wanted } from "../tags.ts";

const ELSEWHERE = [
  "accelerationStatus",
  "acl",
  "corsRules",
  "grants",
  "lifecycleRules",
  "logging",
  "objectLockConfiguration",
  "policy",
  "replicationConfiguration",
  "requestPayer",
  "serverSideEncryptionConfiguration",
  "versioning",
  "website",
];

export const bucket: Resource = {
  replaceOn: ["bucket", "bucketPrefix", "objectLockEnabled", "region"],
  computed: [
    "arn",
    "bucketDomainName",
    "bucketRegion",
    "bucketRegionalDomainName",
    "hostedZoneId",
    "tagsAll",
  ],
  generated: "bucket",
  defaults: () => ({ forceDestroy: false }),
  problems: (inputs) =>
    Object.fromEntries(
      ELSEWHERE.filter((key) => inputs[key] !== undefined).map((key) => [
        key,
        "the lab's aws provider has this as a resource of its own only, such as BucketVersioning",
      ]),
    ),
  create: async (inputs, context) => {
    const client = await s3(context, inputs);
    const Bucket = needed(inputs, "bucket");
    const region = regionOf(context, inputs);
    // S3 answers 200 to its owner in us-east-1 and changes nothing: taking a bucket over must be an import.
    if (await exists(client, Bucket)) throw new Error(`the bucket ${Bucket} exists: BucketAlreadyOwnedByYou`);
    await client.createBucket({
      Bucket,
      ObjectLockEnabledForBucket: flag(inputs, "objectLockEnabled"),
      ...(region === "us-east-1"
        ? {}
        : { CreateBucketConfiguration: { LocationConstraint: region as BucketLocationConstraint } }),
    });
    const TagSet = asList(wanted(inputs, context));
    if (TagSet.length > 0) await client.putBucketTagging({ Bucket, Tagging: { TagSet } });
    return { id: Bucket };
  },
  read: async (id, state, context) => {
    const client = await s3(context, state);
    if (!(await exists(client, id))) return undefined;
    const region = regionOf(context, state);
    const lock = await unlessGone(client.getObjectLockConfiguration({ Bucket: id }));
    const tagging = await unlessGone(client.getBucketTagging({ Bucket: id }));
    const locked = lock?.ObjectLockConfiguration?.ObjectLockEnabled === "Enabled";
    return {
      arn: `arn:aws:s3:::${id}`,
      bucket: id,
      bucketDomainName: `${id}.s3.amazonaws.com`,
      bucketRegion: region,
      bucketRegionalDomainName: `${id}.s3.${region}.amazonaws.com`,
      hostedZoneId: "Z3AQBSTGFYJSTF",
      objectLockEnabled: locked || (state.objectLockEnabled === undefined ? undefined : false),
      region,
      ...tagOutputs(tagging?.TagSet, state, context),
    };
  },
  update: async ({ id, inputs, changed }, context) => {
    if (!changed.has("tags")) return undefined;
    const client = await s3(context, inputs);
    const TagSet = asList(wanted(inputs, context));
    if (TagSet.length > 0) await client.putBucketTagging({ Bucket: id, Tagging: { TagSet } });
    else await client.deleteBucketTagging({ Bucket: id });
    return undefined;
  },
  delete: async (id, state, context) => {
    const client = await s3(context, state);
    if (flag(state, "forceDestroy")) await empty(client, id);
    await unlessGone(client.deleteBucket({ Bucket: id }));
  },
};

const exists = async (client: S3, Bucket: string): Promise<boolean> =>
  (await unlessGone(client.headBucket({ Bucket }))) !== undefined;

/** Deletes every version of everything. What Object Lock holds makes it fail, as it should. */
async function empty(client: S3, Bucket: string): Promise<void> {
  for (;;) {
    const listed = await unlessGone(client.listObjectVersions({ Bucket }));
    const found = [...(listed?.Versions ?? []), ...(listed?.DeleteMarkers ?? [])];
    if (found.length === 0) return;
    const Objects = found.map(({ Key, VersionId }) => ({ Key, VersionId }));
    const { Errors } = await client.deleteObjects({ Bucket, Delete: { Objects } });
    const [first] = Errors ?? [];
    if (first) throw new Error(`${Bucket}/${first.Key} can't be deleted: ${first.Message}`);
  }
}
