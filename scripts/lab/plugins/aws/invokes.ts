// Look-ups that programs make while they run.
import type { Image } from "@aws-sdk/client-ec2";
import { flag, needed, object, objects, text, texts } from "../protocol/props.ts";
import type { Invoke } from "../protocol/resource.ts";
import type { Props } from "../protocol/values.ts";
import { callerIdentity, regionOf } from "./account.ts";
import { ec2, route53 } from "./client.ts";

const getCallerIdentity: Invoke = async (_args, context) => {
  const { account, arn, userId } = await callerIdentity(context);
  return { accountId: account, arn, userId, id: account };
};

const getRegion: Invoke = async (args, context) => {
  const region = text(args, "name") ?? regionOf(context, args);
  return { id: region, name: region, region, description: region, endpoint: `ec2.${region}.amazonaws.com` };
};

const getAmi: Invoke = async (args, context) => {
  const { Images = [] } = await (await ec2(context, args)).describeImages({
    Owners: texts(args, "owners"),
    Filters: objects(args, "filters").map((filter) => ({
      Name: text(filter, "name"),
      Values: texts(filter, "values"),
    })),
  });
  const pattern = new RegExp(text(args, "nameRegex") ?? "");
  const found = Images.filter(({ Name }) => pattern.test(Name ?? ""));
  if (found.length > 1 && !flag(args, "mostRecent")) {
    throw new Error("Your query returned more than one result: narrow it down or set mostRecent");
  }
  const [image] = found.sort(byNewest);
  if (image === undefined) throw new Error("Your query returned no results: change the search criteria");
  return {
    ...args,
    id: image.ImageId,
    imageId: image.ImageId,
    name: image.Name,
    architecture: image.Architecture,
    creationDate: image.CreationDate,
    description: image.Description,
    ownerId: image.OwnerId,
    rootDeviceName: image.RootDeviceName,
    state: image.State,
  };
};

const byNewest = (a: Image, b: Image): number => ((a.CreationDate ?? "") < (b.CreationDate ?? "") ? 1 : -1);

const getZone: Invoke = async (args, context) => {
  const client = await route53(context, args);
  const wantedName = text(args, "name")?.replace(/\.$/, "");
  const { HostedZones = [] } = await client.listHostedZones({});
  const found = HostedZones.find(({ Id, Name }) =>
    text(args, "zoneId") === undefined
      ? Name === `${wantedName}.`
      : Id === `/hostedzone/${text(args, "zoneId")}`,
  );
  if (found === undefined) throw new Error("no matching Route 53 Hosted Zone found");
  const id = (found.Id ?? "").replace("/hostedzone/", "");
  const { DelegationSet } = await client.getHostedZone({ Id: id });
  const nameServers = DelegationSet?.NameServers ?? [];
  return {
    ...args,
    arn: `arn:aws:route53:::hostedzone/${id}`,
    id,
    zoneId: id,
    name: (found.Name ?? "").replace(/\.$/, ""),
    comment: found.Config?.Comment,
    nameServers,
    primaryNameServer: nameServers[0],
  };
};

const getPolicyDocument: Invoke = async (args) => {
  const document = {
    Version: text(args, "version") ?? "2012-10-17",
    Statement: objects(args, "statements").map(statement),
  };
  const json = JSON.stringify(document, null, 2);
  return { ...args, id: "policy", json, minifiedJson: JSON.stringify(document) };
};

function statement(each: Props): Props {
  const list = (key: string) => single(texts(each, key));
  return {
    Sid: text(each, "sid"),
    Effect: text(each, "effect") ?? "Allow",
    Action: list("actions"),
    NotAction: list("notActions"),
    Resource: list("resources"),
    NotResource: list("notResources"),
    Principal: principals(objects(each, "principals")),
    NotPrincipal: principals(objects(each, "notPrincipals")),
    Condition: conditions(objects(each, "conditions")),
  };
}

function principals(found: Props[]): unknown {
  if (found.length === 0) return undefined;
  if (found.some((each) => each.type === "*")) return "*";
  return Object.fromEntries(found.map((each) => [needed(each, "type"), single(texts(each, "identifiers"))]));
}

function conditions(found: Props[]): unknown {
  if (found.length === 0) return undefined;
  const tests: Record<string, Props> = {};
  for (const each of found) {
    const test = needed(each, "test");
    tests[test] = { ...object(tests, test), [needed(each, "variable")]: single(texts(each, "values")) };
  }
  return tests;
}

const single = (values: string[] | undefined): unknown => (values?.length === 1 ? values[0] : values);

export const invokes: Record<string, Invoke> = {
  "aws:ec2/getAmi:getAmi": getAmi,
  "aws:iam/getPolicyDocument:getPolicyDocument": getPolicyDocument,
  "aws:index/getCallerIdentity:getCallerIdentity": getCallerIdentity,
  "aws:index/getRegion:getRegion": getRegion,
  "aws:route53/getZone:getZone": getZone,
};
