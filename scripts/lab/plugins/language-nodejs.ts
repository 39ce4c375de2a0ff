// The language host: runs the Pulumi program under this very Node, by way of the SDK's own runner. The
// official one does much more (templates, packing, code generation); the lab only runs programs.
import { type ChildProcess, spawn } from "node:child_process";
import { createRequire, getCompileCacheDir } from "node:module";
import { join } from "node:path";
import * as grpc from "@grpc/grpc-js";
import services, { type ILanguageRuntimeServer } from "@pulumi/pulumi/proto/language_grpc_pb.js";
import pb from "@pulumi/pulumi/proto/language_pb.js";
import plugin from "@pulumi/pulumi/proto/plugin_pb.js";
import empty from "google-protobuf/google/protobuf/empty_pb.js";
import { ending, listen } from "./protocol/process.ts";
import { languageHostVersion } from "./versions.ts";

/** The runner's exit code for "failed, and the user has been told why". */
const ALREADY_REPORTED = 32;

let engine = process.argv.slice(2).find((argument) => !argument.startsWith("-")) ?? "";
const running = new Set<ChildProcess>();
ending.signal.addEventListener("abort", () => {
  for (const child of running) child.kill("SIGKILL");
});

const server = new grpc.Server({ "grpc.max_receive_message_length": -1 });
const handlers: Partial<ILanguageRuntimeServer> = {
  handshake: (call, answer) => {
    engine = call.request.getEngineAddress();
    answer(null, new pb.LanguageHandshakeResponse());
  },
  getPluginInfo: (_call, answer) => {
    const info = new plugin.PluginInfo();
    info.setVersion(languageHostVersion);
    answer(null, info);
  },
  // Plugins are asked for by the resources themselves, with their versions.
  getRequiredPlugins: (_call, answer) => answer(null, new pb.GetRequiredPluginsResponse()),
  getRequiredPackages: (_call, answer) => answer(null, new pb.GetRequiredPackagesResponse()),
  getProgramDependencies: (_call, answer) => answer(null, new pb.GetProgramDependenciesResponse()),
  run: (call, answer) => run(call.request, answer),
  cancel: (_call, answer) => {
    ending.abort(new Error("cancelled"));
    answer(null, new empty.Empty());
  },
};
server.addService(services.LanguageRuntimeService, handlers as ILanguageRuntimeServer);
listen(server);

function run(request: pb.RunRequest, answer: grpc.sendUnaryData<pb.RunResponse>): void {
  const info = request.getInfo();
  const root = info?.getRootDirectory() ?? request.getPwd();
  const program = info?.getProgramDirectory() ?? request.getPwd();
  const runner = createRequire(join(program, "package.json")).resolve("@pulumi/pulumi/cmd/run/index.js");
  const flags = {
    monitor: request.getMonitorAddress(),
    engine,
    project: request.getProject(),
    stack: request.getStack(),
    organization: request.getOrganization(),
    "root-directory": root,
    pwd: program,
    parallel: String(request.getParallel()),
  };
  const child = spawn(
    process.execPath,
    [
      runner,
      ...Object.entries(flags).flatMap(([flag, value]) => [`--${flag}`, value]),
      ...(request.getDryrun() ? ["--dry-run"] : []),
      info?.getEntryPoint() ?? request.getProgram(),
      ...request.getArgsList(),
    ],
    {
      stdio: ["ignore", "inherit", "inherit"],
      env: {
        // Loading the SDKs is most of what a run costs: compiled once, it's a third less.
        NODE_COMPILE_CACHE: getCompileCacheDir(),
        ...process.env,
        PULUMI_CONFIG: JSON.stringify(configOf(request)),
        PULUMI_CONFIG_SECRET_KEYS: JSON.stringify(request.getConfigsecretkeysList().map(configKey)),
      },
    },
  );
  running.add(child);
  const finish = (response: pb.RunResponse) => {
    running.delete(child);
    answer(null, response);
  };
  child.on("error", (error) =>
    finish(new pb.RunResponse().setError(`could not start Node: ${error.message}`)),
  );
  child.on("close", (code) => {
    if (code === 0) finish(new pb.RunResponse());
    else if (code === ALREADY_REPORTED) finish(new pb.RunResponse().setBail(true));
    else finish(new pb.RunResponse().setError(`the program ended with code ${code}`));
  });
}

const configOf = (request: pb.RunRequest): Record<string, string> =>
  Object.fromEntries([...request.getConfigMap().entries()].map(([key, value]) => [configKey(key), value]));

/** The engine says `project:key`, the SDK's runner wants `project:config:key`. */
function configKey(key: string): string {
  const colon = key.indexOf(":");
  return `${key.slice(0, colon)}:config:${key.slice(colon + 1)}`;
}
