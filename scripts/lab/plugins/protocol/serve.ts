// Answers the engine's provider protocol (pulumi/provider.proto) for a set of resources. Resources see plain
// values; here they get their marks back: what was secret as an input stays secret as an output, and a
// preview answers with what isn't known yet instead of touching a server.
import { createHash, randomBytes } from "node:crypto";
import * as grpc from "@grpc/grpc-js";
import plugin from "@pulumi/pulumi/proto/plugin_pb.js";
import services, { type IResourceProviderServer } from "@pulumi/pulumi/proto/provider_grpc_pb.js";
import pb from "@pulumi/pulumi/proto/provider_pb.js";
import empty from "google-protobuf/google/protobuf/empty_pb.js";
import structs, { type Struct } from "google-protobuf/google/protobuf/struct_pb.js";
import { EngineLog } from "./engine.ts";
import { ending, listen } from "./process.ts";
import { type Change, type Context, changes, type Provider, type Resource, sameInput } from "./resource.ts";
import {
  asSecret,
  equal,
  hasSecret,
  hasUnknown,
  type Props,
  plain,
  plainProps,
  UNKNOWN,
  type WireProps,
} from "./values.ts";

/** Serves a provider until the engine ends it. The engine's address is the process's first argument. */
export function serve(provider: Provider): void {
  const server = new grpc.Server({
    "grpc.max_receive_message_length": -1,
    "grpc.max_send_message_length": -1,
  });
  server.addService(services.ResourceProviderService, implementation(provider));
  listen(server);
}

type Handler<Request, Response> = (request: Request) => Promise<Response> | Response;

function implementation(provider: Provider): IResourceProviderServer {
  const log = new EngineLog(process.argv.slice(2).find((argument) => !argument.startsWith("-")));
  let config: Props = {};

  const context = (urn: string): Context => ({
    urn,
    name: urn.slice(urn.lastIndexOf("::") + 2),
    config,
    signal: ending.signal,
    status: (line) => log.status(urn, line),
  });
  const resourceOf = (urn: string): Resource => {
    const type = urn.split("::")[2]?.split("$").at(-1) ?? "";
    const resource = provider.resources[type];
    if (resource === undefined) throw new Error(`the lab's ${provider.name} provider has no ${type}`);
    return resource;
  };

  const handlers = {
    handshake: unary(() => new pb.ProviderHandshakeResponse().setAcceptSecrets(true)),
    attach: unary(() => new empty.Empty()),
    cancel: unary(() => {
      ending.abort(new Error("cancelled"));
      return new empty.Empty();
    }),
    getPluginInfo: unary(() => {
      const info = new plugin.PluginInfo();
      info.setVersion(provider.version);
      return info;
    }),
    getSchema: unary(() => new pb.GetSchemaResponse().setSchema(schema(provider))),
    getMapping: unary(() => new pb.GetMappingResponse()),
    getMappings: unary(() => new pb.GetMappingsResponse()),
    checkConfig: unary((request: pb.CheckRequest) => new pb.CheckResponse().setInputs(request.getNews())),
    diffConfig: unary((request: pb.DiffRequest) => {
      const before = plainProps(read(request.getOldInputs() ?? request.getOlds()));
      const after = plainProps(read(request.getNews()));
      const found = Object.keys({ ...before, ...after }).filter(
        (key) => key !== "version" && !hasUnknown(after[key]) && !equal(before[key], after[key]),
      );
      const response = new pb.DiffResponse();
      response.setDiffsList(found);
      response.setChanges(
        found.length > 0 ? pb.DiffResponse.DiffChanges.DIFF_SOME : pb.DiffResponse.DiffChanges.DIFF_NONE,
      );
      return response;
    }),
    configure: unary((request: pb.ConfigureRequest) => {
      config = Object.fromEntries(
        Object.entries(plainProps(read(request.getArgs()))).map(([key, value]) => [key, fromJson(value)]),
      );
      const response = new pb.ConfigureResponse();
      response.setAcceptsecrets(true);
      response.setSupportspreview(true);
      return response;
    }),
    invoke: unary(async (request: pb.InvokeRequest) => {
      const token = request.getTok();
      const invoke = provider.invokes?.[token];
      if (invoke === undefined) throw new Error(`the lab's ${provider.name} provider has no ${token}`);
      const result = await invoke(plainProps(read(request.getArgs())), context(""));
      return new pb.InvokeResponse().setReturn(written(result));
    }),
    check: unary((request: pb.CheckRequest) => {
      const resource = resourceOf(request.getUrn());
      const wire = withoutNulls(read(request.getNews()));
      const inputs = plainProps(wire);
      const { name } = context(request.getUrn());
      const left = {
        ...resource.defaults?.(inputs, name),
        ...generated(resource, name, plainProps(read(request.getOlds())), request.getRandomseed_asU8()),
      };
      const response = new pb.CheckResponse().setInputs(written({ ...left, ...wire }));
      for (const [property, reason] of Object.entries(resource.problems?.(inputs) ?? {})) {
        const failure = new pb.CheckFailure();
        failure.setProperty(property);
        failure.setReason(reason);
        response.addFailures(failure);
      }
      return response;
    }),
    diff: unary((request: pb.DiffRequest) => {
      const resource = resourceOf(request.getUrn());
      const before = plainProps(read(request.getOldInputs()));
      const after = plainProps(read(request.getNews()));
      return diffResponse(resource, before, after);
    }),
    create: unary(async (request: pb.CreateRequest) => {
      const resource = resourceOf(request.getUrn());
      const wire = withoutNulls(read(request.getProperties()));
      const inputs = plainProps(wire);
      if (request.getPreview()) {
        const outputs = { ...unknowns(resource.computed ?? []), ...inputs };
        return new pb.CreateResponse().setProperties(written(marked(resource, outputs, wire, {})));
      }
      const here = context(request.getUrn());
      const { id, outputs } = await resource.create(inputs, here);
      const state = await settled(resource, id, { ...inputs, ...outputs }, here);
      return new pb.CreateResponse().setId(id).setProperties(written(marked(resource, state, wire, {})));
    }),
    read: unary(async (request: pb.ReadRequest) => {
      const resource = resourceOf(request.getUrn());
      const wireState = withoutNulls(read(request.getProperties()));
      const wireInputs = withoutNulls(read(request.getInputs()));
      const state = plainProps(wireState);
      const found = resource.read
        ? await resource.read(request.getId(), state, context(request.getUrn()))
        : {};
      const response = new pb.ReadResponse();
      if (found === undefined) return response;
      const outputs = merged(resource, state, found);
      const inputs = request.getInputs()
        ? refreshed(resource, wireInputs, outputs)
        : imported(resource, outputs);
      response.setId(request.getId());
      response.setProperties(written(marked(resource, outputs, wireInputs, wireState)));
      response.setInputs(written(inputs));
      return response;
    }),
    update: unary(async (request: pb.UpdateRequest) => {
      const resource = resourceOf(request.getUrn());
      const wire = withoutNulls(read(request.getNews()));
      const wireState = withoutNulls(read(request.getOlds()));
      const oldInputs = plainProps(read(request.getOldInputs()));
      const inputs = plainProps(wire);
      const state = plainProps(wireState);
      const gone = new Set(Object.keys(oldInputs).filter((key) => !(key in inputs)));
      const rest = Object.fromEntries(Object.entries(state).filter(([key]) => !gone.has(key)));
      if (request.getPreview()) {
        const outputs = { ...rest, ...unknowns(resource.volatile ?? []), ...inputs };
        return new pb.UpdateResponse().setProperties(written(marked(resource, outputs, wire, wireState)));
      }
      const here = context(request.getUrn());
      const changed = new Set(changes(resource, oldInputs, inputs).keys());
      const change: Change = { id: request.getId(), state, oldInputs, inputs, changed };
      const outputs = await resource.update?.(change, here);
      const settledState = await settled(resource, change.id, { ...rest, ...inputs, ...outputs }, here);
      return new pb.UpdateResponse().setProperties(written(marked(resource, settledState, wire, wireState)));
    }),
    delete: unary(async (request: pb.DeleteRequest) => {
      const state = plainProps(read(request.getProperties()));
      await resourceOf(request.getUrn()).delete?.(request.getId(), state, context(request.getUrn()));
      return new empty.Empty();
    }),
  };
  // What is left out (components, parameters, listing) is answered as unimplemented by grpc itself.
  return handlers as unknown as IResourceProviderServer;
}

/** A handler whose failure reaches the operator with its whole message. */
function unary<Request, Response>(
  handler: Handler<Request, Response>,
): grpc.handleUnaryCall<Request, Response> {
  return (call, answer) => {
    Promise.resolve()
      .then(() => handler(call.request))
      .then(
        (response) => answer(null, response),
        (error: unknown) => {
          const message = error instanceof Error ? error.message : String(error);
          answer({ code: grpc.status.UNKNOWN, message, details: message });
        },
      );
  };
}

function diffResponse(resource: Resource, before: Props, after: Props): pb.DiffResponse {
  const found = changes(resource, before, after);
  const response = new pb.DiffResponse();
  const replaces = [...found].filter(([, { replace }]) => replace).map(([key]) => key);
  response.setDiffsList([...found.keys()]);
  response.setReplacesList(replaces);
  response.setDeletebeforereplace(replaces.length > 0 && resource.deleteBeforeReplace === true);
  response.setChanges(
    found.size > 0 ? pb.DiffResponse.DiffChanges.DIFF_SOME : pb.DiffResponse.DiffChanges.DIFF_NONE,
  );
  response.setHasdetaileddiff(true);
  for (const [key, { replace }] of found) {
    const kinds = pb.PropertyDiff.Kind;
    let kind = replace ? kinds.UPDATE_REPLACE : kinds.UPDATE;
    if (!(key in before)) kind = replace ? kinds.ADD_REPLACE : kinds.ADD;
    else if (!(key in after)) kind = replace ? kinds.DELETE_REPLACE : kinds.DELETE;
    const detail = new pb.PropertyDiff();
    detail.setKind(kind);
    detail.setInputdiff(true);
    response.getDetaileddiffMap().set(key, detail);
  }
  return response;
}

/** The state after a change, as the server has it: read back, so that a refresh finds the very same. */
async function settled(resource: Resource, id: string, state: Props, context: Context): Promise<Props> {
  if (resource.read === undefined) return state;
  const found = await resource.read(id, state, context);
  if (found === undefined) throw new Error(`${id} was written but is not there`);
  return merged(resource, state, found);
}

function merged(resource: Resource, state: Props, found: Props): Props {
  const outputs = { ...state };
  for (const [key, value] of Object.entries(found)) {
    if (value === undefined || value === null) delete outputs[key];
    else if (!(key in outputs) || !sameInput(resource, key, outputs[key], value)) outputs[key] = value;
  }
  return outputs;
}

/** The inputs that would have led to these outputs: this is how a refresh makes drift visible to `up`. */
function refreshed(resource: Resource, wireInputs: WireProps, outputs: Props): WireProps {
  const inputs: WireProps = {};
  for (const [key, wire] of Object.entries(wireInputs)) {
    if (sameInput(resource, key, plain(wire), outputs[key])) inputs[key] = wire;
    else if (key in outputs) inputs[key] = hasSecret(wire) ? asSecret(outputs[key]) : outputs[key];
  }
  return inputs;
}

const imported = (resource: Resource, outputs: Props): WireProps =>
  Object.fromEntries(Object.entries(outputs).filter(([key]) => !resource.computed?.includes(key)));

/** Outputs with the secret marks that their inputs and the former outputs had. */
function marked(resource: Resource, outputs: Props, wireInputs: WireProps, wireState: WireProps): WireProps {
  const allSecret = resource.secretIfAnyInput === true && hasSecret(wireInputs);
  return Object.fromEntries(
    Object.entries(outputs).map(([key, value]) => {
      for (const wire of [wireInputs[key], wireState[key]]) {
        if (hasSecret(wire)) return [key, equal(plain(wire), value) ? wire : asSecret(value)];
      }
      return [key, allSecret && !(key in wireInputs) ? asSecret(value) : value];
    }),
  );
}

/** A name that stays for as long as the program names none. The seed makes preview and update agree. */
function generated({ generated: key }: Resource, name: string, olds: Props, seed: Uint8Array): Props {
  if (key === undefined) return {};
  const random = seed.length > 0 ? createHash("sha256").update(seed).digest() : randomBytes(4);
  return { [key]: olds[key] ?? `${name}-${random.toString("hex").slice(0, 7)}` };
}

const unknowns = (keys: readonly string[]): Props => Object.fromEntries(keys.map((key) => [key, UNKNOWN]));

const withoutNulls = (props: WireProps): WireProps =>
  Object.fromEntries(Object.entries(props).filter(([, value]) => value !== null && value !== undefined));

const read = (struct: Struct | undefined): WireProps => (struct?.toJavaScript() ?? {}) as WireProps;

// JSON drops what is undefined, at any depth; a Struct can't hold it.
const written = (props: WireProps): Struct =>
  structs.Struct.fromJavaScript(JSON.parse(JSON.stringify(props)));

function fromJson(value: unknown): unknown {
  if (typeof value !== "string" || !/^(?:[[{]|true$|false$|null$)/.test(value)) return value;
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}

const schema = (provider: Provider): string =>
  JSON.stringify({ name: provider.name, version: provider.version, config: {}, provider: {}, resources: {} });
