/** Owns work in lanes: so many requests at a time, one after the other in each. */

/** Runs `work` for each item in `lanes` lanes; the first failure ends it. */
export async function inLanes<T>(
  items: Iterable<T>,
  lanes: number,
  work: (item: T, index: number) => Promise<void>,
): Promise<void> {
  const iterator = items[Symbol.iterator]();
  let index = 0;
  const lane = async () => {
    for (let next = iterator.next(); !next.done; next = iterator.next()) await work(next.value, index++);
  };
  await Promise.all(Array.from({ length: lanes }, lane));
}

/** A value below which `share` of the samples are; NaN of none. */
export function percentile(samples: readonly number[], share: number): number {
  const sorted = samples.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(sorted.length * share) - 1)] ?? Number.NaN;
}
