/**
 * Runs `work` and shows on stderr that it goes on: its title, what it last told `say`, the time it has taken.
 * Throws what `work` throws, after having marked it as failed.
 */
export function progress<T>(
  title: string,
  work: (say: (detail: string) => void) => Promise<T> | T,
): Promise<T>;

/** Writes one line to stderr. */
export function note(text: string): void;
