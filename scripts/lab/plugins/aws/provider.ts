// The lab's stand-in for pulumi-aws, over the AWS SDK against the lab's endpoint.
import type { Provider } from "../protocol/resource.ts";
import { awsVersion } from "../versions.ts";
import { eip, eipAssociation } from "./ec2/address.ts";
import { instance } from "./ec2/instance.ts";

export const aws: Provider = {
  name: "aws",
  version: awsVersion,
  resources: {
    "aws:ec2/eip:Eip": eip,
    "aws:ec2/eipAssociation:EipAssociation": eipAssociation,
    "aws:ec2/instance:Instance": instance,
  },
};
