/**
 * A random mixture of requests as a server meets it in a month: every API, streams and whole answers, short and long, right
 * and wrong, and clients that leave. Owns what is asked and when it is left; sends nothing. The same seed gives the same.
 */

/** What a client does with one request. */
export interface Errand {
  /** For reports. */
  readonly name: string;
  readonly url: string;
  /** Undefined: a GET. */
  readonly body?: unknown;
  /** Statuses that are right. 429 always is. */
  readonly expected: readonly number[];
  /** When the client leaves; undefined: it stays to the end. */
  readonly leave?: Leave | undefined;
}

export type Leave =
  /** After so many milliseconds. */
  | { readonly after: 'time'; readonly ms: number }
  /** After so many pieces of the answer. */
  | { readonly after: 'pieces'; readonly count: number }
  /** With this share of its request sent. */
  | { readonly after: 'sending'; readonly share: number };

/** Numbers from 0 to 1 that look random (mulberry32). */
export function makeRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Share of the requests that are left. */
const LEFT = 0.35;

const TOPICS = [
  'France',
  'the sea',
  'bread',
  'a clock',
  'the moon',
  'music',
  'a bridge',
  'winter',
  'tea',
  'maps',
] as const;
/** What many conversations begin with, as an application's instructions are. */
const INSTRUCTIONS = `You answer questions of visitors. ${'Be polite, be brief, and say so when you do not know. '.repeat(12)}`;
const city = {
  type: 'object',
  properties: { city: { enum: ['Paris', 'Rome', 'Oslo'] }, sure: { type: 'boolean' } },
  required: ['city', 'sure'],
  additionalProperties: false,
};

interface Dice {
  readonly pick: <T>(values: readonly T[]) => T;
  readonly upTo: (limit: number) => number;
  readonly chance: (share: number) => boolean;
}

type Kind = (dice: Dice, model: string) => Omit<Errand, 'leave'>;

const question = ({ pick, upTo }: Dice) =>
  `${pick(['Tell me about', 'Write a line on', 'Why do people like', 'Name three facts about'])} ${pick(TOPICS)}${upTo(3) === 0 ? `, number ${upTo(1e6)}` : ''}.`;
const messages = (dice: Dice) => [
  ...(dice.chance(0.4) ? [{ role: 'system', content: INSTRUCTIONS }] : []),
  { role: 'user', content: question(dice) },
];
const longText = (dice: Dice) => `${dice.pick(TOPICS)} and ${dice.pick(TOPICS)}. `.repeat(20 + dice.upTo(100));

const KINDS: readonly (readonly [weight: number, kind: Kind])[] = [
  [
    6,
    (dice, model) => ({
      name: 'chat/completions',
      url: '/v1/chat/completions',
      body: {
        model,
        messages: messages(dice),
        stream: dice.chance(0.7),
        max_tokens: 4 + dice.upTo(80),
        temperature: dice.pick([0, 0.7, 1.3]),
        ...(dice.chance(0.1) ? { n: 2 } : {}),
        ...(dice.chance(0.1) ? { logprobs: true, top_logprobs: 3 } : {}),
        ...(dice.chance(0.2) ? { stop: ['.', '\n\n'] } : {}),
      },
      expected: [200],
    }),
  ],
  [
    5,
    (dice, model) => ({
      name: 'api/chat',
      url: '/api/chat',
      body: {
        model,
        messages: messages(dice),
        ...(dice.chance(0.3) ? { stream: false } : {}),
        options: { num_predict: 4 + dice.upTo(80), seed: dice.upTo(1000), temperature: 0.8 },
      },
      expected: [200],
    }),
  ],
  [
    4,
    (dice, model) => ({
      name: 'api/generate',
      url: '/api/generate',
      body: { model, prompt: question(dice), options: { num_predict: 4 + dice.upTo(60) } },
      expected: [200],
    }),
  ],
  [
    2,
    (dice, model) => ({
      name: 'long prompt',
      url: '/v1/completions',
      body: { model, prompt: longText(dice), max_tokens: 1 + dice.upTo(8), stream: dice.chance(0.5) },
      expected: [200, 400],
    }),
  ],
  [
    2,
    (dice, model) => ({
      name: 'structured output',
      url: '/api/chat',
      body: { model, messages: messages(dice), format: city, stream: false, options: { num_predict: 40 } },
      expected: [200],
    }),
  ],
  [
    1,
    (dice, model) => ({
      name: 'forced tool',
      url: '/v1/chat/completions',
      body: {
        model,
        messages: messages(dice),
        tools: [{ type: 'function', function: { name: 'visit', parameters: city } }],
        tool_choice: 'required',
        stream: dice.chance(0.5),
        max_tokens: 60,
      },
      expected: [200],
    }),
  ],
  [
    1,
    (dice, model) => ({
      name: 'messages',
      url: '/v1/messages',
      body: { model, messages: [{ role: 'user', content: question(dice) }], max_tokens: 30, stream: dice.chance(0.5) },
      expected: [200],
    }),
  ],
  [
    1,
    (dice, model) => ({
      name: 'responses',
      url: '/v1/responses',
      body: { model, input: question(dice), max_output_tokens: 30, stream: dice.chance(0.5) },
      expected: [200],
    }),
  ],
  [
    3,
    (dice, model) => ({
      name: 'embeddings',
      url: dice.pick(['/api/embed', '/v1/embeddings']),
      body: { model, input: Array.from({ length: 1 + dice.upTo(8) }, () => question(dice)) },
      expected: [200],
    }),
  ],
  [
    1,
    (dice, model) => ({
      name: 'mistake',
      url: dice.pick(['/api/chat', '/v1/chat/completions', '/api/generate', '/v1/messages']),
      body: dice.pick<unknown>([
        { model: 'other', messages: [{ role: 'user', content: 'a' }], prompt: 'a', max_tokens: 1 },
        { model, messages: 'none', prompt: 7, max_tokens: 1 },
        { model, messages: [{ role: 'user', content: 'a' }], max_tokens: -1, prompt: 'a', options: { temprature: 1 } },
        [],
      ]),
      expected: [400, 404],
    }),
  ],
  [
    1,
    (dice) => ({
      name: 'lists',
      url: dice.pick(['/api/tags', '/api/ps', '/v1/models', '/openapi.json']),
      expected: [200],
    }),
  ],
];

/** Endless errands. */
export function* errands(model: string, seed: number): Generator<Errand, never> {
  const random = makeRandom(seed);
  const upTo = (limit: number) => Math.floor(random() * limit);
  const dice: Dice = {
    upTo,
    pick: <T>(values: readonly T[]) => values[upTo(values.length)] as T,
    chance: (share) => random() < share,
  };
  const total = KINDS.reduce((sum, [weight]) => sum + weight, 0);
  for (;;) {
    let at = random() * total;
    const [, kind] = KINDS.find(([weight]) => (at -= weight) < 0) ?? KINDS[0] ?? [];
    if (!kind) throw new Error('there are no kinds of requests');
    const errand = kind(dice, model);
    yield errand.body === undefined || !dice.chance(LEFT) ? errand : { ...errand, leave: leaveOf(dice) };
  }
}

function leaveOf(dice: Dice): Leave {
  switch (dice.upTo(3)) {
    case 0:
      return { after: 'time', ms: dice.upTo(dice.pick([20, 200, 2000])) };
    case 1:
      return { after: 'pieces', count: 1 + dice.upTo(10) };
    default:
      return { after: 'sending', share: dice.upTo(100) / 100 };
  }
}
