// Talks back to the engine: lines that it shows beside a resource while that is being worked on.
import * as grpc from "@grpc/grpc-js";
import services from "@pulumi/pulumi/proto/engine_grpc_pb.js";
import pb from "@pulumi/pulumi/proto/engine_pb.js";

export class EngineLog {
  #last: Promise<void> = Promise.resolve();
  readonly #client: InstanceType<typeof services.EngineClient> | undefined;

  /** `address` is host:port of the engine; without one, nothing is shown. */
  constructor(address: string | undefined) {
    if (address) this.#client = new services.EngineClient(address, grpc.credentials.createInsecure());
  }

  /** Shows a line that replaces the one before and isn't kept. */
  status(urn: string, line: string): void {
    const client = this.#client;
    if (client === undefined) return;
    const request = new pb.LogRequest();
    request.setSeverity(pb.LogSeverity.INFO);
    request.setUrn(urn);
    request.setMessage(line);
    request.setEphemeral(true);
    // One after the other, or they'd be shown in any order. A line that can't be shown is no reason to fail
    // what it tells of.
    this.#last = this.#last.then(() => new Promise((resolve) => client.log(request, () => resolve())));
  }
}
