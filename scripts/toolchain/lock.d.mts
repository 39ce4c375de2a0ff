/**
 * Runs `work` while holding the exclusive lock on `file` (made if absent). If another process holds it, `onWait`
 * is told once who, in words, and the lock is waited for without limit. `work` gets the lock's file descriptor:
 * a child process that inherits it keeps the lock until it has ended too, so that what a killed set-up
 * leaves running is never worked against. Throws if `flock` can't be run.
 */
export function withLock<T>(
  file: string,
  onWait: (holder: string) => void,
  work: (descriptor: number) => Promise<T> | T,
): Promise<T>;
