// Nodes of a parsed compose file, whose types nobody has promised.
import { DockerError } from "./docker-error.ts";

export type Body = Record<string, unknown>;

export const object = (value: unknown): Body =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Body) : {};
export const list = (value: unknown): unknown[] => (Array.isArray(value) ? value : []);
export const names = (value: unknown): string[] =>
  Array.isArray(value) ? value.map(String) : Object.keys(object(value));

/** Refuses properties that compose doesn't know, as its schema does. */
export function onlyProperties(body: Body, allowed: string[], file: string, where: string): void {
  const extra = Object.keys(body).find((key) => !allowed.includes(key) && !key.startsWith("x-"));
  if (extra !== undefined) {
    throw new DockerError(`validating ${file}: ${where}additional properties '${extra}' not allowed`, 15);
  }
}
