/**
 * Clocks for tests: one that stands still until told to move, one that runs faster than the wall. Never used in
 * production.
 */
import type { Clock, Timer } from '../clock.ts';

/** Time moves only by `advance`; timers fire in order, at their exact time. */
export interface ManualClock extends Clock {
  /** Moves monotonic and wall time, firing what falls due. */
  advance(ms: number): void;
  /** Fires the next timer, however far off; false when there is none. */
  advanceToNext(): boolean;
  /** Sets the wall clock alone, as NTP or an administrator would. */
  jumpWall(ms: number): void;
  /** Timers that have not fired. */
  readonly pending: number;
}

export function makeManualClock(start = Date.UTC(2030, 0, 1)): ManualClock {
  let monotonic = 0;
  let offset = start;
  let order = 0;
  const timers = new Map<number, { readonly at: number; readonly callback: () => void }>();
  const next = () => {
    let first: { id: number; at: number; callback: () => void } | undefined;
    for (const [id, timer] of timers) if (first === undefined || timer.at < first.at) first = { id, ...timer };
    return first;
  };
  const fireUntil = (limit: number) => {
    for (let timer = next(); timer !== undefined && timer.at <= limit; timer = next()) {
      timers.delete(timer.id);
      monotonic = Math.max(monotonic, timer.at);
      timer.callback();
    }
    monotonic = Math.max(monotonic, limit);
  };
  return {
    now: () => offset + monotonic,
    monotonic: () => monotonic,
    schedule(ms, callback): Timer {
      const id = order++;
      timers.set(id, { at: monotonic + Math.max(0, ms), callback });
      return { cancel: () => void timers.delete(id) };
    },
    advance: (ms) => fireUntil(monotonic + ms),
    advanceToNext() {
      const timer = next();
      if (timer === undefined) return false;
      fireUntil(timer.at);
      return true;
    },
    jumpWall(ms) {
      offset += ms;
    },
    get pending() {
      return timers.size;
    },
  };
}

/** A clock that runs `speed` times as fast as the real one: half a minute of backoff in a few milliseconds. */
export interface FastClock extends Clock {
  jumpWall(ms: number): void;
  /** Time passes without anybody running, as when a virtual machine is paused: due timers fire late, all at once. */
  jumpMonotonic(ms: number): void;
}

export function makeFastClock(speed: number): FastClock {
  let ahead = 0;
  let wall = 0;
  const monotonic = () => performance.now() * speed + ahead;
  const timers = new Set<{ readonly at: number; readonly fire: () => void }>();
  return {
    now: () => Math.round(Date.UTC(2030, 0, 1) + monotonic() + wall),
    monotonic,
    schedule(ms, callback): Timer {
      const fire = () => {
        clearTimeout(handle);
        timers.delete(timer);
        callback();
      };
      const timer = { at: monotonic() + ms, fire };
      const handle = setTimeout(fire, Math.max(0, ms) / speed);
      timers.add(timer);
      return {
        cancel() {
          clearTimeout(handle);
          timers.delete(timer);
        },
      };
    },
    jumpWall(ms) {
      wall += ms;
    },
    jumpMonotonic(ms) {
      ahead += ms;
      for (const timer of Array.from(timers)) if (timer.at <= monotonic()) timer.fire();
    },
  };
}
