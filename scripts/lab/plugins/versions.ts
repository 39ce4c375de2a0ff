// The versions that the plugins answer for. A provider's is the one that its npm package asks the engine for.
import { createRequire } from "node:module";

const packages = createRequire(import.meta.url);
const versionOf = (name: string): string => (packages(`${name}/package.json`) as { version: string }).version;

export const languageHostVersion: string = versionOf("@pulumi/pulumi");
export const awsVersion: string = versionOf("@pulumi/aws");
export const commandVersion: string = versionOf("@pulumi/command");
export const vaultVersion: string = versionOf("@pulumi/vault");
