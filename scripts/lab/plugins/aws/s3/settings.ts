// The resources that each set one thing on a bucket: written as one document, read back as one, taken away.
import type { S3 } from "@aws-sdk/client-s3";
import { needed, object, objects, text } from "../../protocol/props.ts";
import type { Resource } from "../../protocol/resource.ts";
import { isObject, type Props } from "../../protocol/values.ts";
import { s3, unlessGone } from "../client.ts";
import { pascal, unlessDrifted } from "../documents.ts";

/** What to call for a setting whose document is made from the input `key`. */
interface Setting {
  key: string;
  toApi(value: unknown): unknown;
  get(client: S3, Bucket: string): Promise<unknown>;
  put(client: S3, Bucket: string, inputs: Props): Promise<unknown>;
  remove(client: S3, Bucket: string): Promise<unknown>;
}

export const bucketVersioning: Resource = setting({
  key: "versioningConfiguration",
  toApi: (value) => pascal(value, { mfaDelete: "MFADelete" }),
  get: async (client, Bucket) => {
    const { Status, MFADelete } = await client.getBucketVersioning({ Bucket });
    return Status && { Status, MFADelete };
  },
  put: (client, Bucket, inputs) => {
    const VersioningConfiguration = pascal(inputs.versioningConfiguration, {
      mfaDelete: "MFADelete",
    }) as object;
    return client.putBucketVersioning({ Bucket, VersioningConfiguration });
  },
  remove: (client, Bucket) =>
    client
      .putBucketVersioning({ Bucket, VersioningConfiguration: { Status: "Suspended" } })
      // A bucket with Object Lock can't be without; it goes with its bucket.
      .catch((error: Error) => {
        if (error.name !== "InvalidBucketState") throw error;
      }),
});

export const bucketEncryption: Resource = setting({
  key: "rules",
  toApi: (value) => pascal(value, { kmsMasterKeyId: "KMSMasterKeyID", sseAlgorithm: "SSEAlgorithm" }),
  get: async (client, Bucket) =>
    (await unlessGone(client.getBucketEncryption({ Bucket })))?.ServerSideEncryptionConfiguration?.Rules,
  put: (client, Bucket, inputs) => {
    const names = { kmsMasterKeyId: "KMSMasterKeyID", sseAlgorithm: "SSEAlgorithm" };
    const Rules = pascal(objects(inputs, "rules"), names) as [];
    return client.putBucketEncryption({ Bucket, ServerSideEncryptionConfiguration: { Rules } });
  },
  remove: (client, Bucket) => client.deleteBucketEncryption({ Bucket }),
});

export const bucketObjectLock: Resource = {
  ...setting({
    key: "rule",
    toApi: (value) => pascal(value),
    get: async (client, Bucket) =>
      (await unlessGone(client.getObjectLockConfiguration({ Bucket })))?.ObjectLockConfiguration?.Rule,
    put: (client, Bucket, inputs) =>
      client.putObjectLockConfiguration({
        Bucket,
        ObjectLockConfiguration: {
          ObjectLockEnabled: "Enabled",
          ...(inputs.rule === undefined ? {} : { Rule: pascal(object(inputs, "rule")) as object }),
        },
      }),
    // The rule goes, the lock itself can't.
    remove: (client, Bucket) =>
      client.putObjectLockConfiguration({
        Bucket,
        ObjectLockConfiguration: { ObjectLockEnabled: "Enabled" },
      }),
  }),
  defaults: () => ({ objectLockEnabled: "Enabled" }),
};

export const bucketOwnership: Resource = setting({
  key: "rule",
  toApi: (value) => [pascal(value)],
  get: async (client, Bucket) =>
    (await unlessGone(client.getBucketOwnershipControls({ Bucket })))?.OwnershipControls?.Rules,
  put: (client, Bucket, inputs) =>
    client.putBucketOwnershipControls({
      Bucket,
      OwnershipControls: { Rules: [pascal(object(inputs, "rule"))] as unknown[] as [] },
    }),
  remove: (client, Bucket) => client.deleteBucketOwnershipControls({ Bucket }),
});

export const bucketLifecycle: Resource = setting({
  key: "rules",
  toApi: (value) => lifecycleRules(value),
  get: async (client, Bucket) =>
    (await unlessGone(client.getBucketLifecycleConfiguration({ Bucket })))?.Rules,
  put: (client, Bucket, inputs) => {
    const Rules = lifecycleRules(inputs.rules) as [];
    return client.putBucketLifecycleConfiguration({ Bucket, LifecycleConfiguration: { Rules } });
  },
  remove: (client, Bucket) => client.deleteBucketLifecycle({ Bucket }),
});

/** Pulumi numbers its singular and plural parts differently, and a rule without a filter is one for everything. */
function lifecycleRules(value: unknown): unknown {
  const rules = pascal(value, { id: "ID" });
  if (!Array.isArray(rules)) return [];
  return rules.filter(isObject).map((rule) => ({ Filter: { Prefix: "" }, ...rule }));
}

export const bucketPolicy: Resource = {
  ...setting({
    key: "policy",
    toApi: (value) => value,
    get: async (client, Bucket) => (await unlessGone(client.getBucketPolicy({ Bucket })))?.Policy,
    put: (client, Bucket, inputs) => client.putBucketPolicy({ Bucket, Policy: needed(inputs, "policy") }),
    remove: (client, Bucket) => client.deleteBucketPolicy({ Bucket }),
  }),
  json: ["policy"],
};

function setting({ key, toApi, get, put, remove }: Setting): Resource {
  return {
    replaceOn: ["bucket", "expectedBucketOwner", "region"],
    create: async (inputs, context) => {
      const bucket = needed(inputs, "bucket");
      await put(await s3(context, inputs), bucket, inputs);
      return { id: bucket };
    },
    read: async (id, state, context) => {
      const found = await unlessGone(get(await s3(context, state), id));
      if (found === undefined) return undefined;
      return {
        bucket: id,
        region: text(state, "region"),
        [key]: typeof found === "string" ? found : unlessDrifted(state[key], toApi(state[key]), found),
      };
    },
    update: async ({ id, inputs }, context) => {
      await put(await s3(context, inputs), id, inputs);
      return undefined;
    },
    delete: async (id, state, context) => {
      await unlessGone(remove(await s3(context, state), id));
    },
  };
}
