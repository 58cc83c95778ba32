/** Random numbers that a seed decides: the same on every machine. Not for secrets. */

/** xoshiro128** by Blackman and Vigna: 32 bits at a time, as fast as JavaScript's own, with a state that can be seeded. */
export class SeededRandom {
  readonly #state = new Uint32Array(4);

  /** @param seed any number; its lower 32 bits count */
  constructor(seed: number) {
    // Neighbouring seeds must not give neighbouring states: each word is a mix of the seed and its place.
    let counter = seed >>> 0;
    for (let word = 0; word < 4; word++) {
      counter = (counter + 0x9e37_79b9) >>> 0;
      this.#state[word] = mixed(counter);
    }
  }

  /** @returns at least 0 and less than 1, with 53 random bits */
  next(): number {
    return ((this.#word() >>> 5) * 0x400_0000 + (this.#word() >>> 6)) / 2 ** 53;
  }

  #word(): number {
    const state = this.#state;
    const [a = 0, b = 0, c = 0, d = 0] = state;
    const result = Math.imul(rotated(Math.imul(b, 5), 7), 9) >>> 0;
    const c2 = c ^ a;
    const d2 = d ^ b;
    state[1] = b ^ c2;
    state[0] = a ^ d2;
    state[2] = c2 ^ (b << 9);
    state[3] = rotated(d2, 11);
    return result;
  }
}

function rotated(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits));
}

/** MurmurHash3's last step: every bit of the input moves half of the output's bits. */
function mixed(word: number): number {
  let hash = word ^ (word >>> 16);
  hash = Math.imul(hash, 0x85eb_ca6b);
  hash ^= hash >>> 13;
  hash = Math.imul(hash, 0xc2b2_ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
