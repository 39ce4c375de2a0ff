// S3 clients. An incident must not wait for a bucket: a few seconds, then what was to be stored waits elsewhere. A
// backup has nowhere else to go, and its parts are large: it is patient.
import type { S3Client } from "@aws-sdk/client-s3";

export interface S3 {
  sdk: typeof import("@aws-sdk/client-s3");
  s3: S3Client;
}

/** How long a client waits, in milliseconds, and how often it tries. */
interface Patience {
  maxAttempts: number;
  connect: number;
  /** Until an answer begins. */
  answer: number;
  /** Of silence within an answer. */
  silence: number;
}
const IMPATIENT: Patience = { maxAttempts: 2, connect: 3_000, answer: 10_000, silence: 10_000 };
export const PATIENT: Patience = { maxAttempts: 4, connect: 5_000, answer: 60_000, silence: 60_000 };

/** Loads the SDK while something else is waited for. */
export function loadSdk(): void {
  import("@aws-sdk/client-s3").catch(() => {});
}

/** Loads the SDK, so only where a bucket is set. Endpoint, region and credentials come from the AWS_* variables. */
export async function openS3(env: NodeJS.ProcessEnv, patience = IMPATIENT): Promise<S3> {
  const sdk = await import("@aws-sdk/client-s3");
  const ownEndpoint = env.AWS_ENDPOINT_URL_S3 || env.AWS_ENDPOINT_URL;
  const s3 = new sdk.S3Client({
    forcePathStyle: ownEndpoint !== undefined && ownEndpoint !== "",
    maxAttempts: patience.maxAttempts,
    // Without the last option a request that got no answer in time is only warned of, and waited for without end.
    requestHandler: {
      connectionTimeout: patience.connect,
      requestTimeout: patience.answer,
      socketTimeout: patience.silence,
      throwOnRequestTimeout: true,
    },
  });
  return { sdk, s3 };
}
