// What the state becomes: plain values from a server, under the marks that their inputs and the former state had.
import { createHash, randomBytes } from "node:crypto";
import { type Context, type Resource, sameInput } from "./resource.ts";
import { asSecret, equal, hasSecret, type Props, plain, UNKNOWN, type WireProps } from "./values.ts";

/** The state after a change, as the server has it: read back, so that a refresh finds the very same. */
export async function settled(
  resource: Resource,
  id: string,
  state: Props,
  context: Context,
): Promise<Props> {
  if (resource.read === undefined) return state;
  const found = await resource.read(id, state, context);
  if (found === undefined) throw new Error(`${id} was written but is not there`);
  return merged(resource, state, found);
}

/** The state with what a server has: what is the same keeps the spelling it had. */
export function merged(resource: Resource, state: Props, found: Props): Props {
  const outputs = { ...state };
  for (const [key, value] of Object.entries(found)) {
    if (value === undefined || value === null) delete outputs[key];
    else if (!(key in outputs) || !sameInput(resource, key, outputs[key], value)) outputs[key] = value;
  }
  return outputs;
}

/** The inputs that would have led to these outputs: this is how a refresh makes drift visible to `up`. */
export function refreshed(resource: Resource, wireInputs: WireProps, outputs: Props): WireProps {
  const inputs: WireProps = {};
  for (const [key, wire] of Object.entries(wireInputs)) {
    if (sameInput(resource, key, plain(wire), outputs[key])) inputs[key] = wire;
    else if (key in outputs) inputs[key] = hasSecret(wire) ? asSecret(outputs[key]) : outputs[key];
  }
  return inputs;
}

/** The inputs of something that is taken over: all that isn't computed. */
export const imported = (resource: Resource, outputs: Props): WireProps =>
  Object.fromEntries(Object.entries(outputs).filter(([key]) => !resource.computed?.includes(key)));

/** Outputs with the secret marks that their inputs and the former outputs had. */
export function marked(
  resource: Resource,
  outputs: Props,
  wireInputs: WireProps,
  wireState: WireProps,
): WireProps {
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
export function generated({ generated: key }: Resource, name: string, olds: Props, seed: Uint8Array): Props {
  if (key === undefined) return {};
  const random = seed.length > 0 ? createHash("sha256").update(seed).digest() : randomBytes(4);
  return { [key]: olds[key] ?? `${name}-${random.toString("hex").slice(0, 7)}` };
}

export const unknowns = (keys: readonly string[]): Props =>
  Object.fromEntries(keys.map((key) => [key, UNKNOWN]));
