/**
 * Texts to tokens and back by a model's tokenizer.json (or vocab.txt). Owns what is said of special tokens: text of clients
 * never becomes one. The library does the splitting; the bytes of a token are found here, because answers come token by token.
 */
import * as tokenizers from '@huggingface/tokenizers';
import { StartupError } from '../../failures.ts';
import type { Token } from '../../scheduling/decoder.ts';
import { tokenBytes } from '../llama-cpp/token-bytes.ts';
import { type Json, objectAt, readJson, readText, textAt, tokenTextAt } from './json.ts';

/** What we use of the library, whose own types TypeScript cannot find from an ES module. */
interface Tokenizer {
  encode(text: string, options: { readonly add_special_tokens: boolean }): { readonly ids: Token[] };
  id_to_token(id: Token): string | undefined;
  token_to_id(token: string): Token | undefined;
}
const { Tokenizer: LibraryTokenizer } = tokenizers as unknown as {
  readonly Tokenizer: new (tokenizer: object, config: object) => Tokenizer;
};

/** llama_vocab_type of the family whose tokens are bytes written as printable characters. */
const BYTE_PAIRS = 2;

interface AddedToken {
  readonly id: Token;
  readonly content: string;
  readonly special: boolean;
}

/** The tokenizer's files. */
export interface TokenizerFiles {
  /** Content of tokenizer.json. */
  readonly tokenizer: Json;
  /** Content of tokenizer_config.json. */
  readonly config: Json;
  readonly specialTokens: Json | undefined;
}

/** How a vocabulary writes bytes, told by its decoder. */
type Spelling = 'byte-level' | 'sentence-piece' | 'word-piece' | 'plain';

/** @throws StartupError (NotAModel) where there is no tokenizer that can be read */
export async function readTokenizer(folder: string): Promise<TokenizerFiles> {
  const config = (await readJson(folder, 'tokenizer_config.json')) ?? {};
  const specialTokens = await readJson(folder, 'special_tokens_map.json');
  const tokenizer =
    (await readJson(folder, 'tokenizer.json')) ?? wordPiece(await readText(folder, 'vocab.txt'), config);
  if (!tokenizer)
    throw new StartupError(
      'NotAModel',
      'the model has no tokenizer.json (nor vocab.txt): add it to source.files; one made with SentencePiece alone (tokenizer.model) must be converted.',
    );
  return { tokenizer, config, specialTokens };
}

export class TextTokenizer {
  /** Tokens that stand around a text of its own, such as [CLS] and [SEP]. */
  readonly frame: { readonly begin: readonly Token[]; readonly end: readonly Token[] };
  readonly bosToken: string;
  readonly eosToken: string;
  readonly #files: TokenizerFiles;
  readonly #full: Tokenizer;
  readonly #special: readonly AddedToken[];
  readonly #specialIds: ReadonlySet<Token>;
  readonly #addedIds: ReadonlySet<Token>;
  readonly #spelling: Spelling;
  #plain: Tokenizer | undefined;

  /** @throws StartupError (NotAModel) */
  constructor(files: TokenizerFiles) {
    this.#files = files;
    this.#full = make(files.tokenizer, files.config);
    const added = addedTokens(files.tokenizer);
    this.#special = added.filter(({ special }) => special);
    this.#specialIds = new Set(this.#special.map(({ id }) => id));
    this.#addedIds = new Set(added.map(({ id }) => id));
    this.#spelling = spellingOf(objectAt(files.tokenizer, 'decoder'));
    this.frame = this.#frame();
    this.bosToken = tokenTextAt(files.config, 'bos_token') ?? tokenTextAt(files.specialTokens, 'bos_token') ?? '';
    this.eosToken = tokenTextAt(files.config, 'eos_token') ?? tokenTextAt(files.specialTokens, 'eos_token') ?? '';
  }

  /** @param special whether `<|im_end|>` and its like become the tokens they name, or stay text */
  tokenize(text: string, special: boolean): Token[] {
    if (text === '') return [];
    if (special) return this.#full.encode(text, { add_special_tokens: false }).ids;
    this.#plain ??= make(
      { ...this.#files.tokenizer, added_tokens: addedTokens(this.#files.tokenizer).filter((token) => !token.special) },
      this.#files.config,
    );
    const tokens = this.#plain.encode(text, { add_special_tokens: false }).ids;
    return tokens.some((token) => this.#specialIds.has(token)) ? this.#disarmed(text, this.#plain) : tokens;
  }

  /** Text of tokens as it reads after `previous`; tokens that steer have none. */
  readonly detokenize = (tokens: readonly Token[], previous: readonly Token[]): string => {
    const text = Buffer.concat(tokens.map((token) => this.textBytes(token))).toString();
    // SentencePiece writes the space before a word, also before the first.
    const first = this.#spelling === 'sentence-piece' && !previous.some((token) => !this.#specialIds.has(token));
    return first && text.startsWith(' ') ? text.slice(1) : text;
  };

  /** The bytes that a token stands for; of one that steers, its name. */
  bytesOf(token: Token): Uint8Array {
    const text = this.#full.id_to_token(token);
    if (text === undefined) return new Uint8Array();
    if (this.#addedIds.has(token)) return Buffer.from(text);
    switch (this.#spelling) {
      case 'byte-level':
        return tokenBytes(text, BYTE_PAIRS, 0);
      case 'sentence-piece': {
        const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(text)?.[1];
        return byte === undefined
          ? Buffer.from(text.replaceAll('\u2581', ' '))
          : Uint8Array.of(Number.parseInt(byte, 16));
      }
      case 'word-piece':
        return Buffer.from(text.startsWith('##') ? text.slice(2) : ` ${text}`);
      default:
        return Buffer.from(text);
    }
  }

  /** The bytes that a token adds to an answer: none for one that steers. */
  textBytes(token: Token): Uint8Array {
    return this.#specialIds.has(token) ? new Uint8Array() : this.bytesOf(token);
  }

  /** Texts of the tokens that steer the model. */
  controlTokens(): readonly string[] {
    return this.#special.map(({ content }) => content);
  }

  /** The id of a token's text. */
  idOf(text: string): Token | undefined {
    return this.#full.token_to_id(text);
  }

  /** Whether a token steers the model. */
  isSpecial(token: Token): boolean {
    return this.#specialIds.has(token);
  }

  /** Some vocabularies know the names of special tokens as words too: such a name is cut in two. */
  #disarmed(text: string, plain: Tokenizer): Token[] {
    const cuts = new Set<number>();
    for (const { content } of this.#special)
      for (let at = text.indexOf(content); at >= 0; at = text.indexOf(content, at + 1))
        cuts.add(at + Math.max(1, content.length >> 1));
    const borders = [0, ...[...cuts].sort((a, b) => a - b), text.length];
    const pieces = borders.slice(1).map((end, index) => text.slice(borders[index], end));
    return pieces.flatMap((piece) => (piece === '' ? [] : plain.encode(piece, { add_special_tokens: false }).ids));
  }

  /** What the tokenizer puts around a text by itself. */
  #frame(): { begin: Token[]; end: Token[] } {
    const bare = this.#full.encode('a', { add_special_tokens: false }).ids;
    const whole = this.#full.encode('a', { add_special_tokens: true }).ids;
    const added = whole.length - bare.length;
    for (let before = 0; before <= added; before++)
      if (bare.every((token, index) => whole[before + index] === token))
        return { begin: whole.slice(0, before), end: whole.slice(before + bare.length) };
    return { begin: [], end: [] };
  }
}

/** A vocabulary of BERT's kind: one token a line. */
function wordPiece(text: string | undefined, config: Json): Json | undefined {
  if (text === undefined) return undefined;
  const words = text.replace(/\r?\n$/, '').split(/\r?\n/);
  const vocab = Object.fromEntries(words.map((word, index) => [word, index]));
  const named = (key: string, usual: string) => tokenTextAt(config, key) ?? usual;
  const [cls, sep, unknown] = [named('cls_token', '[CLS]'), named('sep_token', '[SEP]'), named('unk_token', '[UNK]')];
  const special = [named('pad_token', '[PAD]'), unknown, cls, sep, named('mask_token', '[MASK]')];
  const one = (id: string) => ({ SpecialToken: { id, type_id: 0 } });
  return {
    version: '1.0',
    added_tokens: special
      .filter((content) => content in vocab)
      .map((content) => ({ id: vocab[content], content, special: true, normalized: false })),
    normalizer: {
      type: 'BertNormalizer',
      clean_text: true,
      handle_chinese_chars: config['tokenize_chinese_chars'] !== false,
      strip_accents: typeof config['strip_accents'] === 'boolean' ? config['strip_accents'] : null,
      lowercase: config['do_lower_case'] !== false,
    },
    pre_tokenizer: { type: 'BertPreTokenizer' },
    post_processor: {
      type: 'TemplateProcessing',
      single: [one(cls), { Sequence: { id: 'A', type_id: 0 } }, one(sep)],
      pair: [one(cls), { Sequence: { id: 'A', type_id: 0 } }, one(sep)],
      special_tokens: Object.fromEntries(
        [cls, sep].map((token) => [token, { id: token, ids: [vocab[token] ?? 0], tokens: [token] }]),
      ),
    },
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    model: {
      type: 'WordPiece',
      unk_token: unknown,
      continuing_subword_prefix: '##',
      max_input_chars_per_word: 100,
      vocab,
    },
  };
}

/** Parts that a tokenizer may lack. */
const EMPTY = { added_tokens: [], normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null };

function make(tokenizer: Json, config: Json): Tokenizer {
  try {
    return new LibraryTokenizer({ ...EMPTY, ...tokenizer }, config);
  } catch (error) {
    throw new StartupError(
      'NotAModel',
      `tokenizer.json cannot be used (${error instanceof Error ? error.message : String(error)}): export the model's tokenizer again.`,
      { cause: error },
    );
  }
}

function addedTokens(tokenizer: Json): AddedToken[] {
  const added = tokenizer['added_tokens'];
  return Array.isArray(added) ? (added as AddedToken[]) : [];
}

function spellingOf(decoder: Json | undefined): Spelling {
  const kinds = [decoder, ...(Array.isArray(decoder?.['decoders']) ? (decoder['decoders'] as Json[]) : [])].map((one) =>
    textAt(one, 'type'),
  );
  if (kinds.includes('ByteLevel')) return 'byte-level';
  if (kinds.some((kind) => kind === 'ByteFallback' || kind === 'Metaspace' || kind === 'Replace'))
    return 'sentence-piece';
  return kinds.includes('WordPiece') ? 'word-piece' : 'plain';
}
