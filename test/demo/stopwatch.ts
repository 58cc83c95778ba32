/** Owns the times of named steps. */

export interface Stopwatch {
  /** Runs a step and takes its time. */
  time<T>(name: string, step: () => Promise<T>): Promise<T>;
  /** The step that is under way, or that failed. */
  running(): string | undefined;
  /** One line for each step, and the sum of all since the watch was made. */
  table(): string;
}

/** @param now milliseconds, monotonic */
export function makeStopwatch(now: () => number = () => performance.now()): Stopwatch {
  const started = now();
  const laps: [name: string, milliseconds: number][] = [];
  let current: string | undefined;
  return {
    async time(name, step) {
      current = name;
      const begun = now();
      const result = await step();
      laps.push([name, now() - begun]);
      current = undefined;
      return result;
    },
    running: () => current,
    table() {
      const rows = [...laps, ['total', now() - started] as const];
      const width = Math.max(...rows.map(([name]) => name.length));
      return rows.map(([name, ms]) => `  ${name.padEnd(width)} ${(ms / 1000).toFixed(1).padStart(7)} s`).join('\n');
    },
  };
}
