/** What can be said of a grammar's automaton before anything follows it: whether it can go on without a byte for ever, and where rules end. */
import { GrammarError } from '../engine.ts';
import type { Automaton, Piece, State } from './gbnf-automaton.ts';

/** States from which only free edges lead on, all of them to the end of a rule. */
export function finalStates(states: readonly State[], rules: Automaton['rules']): boolean[] {
  const ends = new Set(rules.map(({ end }) => end));
  const known: (boolean | undefined)[] = Array.from({ length: states.length });
  const isFinal = (start: number): boolean => {
    const seen = new Set<number>();
    const left = [start];
    for (let at = left.pop(); at !== undefined; at = left.pop()) {
      if (seen.has(at)) continue;
      seen.add(at);
      const state = states[at] as State;
      if (state.call || state.bytes.length > 0) return false;
      if (!ends.has(at) && state.free.length === 0) return false;
      left.push(...state.free);
    }
    return true;
  };
  for (const { call } of states) if (call) known[call.back] ??= isFinal(call.back);
  return known.map((one) => one === true);
}

/** @throws GrammarError */
export function refuseLeftRecursion(states: readonly State[], rules: Automaton['rules']): void {
  const nullable = nullableRules(states, rules);
  const begun = new Map<number, 'open' | 'done'>();
  /** Rules that a rule can begin with. */
  const firsts = (rule: number): Set<number> => {
    const found = new Set<number>();
    walk(states, rules[rule] as Piece, nullable, (called) => found.add(called));
    return found;
  };
  for (let root = 0; root < rules.length; root++) {
    if (begun.has(root)) continue;
    const path = [{ rule: root, left: [...firsts(root)] }];
    begun.set(root, 'open');
    for (let top = path.at(-1); top; top = path.at(-1)) {
      const next = top.left.pop();
      if (next === undefined) {
        begun.set(top.rule, 'done');
        path.pop();
      } else if (begun.get(next) === 'open')
        throw new GrammarError(
          'the grammar has a rule that begins with itself: write it so that none begins with itself',
        );
      else if (!begun.has(next)) {
        begun.set(next, 'open');
        path.push({ rule: next, left: [...firsts(next)] });
      }
    }
  }
}

function nullableRules(states: readonly State[], rules: Automaton['rules']): Set<number> {
  const nullable = new Set<number>();
  for (let before = -1; before !== nullable.size; ) {
    before = nullable.size;
    rules.forEach((rule, number) => {
      if (!nullable.has(number) && walk(states, rule, nullable)) nullable.add(number);
    });
  }
  return nullable;
}

/** Goes where no byte is needed. @returns whether that leads to the end */
function walk(
  states: readonly State[],
  piece: Piece,
  nullable: ReadonlySet<number>,
  called?: (rule: number) => void,
): boolean {
  const seen = new Set<number>();
  const left = [piece.start];
  let ended = false;
  for (let at = left.pop(); at !== undefined; at = left.pop()) {
    if (seen.has(at)) continue;
    seen.add(at);
    if (at === piece.end) {
      // The end of a repeated part has no way on within it.
      ended = true;
      continue;
    }
    const { free, call } = states[at] as State;
    left.push(...free);
    if (!call) continue;
    called?.(call.rule);
    if (nullable.has(call.rule)) left.push(call.back);
  }
  return ended;
}
