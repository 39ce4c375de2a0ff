// Many alike things at once, but never more than a server bears.

/** Runs `act` on every item, `atOnce` at a time. The results come in the items' order; the first error ends it. */
export async function inParallel<T, R>(
  items: readonly T[],
  atOnce: number,
  act: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  const entries = items.entries();
  const work = async () => {
    for (const [index, item] of entries) results[index] = await act(item);
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, work));
  return results;
}

/** Lets at most `atOnce` of what is handed to it run at a time; what comes later waits its turn. */
export function turnstile(atOnce: number): <T>(act: () => Promise<T>) => Promise<T> {
  const waiting: (() => void)[] = [];
  let free = atOnce;
  return async (act) => {
    if (free > 0) free -= 1;
    else await new Promise<void>((resolve) => waiting.push(resolve));
    try {
      return await act();
    } finally {
      const next = waiting.shift();
      if (next === undefined) free += 1;
      else next();
    }
  };
}

/** Two lots of work, where nothing of the second is to hold up the first. */
export interface Precedence {
  /** Goes first, when its turn comes. */
  first<T>(act: () => Promise<T>): Promise<T>;
  /** Resolves once nothing of the first lot waits or runs. */
  afterwards(): Promise<void>;
}

/** @param atOnce how much of the first lot runs at a time. */
export function precedence(atOnce: number): Precedence {
  const turn = turnstile(atOnce);
  const waiting: (() => void)[] = [];
  let left = 0;
  return {
    async first(act) {
      left += 1;
      try {
        return await turn(act);
      } finally {
        left -= 1;
        if (left === 0) for (const go of waiting.splice(0)) go();
      }
    },
    async afterwards() {
      if (left > 0) await new Promise<void>((resolve) => waiting.push(resolve));
    },
  };
}
