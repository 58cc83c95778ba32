/**
 * What happens to a conversation, or a prompt, that is longer than its context, for APIs whose clients expect it to be
 * shortened: the oldest messages go, then the middle of what is left. Knows no API's format.
 */
import type { ChatMessage } from '../chat-template.ts';
import type { Token } from '../engines/engine.ts';
import { commonPrefix } from '../scheduling/slots.ts';

export interface Overflow {
  /** Tokens that prompt and answer may have together. */
  readonly limit: number;
  /** Whether a prompt that is too long is shortened; otherwise it is refused. */
  readonly truncate: boolean;
  /** Whether an answer goes on when the context is full; otherwise it ends there. */
  readonly shift: boolean;
  /**
   * Tokens at the beginning that stay in both cases; below zero for the whole prompt. Undefined: what stands before the
   * conversation, such as the system message.
   */
  readonly keep: number | undefined;
}

/** Messages as the model reads them. */
export interface Rendered {
  readonly prompt: Token[];
}

export interface Fitted<R extends Rendered> {
  readonly rendered: R;
  /** Of GenerateRequest; undefined where the answer is to end when the context is full. */
  readonly keep: (() => number) | undefined;
}

/** Kept of a prompt that is no conversation: with nothing before it, a text loses the model's attention. */
const FIRST_TOKENS = 4;

/**
 * Renders messages so that they fit. System messages at the beginning stay, and so does the last turn.
 * @param maxTokens tokens that the answer may have: a shortened prompt leaves room for them, up to a quarter
 * @throws what `render` throws
 */
export function fitMessages<R extends Rendered>(
  messages: readonly ChatMessage[],
  render: (messages: readonly ChatMessage[]) => R,
  overflow: Overflow,
  maxTokens: number,
): Fitted<R> {
  const firstTurn = messages.findIndex((message) => message.role !== 'system');
  const leading = firstTurn < 0 ? messages : messages.slice(0, firstTurn);
  let rendered = render(messages);
  const keep = () => beginningOf(rendered.prompt, overflow, () => preambleOf(leading, render, rendered.prompt));
  if (overflow.truncate && rendered.prompt.length >= overflow.limit) {
    const room = roomFor(overflow, maxTokens);
    // Templates often insist that a user begins, and an answer without its question helps nobody.
    const starts = messages.flatMap(({ role }, index) => (role === 'user' && index > firstTurn ? [index] : []));
    const from = (start: number) => render([...leading, ...messages.slice(start)]);
    let low = 0;
    let high = starts.length - 1;
    // The more messages go, the shorter the prompt: the first place where it fits.
    while (low < high) {
      const middle = (low + high) >> 1;
      if (from(starts[middle] ?? 0).prompt.length <= room) high = middle;
      else low = middle + 1;
    }
    const start = starts[low];
    if (start !== undefined) rendered = from(start);
    if (rendered.prompt.length > room) rendered = { ...rendered, prompt: withoutMiddle(rendered.prompt, keep(), room) };
  }
  return { rendered, keep: overflow.shift ? keep : undefined };
}

/** The same for tokens that are no conversation. */
export function fitTokens(prompt: Token[], overflow: Overflow, maxTokens: number): Fitted<Rendered> {
  const keep = () => beginningOf(prompt, overflow, () => FIRST_TOKENS);
  const room = roomFor(overflow, maxTokens);
  const fits = !overflow.truncate || prompt.length < overflow.limit;
  return {
    rendered: { prompt: fits ? prompt : withoutMiddle(prompt, keep(), room) },
    keep: overflow.shift ? keep : undefined,
  };
}

function roomFor({ limit }: Overflow, maxTokens: number): number {
  return limit - Math.max(1, Math.min(maxTokens, Math.floor(limit / 4)));
}

function beginningOf(prompt: readonly Token[], { keep, limit }: Overflow, otherwise: () => number): number {
  if (keep !== undefined) return keep < 0 ? prompt.length : keep;
  // What nobody asked for by number leaves at least half to the conversation.
  return Math.min(otherwise(), Math.floor(limit / 2));
}

/** What every conversation with these system messages begins with. */
function preambleOf(
  leading: readonly ChatMessage[],
  render: (messages: readonly ChatMessage[]) => Rendered,
  prompt: readonly Token[],
): number {
  try {
    return commonPrefix(prompt, render([...leading, { role: 'user', content: '' }]).prompt);
  } catch {
    // A template that takes no empty message.
    return FIRST_TOKENS;
  }
}

function withoutMiddle(prompt: readonly Token[], keep: number, room: number): Token[] {
  const kept = Math.min(keep, Math.floor(room / 2));
  return [...prompt.slice(0, kept), ...prompt.slice(prompt.length - (room - kept))];
}
