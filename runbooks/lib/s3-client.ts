// The S3 client of the audit store. An incident must not wait for a bucket: a few seconds, then what was to be
// stored waits elsewhere.
import type { S3Client } from "@aws-sdk/client-s3";

export interface S3 {
  sdk: typeof import("@aws-sdk/client-s3");
  s3: S3Client;
}

/** Loads the SDK, so only where a bucket is set. Endpoint, region and credentials come from the AWS_* variables. */
export async function openS3(env: NodeJS.ProcessEnv): Promise<S3> {
  const sdk = await import("@aws-sdk/client-s3");
  const ownEndpoint = env.AWS_ENDPOINT_URL_S3 || env.AWS_ENDPOINT_URL;
  const s3 = new sdk.S3Client({
    forcePathStyle: ownEndpoint !== undefined && ownEndpoint !== "",
    maxAttempts: 2,
    // Without the last option a request that got no answer in time is only warned of, and waited for without end.
    requestHandler: { connectionTimeout: 3_000, requestTimeout: 10_000, throwOnRequestTimeout: true },
  });
  return { sdk, s3 };
}
