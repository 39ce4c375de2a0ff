// How the hosts' docker refuses.

/** What docker prints on standard error before it exits with `code`. */
export class DockerError extends Error {
  readonly code: number;
  constructor(message: string, code = 1, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
