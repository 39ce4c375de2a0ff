// Runs a stack's program under Pulumi's mocks and tells what it declared. Mocks run no engine: they can show
// inputs, options and secretness; whether a second `up` changes anything is seen in the lab.

import { setTimeout as sleep } from "node:timers/promises";
import * as pulumi from "@pulumi/pulumi";
import type { RegisterResourceRequest } from "@pulumi/pulumi/proto/resource_pb.js";
import { MockMonitor } from "@pulumi/pulumi/runtime/mocks.js";
import program from "../../stacks/index.ts";
import { PROJECT } from "../../stacks/names.ts";

export interface Declared {
  type: string;
  name: string;
  inputs: Record<string, unknown>;
  protect: boolean;
  deleteBeforeReplace: boolean;
  ignoreChanges: string[];
  /** Names of the resources that must be there first, by `dependsOn` or as a source of inputs. */
  after: string[];
  /** Keys of inputs that are marked secret. */
  secret: string[];
  urn: string;
}

export interface Program {
  resources: Declared[];
  outputs: Record<string, unknown>;
  /** The one resource of that type and name; throws if there is none. */
  the(type: string, name: string): Declared;
  all(type: string): Declared[];
}

/** What providers answer: values that inputs of later resources are made of. */
const ANSWERS: Record<string, Record<string, unknown>> = {
  "aws:ec2/eip:Eip": { publicIp: "192.0.2.25" },
  "aws:kms/key:Key": { keyId: "key-1", arn: "arn:aws:kms:eu-central-1:123456789012:key/key-1" },
  "command:local:Command/vps": { stdout: "existing-0123456789abcdef" },
  "command:local:Command/host-key": { stdout: "ssh-ed25519 AAAAC3Nza" },
  "command:local:Command/credentials": {
    stdout: JSON.stringify({
      tenant: "acme",
      dkim_txt: `v=DKIM1; k=rsa; p=${"A".repeat(392)}`,
      address: "192.0.2.25",
    }),
  },
};
const SECRET_MARK = "4dabf18193072939515e22adb298388d";

/** Declares the stack `name` with the configuration `config`, of which `secretKeys` are set as secrets. Rejects with what the program throws. */
export async function declare(
  name: string,
  config: Record<string, unknown>,
  secretKeys: string[] = [],
): Promise<Program> {
  // As Pulumi's language host hands it over.
  process.env.PULUMI_CONFIG_SECRET_KEYS = JSON.stringify(secretKeys.map((key) => `${PROJECT}:${key}`));
  const resources: Declared[] = [];
  const register = MockMonitor.prototype.registerResource;
  MockMonitor.prototype.registerResource = function (request: RegisterResourceRequest, callback) {
    const done: typeof callback = (error, response) => {
      if (!error) resources.push(declared(request, response.getUrn()));
      callback(error, response);
    };
    return register.call(this, request, done);
  };
  try {
    pulumi.runtime.setAllConfig(
      Object.fromEntries(
        Object.entries(config).map(([key, value]) => [
          `${PROJECT}:${key}`,
          typeof value === "string" ? value : JSON.stringify(value),
        ]),
      ),
    );
    await pulumi.runtime.setMocks(
      {
        call: () => ({}),
        newResource: ({ type, name, inputs }) => ({
          id: `${name}-id`,
          state: { ...inputs, ...ANSWERS[type], ...ANSWERS[`${type}/${name}`] },
        }),
      },
      PROJECT,
      name,
      false,
    );
    const outputs = await settle(await program());
    await quiet(() => resources.length);
    return {
      resources,
      outputs,
      all: (type) => resources.filter((resource) => resource.type === type),
      the(type, name) {
        const found = resources.find((resource) => resource.type === type && resource.name === name);
        if (found === undefined)
          throw new Error(`no ${type} '${name}' among ${resources.map((r) => `${r.type} ${r.name}`)}`);
        return found;
      },
    };
  } finally {
    MockMonitor.prototype.registerResource = register;
  }
}

function declared(request: RegisterResourceRequest, urn: string): Declared {
  const raw = (request.getObject()?.toJavaScript() ?? {}) as Record<string, unknown>;
  return {
    type: request.getType(),
    name: request.getName(),
    inputs: plain(raw) as Record<string, unknown>,
    protect: request.getProtect() ?? false,
    deleteBeforeReplace: request.getDeletebeforereplace(),
    ignoreChanges: request.getIgnorechangesList(),
    after: request.getDependenciesList().map((urn) => urn.split("::").at(-1) ?? ""),
    secret: Object.keys(raw).filter((key) => JSON.stringify(raw[key]).includes(SECRET_MARK)),
    urn,
  };
}

/** Values without their secret wrapping. */
function plain(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  if (SECRET_MARK in value) return plain((value as { value?: unknown }).value);
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, plain(inner)]));
}

/** Plain outputs; one that is marked secret becomes the word "secret!", which no test expects. */
async function settle(outputs: Record<string, unknown>): Promise<Record<string, unknown>> {
  const entries = Object.entries(outputs).map(async ([key, value]) => {
    const output: pulumi.Output<unknown> = pulumi.output(value);
    if (await pulumi.isSecret(output)) return [key, "secret!"] as const;
    return [key, await new Promise((resolve) => output.apply(resolve))] as const;
  });
  return Object.fromEntries(await Promise.all(entries));
}

/** Resources register themselves in the background: waits until `count` has stood still for a while. */
async function quiet(count: () => number): Promise<void> {
  for (let before = -1; before !== count(); ) {
    before = count();
    await sleep(100);
  }
}
