// The AWS clients of a resource: region, credentials and endpoint from its provider's configuration, else from
// the environment. SDKs are loaded when first used, since each costs a tenth of a second and more.
import { isIPv4 } from "node:net";
import { object, objects, text, textMap } from "../protocol/props.ts";
import type { Context } from "../protocol/resource.ts";
import { canonical, isObject, type Props } from "../protocol/values.ts";

export interface Settings {
  region: string;
  endpoint: string;
  credentials: Credentials;
}

export interface Credentials {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken?: string;
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

/** The region of a resource: its own, the provider's, the environment's. */
export function regionOf(context: Context, props: Props): string {
  const region =
    text(props, "region") ??
    text(context.config, "region") ??
    process.env.AWS_REGION ??
    process.env.AWS_DEFAULT_REGION;
  if (!region) throw new Error("no AWS region: set AWS_REGION");
  return region;
}

/** Who the provider's credentials are; asked once. */
export function callerIdentity(context: Context): Promise<Identity> {
  const key = canonical(context.config);
  const known = identities.get(key) ?? askIdentity(context);
  identities.set(key, known);
  return known;
}

interface Identity {
  account: string;
  arn: string;
  userId: string;
}

const identities = new Map<string, Promise<Identity>>();

async function askIdentity(context: Context): Promise<Identity> {
  const region = regionOf(context, {});
  const credentials = await credentialsFor(context, region);
  const answer = await sts(context, region, credentials, { Action: "GetCallerIdentity" });
  return {
    account: element(answer, "Account"),
    arn: element(answer, "Arn"),
    userId: element(answer, "UserId"),
  };
}

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

/** The stand-in speaks to stand-ins only: a lab must not be able to touch a cloud account. */
function endpointOf(context: Context, name: string): string {
  const configured = objects(context.config, "endpoints").find((endpoints) => name in endpoints);
  const variable = `AWS_ENDPOINT_URL_${name === "route53" ? "ROUTE_53" : name.toUpperCase()}`;
  const endpoint =
    (configured && text(configured, name)) ?? process.env[variable] ?? process.env.AWS_ENDPOINT_URL;
  if (!endpoint) throw new Error("the lab's aws provider needs AWS_ENDPOINT_URL");
  const host = new URL(endpoint).hostname;
  if (host === "localhost" || host === "[::1]" || (isIPv4(host) && host.startsWith("127."))) return endpoint;
  throw new Error(`the lab's aws provider only talks to this machine, not to ${host}`);
}

/** The configured or inherited keys, then one role after the other. */
async function credentialsFor(context: Context, region: string): Promise<Credentials> {
  const { config } = context;
  let credentials: Credentials = {
    accessKeyId: text(config, "accessKey") ?? process.env.AWS_ACCESS_KEY_ID ?? "lab",
    secretAccessKey: text(config, "secretKey") ?? process.env.AWS_SECRET_ACCESS_KEY ?? "lab",
    ...sessionToken(text(config, "token") ?? process.env.AWS_SESSION_TOKEN),
  };
  for (const role of objects(config, "assumeRoles")) {
    const answer = await sts(context, region, credentials, {
      Action: "AssumeRole",
      RoleArn: text(role, "roleArn") ?? "",
      RoleSessionName: text(role, "sessionName") ?? "pulumi",
      ...(text(role, "externalId") === undefined ? {} : { ExternalId: text(role, "externalId") ?? "" }),
    });
    credentials = {
      accessKeyId: element(answer, "AccessKeyId"),
      secretAccessKey: element(answer, "SecretAccessKey"),
      ...sessionToken(element(answer, "SessionToken")),
    };
  }
  return credentials;
}

const sessionToken = (token: string | undefined): Pick<Credentials, "sessionToken"> =>
  token ? { sessionToken: token } : {};

/** STS, which has no SDK here. moto takes the caller from the key's id alone and checks no signature. */
async function sts(
  context: Context,
  region: string,
  credentials: Credentials,
  parameters: Record<string, string>,
): Promise<string> {
  const scope = `${new Date().toISOString().slice(0, 10).replaceAll("-", "")}/${region}/sts/aws4_request`;
  const response = await fetch(endpointOf(context, "sts"), {
    method: "POST",
    headers: {
      Authorization: `AWS4-HMAC-SHA256 Credential=${credentials.accessKeyId}/${scope}, SignedHeaders=host, Signature=0`,
      ...(credentials.sessionToken ? { "X-Amz-Security-Token": credentials.sessionToken } : {}),
    },
    body: new URLSearchParams({ Version: "2011-06-15", ...parameters }),
    signal: context.signal,
  });
  const answer = await response.text();
  if (!response.ok) throw new Error(`STS refused ${parameters.Action} (${response.status}): ${answer}`);
  return answer;
}

function element(xml: string, name: string): string {
  const [, value] = new RegExp(`<${name}>([^<]*)</${name}>`).exec(xml) ?? [];
  if (value === undefined) throw new Error(`STS answered without ${name}`);
  return value;
}

/** The provider's own tags, which every resource gets. */
export const defaultTags = (context: Context): Record<string, string> =>
  textMap(object(context.config, "defaultTags") ?? {}, "tags") ?? {};
