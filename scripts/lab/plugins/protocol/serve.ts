// Answers the engine's provider protocol (pulumi/provider.proto) for a set of resources.
import * as grpc from "@grpc/grpc-js";
import plugin from "@pulumi/pulumi/proto/plugin_pb.js";
import services, { type IResourceProviderServer } from "@pulumi/pulumi/proto/provider_grpc_pb.js";
import pb from "@pulumi/pulumi/proto/provider_pb.js";
import empty from "google-protobuf/google/protobuf/empty_pb.js";
import { EngineLog } from "./engine.ts";
import { check, create, diff, refresh, remove, update } from "./lifecycle.ts";
import { ending, listen } from "./process.ts";
import type { Context, Provider, Resource } from "./resource.ts";
import { equal, hasUnknown, type Props, plainProps } from "./values.ts";
import { read, unary, written } from "./wire.ts";

/** Serves a provider until the engine ends it. The engine's address is the process's first argument. */
export function serve(provider: Provider): void {
  const server = new grpc.Server({
    "grpc.max_receive_message_length": -1,
    "grpc.max_send_message_length": -1,
  });
  server.addService(services.ResourceProviderService, implementation(provider));
  listen(server);
}

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

  const at = <Request extends { getUrn(): string }>(request: Request): [Resource, Request] => [
    resourceOf(request.getUrn()),
    request,
  ];

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
    check: unary((request: pb.CheckRequest) => check(...at(request), context(request.getUrn()))),
    diff: unary((request: pb.DiffRequest) => diff(...at(request))),
    create: unary((request: pb.CreateRequest) => create(...at(request), context(request.getUrn()))),
    read: unary((request: pb.ReadRequest) => refresh(...at(request), context(request.getUrn()))),
    update: unary((request: pb.UpdateRequest) => update(...at(request), context(request.getUrn()))),
    delete: unary((request: pb.DeleteRequest) => remove(...at(request), context(request.getUrn()))),
  };
  // What is left out (components, parameters, listing) is answered as unimplemented by grpc itself.
  return handlers as unknown as IResourceProviderServer;
}

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
