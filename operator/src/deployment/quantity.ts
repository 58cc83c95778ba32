/** Kubernetes quantities and durations as numbers. Pure. */

const FACTORS: Readonly<Record<string, number>> = {
  '': 1,
  m: 1e-3,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
};

/**
 * @param quantity such as `512Mi`, `1.5G`, `500m` or a plain number
 * @returns whole units, rounded up as Kubernetes does; undefined for what is no quantity
 */
export function parseQuantity(quantity: number | string | undefined): number | undefined {
  const match = /^(\d+(?:\.\d+)?)([a-zA-Z]*)$/.exec(String(quantity ?? '').trim());
  const factor = FACTORS[match?.[2] ?? '-'];
  return match && factor !== undefined ? Math.ceil(Number(match[1]) * factor) : undefined;
}

/**
 * @param duration such as `90s`, `2m` or `1h30m`
 * @returns milliseconds; undefined for what is no duration
 */
export function parseDuration(duration: string | undefined): number | undefined {
  const match = /^(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?$/.exec(duration ?? '');
  if (duration === undefined || duration === '' || match === null) return undefined;
  const [hours = 0, minutes = 0, seconds = 0] = match.slice(1).map((part) => Number(part ?? 0));
  return ((hours * 60 + minutes) * 60 + seconds) * 1000;
}
