// A resource's life as the engine asks for it: checked, compared, created, read, updated, deleted. A preview
// answers with what isn't known yet instead of touching a server.
import pb from "@pulumi/pulumi/proto/provider_pb.js";
import empty, { type Empty } from "google-protobuf/google/protobuf/empty_pb.js";
import { type Change, type Context, changes, type Resource } from "./resource.ts";
import { generated, imported, marked, merged, refreshed, settled, unknowns } from "./state.ts";
import { type Props, plainProps } from "./values.ts";
import { HalfMade, read, written } from "./wire.ts";

export function check(resource: Resource, request: pb.CheckRequest, { name }: Context): pb.CheckResponse {
  const wire = read(request.getNews());
  const inputs = plainProps(wire);
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
}

export function diff(resource: Resource, request: pb.DiffRequest): pb.DiffResponse {
  const before = plainProps(read(request.getOldInputs()));
  const after = plainProps(read(request.getNews()));
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

export async function create(
  resource: Resource,
  request: pb.CreateRequest,
  context: Context,
): Promise<pb.CreateResponse> {
  const wire = read(request.getProperties());
  const inputs = plainProps(wire);
  if (request.getPreview()) {
    const outputs = { ...unknowns(resource.computed ?? []), ...inputs };
    return new pb.CreateResponse().setProperties(written(marked(resource, outputs, wire, {})));
  }
  const { id, outputs } = await resource.create(inputs, context);
  const made: Props = { ...inputs, ...outputs };
  try {
    await resource.ready?.(id, inputs, context);
    const state = await settled(resource, id, made, context);
    return new pb.CreateResponse().setId(id).setProperties(written(marked(resource, state, wire, {})));
  } catch (error) {
    throw new HalfMade(id, marked(resource, made, wire, {}), wire, error);
  }
}

export async function refresh(
  resource: Resource,
  request: pb.ReadRequest,
  context: Context,
): Promise<pb.ReadResponse> {
  const wireState = read(request.getProperties());
  const wireInputs = read(request.getInputs());
  const state = plainProps(wireState);
  const found = resource.read ? await resource.read(request.getId(), state, context) : {};
  const response = new pb.ReadResponse();
  if (found === undefined) return response;
  const outputs = merged(resource, state, found);
  const known = request.getInputs() !== undefined;
  response.setId(request.getId());
  response.setProperties(written(marked(resource, outputs, wireInputs, wireState)));
  response.setInputs(written(known ? refreshed(resource, wireInputs, outputs) : imported(resource, outputs)));
  return response;
}

export async function update(
  resource: Resource,
  request: pb.UpdateRequest,
  context: Context,
): Promise<pb.UpdateResponse> {
  const wire = read(request.getNews());
  const wireState = read(request.getOlds());
  const inputs = plainProps(wire);
  const oldInputs = plainProps(read(request.getOldInputs()));
  const state = plainProps(wireState);
  const rest = Object.fromEntries(
    Object.entries(state).filter(([key]) => key in inputs || !(key in oldInputs)),
  );
  const response = new pb.UpdateResponse();
  if (request.getPreview()) {
    const outputs = { ...rest, ...unknowns(resource.volatile ?? []), ...inputs };
    return response.setProperties(written(marked(resource, outputs, wire, wireState)));
  }
  const changed = new Set(changes(resource, oldInputs, inputs).keys());
  const change: Change = { id: request.getId(), state, oldInputs, inputs, changed };
  const outputs = await resource.update?.(change, context);
  const after = await settled(resource, change.id, { ...rest, ...inputs, ...outputs }, context);
  return response.setProperties(written(marked(resource, after, wire, wireState)));
}

export async function remove(
  resource: Resource,
  request: pb.DeleteRequest,
  context: Context,
): Promise<Empty> {
  await resource.delete?.(request.getId(), plainProps(read(request.getProperties())), context);
  return new empty.Empty();
}
