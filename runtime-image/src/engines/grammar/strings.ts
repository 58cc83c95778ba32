/**
 * Texts as JSON writes them: characters, formats, and keys that are none of a given few. Pure.
 */
import { characters, choice, type Node, optional, repeat, sequence, text } from './rules.ts';

const DIGIT = characters('[0-9]');
const HEX = characters('[0-9a-fA-F]');

/** One character, escapes counted as one; no halves of surrogate pairs, which would be no text. */
export const STRING_CHARACTER: Node = choice(
  characters('[^"\\\\\\x00-\\x1F]'),
  sequence(text('\\'), choice(characters('["\\\\/bfnrt]'), sequence(text('u00'), characters('[01]'), HEX))),
);

const times = (node: Node, count: number) => repeat(node, count, count);
const DAY_TO = (last: Node) => choice(sequence(text('0'), characters('[1-9]')), sequence(text('1'), DIGIT), last);
/** February has 28 days here: whether a year is a leap year is beyond a grammar. */
const DATE = sequence(
  times(DIGIT, 4),
  text('-'),
  choice(
    sequence(
      choice(sequence(text('0'), characters('[13578]')), sequence(text('1'), characters('[02]'))),
      text('-'),
      DAY_TO(choice(sequence(text('2'), DIGIT), sequence(text('3'), characters('[01]')))),
    ),
    sequence(
      choice(sequence(text('0'), characters('[469]')), text('11')),
      text('-'),
      DAY_TO(choice(sequence(text('2'), DIGIT), text('30'))),
    ),
    sequence(text('02-'), DAY_TO(sequence(text('2'), characters('[0-8]')))),
  ),
);
const HOURS = choice(sequence(characters('[01]'), DIGIT), sequence(text('2'), characters('[0-3]')));
const SIXTY = sequence(characters('[0-5]'), DIGIT);
const TIME = sequence(
  HOURS,
  text(':'),
  SIXTY,
  text(':'),
  SIXTY,
  optional(sequence(text('.'), repeat(DIGIT, 1, 9))),
  choice(text('Z'), sequence(characters('[-+]'), HOURS, text(':'), SIXTY)),
);
const OCTET = choice(
  sequence(text('25'), characters('[0-5]')),
  sequence(text('2'), characters('[0-4]'), DIGIT),
  sequence(text('1'), DIGIT, DIGIT),
  sequence(characters('[1-9]'), DIGIT),
  DIGIT,
);
const WORD = repeat(characters('[a-zA-Z0-9]'), 1, 30);
const HOST = sequence(WORD, repeat(sequence(text('.'), WORD), 0, 4), text('.'), repeat(characters('[a-zA-Z]'), 2, 10));
const URL = sequence(
  text('http'),
  optional(text('s')),
  text('://'),
  HOST,
  repeat(sequence(text('/'), repeat(characters('[a-zA-Z0-9._~-]'), 0, 100)), 0, 20),
);

/** The formats that can be held to. */
export const FORMATS: ReadonlyMap<string, Node> = new Map([
  ['date', DATE],
  ['time', TIME],
  ['date-time', sequence(DATE, text('T'), TIME)],
  [
    'uuid',
    sequence(
      times(HEX, 8),
      text('-'),
      times(HEX, 4),
      text('-'),
      times(HEX, 4),
      text('-'),
      times(HEX, 4),
      text('-'),
      times(HEX, 12),
    ),
  ],
  ['ipv4', sequence(OCTET, times(sequence(text('.'), OCTET), 3))],
  ['hostname', HOST],
  ['email', sequence(WORD, repeat(sequence(text('.'), WORD), 0, 4), text('@'), HOST)],
  ['uri', URL],
]);

/**
 * A key, in quotes, that is none of `names`: along each name as far as it goes, then away from it. No escapes, which
 * could spell a name in other letters.
 */
export function keyOtherThan(names: readonly string[]): Node {
  return sequence(text('"'), away(names.map((name) => Array.from(name))), text('"'));
}

const KEY_CHARACTER = characters('[^"\\\\\\x00-\\x1F]');

/** @param rests what is left of each name at this place; an empty one ends here, and a key must not */
function away(rests: readonly (readonly string[])[]): Node {
  const going = rests.filter((rest) => rest.length > 0);
  const heads = [...new Set(going.map((rest) => rest[0] ?? ''))];
  const on = heads
    .filter((head) => !/["\\]/.test(head) && (head.codePointAt(0) ?? 0) >= 0x20)
    .map((head) => sequence(text(head), away(going.filter((rest) => rest[0] === head).map((rest) => rest.slice(1)))));
  const others = sequence(
    heads.length === 0 ? KEY_CHARACTER : characters(`[^"\\\\\\x00-\\x1F${heads.map(inClass).join('')}]`),
    repeat(KEY_CHARACTER, 0, Number.POSITIVE_INFINITY),
  );
  const here = going.length === rests.length;
  return choice(...on, others, ...(here ? [sequence()] : []));
}

function inClass(character: string): string {
  const code = character.codePointAt(0) ?? 0;
  return code > 0xffff ? `\\U${code.toString(16).padStart(8, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`;
}
