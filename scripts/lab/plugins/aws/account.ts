// Who calls, where, and at which address: from the provider's configuration, else from the environment.
import { isIPv4 } from "node:net";
import { objects, text } from "../protocol/props.ts";
import type { Context } from "../protocol/resource.ts";
import { canonical, type Props } from "../protocol/values.ts";

export interface Credentials {
  accessKeyId: string;
  secretAccessKey: string;
  sessionToken?: string;
}

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

/** The stand-in speaks to stand-ins only: a lab must not be able to touch a cloud account. */
export function endpointOf(context: Context, name: string): string {
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
export async function credentialsFor(context: Context, region: string): Promise<Credentials> {
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
