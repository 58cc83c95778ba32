/** Numbers as people read them in conditions, events and logs. Pure. */

/** Bytes with SI units, two or three digits: `98 MB`, `1.4 GB`. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  const digits = unit > 0 && value < 9.95 ? 1 : 0;
  return `${value.toFixed(digits).replace(/\.0$/, '')} ${units[unit]}`;
}

/** `12 s`, `3 min`, `2 h`. */
export function formatSeconds(seconds: number): string {
  if (seconds < 100) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

/** Whole percent, never 100 before all bytes are there. */
export function percentOf(done: number, total: number): number {
  if (total <= 0 || done >= total) return 100;
  return Math.min(99, Math.floor((done / total) * 100));
}

/** `62% of 98 MB, 41 MB/s, 12 s left`. */
export function formatProgress(progress: {
  readonly bytesDone: number;
  readonly bytesTotal: number;
  readonly bytesPerSecond?: number | undefined;
}): string {
  const { bytesDone, bytesTotal, bytesPerSecond } = progress;
  const parts = [`${percentOf(bytesDone, bytesTotal)}% of ${formatBytes(bytesTotal)}`];
  if (bytesPerSecond !== undefined && bytesPerSecond > 0) {
    parts.push(`${formatBytes(bytesPerSecond)}/s`, `${formatSeconds((bytesTotal - bytesDone) / bytesPerSecond)} left`);
  }
  return parts.join(', ');
}

/** Cuts a text to what a field of the API may hold. */
export function shorten(text: string, max: number): string {
  return text.length <= max ? text : `${text.slice(0, max - 1)}…`;
}
