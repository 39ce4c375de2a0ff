// The lab's stand-in for pulumi-aws, over the AWS SDK against the lab's endpoint.
import type { Provider } from "../protocol/resource.ts";
import { awsVersion } from "../versions.ts";
import { eip, eipAssociation } from "./ec2/address.ts";
import { instance } from "./ec2/instance.ts";
import { keyPair } from "./ec2/key-pair.ts";
import { securityGroup } from "./ec2/security-group.ts";
import { egressRule, ingressRule } from "./ec2/security-group-rule.ts";
import { volume, volumeAttachment } from "./ec2/volume.ts";
import { policy, rolePolicy, rolePolicyAttachment } from "./iam/policy.ts";
import { role } from "./iam/role.ts";
import { invokes } from "./invokes.ts";
import { alias, key } from "./kms.ts";
import { record, zone } from "./route53.ts";
import { bucket } from "./s3/bucket.ts";
import { bucketPublicAccessBlock } from "./s3/public-access.ts";
import {
  bucketEncryption,
  bucketLifecycle,
  bucketObjectLock,
  bucketOwnership,
  bucketPolicy,
  bucketVersioning,
} from "./s3/settings.ts";

export const aws: Provider = {
  name: "aws",
  version: awsVersion,
  invokes,
  resources: {
    "aws:ebs/volume:Volume": volume,
    "aws:ec2/eip:Eip": eip,
    "aws:ec2/eipAssociation:EipAssociation": eipAssociation,
    "aws:ec2/instance:Instance": instance,
    "aws:ec2/keyPair:KeyPair": keyPair,
    "aws:ec2/securityGroup:SecurityGroup": securityGroup,
    "aws:ec2/volumeAttachment:VolumeAttachment": volumeAttachment,
    "aws:iam/policy:Policy": policy,
    "aws:iam/role:Role": role,
    "aws:iam/rolePolicy:RolePolicy": rolePolicy,
    "aws:iam/rolePolicyAttachment:RolePolicyAttachment": rolePolicyAttachment,
    "aws:kms/alias:Alias": alias,
    "aws:kms/key:Key": key,
    "aws:route53/record:Record": record,
    "aws:route53/zone:Zone": zone,
    "aws:s3/bucket:Bucket": bucket,
    "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration": bucketLifecycle,
    "aws:s3/bucketObjectLockConfiguration:BucketObjectLockConfiguration": bucketObjectLock,
    "aws:s3/bucketOwnershipControls:BucketOwnershipControls": bucketOwnership,
    "aws:s3/bucketPolicy:BucketPolicy": bucketPolicy,
    "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock": bucketPublicAccessBlock,
    "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration":
      bucketEncryption,
    "aws:s3/bucketVersioning:BucketVersioning": bucketVersioning,
    "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule": egressRule,
    "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": ingressRule,
  },
};
