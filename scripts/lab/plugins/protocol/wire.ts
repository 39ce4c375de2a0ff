// Between protobuf's structs and properties, and between a failure here and what the operator reads.
import * as grpc from "@grpc/grpc-js";
import pb from "@pulumi/pulumi/proto/provider_pb.js";
import status from "@pulumi/pulumi/proto/status_pb.js";
import any from "google-protobuf/google/protobuf/any_pb.js";
import structs, { type Struct } from "google-protobuf/google/protobuf/struct_pb.js";
import type { WireProps } from "./values.ts";

export const read = (struct: Struct | undefined): WireProps => withoutNulls(struct?.toJavaScript() ?? {});

// JSON drops what is undefined, at any depth; a Struct can't hold it.
export const written = (props: WireProps): Struct =>
  structs.Struct.fromJavaScript(JSON.parse(JSON.stringify(props)));

/** Something that exists on its server but didn't become what it should: it must get into the state. */
export class HalfMade extends Error {
  readonly id: string;
  readonly state: WireProps;
  readonly inputs: WireProps;

  constructor(id: string, state: WireProps, inputs: WireProps, cause: unknown) {
    super(messageOf(cause), { cause });
    this.id = id;
    this.state = state;
    this.inputs = inputs;
  }
}

/** A handler whose failure reaches the operator with its whole message. */
export function unary<Request, Response>(
  handler: (request: Request) => Promise<Response> | Response,
): grpc.handleUnaryCall<Request, Response> {
  return (call, answer) => {
    Promise.resolve()
      .then(() => handler(call.request))
      .then(
        (response) => answer(null, response),
        (error: unknown) => {
          const message = messageOf(error);
          const metadata = error instanceof HalfMade ? halfMade(error) : new grpc.Metadata();
          answer({ code: grpc.status.UNKNOWN, message, details: message, metadata });
        },
      );
  };
}

/** The engine takes id and state from a detail of the error. */
function halfMade({ id, state, inputs, message }: HalfMade): grpc.Metadata {
  const failed = new pb.ErrorResourceInitFailed();
  failed.setId(id);
  failed.setProperties(written(state));
  failed.setInputs(written(inputs));
  failed.addReasons(message);
  const detail = new any.Any();
  detail.pack(failed.serializeBinary(), "pulumirpc.ErrorResourceInitFailed");
  const whole = new status.Status();
  whole.setCode(grpc.status.UNKNOWN);
  whole.setMessage(message);
  whole.addDetails(detail);
  const metadata = new grpc.Metadata();
  metadata.set("grpc-status-details-bin", Buffer.from(whole.serializeBinary()));
  return metadata;
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

const withoutNulls = (props: WireProps): WireProps =>
  Object.fromEntries(Object.entries(props).filter(([, value]) => value !== null && value !== undefined));
