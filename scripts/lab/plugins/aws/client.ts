// The AWS clients of a resource: region, credentials and endpoint from its provider's configuration, else from
// the environment. SDKs are loaded when first used, since each costs a tenth of a second and more.
import { object, textMap } from "../protocol/props.ts";
import type { Context } from "../protocol/resource.ts";
import { canonical, isObject, type Props } from "../protocol/values.ts";
import { type Credentials, credentialsFor, endpointOf, regionOf } from "./account.ts";

export interface Settings {
  region: string;
  endpoint: string;
  credentials: Credentials;
}

/** A client for the region of `props` (inputs or state), made once for each configuration. */
export type ClientFor<Client> = (context: Context, props: Props) => Promise<Client>;

export const ec2 = service(
  "ec2",
  async (settings) => new (await import("@aws-sdk/client-ec2")).EC2(settings),
);
export const iam = service(
  "iam",
  async (settings) => new (await import("@aws-sdk/client-iam")).IAM(settings),
);
export const kms = service(
  "kms",
  async (settings) => new (await import("@aws-sdk/client-kms")).KMS(settings),
);
export const route53 = service(
  "route53",
  async (settings) => new (await import("@aws-sdk/client-route-53")).Route53(settings),
);
export const s3 = service(
  "s3",
  async (settings) => new (await import("@aws-sdk/client-s3")).S3({ ...settings, forcePathStyle: true }),
);

/** Runs `call`; undefined if the server says that what it is about isn't there. */
export async function unlessGone<T>(call: Promise<T>): Promise<T | undefined> {
  try {
    return await call;
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

/** Whether a server's error means that the thing isn't there. */
export function isGone(error: unknown): boolean {
  const name = error instanceof Error ? error.name : "";
  return /NotFound|NoSuch|DoesNotExist/.test(name) || (isObject(error) && error.Code === "NoSuchEntity");
}

function service<Client>(name: string, make: (settings: Settings) => Promise<Client>): ClientFor<Client> {
  const clients = new Map<string, Promise<Client>>();
  return (context, props) => {
    const region = regionOf(context, props);
    const key = canonical([context.config, region]);
    const client =
      clients.get(key) ??
      credentialsFor(context, region).then((credentials) =>
        make({ region, credentials, endpoint: endpointOf(context, name) }),
      );
    clients.set(key, client);
    return client;
  };
}

/** The provider's own tags, which every resource gets. */
export const defaultTags = (context: Context): Record<string, string> =>
  textMap(object(context.config, "defaultTags") ?? {}, "tags") ?? {};
