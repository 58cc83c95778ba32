/**
 * When deployments may begin to move: a schedule as cron has it, in a time zone, and how long it stays open. Pure; the clock is an
 * argument. A window that the change to or from summer time falls into lasts as long as it says.
 */
import type { SLMRolloutSpec } from '@slm-operator/crds';
import { Cron } from 'croner';
import { parseDuration } from '../deployment/quantity.ts';

export type Window = NonNullable<SLMRolloutSpec['window']>;

export type WindowState =
  /** `until`: milliseconds since 1970; undefined where there is no window, which is always open. */
  | { readonly state: 'open'; readonly until?: number | undefined }
  /** `opens`: milliseconds since 1970; undefined when it never does again. */
  | { readonly state: 'closed'; readonly opens?: number | undefined }
  /** `message` says what to write instead. */
  | { readonly state: 'unusable'; readonly message: string };

/** Openings in a row that overlap and are looked at; more make no difference, since the caller looks again. */
const MAX_OVERLAPS = 64;

/** @param now milliseconds since 1970 */
export function windowAt(window: Window | undefined, now: number): WindowState {
  if (window === undefined) return { state: 'open' };
  const { schedule, timeZone = 'UTC', duration } = window;
  const length = parseDuration(duration) ?? 0;
  if (length === 0)
    return { state: 'unusable', message: 'window.duration is 0: write how long it stays open, such as 4h' };
  if (!isTimeZone(timeZone)) {
    const message = `window.timeZone "${timeZone}" is not known: write one such as Europe/Lisbon or UTC`;
    return { state: 'unusable', message };
  }
  let cron: Cron;
  try {
    if (schedule.trim().split(/\s+/).length !== 5) throw new Error('it has other than five fields');
    cron = new Cron(schedule, { paused: true, timezone: timeZone });
  } catch (error) {
    const why = error instanceof Error ? error.message.replace(/^CronPattern: /, '') : String(error);
    const message = `window.schedule "${schedule}" cannot be read: ${why}; write five fields such as 0 22 * * 1-5`;
    return { state: 'unusable', message };
  }
  const after = (time: number) => cron.nextRun(new Date(time))?.getTime();
  let opened = after(now - length);
  if (opened === undefined || opened > now) {
    const opens = after(now);
    return opens === undefined ? { state: 'closed' } : { state: 'closed', opens };
  }
  for (let count = 0; count < MAX_OVERLAPS; count++) {
    const next = after(opened);
    if (next === undefined || next > now) break;
    opened = next;
  }
  return { state: 'open', until: opened + length };
}

function isTimeZone(name: string): boolean {
  try {
    return new Intl.DateTimeFormat('en', { timeZone: name }).resolvedOptions().timeZone !== '';
  } catch {
    return false;
  }
}
