// Doing several things side by side, without leaving any of them running behind an error.

/** Like Promise.all, but if one fails the others are waited for: nothing may start any more while all is being ended. */
export async function allOf<T extends readonly unknown[]>(
  work: [...{ [K in keyof T]: Promise<T[K]> }],
): Promise<T> {
  await Promise.allSettled(work);
  return (await Promise.all(work)) as unknown as T;
}
