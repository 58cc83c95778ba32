/** Templates made at random, right and wrong ones, the same for the same seed. Pure. */

/** Values that the templates go over. */
export const RANDOM_DATA = {
  A: 'text',
  B: '',
  N: 3,
  F: 2.5,
  Z: 0,
  T: true,
  No: false,
  L: ['x', 'y', 'z'],
  E: [],
  M: { k: 'v', a: 1 },
  Nil: null,
  P: [
    { Name: 'Ann', Tags: ['t'] },
    { Name: 'Bob', Tags: [] },
  ],
  U: 'hé😀',
};

const FIELDS = '.A .B .N .F .Z .T .No .L .E .M .Nil .P .U .M.k .Missing .M.zzz .A.x . $ $.A $.L $.P $v $i'.split(' ');
const LITERALS = ['1', '0', '2', '-1', '1.5', '"a"', '""', '`r`', 'true', 'false', 'nil', "'c'", '0x10'];
const FUNCTIONS = [
  ...'len not and or eq ne lt le gt ge index slice print json html println urlquery'.split(' '),
  'printf "%v-%v"',
  'printf "%s"',
  'printf "%d"',
  'printf "%5v|"',
];
const TEXTS = ['txt', ' a b ', '\n', ' \n x', '}', '{', ''];

export function randomTemplates(seed: number, count: number): string[] {
  let state = seed;
  const below = (limit: number) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return Math.floor((state / 2 ** 32) * limit);
  };
  const pick = (list: readonly string[]) => list[below(list.length)] ?? '';
  const several = (make: () => string) => Array.from({ length: 1 + below(3) }, make);

  const operand = (depth: number): string => {
    const kind = below(10);
    if (kind < 5) return pick(FIELDS);
    if (kind < 7) return pick(LITERALS);
    return depth > 0 ? `(${pipeline(depth - 1)})${below(5) === 0 ? '.Name' : ''}` : pick(FIELDS);
  };
  const command = (depth: number) =>
    below(3) === 0 ? operand(depth) : `${pick(FUNCTIONS)} ${several(() => operand(depth)).join(' ')}`;
  const pipeline = (depth: number): string =>
    below(4) === 0
      ? `${command(depth)} | ${pick(FUNCTIONS)}${below(2) === 0 ? '' : ` ${operand(depth)}`}`
      : command(depth);
  const action = (words: string) => (below(4) === 0 ? '{{- ' : '{{ ') + words + (below(4) === 0 ? ' -}}' : ' }}');
  const otherwise = (keyword: string, depth: number) =>
    below(2) === 0 ? '' : action(below(3) > 0 ? 'else' : `else ${keyword} ${pipeline(1)}`) + body(depth);
  const leave = () => action(`if ${pipeline(0)}`) + action(pick(['break', 'continue'])) + action('end');
  const node = (depth: number): string => {
    const kind = below(12);
    if (kind < 3) return pick(TEXTS);
    if (kind < 6 || depth === 0) return action(pipeline(1));
    const inner = depth - 1;
    if (kind < 8) return action(`if ${pipeline(1)}`) + body(inner) + otherwise('if', inner) + action('end');
    if (kind < 9) {
      const name = below(3) > 0 ? '' : '$v := ';
      return action(`with ${name}${pipeline(1)}`) + body(inner) + otherwise('with', inner) + action('end');
    }
    if (kind === 11) return action(`$v ${below(2) === 0 ? ':' : ''}= ${pipeline(1)}`);
    const names = pick(['', '$v := ', '$i, $v := ', '$i, $v = ']);
    const end = below(3) > 0 ? '' : action('else') + body(inner);
    return (
      action(`range ${names}${pick(FIELDS)}`) + body(inner) + (below(4) === 0 ? leave() : '') + end + action('end')
    );
  };
  const body = (depth: number): string => several(() => node(depth)).join('');

  return Array.from({ length: count }, () => `{{ $v := "V" }}{{ $i := 1 }}${body(2)}`);
}
