/** What an SLMDeployment says of how a new revision comes: steps, gates and the way back. */
import type { Static } from 'typebox';
import { boolean, duration, integer, intOrPercent, list, number, object, optional, text, word } from './schema.ts';

/** A whole number, a percentage such as `25%`, or Auto. */
function bound(description: string) {
  return Object.assign({}, intOrPercent({ description }), {
    pattern: '^(Auto|(100|[1-9]?[0-9])%)$',
  }) as ReturnType<typeof intOrPercent>;
}

export const CanaryStep = object(
  {
    weight: integer({
      minimum: 0,
      maximum: 100,
      description: 'Percent of the requests that the new revision gets. 0: it runs, and only the smoke tests ask it.',
    }),
    pause: optional(duration('How long the step lasts at least, such as 10m. Default: no longer than its gates take.')),
    requireApproval: optional(
      boolean({
        description:
          'The step ends only when the revision is approved: spec.strategy.approvedRevision, or kubectl annotate slmd/NAME slm.dev/approved-revision=REVISION. Default false.',
      }),
    ),
  },
  { description: 'A step of a canary.' },
);
export type CanaryStep = Static<typeof CanaryStep>;

export const SmokeTest = object(
  {
    name: text({
      max: 63,
      min: 1,
      pattern: '^[a-z0-9]([-a-z0-9]*[a-z0-9])?$',
      description: 'Name of the test; it is in messages and metrics.',
    }),
    prompt: text({ max: 8192, min: 1, description: 'What the model is asked, with temperature 0.' }),
    system: optional(text({ max: 8192, min: 1, description: 'System message. Default: the model’s own.' })),
    maxTokens: optional(
      integer({ minimum: 1, maximum: 4096, description: 'Tokens of the answer at most. Default 64.' }),
    ),
    timeoutSeconds: optional(integer({ minimum: 1, maximum: 600, description: 'Time for the answer. Default 60.' })),
    contains: optional(
      text({ max: 1024, min: 1, description: 'Text that the answer must contain, in upper or lower case.' }),
    ),
    regex: optional(text({ max: 512, min: 1, description: 'RE2 expression that must match somewhere in the answer.' })),
    jsonSchema: optional(
      text({
        max: 16384,
        min: 2,
        description: 'JSON Schema, as text, that the answer must meet; the answer is asked for in this form.',
      }),
    ),
    similarity: optional(
      object(
        {
          to: text({ max: 8192, min: 1, description: 'The golden answer.' }),
          atLeast: number({ minimum: 0, maximum: 1, description: 'Cosine of the two texts’ embeddings.' }),
          embedder: optional(
            text({
              max: 63,
              min: 1,
              description:
                'SLMDeployment of this namespace that serves an embedding model. Default: this one, which must then serve an embedding model itself; prompt and golden answer are compared.',
            }),
          ),
        },
        { description: 'How close the answer must be to a golden one.' },
      ),
    ),
  },
  {
    description: 'A question that a new revision must answer well before it gets any request.',
    rules: [
      {
        rule: 'has(self.contains) || has(self.regex) || has(self.jsonSchema) || has(self.similarity)',
        message: 'a smoke test needs something to expect: give one or more of contains, regex, jsonSchema, similarity',
      },
      {
        // An expression that is none makes this rule fail; the API server then says what is wrong with it.
        rule: "!has(self.regex) || ''.matches(self.regex) || !''.matches(self.regex)",
        message: 'regex is no RE2 expression',
      },
      {
        rule: "!has(self.jsonSchema) || self.jsonSchema.trim().startsWith('{')",
        message: 'jsonSchema is no JSON object: write the schema as JSON in a text, such as \'{"type": "object"}\'',
      },
    ],
  },
);
export type SmokeTest = Static<typeof SmokeTest>;

export const Analysis = object(
  {
    window: optional(duration('Time over which the servers are measured, such as 5m. Default 1m.')),
    minRequests: optional(
      integer({
        minimum: 1,
        maximum: 100000,
        description: 'Requests that the new revision must have answered before a gate judges it. Default 20.',
      }),
    ),
    onTooFewRequests: optional(
      word(['Continue', 'Wait'], {
        description: 'After a window with fewer requests: Continue goes on by the smoke tests alone. Default Continue.',
      }),
    ),
    errorRate: optional(
      object(
        {
          maxPercent: optional(
            number({ minimum: 0, maximum: 100, description: 'Percent of answers that may be errors (5xx).' }),
          ),
          maxIncreasePoints: optional(
            number({ minimum: 0, maximum: 100, description: 'Percentage points above the revision before.' }),
          ),
        },
        {
          description: 'How many answers may fail.',
          rules: [
            {
              rule: 'has(self.maxPercent) || has(self.maxIncreasePoints)',
              message: 'analysis.errorRate says nothing: give maxPercent or maxIncreasePoints',
            },
          ],
        },
      ),
    ),
    ttftP95: optional(
      object(
        {
          maxMilliseconds: optional(
            integer({ minimum: 1, maximum: 600000, description: 'Time to the first token, 95th percentile.' }),
          ),
          maxIncreasePercent: optional(
            number({ minimum: 0, maximum: 10000, description: 'Percent above the revision before.' }),
          ),
        },
        {
          description: 'How long the first token may take.',
          rules: [
            {
              rule: 'has(self.maxMilliseconds) || has(self.maxIncreasePercent)',
              message: 'analysis.ttftP95 says nothing: give maxMilliseconds or maxIncreasePercent',
            },
          ],
        },
      ),
    ),
    tokensPerSecond: optional(
      object(
        {
          min: optional(
            number({ minimum: 0.1, maximum: 1000000, description: 'Tokens a second of one answer, mean.' }),
          ),
          maxDecreasePercent: optional(
            number({ minimum: 0, maximum: 100, description: 'Percent below the revision before.' }),
          ),
        },
        {
          description: 'How fast it must generate.',
          rules: [
            {
              rule: 'has(self.min) || has(self.maxDecreasePercent)',
              message: 'analysis.tokensPerSecond says nothing: give min or maxDecreasePercent',
            },
          ],
        },
      ),
    ),
    smokeTests: optional(
      list(SmokeTest, {
        max: 16,
        min: 1,
        keys: ['name'],
        description: 'Questions that are asked before any user’s request reaches a new revision.',
      }),
    ),
    evaluateEvery: optional(
      duration(
        'How often the smoke tests are asked again while the deployment serves, such as 1h, for the metrics slm_eval_score and slm_eval_drift. Default: never.',
      ),
    ),
  },
  {
    description: 'What a new revision is judged by. The operator reads it from the servers; no Prometheus is needed.',
    rules: [
      {
        rule: 'has(self.errorRate) || has(self.ttftP95) || has(self.tokensPerSecond) || has(self.smokeTests)',
        message: 'strategy.analysis has no gate: give one or more of errorRate, ttftP95, tokensPerSecond, smokeTests',
      },
      {
        rule: '!has(self.evaluateEvery) || has(self.smokeTests)',
        message: 'analysis.evaluateEvery asks the smoke tests again, and there are none: give analysis.smokeTests',
      },
      {
        rule: "!has(self.evaluateEvery) || duration(self.evaluateEvery) >= duration('10s')",
        message: 'analysis.evaluateEvery is shorter than 10s, which is load rather than measurement: write 10s or more',
      },
      {
        rule: "!has(self.window) || duration(self.window) >= duration('1s')",
        message: 'analysis.window has no length: write 1s or more',
      },
      {
        rule: '!(has(self.window) || has(self.minRequests) || has(self.onTooFewRequests)) || has(self.errorRate) || has(self.ttftP95) || has(self.tokensPerSecond)',
        message:
          'analysis.window, minRequests and onTooFewRequests are for gates by numbers: give errorRate, ttftP95 or tokensPerSecond',
      },
    ],
  },
);
export type Analysis = Static<typeof Analysis>;

const isZero = (field: string) => `(type(self.${field}) == int ? self.${field} == 0 : self.${field} == '0%')`;

/** `spec.strategy`. */
export const Strategy = object(
  {
    type: optional(
      word(['Rolling', 'Recreate', 'Canary', 'BlueGreen'], {
        description:
          'Rolling: pod by pod. Recreate: the old pods go first, and nobody is served meanwhile. Canary: the new revision gets a part of the requests, in steps. BlueGreen: the new revision comes whole beside the old, then takes all requests at once. Default Rolling.',
      }),
    ),
    maxSurge: optional(
      bound(
        'Pods above replicas while rolling, rounded up. Auto: one where the hardware has room for it, else an old pod goes first. Default Auto.',
      ),
    ),
    maxUnavailable: optional(
      bound(
        'Pods below replicas while rolling, rounded down. Auto: none where the hardware has room, else one. Default Auto.',
      ),
    ),
    canary: optional(
      object(
        {
          steps: list(CanaryStep, {
            max: 32,
            min: 1,
            atomic: true,
            description: 'In this order. After the last the new revision takes over.',
            rules: [
              {
                rule: 'self.map(step, step.weight).isSorted()',
                message:
                  'the weights of canary.steps go down: each step must have the weight of the one before or more',
              },
            ],
          }),
        },
        { description: 'For type Canary. Default: 10 % for 5m, then 50 % for 5m.' },
      ),
    ),
    blueGreen: optional(
      object(
        {
          requireApproval: optional(
            boolean({ description: 'Requests move only when the revision is approved. Default false.' }),
          ),
          soak: optional(
            duration('How long the old pods stay after the switch, for going back at once, such as 5m. Default 30s.'),
          ),
        },
        { description: 'For type BlueGreen.' },
      ),
    ),
    analysis: optional(Analysis),
    autoRollback: optional(
      boolean({
        description:
          'A revision that fails a gate, does not get ready within the deadline or crashes is taken back. false: the rollout stops and says why. Default true.',
      }),
    ),
    approvedRevision: optional(
      text({
        max: 80,
        min: 1,
        pattern: '^[a-f0-9]{10}(:[0-9]+)?$',
        description:
          'Revision (status.updateRevision) whose waiting steps are approved; REVISION:STEP approves up to that step only.',
      }),
    ),
    progressDeadlineSeconds: optional(
      integer({
        minimum: 10,
        maximum: 86400,
        description:
          'Without progress for so long a rollout has failed; the clock stands still while bytes download. Default 600.',
      }),
    ),
    drainTimeoutSeconds: optional(
      integer({
        minimum: 0,
        maximum: 3600,
        description: 'Time that running requests get when a pod ends. Default 60.',
      }),
    ),
  },
  {
    description: 'How a new revision comes.',
    rules: [
      {
        rule: `!(has(self.maxSurge) && has(self.maxUnavailable)) || !(${isZero('maxSurge')} && ${isZero('maxUnavailable')})`,
        message: 'maxSurge and maxUnavailable are both 0, so no pod could ever be replaced: raise one',
      },
      {
        rule: `!(has(self.maxSurge) && !has(self.maxUnavailable)) || !${isZero('maxSurge')}`,
        message:
          'maxSurge is 0 and maxUnavailable (default 0) too, so no pod could ever be replaced: set maxUnavailable to 1 or more',
      },
      {
        rule: "!has(self.canary) || (has(self.type) && self.type == 'Canary')",
        message: 'strategy.canary needs strategy.type: Canary',
      },
      {
        rule: "!has(self.blueGreen) || (has(self.type) && self.type == 'BlueGreen')",
        message: 'strategy.blueGreen needs strategy.type: BlueGreen',
      },
      {
        rule: "!(has(self.maxSurge) || has(self.maxUnavailable)) || !has(self.type) || self.type != 'Recreate'",
        message: 'with strategy.type: Recreate all old pods go first: leave out maxSurge and maxUnavailable',
      },
      {
        rule: "!has(self.maxSurge) || !has(self.type) || self.type != 'BlueGreen' || self.maxSurge == 'Auto'",
        message: 'with strategy.type: BlueGreen the new revision comes whole beside the old: leave out maxSurge',
      },
    ],
  },
);
export type Strategy = Static<typeof Strategy>;
