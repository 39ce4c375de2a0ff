import {
  AuthorizeSecurityGroupIngressCommand,
  DescribeAddressesCommand,
  DescribeInstancesCommand,
  DescribeSecurityGroupsCommand,
  DescribeVolumesCommand,
  EC2Client,
  TerminateInstancesCommand,
} from "@aws-sdk/client-ec2";
import { GetRoleCommand, IAMClient } from "@aws-sdk/client-iam";
import { DescribeKeyCommand, KMSClient } from "@aws-sdk/client-kms";
import {
  ChangeResourceRecordSetsCommand,
  ListResourceRecordSetsCommand,
  Route53Client,
} from "@aws-sdk/client-route-53";
import {
  DeletePublicAccessBlockCommand,
  GetBucketEncryptionCommand,
  GetBucketLifecycleConfigurationCommand,
  GetObjectLockConfigurationCommand,
  GetPublicAccessBlockCommand,
  HeadBucketCommand,
} from "@aws-sdk/client-s3";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Moto } from "../../../runbooks/lib/fixtures/moto.ts";
import { Engine } from "./engine.ts";

// Deep imports: the index of @pulumi/aws takes a second to load.
const PROGRAM = `
import { Eip } from "@pulumi/aws/ec2/eip.js";
import { EipAssociation } from "@pulumi/aws/ec2/eipAssociation.js";
import { Instance } from "@pulumi/aws/ec2/instance.js";
import { SecurityGroup } from "@pulumi/aws/ec2/securityGroup.js";
import { VolumeAttachment } from "@pulumi/aws/ec2/volumeAttachment.js";
import { Volume } from "@pulumi/aws/ebs/volume.js";
import { Key } from "@pulumi/aws/kms/key.js";
import { Alias } from "@pulumi/aws/kms/alias.js";
import { Bucket } from "@pulumi/aws/s3/bucket.js";
import { BucketVersioning } from "@pulumi/aws/s3/bucketVersioning.js";
import { BucketObjectLockConfiguration } from "@pulumi/aws/s3/bucketObjectLockConfiguration.js";
import { BucketServerSideEncryptionConfiguration } from "@pulumi/aws/s3/bucketServerSideEncryptionConfiguration.js";
import { BucketPublicAccessBlock } from "@pulumi/aws/s3/bucketPublicAccessBlock.js";
import { BucketLifecycleConfiguration } from "@pulumi/aws/s3/bucketLifecycleConfiguration.js";
import { Role } from "@pulumi/aws/iam/role.js";
import { RolePolicy } from "@pulumi/aws/iam/rolePolicy.js";
import { Zone } from "@pulumi/aws/route53/zone.js";
import { Record } from "@pulumi/aws/route53/record.js";
import { Provider } from "@pulumi/aws/provider.js";
import { getCallerIdentity } from "@pulumi/aws/getCallerIdentity.js";
import { getAmi } from "@pulumi/aws/ec2/getAmi.js";
const { accountId } = await getCallerIdentity();
const image = await getAmi({ owners: ["099720109477"], mostRecent: true });
const kept = { protect: true };
const address = new Eip("address", { domain: "vpc", tags: { Name: "mail" } }, kept);
const data = new Volume("data", { availabilityZone: "eu-central-1a", size: 10, encrypted: !process.env.PLAIN_VOLUME }, kept);
const tcp = (port, cidrBlocks) => ({ protocol: "tcp", fromPort: port, toPort: port, cidrBlocks });
const firewall = new SecurityGroup("firewall", { ingress: [tcp(25, ["0.0.0.0/0"]), tcp(22, ["192.0.2.0/24"])], egress: [{ protocol: "-1", fromPort: 0, toPort: 0, cidrBlocks: ["0.0.0.0/0"] }] });
const vps = new Instance("vps", { ami: image.id, instanceType: "t3.small", availabilityZone: "eu-central-1a", vpcSecurityGroupIds: [firewall.id], tags: { Name: "mail" } }, { deleteBeforeReplace: true });
new EipAssociation("address", { allocationId: address.id, instanceId: vps.id }, { deleteBeforeReplace: true });
new VolumeAttachment("data", { deviceName: "/dev/sdf", volumeId: data.id, instanceId: vps.id, forceDetach: true }, { deleteBeforeReplace: true });
const key = new Key("key", { description: "wraps", enableKeyRotation: true });
new Alias("key", { name: "alias/wraps", targetKeyId: key.keyId });
const bucket = new Bucket("backups", { bucket: "backups", objectLockEnabled: true }, kept);
const versioning = new BucketVersioning("backups", { bucket: bucket.id, versioningConfiguration: { status: "Enabled" } });
new BucketObjectLockConfiguration("backups", { bucket: bucket.id, rule: { defaultRetention: { mode: "COMPLIANCE", days: 30 } } }, { dependsOn: versioning });
new BucketServerSideEncryptionConfiguration("backups", { bucket: bucket.id, rules: [{ applyServerSideEncryptionByDefault: { sseAlgorithm: "aws:kms", kmsMasterKeyId: key.arn }, bucketKeyEnabled: true }] });
new BucketPublicAccessBlock("backups", { bucket: bucket.id, blockPublicAcls: true, blockPublicPolicy: true, ignorePublicAcls: true, restrictPublicBuckets: true });
new BucketLifecycleConfiguration("backups", { bucket: bucket.id, rules: [{ id: "old", status: "Enabled", filter: { prefix: "" }, noncurrentVersionExpiration: { noncurrentDays: 400 } }] }, { dependsOn: versioning });
const role = new Role("backup", { name: "backup", assumeRolePolicy: JSON.stringify({ Version: "2012-10-17", Statement: [{ Effect: "Allow", Principal: { AWS: accountId }, Action: "sts:AssumeRole" }] }) });
new RolePolicy("backup", { role: role.name, policy: JSON.stringify({ Version: "2012-10-17", Statement: [{ Effect: "Allow", Action: "s3:PutObject", Resource: "*" }] }) });
const zone = new Zone("zone", { name: "acme.example", forceDestroy: true });
new Record("mail", { zoneId: zone.zoneId, name: "mail.acme.example", type: "A", ttl: 60, records: [address.publicIp] });
new Record("dmarc", { zoneId: zone.zoneId, name: "_dmarc.acme.example", type: "TXT", ttl: 60, records: ["v=DMARC1; p=reject"] });
const elsewhere = new Provider("elsewhere", { region: "eu-west-1", assumeRoles: [{ roleArn: "arn:aws:iam::222222222222:role/stack" }], defaultTags: { tags: { owner: "ops" } } });
const foreign = new Eip("foreign", { domain: "vpc" }, { provider: elsewhere });
export const vpsId = vps.id;
export const ip = address.publicIp;
export const groupId = firewall.id;
export const keyId = key.keyId;
export const zoneId = zone.zoneId;
export const foreignArn = foreign.arn;
export const foreignTags = foreign.tagsAll;
`;

interface Outputs {
  vpsId: string;
  ip: string;
  groupId: string;
  keyId: string;
  zoneId: string;
  foreignArn: string;
  foreignTags: Record<string, string>;
}

let moto: Moto;
let engine: Engine;
let made: Outputs;
let ec2: EC2Client;
let route53: Route53Client;
const outputs = async () => (await engine.outputs()) as unknown as Outputs;
const records = async () => {
  const { ResourceRecordSets = [] } = await route53.send(
    new ListResourceRecordSetsCommand({ HostedZoneId: made.zoneId }),
  );
  return Object.fromEntries(
    ResourceRecordSets.map(({ Name, ResourceRecords }) => [Name, ResourceRecords?.[0]?.Value]),
  );
};

beforeAll(async () => {
  moto = await Moto.start();
  const client = {
    endpoint: moto.env.AWS_ENDPOINT_URL ?? "",
    region: "eu-central-1",
    credentials: { accessKeyId: "test", secretAccessKey: "test" },
  };
  ec2 = new EC2Client(client);
  route53 = new Route53Client(client);
  engine = await Engine.make(PROGRAM, moto.env);
  await engine.up();
  made = await outputs();
}, 180_000);

afterAll(async () => {
  await engine?.[Symbol.asyncDispose]();
  await moto?.down();
});

describe("the lab's aws plugin", { timeout: 180_000 }, () => {
  it("makes what the program declares, as AWS's own clients show it", async () => {
    const { Reservations } = await ec2.send(new DescribeInstancesCommand({ InstanceIds: [made.vpsId] }));
    expect(Reservations?.[0]?.Instances?.[0]).toMatchObject({
      State: { Name: "running" },
      PublicIpAddress: made.ip,
    });
    const { Volumes } = await ec2.send(
      new DescribeVolumesCommand({ Filters: [{ Name: "size", Values: ["10"] }] }),
    );
    expect(Volumes).toMatchObject([{ Encrypted: true, Attachments: [{ InstanceId: made.vpsId }] }]);
    const key = {
      endpoint: moto.env.AWS_ENDPOINT_URL ?? "",
      region: "eu-central-1",
      credentials: { accessKeyId: "test", secretAccessKey: "test" },
    };
    const { KeyMetadata } = await new KMSClient(key).send(new DescribeKeyCommand({ KeyId: "alias/wraps" }));
    expect(KeyMetadata).toMatchObject({ KeyId: made.keyId, Description: "wraps" });
    const { Role } = await new IAMClient(key).send(new GetRoleCommand({ RoleName: "backup" }));
    expect(decodeURIComponent(Role?.AssumeRolePolicyDocument ?? "")).toContain("123456789012");
    expect(await records()).toMatchObject({
      "mail.acme.example.": made.ip,
      "_dmarc.acme.example.": '"v=DMARC1; p=reject"',
    });
  });

  it("sets all of a bucket's settings", async () => {
    const Bucket = "backups";
    expect(await moto.s3.send(new GetObjectLockConfigurationCommand({ Bucket }))).toMatchObject({
      ObjectLockConfiguration: { Rule: { DefaultRetention: { Mode: "COMPLIANCE", Days: 30 } } },
    });
    expect(await moto.s3.send(new GetBucketEncryptionCommand({ Bucket }))).toMatchObject({
      ServerSideEncryptionConfiguration: {
        Rules: [{ ApplyServerSideEncryptionByDefault: { SSEAlgorithm: "aws:kms" }, BucketKeyEnabled: true }],
      },
    });
    expect(await moto.s3.send(new GetBucketLifecycleConfigurationCommand({ Bucket }))).toMatchObject({
      Rules: [{ ID: "old", NoncurrentVersionExpiration: { NoncurrentDays: 400 } }],
    });
  });

  it("works in the account, region and with the tags of an explicit provider", () => {
    expect(made.foreignArn).toMatch(/^arn:aws:ec2:eu-west-1:222222222222:elastic-ip\//);
    expect(made.foreignTags).toEqual({ owner: "ops" });
  });

  it("finds nothing to do the second time", async () => {
    await engine.upAgain();
  });

  it("makes a terminated instance again, with the same address and the same volume", async () => {
    await ec2.send(new TerminateInstancesCommand({ InstanceIds: [made.vpsId] }));
    await engine.up();
    const now = await outputs();
    expect(now.vpsId).not.toBe(made.vpsId);
    expect(now.ip).toBe(made.ip);
    const { Addresses } = await ec2.send(new DescribeAddressesCommand({ PublicIps: [made.ip] }));
    expect(Addresses).toMatchObject([{ InstanceId: now.vpsId }]);
    const { Volumes } = await ec2.send(
      new DescribeVolumesCommand({ Filters: [{ Name: "size", Values: ["10"] }] }),
    );
    expect(Volumes).toMatchObject([{ Attachments: [{ InstanceId: now.vpsId }] }]);
  });

  it("puts right what was changed behind the engine's back", async () => {
    const open = { IpProtocol: "tcp", FromPort: 5432, ToPort: 5432, IpRanges: [{ CidrIp: "0.0.0.0/0" }] };
    await ec2.send(
      new AuthorizeSecurityGroupIngressCommand({ GroupId: made.groupId, IpPermissions: [open] }),
    );
    await moto.s3.send(new DeletePublicAccessBlockCommand({ Bucket: "backups" }));
    const ResourceRecordSet = {
      Name: "mail.acme.example",
      TTL: 60,
      ResourceRecords: [{ Value: "203.0.113.9" }],
    };
    await route53.send(
      new ChangeResourceRecordSetsCommand({
        HostedZoneId: made.zoneId,
        ChangeBatch: {
          Changes: [{ Action: "UPSERT", ResourceRecordSet: { ...ResourceRecordSet, Type: "A" } }],
        },
      }),
    );
    await engine.up();
    const { SecurityGroups } = await ec2.send(
      new DescribeSecurityGroupsCommand({ GroupIds: [made.groupId] }),
    );
    expect(SecurityGroups?.[0]?.IpPermissions?.map(({ FromPort }) => FromPort).sort()).toEqual([22, 25]);
    expect(await moto.s3.send(new GetPublicAccessBlockCommand({ Bucket: "backups" }))).toMatchObject({
      PublicAccessBlockConfiguration: { BlockPublicPolicy: true },
    });
    expect((await records())["mail.acme.example."]).toBe(made.ip);
  });

  it("fails at preview where a protected volume would be replaced", async () => {
    const { code, output } = await engine.run(["preview", "--stack", "dev"], { PLAIN_VOLUME: "1" });
    expect(code).not.toBe(0);
    expect(output).toContain("protect");
  });

  it("talks to nothing but this machine", async () => {
    const { code, output } = await engine.run(["preview", "--stack", "dev"], {
      AWS_ENDPOINT_URL: "https://198.51.100.1",
    });
    expect(code).not.toBe(0);
    expect(output).toContain("only talks to this machine, not to 198.51.100.1");
  });

  it("leaves nothing after destroy", async () => {
    await engine.succeed(["state", "unprotect", "--all", "--yes", "--stack", "dev"]);
    await engine.succeed(["destroy", "--yes", "--skip-preview", "--stack", "dev"]);
    const { Addresses } = await ec2.send(new DescribeAddressesCommand({}));
    expect(Addresses).toEqual([]);
    await expect(moto.s3.send(new HeadBucketCommand({ Bucket: "backups" }))).rejects.toThrow();
  });
});
