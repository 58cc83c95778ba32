/**
 * Numbers between two bounds as grammar: a range of values becomes alternatives of digits. Pure.
 */
import { characters, choice, NOTHING, type Node, optional, repeat, sequence, text } from './rules.ts';

/** Fifteen digits, all of which JSON's numbers keep. */
export const LARGEST = 999_999_999_999_999;

const DIGIT = characters('[0-9]');
const FRACTION = sequence(text('.'), repeat(DIGIT, 1, 15));
const FRACTION_ABOVE_ZERO = sequence(text('.'), repeat(DIGIT, 0, 14), characters('[1-9]'));

/** Bounds that are whole numbers; infinite where there is none. */
export interface Bounds {
  readonly min: number;
  readonly max: number;
  /** Whether the bound itself is left out. */
  readonly minExclusive: boolean;
  readonly maxExclusive: boolean;
}

export function integers({ min, max, minExclusive, maxExclusive }: Bounds): Node {
  const low = minExclusive ? min + 1 : min;
  const high = maxExclusive ? max - 1 : max;
  const options: Node[] = [];
  if (high >= 0) options.push(digits(Math.max(0, low), Math.min(high, LARGEST)));
  if (low < 0) options.push(sequence(text('-'), digits(high < 0 ? -high : 1, Math.min(-low, LARGEST))));
  return choice(...options);
}

export function reals({ min, max, minExclusive, maxExclusive }: Bounds): Node {
  if (min === Number.NEGATIVE_INFINITY && max === Number.POSITIVE_INFINITY)
    return sequence(
      optional(text('-')),
      digits(0, LARGEST),
      optional(FRACTION),
      optional(sequence(characters('[eE]'), optional(characters('[-+]')), repeat(DIGIT, 1, 2))),
    );
  const options: Node[] = [];
  if (max > 0 || (max === 0 && !maxExclusive))
    options.push(magnitudes(Math.max(0, min), min >= 0 && minExclusive, max, maxExclusive));
  // Negative ones by their magnitude, and never a minus before nothing but zeros.
  if (min < 0)
    options.push(
      sequence(text('-'), magnitudes(Math.max(0, -max), max >= 0 || maxExclusive, Math.abs(min), minExclusive)),
    );
  return choice(...options);
}

/** From `low` to `high`, both whole and not negative. */
function magnitudes(low: number, lowExclusive: boolean, high: number, highExclusive: boolean): Node {
  const options: Node[] = [];
  const last = Math.min(high - 1, LARGEST);
  if (lowExclusive && low < high) options.push(sequence(text(String(low)), FRACTION_ABOVE_ZERO));
  const first = lowExclusive ? low + 1 : low;
  if (first <= last) options.push(sequence(digits(first, last), optional(FRACTION)));
  const hasHigh = !highExclusive && high <= LARGEST && !(lowExclusive && low === high);
  if (hasHigh) options.push(text(String(high)));
  return choice(...options);
}

/** Whole numbers from `low` to `high` without leading zeros. */
function digits(low: number, high: number): Node {
  if (low > high) return NOTHING;
  const options: Node[] = [];
  let whole: { from: number; to: number } | undefined;
  for (let length = String(low).length; length <= String(high).length; length++) {
    const least = length === 1 ? 0 : 10 ** (length - 1);
    const most = 10 ** length - 1;
    // Neighbouring lengths without a bound of their own share one alternative.
    if (length > 1 && low <= least && high >= most) {
      whole = { from: whole?.from ?? length, to: length };
      continue;
    }
    options.push(sameLength(String(Math.max(low, least)), String(Math.min(high, most))));
  }
  if (whole) options.push(sequence(characters('[1-9]'), repeat(DIGIT, whole.from - 1, whole.to - 1)));
  return choice(...options);
}

function sameLength(low: string, high: string): Node {
  if (low === high) return text(low);
  const [a = '', b = ''] = [low[0], high[0]];
  const rest = low.length - 1;
  if (a === b) return sequence(text(a), sameLength(low.slice(1), high.slice(1)));
  if (rest === 0) return characters(`[${a}-${b}]`);
  const options: Node[] = [];
  let [from, to] = [Number(a), Number(b)];
  if (!/^0*$/.test(low.slice(1))) {
    options.push(sequence(text(a), sameLength(low.slice(1), '9'.repeat(rest))));
    from++;
  }
  if (!/^9*$/.test(high.slice(1))) {
    options.push(sequence(text(b), sameLength('0'.repeat(rest), high.slice(1))));
    to--;
  }
  if (from <= to) options.push(sequence(characters(`[${from}-${to}]`), repeat(DIGIT, rest, rest)));
  return choice(...options);
}
