/**
 * Waits for `work`, but no longer than `limitMs`.
 *
 * The work itself goes on; what becomes of it later is ignored.
 *
 * @throws what `tooLate` makes when the time is up.
 */
export async function within<Result>(limitMs: number, work: Promise<Result>, tooLate: () => Error): Promise<Result> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(tooLate()), limitMs);
  });
  try {
    return await Promise.race([work, limit]);
  } finally {
    clearTimeout(timer);
  }
}
