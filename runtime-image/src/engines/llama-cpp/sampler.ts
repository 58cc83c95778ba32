/**
 * Sampling of one generation with the addon: its settings, its grammar's state, the ban on ending too early, and the
 * scores of what was picked. Never touches the context's memory.
 */
import type { Pick, SamplerRequest, Score, Token, TokenSampler } from '../../scheduling/decoder.ts';
import { NO_TOKEN } from '../../scheduling/decoder.ts';
import type { AddonSampler, NativeModel, SamplerConfig } from './binding.ts';

/** The addon reads whole numbers as 32 bits. */
const MAX_INT32 = 0x7fff_ffff;
/** Scores are the model's own: a sampler that changes nothing looks at them. */
const PLAIN: SamplerConfig = { temperature: 0, topK: 0, topP: 1, minP: 0 };

export class LlamaCppSampler implements TokenSampler {
  readonly #model: NativeModel;
  readonly #request: SamplerRequest;
  readonly #native: AddonSampler;
  /** Looks at the scores; undefined when nobody asked for them. */
  readonly #observer: AddonSampler | undefined;
  /** Part of the settings, so that it lives as long as they do. */
  readonly #grammar: SamplerConfig;
  /** Prompt and answer, as long as the settings may have to be applied again. */
  readonly #history: Token[];
  #generated = 0;
  #endBanned: boolean;

  constructor(model: NativeModel, request: SamplerRequest, history: readonly Token[]) {
    this.#model = model;
    this.#request = request;
    this.#native = model.createSampler();
    this.#observer = request.logprobs === undefined ? undefined : model.createSampler();
    this.#observer?.applyConfig(PLAIN);
    this.#grammar =
      request.grammar === undefined ? {} : { grammarEvaluationState: model.createGrammarState(request.grammar) };
    this.#endBanned = request.ignoreEos === true || (request.minTokens ?? 0) > 0;
    this.#history = [...history];
    this.#apply();
  }

  /** @param logits where they are in the last batch */
  async next(logits: number): Promise<Pick> {
    const token = await this.#model.context.sampleToken(logits, this.#native);
    if (token === NO_TOKEN) return { token };
    if (this.#endBanned && this.#request.ignoreEos !== true) {
      this.#history.push(token);
      this.#generated++;
      if (this.#generated >= (this.#request.minTokens ?? 0)) {
        this.#endBanned = false;
        this.#apply();
      }
    }
    return this.#observer ? { token, ...(await this.#scores(logits, token, this.#observer)) } : { token };
  }

  dispose(): void {
    this.#native.dispose();
    this.#observer?.dispose();
  }

  async #scores(logits: number, token: Token, observer: AddonSampler): Promise<{ logprob: number; top: Score[] }> {
    const wanted = this.#request.logprobs ?? 0;
    // The likeliest ones come first, and at least one: the sum of weights is relative to its logit.
    const top = Math.max(1, wanted);
    const [, , , found, weight] = await this.#model.context.sampleToken(
      logits,
      observer,
      false,
      false,
      [[token], false, false, false, top],
      true,
    );
    const pairs: [Token, number][] = [];
    for (let at = 0; at + 1 < (found?.length ?? 0); at += 2) pairs.push([found?.[at] ?? 0, found?.[at + 1] ?? 0]);
    const offset = (pairs[0]?.[1] ?? 0) + Math.log(weight ?? 1);
    // Rounding may lift a certain token a hair over certainty.
    const scored = pairs.map(([id, logit]): Score => [id, Math.min(0, logit - offset)]);
    const own = scored.find(([id]) => id === token);
    return { logprob: own?.[1] ?? Number.NEGATIVE_INFINITY, top: scored.slice(0, wanted) };
  }

  /** The addon feeds sampled tokens into penalties and grammar by itself. */
  #apply(): void {
    const { contextLength } = this.#model;
    const params = this.#request;
    // The addon allocates a ring of this size: nothing beyond the context, whatever a client asks for.
    const lookBack = params.repeatLastN < 0 ? contextLength : Math.min(params.repeatLastN, contextLength);
    const penalised =
      lookBack > 0 && (params.repeatPenalty !== 1 || params.presencePenalty !== 0 || params.frequencyPenalty !== 0);
    const biases: (readonly [Token, number])[] = [...params.logitBias];
    if (this.#endBanned)
      for (const token of this.#model.endTokens()) biases.push([token, Number.NEGATIVE_INFINITY] as const);
    this.#native.applyConfig({
      temperature: params.temperature,
      topK: Math.min(params.topK, MAX_INT32),
      topP: params.topP,
      minP: params.minP,
      seed: params.seed,
      ...(penalised
        ? {
            repeatPenalty: params.repeatPenalty,
            repeatPenaltyMaxTokens: lookBack,
            repeatPenaltyTokens: Uint32Array.from(this.#history.slice(-lookBack)),
            repeatPenaltyPresencePenalty: params.presencePenalty,
            repeatPenaltyFrequencyPenalty: params.frequencyPenalty,
          }
        : {}),
      ...(biases.length > 0
        ? {
            tokenBiasKeys: Uint32Array.from(biases, ([token]) => token),
            tokenBiasValues: Float32Array.from(biases, ([, bias]) => bias),
          }
        : {}),
      ...this.#grammar,
    });
  }
}
